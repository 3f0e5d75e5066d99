"""A needle in real articles: whatever the search found of it is in the packed context."""

import random
from pathlib import Path
from typing import Any

import pytest

from kb.tokens import count_tokens

NEEDLE = "The keeper of the lighthouse at Vermilion Point counted {number} herons that morning."
QUESTION = "How many herons did the keeper of the lighthouse at Vermilion Point count?"


def laid(texts: list[str], folder: Path, seed: int) -> dict[str, str]:
    """Articles in a folder, eight of them with a needle at the end of some sentence; name -> needle."""
    order = random.Random(seed)
    needles: dict[str, str] = {}
    for number, text in enumerate(texts):
        name = f"{number:03d}.txt"
        if number % max(1, len(texts) // 8) == 0:
            needles[name] = NEEDLE.format(number=number)
            ends = [at + 2 for at in range(len(text)) if text[at : at + 2] == ". "] or [0]
            at = order.choice(ends)
            text = f"{text[:at]}{needles[name]} {text[at:]}"
        (folder / name).write_text(text)
    return needles


@pytest.mark.parametrize("articles", [40, pytest.param(490, marks=pytest.mark.slow)])
def test_a_needle_that_was_found_is_packed(
    words: Any, folder: Path, shared_data: Path, articles: int
) -> None:
    """Wherever it stands, in contexts of a page to a whole window, each within its budget."""
    found = sorted((shared_data / "squad-articles").glob("*.txt"))[:articles]
    needles = laid([path.read_text() for path in found], folder, seed=articles)
    report = words.ingest(folder, "articles")
    assert (report.documents, report.failed) == (len(found), 0)
    seen = 0
    for budget in (500, 4_000, 32_000, 1_000_000):
        made = words.pack(QUESTION, ["articles"], budget)
        packed = made.packed
        assert packed.tokens <= budget
        assert count_tokens(packed.text) <= budget
        # Of what fits no budget at all only the best is asked for.
        hits = made.hits if budget > 1000 else made.hits[:1]
        for hit in hits:
            needle = needles.get(hit.uri)
            if needle is not None and needle in hit.text:
                assert needle in packed.text, (budget, hit.uri)
                seen += 1
    assert seen > 3 * len(needles)
