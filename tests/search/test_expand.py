"""Hits on wider spans: the text is still exactly the version's text at its span."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from kb.catalog.documents import Opened
from kb.catalog.prepared import Prepared
from kb.search.expand import MAX_SECTION, _section
from kb.types import ChunkingPolicy, Hit

HANDBOOK = """Preface: what stands here holds for every plant of ours.

# Pump

The pump is started with the green lever on the left.

## Winter

In winter the pump runs by day and night without pause.

### Ice

Ice breaks the seals, so that water runs into the hall.

## Summer

In summer the pump rests at noon, when power is dear.

# Valve

The valve closes at 12 bar and opens again at 9.
"""


@pytest.fixture
def handbook(words: Any, folder: Path) -> Any:
    """A service with the handbook, cut into chunks of 16 words."""
    words.create_knowledge_base("handbook", chunking=ChunkingPolicy(16, 0))
    (folder / "handbook.md").write_text(HANDBOOK)
    words.ingest(folder, "handbook")
    return words


def assert_quoted(service: Any, hits: tuple[Hit, ...]) -> None:
    """Text is text[start:end]; what matched lies within; spans of one version do not overlap."""
    for hit in hits:
        assert hit.text == service.text(hit.content_version_id, hit.start, hit.end)
        assert all(hit.start <= one.start < one.end <= hit.end for one in hit.matches)
        assert hit.matches[0].chunk_id == hit.chunk_id
    spans = sorted((hit.content_version_id, hit.start, hit.end) for hit in hits)
    for (one, _, end), (other, start, _) in pairwise(spans):
        assert one != other or end <= start


@pytest.mark.parametrize(
    ("query", "begin", "end"),
    [
        ("rests at noon", "## Summer", "is dear."),
        ("green lever started", "# Pump", "is dear."),
        ("night without pause", "## Winter", "the hall."),
        ("ice breaks seals", "### Ice", "the hall."),
        ("closes 12 bar", "# Valve", "again at 9."),
        ("preface", "Preface", "of ours."),
    ],
)
def test_a_hit_becomes_its_section(handbook: Any, query: str, begin: str, end: str) -> None:
    """From the heading above to the next of the same level or a higher one, subsections included."""
    (hit,) = handbook.search(query, ["handbook"], top_k=1, mode="lexical", expand="section").hits
    (narrow,) = handbook.search(query, ["handbook"], top_k=1, mode="lexical").hits
    assert_quoted(handbook, (hit,))
    assert hit.text == HANDBOOK[HANDBOOK.index(begin) : HANDBOOK.index(end) + len(end)]
    assert [(one.start, one.end) for one in hit.matches] == [(narrow.start, narrow.end)]
    assert (hit.score, hit.heading, hit.page) == (narrow.score, narrow.heading, narrow.page)


def test_a_chunk_over_several_sections_keeps_them_all(words: Any, folder: Path) -> None:
    """From the heading above its beginning, to the next behind it that is no deeper than that one."""
    words.create_knowledge_base("k", chunking=ChunkingPolicy(16, 0))
    text = "# A\n\n## B\n\none zebra\n\n## C\n\ntwo\n\n# D\n\nthree\n"
    (folder / "a.md").write_text(text)
    words.ingest(folder, "k")
    (narrow,) = words.search("zebra", ["k"], mode="lexical").hits
    (hit,) = words.search("zebra", ["k"], mode="lexical", expand="section").hits
    assert (narrow.start, narrow.end) == (hit.start, hit.end) == (0, text.index("\n\n# D"))


def test_neighbours_are_the_chunks_on_each_side(words: Any, shelf: Any) -> None:
    """As many as asked, none of another document, with what stands between them."""
    shelf.put(shelf.version("before", "stone"), shelf.version("a", "one\n\ntwo\nthree\n\n\nfour zebra\nfive"))
    shelf.put(shelf.version("after", "bread"))
    for number, text in (
        (1, "three\n\n\nfour zebra\nfive"),
        (2, "two\nthree\n\n\nfour zebra\nfive"),
        (10, None),
    ):
        (hit,) = words.search("zebra", ["shelf"], mode="lexical", expand=number).hits
        assert hit.text == (text or "one\n\ntwo\nthree\n\n\nfour zebra\nfive")
        assert_quoted(words, (hit,))


def test_hits_that_come_to_overlap_are_one(words: Any, shelf: Any) -> None:
    """With the best score and chunk, all matches, best first, in the best one's place."""
    shelf.put(
        shelf.version("a", "pump pump\nx\npump\ny\nz\nw\nv\npump lamp"), shelf.version("b", "lamp pump pump")
    )
    narrow = words.search("pump", ["shelf"], mode="lexical").hits
    wide = words.search("pump", ["shelf"], mode="lexical", expand=1).hits
    assert_quoted(words, wide)
    assert sorted(hit.text for hit in wide) == ["lamp pump pump", "pump pump\nx\npump\ny", "v\npump lamp"]
    merged = next(hit for hit in wide if hit.text.startswith("pump pump"))
    of_both = [hit for hit in narrow if hit.uri == "a" and "lamp" not in hit.text]
    assert [one.chunk_id for one in merged.matches] == [hit.chunk_id for hit in of_both]
    assert (merged.score, merged.scores) == (of_both[0].score, of_both[0].scores)
    assert [hit.score for hit in wide] == sorted((hit.score for hit in wide), reverse=True)


