"""Contexts of what a service found."""

from types import ModuleType
from typing import Any

import pytest

from kb.context.pack import Place
from kb.errors import InvalidInput, NotFound
from kb.tokens import count_tokens


@pytest.fixture
def shelf(words: Any, fakes: ModuleType) -> Any:
    """A `Shelf` on the catalog of an open service, which is `shelf.service`."""
    made = fakes.Shelf(words.catalog)
    made.service = words
    return made


def document(number: int) -> str:
    """Forty lines, each a chunk; the needle stands in one of them."""
    lines = [f"line {at} of document {number} speaks of topic{number}" for at in range(40)]
    lines[number % 40] = f"the needle{number} lies here"
    return "\n".join(lines)


def test_the_needle_is_in_the_context_wherever_it_stands(shelf: Any) -> None:
    """Its passage, at its span, with a reference."""
    made = {n: shelf.put(shelf.version(f"{n:02d}", document(n)))[0].version_id for n in range(30)}
    for number in (0, 13, 29):
        context = shelf.service.pack(f"needle{number}", ["shelf"], 1000)
        assert f"the needle{number} lies here" in context.packed.text
        assert count_tokens(context.packed.text) == context.packed.tokens <= 1000
        first = context.packed.passages[0].place
        assert first.version_id == made[number]
        text = shelf.service.text(first.version_id, first.start, first.end)
        assert text in context.packed.text
        assert context.versions[first.version_id].uri == f"{number:02d}"


def test_chunks_that_were_never_counted_are_counted(shelf: Any) -> None:
    """Those of a catalog of an older version."""
    shelf.put(shelf.version("a", "one two three\nfour five"))
    (chunks,) = shelf.catalog.versions.chunks([shelf.content("a").version_id]).values()
    counted = [count_tokens("one two three") + 1, count_tokens("four five") + 1]
    assert [chunk.tokens for chunk in chunks] == counted


def test_what_was_packed_before_ends_where_a_version_was_replaced(shelf: Any) -> None:
    """The rest of it would be no prefix."""
    for name in ("a", "b", "c"):
        shelf.put(shelf.version(name, f"the needle in {name}"))
    first = shelf.service.pack("needle", ["shelf"], 1000)
    before = [passage.place for passage in first.packed.passages]
    assert len(before) == 3
    again = shelf.service.pack("needle", ["shelf"], 1000, before=before)
    assert (again.packed.text, again.packed.prefix) == (first.packed.text, first.packed.tokens)
    second_uri = first.versions[before[1].version_id].uri
    shelf.put(shelf.version(second_uri, "the needle anew"))
    changed = shelf.service.pack("needle", ["shelf"], 1000, before=before)
    assert changed.packed.passages[0].place == before[0]
    assert 0 < changed.packed.prefix < first.packed.tokens
    assert before[1] not in [passage.place for passage in changed.packed.passages]


def test_a_span_that_cannot_be_is_refused(shelf: Any) -> None:
    """A receipt that somebody wrote himself."""
    (made,) = shelf.put(shelf.version("a", "the needle"))
    with pytest.raises(InvalidInput, match="which has 10 characters"):
        shelf.service.pack("needle", ["shelf"], 1000, before=[Place(made.version_id, 3, 99)])
    with pytest.raises(InvalidInput, match="give at least 200"):
        shelf.service.pack("needle", ["shelf"], 100)
    with pytest.raises(NotFound):
        shelf.service.pack("needle", ["shelv"], 1000)
