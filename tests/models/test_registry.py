"""The catalogue of language models."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from kb.errors import InvalidInput, NotFound
from kb.models.registry import ModelCatalog

OWN = """
[[model]]
id = "gpt-4.1-mini"
context_window = 1_000
max_output_tokens = 100
input = ["text"]
output = ["text"]
tools = false
endpoints = ["chat"]
tokenizer = "o200k_base"
credits = { cache_hit = "0", flex = { input = "1.5", output = "2" } }

[[model]]
id = "local"
context_window = 32_768
max_output_tokens = 4_096
input = ["text"]
output = ["text"]
languages = ["de", "en"]
tools = true
endpoints = ["responses", "chat"]
tokenizer = "o200k_base"
credits = { cache_hit = "0", standard = { input = "0", output = "0" } }
"""


def test_the_first_entry() -> None:
    """What is published of gpt-4.1-mini."""
    mini = ModelCatalog.read().get("gpt-4.1-mini")
    assert (mini.context_window, mini.max_output_tokens) == (1_047_576, 8_192)
    assert (mini.knowledge_cutoff, mini.released) == (date(2024, 6, 1), date(2025, 4, 14))
    assert (mini.input, mini.output, mini.languages) == (("text", "image"), ("text",), ())
    assert (mini.tools, mini.endpoints, mini.tokenizer) == (True, ("responses", "chat"), "o200k_base")
    assert mini.credits.cache_hit == Decimal("1.33")
    assert {tier: (rate.input, rate.output) for tier, rate in mini.credits.tiers().items()} == {
        "standard": (Decimal("5.32"), Decimal("21.28")),
        "priority": (Decimal("9.31"), Decimal("37.24")),
    }


def test_an_operator_s_file_adds_models_and_replaces_them(tmp_path: Path) -> None:
    """By their ids."""
    file = tmp_path / "models.toml"
    file.write_text(OWN)
    catalog = ModelCatalog.read(file)
    assert list(catalog.models) == ["gpt-4.1-mini", "local"]
    assert catalog.get("gpt-4.1-mini").credits.tiers().keys() == {"flex"}
    assert catalog.get("local").languages == ("de", "en")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"1.5"', "1.5", "model.0.credits.flex.input: Value error, a rate is written in quotes"),
        ('"1.5"', '"-1"', "greater than or equal to 0"),
        ('"1.5"', '"NaN"', "finite"),
        (
            '"1.5"',
            '"0.0000001"',
            "model.0.credits.flex.input: Decimal input should have no more than 6 decimal",
        ),
        ('"1.5"', '"1000000"', "model.0.credits.flex.input: Decimal input should have no more than 6 digits"),
        ('"1.5"', '"1E6"', "model.0.credits.flex.input: Decimal input should have no more than"),
        ("tools = false", "toolz = false", "model.0.tools: Field required; model.0.toolz: Extra inputs"),
        ('id = "local"', 'id = "gpt-4.1-mini"', "'gpt-4.1-mini' stands in it twice"),
        ('tokenizer = "o200k_base"', 'tokenizer = "other"', "model.0.tokenizer"),
        ("[[model]]", "[[model", "at line 2"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_place(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    """And names the file."""
    file = tmp_path / "models.toml"
    file.write_text(OWN.replace(old, new))
    with pytest.raises(InvalidInput) as refused:
        ModelCatalog.read(file)
    assert str(file) in str(refused.value)
    assert message in str(refused.value)


def test_an_unknown_model_names_the_nearest() -> None:
    """With all there are."""
    with pytest.raises(NotFound, match=r"did you mean 'gpt-4.1-mini'\? there are: gpt-4.1-mini"):
        ModelCatalog.read().get("gpt-4-mini")
    with pytest.raises(InvalidInput, match="cannot be read"):
        ModelCatalog.read(Path("/nowhere/models.toml"))