@settings(max_examples=15)
@given(
    lines=st.lists(
        st.sampled_from(["pump", "pump oil", "x \U0001f6a7 y", "", " ", "# h", "river"]),
        min_size=1,
        max_size=30,
    ),
    expand=st.integers(1, 4) | st.just("section"),
    top_k=st.integers(1, 12),
)
def test_a_wider_hit_quotes_its_span(
    words: Any, shelf: Any, lines: list[str], expand: Any, top_k: int
) -> None:
    """Whatever the text; together the wider hits hold exactly what matched."""
    kb = shelf.make(f"corpus{len(shelf.catalog.knowledge_bases.all())}")
    shelf.put(shelf.version("a", "\n".join(lines)), shelf.version("b", "\n".join(reversed(lines))), kb=kb)
    wide = words.search("pump oil", [kb.id], top_k=top_k, expand=expand).hits
    assert_quoted(words, wide)
    narrow = words.search("pump oil", [kb.id], top_k=top_k).hits
    assert {one.chunk_id for hit in wide for one in hit.matches} == {hit.chunk_id for hit in narrow}
    assert wide[:1] == () or wide[0].chunk_id == narrow[0].chunk_id


@given(
    before=st.integers(0, 30_000),
    length=st.integers(1, 15_000),
    after=st.integers(0, 30_000),
    every=st.integers(1, 400),
)
def test_of_a_long_section_comes_what_is_around_the_hit(
    before: int, length: int, after: int, every: int
) -> None:
    """At most MAX_SECTION characters, or the hit itself where it is longer; whole lines of it."""
    text = "".join("\n" if at % every == 0 else "x" for at in range(before + length + after))
    hit = Hit("kb", 1, "ver", "doc", "t", "u", "", before, before + length, None, None, 1.0, {}, {})
    start, end = _section(hit, Opened("ver", text, []))
    assert 0 <= start <= hit.start < hit.end <= end <= len(text)
    assert end - start <= max(MAX_SECTION, length)
    if len(text) > MAX_SECTION + 2 * every and length < MAX_SECTION // 2 and every > 1:
        assert end - start >= MAX_SECTION // 2 - 2 * every
        assert start == 0 or text[start - 1] == "\n"


@contextmanager
def statements(service: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every SELECT that reaches the database, however it is sent."""
    sent: list[str] = []
    called = Prepared.__call__

    def count(self: Prepared, **parameters: object) -> list[Any]:
        sent.append("prepared")
        return called(self, **parameters)

    def listen(connection: object, cursor: object, statement: str, *more: object) -> None:
        sent.append(statement)

    engine = service.catalog.database.engine
    event.listen(engine, "before_cursor_execute", listen)
    with monkeypatch.context() as patch:
        patch.setattr(Prepared, "__call__", count)
        yield sent
    event.remove(engine, "before_cursor_execute", listen)


@pytest.mark.parametrize(
    ("asked", "most"),
    [
        ({}, 3),
        ({"explain": True}, 3),
        ({"max_per_document": 1}, 4),
        ({"group_by": "document"}, 4),
        ({"collapse_duplicates": True}, 5),
        ({"expand": 2}, 6),
        ({"expand": "section"}, 5),
        ({"expand": "section", "collapse_duplicates": True, "group_by": "document"}, 9),
    ],
)
def test_the_number_of_statements_does_not_grow_with_the_hits(
    words: Any, shelf: Any, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], most: int
) -> None:
    """Two hits or eighty: knowledge base, change number, hits, and one or two for each wish."""
    shelf.put(*(shelf.version(f"doc{number}", f"pump oil{number}\nx{number}") for number in range(120)))
    words.search("pump", ["shelf"])
    counts = []
    for top_k in (2, 80):
        with statements(words, monkeypatch) as sent:
            words.search("pump", ["shelf"], top_k=top_k, **asked)
        counts.append(len([one for one in sent if not one.startswith(("BEGIN", "PRAGMA"))]))
    assert counts[0] == counts[1] <= most


def test_a_document_deleted_while_hits_are_widened_is_left_out(
    words: Any, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search is repeated, and another takes its place."""
    shelf.put(*(shelf.version(f"doc{number}", f"pump\nx{number}") for number in range(4)))
    opened = words.catalog.documents.opened
    calls = []

    def delete_first(version_ids: list[str]) -> Iterator[Opened]:
        calls.append(version_ids)
        if len(calls) == 1:
            words.delete_document("shelf", shelf.content("doc0").id)
        return opened(version_ids)

    monkeypatch.setattr(words.catalog.documents, "opened", delete_first)
    hits = words.search("pump", ["shelf"], top_k=3, mode="lexical", expand=1).hits
    assert sorted(hit.uri for hit in hits) == ["doc1", "doc2", "doc3"]
    assert len(calls) == 2
