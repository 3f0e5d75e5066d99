"""Documents as they are written: whole or not at all, and gone when they are gone."""

import subprocess
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis.extra.numpy import arrays
from sqlalchemy import event

from kb.catalog import store as store_module
from kb.catalog.store import VectorsMissing, pack_vectors, text_hash, unpack_vectors
from kb.errors import NotFound, StorageFailed, StorageFull
from kb.search.columns import AttributeColumns
from kb.types import Failure


def test_a_committed_document_is_there_whole(shelf: Any) -> None:
    """Content, version, chunks and hits say what went in."""
    (made,) = shelf.put(shelf.version("a.txt", "one\n\ntwo words", {"team": "x"}))
    content = shelf.content("a.txt")
    assert (content.id, content.version_id) == (made.content_id, made.version_id)
    assert not made.replaced
    assert (content.title, content.media_type, content.byte_size) == ("title of a.txt", "text/plain", 14)
    assert (content.characters, content.chunks, content.attributes) == (14, 2, {"team": "x"})
    hits = shelf.hits([1, 2, 3])
    assert {n: (hit.text, hit.start, hit.end, hit.page, hit.heading) for n, hit in hits.items()} == {
        1: ("one", 0, 3, 1, "H"),
        2: ("two words", 5, 14, 1, "H"),
    }
    assert {hit.uri for hit in hits.values()} == {"a.txt"}
    assert shelf.catalog.versions.marked(content.version_id).text == "one\n\ntwo words"


@pytest.mark.parametrize("at", range(1, 14))
def test_a_commit_that_fails_anywhere_changes_nothing(shelf: Any, at: int) -> None:
    """Whichever statement of a replacement fails, the old version is visible and every table as it was."""
    shelf.put(shelf.version("a", "old one\nold two", {"k": 1}), shelf.version("b", "stays"))
    before = shelf.everything()
    statements = 0

    def fail(*_: object) -> None:
        nonlocal statements
        statements += 1
        if statements == at:
            raise RuntimeError("pulled the plug")

    event.listen(shelf.catalog.database.engine, "before_cursor_execute", fail)
    try:
        with pytest.raises(RuntimeError, match="plug"):
            shelf.put(shelf.version("a", "new one\nnew two", {"k": 2}), shelf.version("c", "more"))
    finally:
        event.remove(shelf.catalog.database.engine, "before_cursor_execute", fail)
    assert shelf.everything() == before
    assert shelf.catalog.versions.marked(shelf.content("a").version_id).text == "old one\nold two"
    assert shelf.put(shelf.version("a", "new one"))[0].replaced


def test_readers_see_the_old_version_until_the_new_one_is_whole(shelf: Any) -> None:
    """While a commit is under way another connection reads what was there before."""
    shelf.put(shelf.version("a", "old one\nold two"))
    seen = []

    def look(*_: object) -> None:
        worker = threading.Thread(
            target=lambda: seen.append({hit.text for hit in shelf.hits(range(1, 9)).values()})
        )
        worker.start()
        worker.join()

    event.listen(shelf.catalog.database.engine, "commit", look)
    try:
        shelf.put(shelf.version("a", "new one\nnew two\nnew three"))
    finally:
        event.remove(shelf.catalog.database.engine, "commit", look)
    assert seen[0] == {"old one", "old two"}
    assert {hit.text for hit in shelf.hits(range(1, 9)).values()} == {
        "new one",
        "new two",
        "new three",
    }


def test_an_old_version_opens_until_its_document_is_deleted(shelf: Any) -> None:
    """Replacement keeps the text of the old version for old citations; deletion takes it away."""
    (old,) = shelf.put(shelf.version("a", "old text"))
    (new,) = shelf.put(shelf.version("a", "new text"))
    assert (new.content_id, new.replaced) == (old.content_id, True)
    assert shelf.catalog.versions.marked(old.version_id).text == "old text"
    assert shelf.catalog.versions.marked(new.version_id).text == "new text"
    shelf.catalog.store.remove(shelf.kb.id, [new.content_id])
    for made in (old, new):
        with pytest.raises(NotFound):
            shelf.catalog.versions.marked(made.version_id)


def stored(shelf: Any) -> set[bytes]:
    """The hashes of the texts that have vectors."""
    return {row[0] for row in shelf.rows("vectors", "text_hash")}


