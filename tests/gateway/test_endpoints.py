"""The operator's file of endpoints: what it may say, and what is told of one that is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from upstream import Upstream, replies

from kb.errors import InvalidInput, NoEndpoint, UpstreamFailed
from kb.gateway.endpoints import Endpoint, Endpoints

RIGHT = """
[[endpoint]]
name = "first"
base_url = "https://api.example.org/v1"
kind = "responses"
models = ["gpt-4.1-mini", "other"]
"""
SECRET = "sk-live-9f2c"


def read(folder: Path, text: str) -> Endpoints:
    """The endpoints of a file with that text."""
    (folder / "endpoints.toml").write_text(text)
    return Endpoints.read(folder / "endpoints.toml")


def test_endpoints_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Each with the name that a model has there, and with the defaults of what it does not say."""
    second = RIGHT.replace('"first"', '"second"').replace(
        '["gpt-4.1-mini", "other"]', '{ "gpt-4.1-mini" = "g" }'
    )
    both = read(tmp_path, RIGHT + second + '[endpoint.parameters]\nmin_p = { type = "number" }\n')
    assert [one.name for one in both.of("gpt-4.1-mini")] == ["first", "second"]
    assert [one.models["gpt-4.1-mini"] for one in both.of("gpt-4.1-mini")] == ["gpt-4.1-mini", "g"]
    assert [one.name for one in both.of("other")] == ["first"]
    assert both.parameters("gpt-4.1-mini") == {"min_p": {"type": "number"}}
    assert both.parameters("other") == {}
    first = both.all[0]
    assert (first.connect_seconds, first.first_token_seconds, first.silence_seconds) == (5, 120, 60)
    assert (first.total_seconds, first.retries, first.key()) == (600, 2, "none")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "endpoint: Field required"),
        ("endpoint = []", "endpoint: Tuple should have at least 1 item"),
        ("[[endpoint]", "cannot be read"),
        (RIGHT + RIGHT, "the endpoint 'first' stands in it twice"),
        (RIGHT.replace("first", "First one"), "endpoint.0.name: String should match pattern"),
        (RIGHT.replace("https://", "ftp://"), "endpoint.0.base_url: URL scheme should be 'http' or 'https'"),
        (RIGHT.replace("responses", "messages"), "endpoint.0.kind: Input should be 'responses' or 'chat'"),
        (RIGHT.replace('["gpt-4.1-mini", "other"]', "[]"), "endpoint.0.models"),
        (RIGHT + "retries = 11", "endpoint.0.retries: Input should be less than or equal to 10"),
        (RIGHT + "silence_seconds = 0", "endpoint.0.silence_seconds: Input should be greater than 0"),
        (RIGHT + f'key = "{SECRET}"', "endpoint.0.key: Extra inputs are not permitted"),
        (RIGHT + f'key_env = "{SECRET}"', "endpoint.0.key_env: String should match pattern"),
        (RIGHT + f'key_env = "A"\nkey_file = "{SECRET}"', "in key_env or in key_file, not in both"),
        (RIGHT + '[endpoint.parameters]\nmodel = { type = "string" }', "model is set here for every call"),
        (RIGHT + '[endpoint.parameters]\nmin_p = { type = "much" }', "min_p has no JSON Schema"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_of_its_fault(tmp_path: Path, text: str, told: str) -> None:
    """And with the setting that names it, and no key that someone wrote into it."""
    with pytest.raises(InvalidInput) as refused:
        read(tmp_path, text)
    assert told in str(refused.value)
    assert str(tmp_path / "endpoints.toml") in str(refused.value)
    assert SECRET not in str(refused.value)
    assert refused.value.param == "KB_ENDPOINTS"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """No file at all is no endpoint; one that is named has to be there."""
    with pytest.raises(InvalidInput, match=r"nowhere\.toml cannot be read"):
        Endpoints.read(tmp_path / "nowhere.toml")
    with pytest.raises(NoEndpoint, match="KB_ENDPOINTS") as refused:
        Endpoints.read(None).of("gpt-4.1-mini")
    assert refused.value.param == "KB_ENDPOINTS"
    with pytest.raises(NoEndpoint, match=r"no endpoint has the model 'x'; there are: gpt-4\.1-mini, other"):
        read(tmp_path, RIGHT).of("x")


def test_keys_are_read_for_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment or from a file, without the blanks around them."""
    by_name = read(tmp_path, RIGHT + 'key_env = "SOME_KEY"').all[0]
    monkeypatch.setenv("SOME_KEY", f" {SECRET}\n")
    assert by_name.key() == SECRET
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(InvalidInput, match="endpoint first: the variable SOME_KEY is not set"):
        by_name.key()
    by_file = read(tmp_path, RIGHT + f'key_file = "{tmp_path}/key"').all[0]
    with pytest.raises(InvalidInput, match="key cannot be read"):
        by_file.key()
    (tmp_path / "key").write_text(f"{SECRET}\n")
    assert by_file.key() == SECRET


def test_an_endpoint_whose_key_is_missing_is_passed_over(
    desk: Any, at: Callable[..., Endpoint], upstream: Upstream
) -> None:
    """It costs nothing, is told where there is no other, and is asked nothing."""
    keyless = at(upstream.url, "keyless", key_env="KB_TEST_NO_SUCH_KEY")
    came = desk.ask(keyless)
    assert isinstance(came.error, UpstreamFailed)
    assert "KB_TEST_NO_SUCH_KEY is not set" in str(came.error)
    assert (came.ends, came.tokens, upstream.requests) == ([("failed", "no_key")], [(0, 0, False)], [])
    upstream.script(replies.says())
    came = desk.ask(keyless, at(upstream.url, "second"))
    assert (came.text, came.ended.endpoint) == ("Open the valve first.", "second")