def test_a_replaced_document_leaves_no_chunk_and_no_vector_of_its_own(shelf: Any) -> None:
    """Chunks and vectors of the old version go; what the new one or another document holds too stays."""
    shelf.put(shelf.version("a", "own\nshared\nkept"), shelf.version("b", "shared"))
    shelf.put(shelf.version("a", "kept\nfresh"))
    assert [row[0] for row in shelf.rows("chunks", "text")] == ["fresh", "kept", "shared"]
    assert stored(shelf) == {text_hash(f"T\n{word}") for word in ("shared", "kept", "fresh")}


def test_a_removed_document_leaves_nothing_but_what_is_shared(shelf: Any) -> None:
    """No row of it remains but the change that says so; a shared vector stays, also for another base."""
    other = shelf.make("other")
    there = shelf.catalog.store.source(other.id, "upload")
    shelf.put(shelf.version("a", "own\nshared\nhere too", {"k": "v"}), shelf.version("b", "here too"))
    shelf.put(shelf.version("a", "shared"), kb=other, source=there)
    shelf.put(shelf.version("a", "own\nshared\nhere too", {"k": "w"}))
    shelf.catalog.store.remove(shelf.kb.id, [shelf.content("a").id])
    assert [row[0] for row in shelf.rows("contents", "uri")] == ["a", "b"]
    assert len(shelf.rows("versions")) == 2
    assert shelf.rows("attributes") == []
    assert [row[0] for row in shelf.rows("chunks", "text")] == ["here too", "shared"]
    assert stored(shelf) == {text_hash("T\nshared"), text_hash("T\nhere too")}
    shelf.catalog.knowledge_bases.delete(other.id)
    assert stored(shelf) == {text_hash("T\nhere too")}


def test_removing_twice_and_the_unknown_is_no_error(shelf: Any) -> None:
    """What is gone is gone; only documents of that call are touched."""
    shelf.put(shelf.version("a", "one"), shelf.version("b", "two"))
    gone = shelf.content("a").id
    shelf.catalog.store.remove(shelf.kb.id, [gone])
    changes = shelf.rows("changes")
    shelf.catalog.store.remove(shelf.kb.id, [gone, "doc_unknown"])
    assert shelf.rows("changes") == changes
    assert [row[0] for row in shelf.rows("chunks", "text")] == ["two"]


def test_chunk_ids_are_never_used_again(shelf: Any) -> None:
    """Removing the newest document does not free its numbers; the same text again gets others."""
    seen: set[int] = set()
    for round_number in range(4):
        shelf.put(shelf.version("a", "one\ntwo"), shelf.version(f"b{round_number}", "three"))
        numbers = {row[0] for row in shelf.rows("chunks", "id") if row[0] not in seen}
        assert len(numbers) == 3
        seen |= numbers
        shelf.catalog.store.remove(shelf.kb.id, [shelf.content("a").id, shelf.content(f"b{round_number}").id])
        assert shelf.rows("chunks") == []
    assert seen == set(range(1, 13))


def test_missing_vectors_stop_a_commit(shelf: Any) -> None:
    """Counting on a vector that was deleted meanwhile raises VectorsMissing, and nothing has changed."""
    version = shelf.version("a", "one\ntwo")
    shelf.put(shelf.version("b", "one"))
    assert shelf.catalog.store.missing("words-1", map(text_hash, version.embedded_texts())) == {
        text_hash("T\ntwo")
    }
    made = {text_hash("T\ntwo"): shelf.vectors(version)[text_hash("T\ntwo")]}
    shelf.catalog.store.remove(shelf.kb.id, [shelf.content("b").id])
    before = shelf.everything()
    with pytest.raises(VectorsMissing):
        shelf.catalog.store.commit(shelf.kb.id, shelf.source, "words-1", [version], made)
    assert shelf.everything() == before
    # Another model's vectors of the same texts do not count.
    shelf.catalog.store.store_vectors("words-2", shelf.vectors(version))
    with pytest.raises(VectorsMissing):
        shelf.catalog.store.commit(shelf.kb.id, shelf.source, "words-1", [version], {})


def test_vectors_stored_ahead_are_used(shelf: Any) -> None:
    """A commit finds the vectors that were stored before it; storing twice keeps the first."""
    version = shelf.version("a", "one\ntwo")
    vectors = shelf.vectors(version)
    shelf.catalog.store.store_vectors("words-1", vectors)
    shelf.catalog.store.store_vectors(
        "words-1", {name: b"\0" * len(vector) for name, vector in vectors.items()}
    )
    shelf.catalog.store.commit(shelf.kb.id, shelf.source, "words-1", [version], {})
    assert {(name, vector) for _, name, vector, _ in shelf.rows("vectors")} == set(vectors.items())


def test_a_commit_into_a_deleted_knowledge_base_is_refused(shelf: Any) -> None:
    """NotFound, and no vector is left behind."""
    shelf.catalog.knowledge_bases.delete(shelf.kb.id)
    with pytest.raises(NotFound):
        shelf.put(shelf.version("a", "one"), source=shelf.source)
    assert stored(shelf) == set()


@given(
    rows=arrays(
        np.float32,
        strategies.tuples(strategies.integers(1, 8), strategies.just(48)),
        elements=strategies.floats(-1, 1, width=16),
    )
)
def test_vectors_come_back_at_unit_length(rows: np.ndarray) -> None:
    """float16 on the disk; float32 of length 1 and the same direction when read."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = (rows / np.where(lengths > 0.1, lengths, 1))[lengths[:, 0] > 0.1]
    packed = pack_vectors(rows)
    assert [len(row) for row in packed] == [96] * len(rows)
    back = unpack_vectors(packed, 48)
    assert (back.dtype, back.shape) == (np.float32, rows.shape)
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(back, rows, atol=1e-3)


def test_a_zero_vector_stays_finite() -> None:
    """Nothing is divided by 0, and no rows give an empty array of the right shape."""
    assert unpack_vectors([b"\0" * 8], 4).tolist() == [[0, 0, 0, 0]]
    assert unpack_vectors([], 4).shape == (0, 4)


def test_a_rename_keeps_everything_but_the_place(shelf: Any) -> None:
    """Id, version, chunks and attributes stay; a search hit shows the new place."""
    shelf.put(shelf.version("old/a.txt", "one", {"k": "v"}))
    before = shelf.content("old/a.txt")
    shelf.catalog.store.rename(before.id, "new/a.txt")
    after = shelf.content("new/a.txt")
    assert (after.id, after.version_id, after.attributes) == (before.id, before.version_id, {"k": "v"})
    assert shelf.hits([1])[1].uri == "new/a.txt"
    assert len(shelf.rows("changes")) == 1


def test_attributes_are_replaced_as_a_whole(shelf: Any) -> None:
    """Old keys go; listing, hits and filters all see the new ones."""
    from kb.search.filters import parse_filter

    shelf.put(shelf.version("a", "one", {"old": 1, "both": "x"}))
    shelf.catalog.store.set_attributes(shelf.kb.id, {shelf.content("a").id: {"both": "y", "new": True}})
    assert shelf.content("a").attributes == {"both": "y", "new": True}
    assert shelf.hits([1])[1].attributes == {"both": "y", "new": True}
    for key, value, expected in (("both", "y", [1]), ("both", "x", []), ("old", 1, []), ("new", True, [1])):
        where = parse_filter({"type": "eq", "key": key, "value": value})
        assert AttributeColumns(shelf.kb.id, shelf.catalog.feed).allowed(where).ids().tolist() == expected
    shelf.catalog.store.set_attributes(shelf.kb.id, {shelf.content("a").id: {}})
    assert (shelf.content("a").attributes, shelf.rows("attributes")) == ({}, [])


def test_failures_are_kept_per_source_and_heal(shelf: Any) -> None:
    """The newest reason counts; a healed document leaves the list; another source is not touched."""
    store = shelf.catalog.store
    elsewhere = store.source(shelf.kb.id, "file:///elsewhere")
    store.set_failures(shelf.source, [Failure("b", "broken"), Failure("a", "empty")], [])
    store.set_failures(elsewhere, [Failure("a", "other")], [])
    store.set_failures(shelf.source, [Failure("b", "still broken")], ["a", "unknown"])
    assert shelf.catalog.documents.failures(shelf.kb.id) == [
        Failure("a", "other"),
        Failure("b", "still broken"),
    ]


def test_a_failure_in_a_knowledge_base_that_is_gone_is_told(shelf: Any) -> None:
    """As a commit into it is; nothing is written."""
    shelf.catalog.knowledge_bases.delete(shelf.kb.id)
    with pytest.raises(NotFound, match="deleted meanwhile"):
        shelf.catalog.store.set_failures(shelf.source, [Failure("b", "broken")], [])
    assert shelf.rows("failures") == []


def test_a_source_is_made_once(shelf: Any) -> None:
    """The same place in the same base is the same source; another base has its own."""
    assert shelf.catalog.store.source(shelf.kb.id, "upload") == shelf.source
    assert shelf.catalog.store.source(shelf.make("other").id, "upload") != shelf.source


def test_large_sets_of_hashes_are_asked_in_portions(shelf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More texts than one statement takes: all are found, stored and forgotten."""
    monkeypatch.setattr(store_module, "_AT_ONCE", 3)
    version = shelf.version("a", "\n".join(f"line{n}" for n in range(10)))
    shelf.put(version)
    assert shelf.catalog.store.missing("words-1", shelf.vectors(version)) == set()
    assert len(stored(shelf)) == 10
    shelf.catalog.store.remove(shelf.kb.id, [shelf.content("a").id])
    assert stored(shelf) == set()


def test_a_full_disk_is_told_and_loses_nothing(shelf: Any) -> None:
    """StorageFull; what was there is unchanged and readable; with room again the same commit succeeds."""
    shelf.put(shelf.version("a", "old text"))
    before = shelf.everything()
    engine = shelf.catalog.database.engine
    limit = "PRAGMA max_page_count = 1"

    def narrow(connection: Any) -> None:
        connection.exec_driver_sql(limit)

    event.listen(engine, "begin", narrow)
    big = shelf.version("a", "\n".join(f"some words of line {n} " * 40 for n in range(200)))
    try:
        for _ in range(2):
            with pytest.raises(StorageFull):
                shelf.put(big)
            with pytest.raises(StorageFull):
                shelf.catalog.store.store_vectors("words-1", shelf.vectors(big))
        assert shelf.everything() == before
        limit = "PRAGMA max_page_count = 1000000"
        assert shelf.put(big)[0].replaced
    finally:
        event.remove(engine, "begin", narrow)
    assert shelf.content("a").chunks == 200
    with shelf.catalog.database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_a_connection_that_only_reads_is_replaced(shelf: Any) -> None:
    """As one opened while the disk refused writes: the write fails with its reason, the next succeeds."""
    with shelf.catalog.database.read() as connection:
        # It has the same effect, and goes back to the pool.
        connection.exec_driver_sql("PRAGMA query_only = ON")
    with pytest.raises(StorageFailed, match="readonly database"):
        shelf.put(shelf.version("a", "text"))
    assert shelf.put(shelf.version("a", "text"))


_WRITER = """
import importlib.util, sys
from kb.catalog import Catalog
url, fakes, who = sys.argv[1:]
spec = importlib.util.spec_from_file_location("fakes", fakes)
fakes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fakes)
shelf = fakes.Shelf(Catalog(url))
for number in range(15):
    shelf.put(shelf.version(f"{who}-{number}", f"text {who} {number}\\nshared {number}"))
    shelf.put(shelf.version("contended", f"by {who} {number}"))
shelf.catalog.close()
"""


def test_processes_write_at_the_same_time_and_lose_nothing(shelf: Any, url: str, fakes: ModuleType) -> None:
    """Two processes put documents at once: all are there, whole, the changes numbered without a gap."""
    running = [
        subprocess.Popen([sys.executable, "-c", _WRITER, url, str(fakes.__file__), who]) for who in ("x", "y")
    ]
    assert [process.wait(timeout=100) for process in running] == [0, 0]
    expected = {f"{who}-{number}": 2 for who in ("x", "y") for number in range(15)} | {"contended": 1}
    contents = shelf.catalog.documents.page(shelf.kb.id, limit=1000)
    assert {content.uri: content.chunks for content in contents} == expected
    sequence = [row[0] for row in shelf.rows("changes", "seq")]
    # One for each document, and two more each time `contended` was replaced rather than made.
    assert sequence == list(range(1, 30 + 1 + 2 * 29 + 1))
    ranges = sorted(
        (first, last)
        for _, added, first, last in shelf.rows("changes", "seq, added, first_chunk, last_chunk")
        if added
    )
    assert [first for first, _ in ranges][1:] == [last + 1 for _, last in ranges][:-1]
    assert shelf.catalog.versions.marked(shelf.content("contended").version_id).text in {"by x 14", "by y 14"}
