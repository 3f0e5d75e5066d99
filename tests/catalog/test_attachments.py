"""Files as rows, and what they are attached to."""

import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kb.catalog.attachments import Attachment
from kb.catalog.holdings import Counts
from kb.catalog.jobs import JobFile
from kb.catalog.paging import Page
from kb.catalog.store import Committed
from kb.errors import InvalidInput, NotFound
from kb.types import ChunkingPolicy, Failure


def keep(shelf: Any, name: str, text: str = "text") -> str:
    """A file's id."""
    return str(shelf.catalog.files.create(name, "assistants", text.encode()).id)


def attach(shelf: Any, *file_ids: str, **said: Any) -> str:
    """A job's id."""
    return str(shelf.catalog.attachments.attach(shelf.kb.id, [Attachment(one, **said) for one in file_ids]))


def take_in(shelf: Any, job_id: str) -> list[Committed]:
    """What a runner does with a job, and leaves unfinished."""
    files = list(shelf.catalog.jobs.start(job_id))
    return commit(shelf, job_id, [shelf.version(one.name, one.data.decode()) for one in files])


def commit(shelf: Any, job_id: str, batch: list[Any]) -> list[Committed]:
    """Some documents of a job."""
    source = shelf.catalog.store.source(shelf.kb.id, "files")
    done: list[Committed] = shelf.catalog.store.commit(
        shelf.kb.id, source, shelf.kb.fingerprint, batch, shelf.vectors(*batch), job_id
    )
    return done


def states(shelf: Any) -> dict[str, str]:
    """By file id, the oldest first."""
    page = shelf.catalog.holdings.page(shelf.kb.id, Page(100, newest_first=False))
    return {one.id: one.state for one in page.items}


def texts(shelf: Any) -> set[str]:
    """What stands in chunks."""
    return {row[0] for row in shelf.rows("chunks", "text")}


def test_a_file_is_kept_as_it_was_sent(shelf: Any) -> None:
    """Name, purpose, size, digest and bytes; listed by purpose, the newest first."""
    files = shelf.catalog.files
    first = files.create("a.txt", "batch", b"\0\xff")
    second = files.create("a.txt", "vision", b"")
    assert (first.filename, first.purpose, first.byte_size) == ("a.txt", "batch", 2)
    assert first.sha256 == hashlib.sha256(b"\0\xff").hexdigest()
    assert (files.get(first.id), files.data(first.id), files.data(second.id)) == (first, b"\0\xff", b"")
    assert files.page(Page(10)).items == [second, first]
    assert files.page(Page(10), "batch").items == [first]
    for call in (files.get, files.data):
        with pytest.raises(NotFound):
            call("file_none")


@pytest.mark.parametrize("name", ["", " ", "x" * 513, "\ud800"])
def test_what_cannot_be_a_filename_is_refused(shelf: Any, name: str) -> None:
    """InvalidInput names the field."""
    with pytest.raises(InvalidInput) as error:
        shelf.catalog.files.create(name, "assistants", b"")
    assert error.value.param == "file"


@pytest.mark.parametrize("newest_first", [True, False])
def test_pages_meet_whatever_is_deleted(shelf: Any, newest_first: bool) -> None:
    """Every page is what its cursor says, from either side, also when the cursor itself is gone."""
    ids = [keep(shelf, f"{n}") for n in range(7)]
    order = ids[::-1] if newest_first else ids
    files = shelf.catalog.files

    def page(limit: int, **where: str) -> tuple[list[str], bool]:
        listed = files.page(Page(limit, newest_first=newest_first, **where))
        return [one.id for one in listed.items], listed.more

    assert page(7) == (order, False)
    assert page(3) == (order[:3], True)
    assert page(3, after=order[2]) == (order[3:6], True)
    assert page(3, after=order[5]) == (order[6:], False)
    assert page(2, before=order[4]) == (order[2:4], True)
    assert page(4, before=order[3]) == (order[:3], False)
    assert page(5, after=order[1], before=order[4]) == (order[2:4], False)
    shelf.catalog.attachments.delete_file(order[2])
    assert page(2, after=order[2]) == (order[3:5], True)
    # A cursor of another kind stands where its number does.
    assert page(2, after="doc_" + order[2].removeprefix("file_")) == (order[3:5], True)


def test_how_far_an_attachment_is_follows_from_what_happened(shelf: Any) -> None:
    """In progress, then completed, failed or cancelled; counted alike in the base and in the job."""
    first, second, third = (keep(shelf, name, name) for name in ("one", "two", "three"))
    job_id = attach(shelf, first, second, third, attributes={"n": 1}, chunking=ChunkingPolicy(32, 8))
    assert states(shelf) == dict.fromkeys((first, second, third), "in_progress")
    assert shelf.catalog.jobs.attaches(job_id)
    a, b, _ = shelf.catalog.jobs.start(job_id)
    assert a == JobFile(f"{first}/one", b"one", {"n": 1}, ChunkingPolicy(32, 8))
    commit(shelf, job_id, [shelf.version(a.name, "one")])
    source = shelf.catalog.store.source(shelf.kb.id, "files")
    shelf.catalog.store.set_failures(source, [Failure(b.name, "no text", "no_text")], [], job_id)
    assert list(states(shelf).values()) == ["completed", "failed", "in_progress"]
    assert shelf.catalog.jobs.cancel(job_id).status == "cancelled"
    assert list(states(shelf).values()) == ["completed", "failed", "cancelled"]
    counts = Counts(0, 1, 1, 1, 3)
    assert shelf.catalog.holdings.counts([shelf.kb.id]) == {shelf.kb.id: counts}
    assert shelf.catalog.holdings.counts_of(job_id) == counts
    one = shelf.catalog.holdings.get(shelf.kb.id, second)
    assert (one.error, one.error_kind, one.content_id) == ("no text", "no_text", None)
    done = shelf.catalog.holdings.get(shelf.kb.id, first)
    assert (done.filename, done.byte_size, done.attributes) == ("one", 3, {"n": 1})
    assert shelf.catalog.holdings.get(shelf.kb.id, done.content_id) == done


def test_a_job_that_fails_fails_what_is_not_in(shelf: Any) -> None:
    """With the job's reason, which is not the file's fault."""
    file_id = keep(shelf, "a")
    job_id = attach(shelf, file_id)
    shelf.catalog.jobs.finish(job_id, error="no such model")
    one = shelf.catalog.holdings.get(shelf.kb.id, file_id)
    assert (one.state, one.error, one.error_kind) == ("failed", "no such model", "")


def test_nothing_is_attached_where_one_file_is_missing(shelf: Any) -> None:
    """All or none, and no job is left."""
    with pytest.raises(NotFound, match="file_none"):
        attach(shelf, keep(shelf, "a"), "file_none")
    with pytest.raises(InvalidInput):
        attach(shelf, *[keep(shelf, "b")] * 2)
    with pytest.raises(InvalidInput):
        attach(shelf)
    with pytest.raises(InvalidInput):
        attach(shelf, keep(shelf, "c"), attributes={"k": [1]})
    assert (shelf.rows("attachments"), shelf.catalog.jobs.waiting()) == ([], [])


@pytest.mark.parametrize("leave", ["detach", "delete_file", "cancel", "attach"])
def test_what_is_taken_back_never_goes_in(shelf: Any, leave: str) -> None:
    """Detached, deleted, cancelled or attached anew after it was read: the commit leaves it out, the others
    go in, and no vector of it is kept."""
    gone, stays = keep(shelf, "gone", "secret words"), keep(shelf, "stays", "plain words")
    job_id = attach(shelf, gone, stays)
    files = list(shelf.catalog.jobs.start(job_id))
    batch = [shelf.version(one.name, one.data.decode()) for one in files]
    attachments, kb_id = shelf.catalog.attachments, shelf.kb.id
    acts: dict[str, Callable[[], Any]] = {
        "detach": lambda: attachments.detach(kb_id, gone),
        "delete_file": lambda: attachments.delete_file(gone),
        "cancel": lambda: shelf.catalog.jobs.cancel(job_id),
        "attach": lambda: attach(shelf, gone),
    }
    acts[leave]()
    committed = commit(shelf, job_id, batch)
    left = set() if leave == "cancel" else {"plain words"}
    assert texts(shelf) == left
    assert len(committed) == len(shelf.rows("vectors")) == len(left)
    source = shelf.catalog.store.source(kb_id, "files")
    shelf.catalog.store.set_failures(source, [Failure(files[0].name, "r")], [], job_id)
    assert shelf.catalog.documents.failures(kb_id) == []


def test_a_cancelled_job_stays_so(shelf: Any) -> None:
    """Whatever its runner does afterwards; one that has ended cannot be cancelled any more."""
    jobs = shelf.catalog.jobs
    job_id = attach(shelf, keep(shelf, "a"), keep(shelf, "b"))
    going_on = iter(jobs.start(job_id))
    assert next(going_on).data == b"text"
    jobs.cancel(job_id)
    assert (list(going_on), list(jobs.start(job_id))) == ([], [])
    jobs.finish(job_id, error="late")
    assert (jobs.get(job_id).status, jobs.get(job_id).error) == ("cancelled", None)
    sent = jobs.create(shelf.kb.id, [JobFile("a", b"a", {})])
    jobs.cancel(sent.id)
    assert (jobs.waiting(), shelf.rows("job_files")) == ([], [])
    other = jobs.create(shelf.kb.id, [JobFile("a", b"a", {})])
    jobs.finish(other.id, error="broken")
    assert jobs.cancel(other.id).status == "failed"


def test_a_job_that_goes_on_reads_only_what_is_not_in(shelf: Any) -> None:
    """After a crash, what was committed is not read again."""
    first, second = keep(shelf, "one", "1"), keep(shelf, "two", "2")
    job_id = attach(shelf, first, second)
    a, _ = shelf.catalog.jobs.start(job_id)
    commit(shelf, job_id, [shelf.version(a.name, "1")])
    assert [one.name for one in shelf.catalog.jobs.start(job_id)] == [f"{second}/two"]


def test_attached_once_more_it_is_taken_in_anew(shelf: Any) -> None:
    """In progress until the new version is there; the old one is found until then."""
    file_id = keep(shelf, "a", "the words")
    take_in(shelf, attach(shelf, file_id, attributes={"n": 1}))
    before = shelf.catalog.holdings.get(shelf.kb.id, file_id)
    again = attach(shelf, file_id, attributes={"n": 2})
    waits = shelf.catalog.holdings.get(shelf.kb.id, file_id)
    assert (waits.state, waits.attributes, waits.version_id) == ("in_progress", {"n": 2}, before.version_id)
    assert texts(shelf) == {"the words"}
    take_in(shelf, again)
    after = shelf.catalog.holdings.get(shelf.kb.id, file_id)
    assert (after.state, after.attributes, after.content_id) == ("completed", {"n": 2}, before.content_id)
    assert after.version_id != before.version_id


def test_attributes_hold_whether_it_is_in_or_not(shelf: Any) -> None:
    """Set while it waits they are those it goes in with; set later they replace those."""
    file_id = keep(shelf, "a")
    job_id = attach(shelf, file_id, attributes={"n": 1})
    (read,) = shelf.catalog.jobs.start(job_id)
    shelf.catalog.attachments.describe(shelf.kb.id, file_id, {"n": 2})
    commit(shelf, job_id, [shelf.version(read.name, "text", {"n": 1})])
    assert shelf.content(read.name).attributes == {"n": 2}
    shelf.catalog.attachments.describe(shelf.kb.id, file_id, {"m": 3})
    done = shelf.catalog.holdings.get(shelf.kb.id, file_id)
    assert (done.attributes, shelf.content(read.name).attributes) == ({"m": 3}, {"m": 3})
    assert [row[1:3] for row in shelf.rows("attributes")] == [("m", shelf.kb.id)]
    with pytest.raises(InvalidInput):
        shelf.catalog.attachments.describe(shelf.kb.id, file_id, {"k": None})


def test_documents_that_came_otherwise_are_listed_in_their_place(shelf: Any) -> None:
    """By when they came, and are described and detached as files are."""
    first = keep(shelf, "first")
    shelf.put(shelf.version("folder.txt", "words of a folder", {"n": 1}))
    last = keep(shelf, "last")
    take_in(shelf, attach(shelf, last, first))
    (document,) = (one for one in shelf.catalog.documents.page(shelf.kb.id) if one.uri == "folder.txt")
    assert list(states(shelf)) == [first, document.id, last]
    attachments, holdings = shelf.catalog.attachments, shelf.catalog.holdings
    page = holdings.page(shelf.kb.id, Page(1, after=first, newest_first=False))
    assert ([one.id for one in page.items], page.more) == ([document.id], True)
    assert [one.id for one in holdings.page(shelf.kb.id, Page(9), "failed").items] == []
    assert holdings.counts([shelf.kb.id])[shelf.kb.id].completed == 3
    attachments.describe(shelf.kb.id, document.id, {"n": 2})
    assert holdings.get(shelf.kb.id, document.id).attributes == {"n": 2}
    ids = [one.id for one in shelf.catalog.documents.page(shelf.kb.id)]
    assert set(holdings.names(ids).values()) == {(first, "first"), (last, "last")}
    attachments.detach(shelf.kb.id, document.id)
    assert list(states(shelf)) == [first, last]
    with pytest.raises(NotFound):
        attachments.detach(shelf.kb.id, document.id)


def test_a_document_deleted_by_its_own_id_is_detached(shelf: Any) -> None:
    """Nothing is left that would call it in progress or lost; the file stays."""
    file_id = keep(shelf, "a")
    take_in(shelf, attach(shelf, file_id))
    done = shelf.catalog.holdings.get(shelf.kb.id, file_id)
    shelf.catalog.store.remove(shelf.kb.id, [done.content_id])
    assert (states(shelf), shelf.rows("attachments")) == ({}, [])
    assert shelf.catalog.files.get(file_id).id == file_id


def test_a_deleted_file_leaves_every_base_and_no_trace(shelf: Any, tmp_path: Path) -> None:
    """Documents, attachments, failures and bytes; with receipts of the documents."""
    other = shelf.make("other")
    file_id = keep(shelf, "unmistakablename", "unmistakablesecret")
    take_in(shelf, attach(shelf, file_id))
    waiting = shelf.catalog.attachments.attach(other.id, [Attachment(file_id)])
    shelf.catalog.attachments.delete_file(file_id)
    assert list(shelf.catalog.jobs.start(waiting)) == []
    for table in ("files", "attachments", "contents", "chunks", "vectors", "failures"):
        assert shelf.rows(table) == []
    assert len(shelf.catalog.receipts.all(shelf.kb.id)) == 1
    with pytest.raises(NotFound):
        shelf.catalog.attachments.delete_file(file_id)
    shelf.catalog.close()
    connection = sqlite3.connect(tmp_path / "catalog.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    for path in tmp_path.glob("catalog.db*"):
        assert b"unmistakable" not in path.read_bytes()


def test_a_base_that_is_deleted_leaves_the_files(shelf: Any) -> None:
    """Its attachments and their jobs go; what was sent in can be attached again."""
    file_id = keep(shelf, "a")
    take_in(shelf, attach(shelf, file_id))
    shelf.catalog.knowledge_bases.delete(shelf.kb.id)
    assert (shelf.rows("attachments"), shelf.rows("jobs"), shelf.rows("contents")) == ([], [], [])
    assert shelf.catalog.files.data(file_id) == b"text"


def test_metadata_is_kept_within_its_limits(shelf: Any) -> None:
    """16 pairs of texts; changed as a whole, and left alone by None."""
    bases = shelf.catalog.knowledge_bases
    assert shelf.kb.metadata == {}
    good = {"k" * 64: "v" * 512}
    assert bases.change(shelf.kb.id, metadata=good).metadata == good
    assert bases.change(shelf.kb.id, description="d").metadata == good
    assert bases.change(shelf.kb.id, metadata={}).metadata == {}
    bad: dict[str, Any]
    for bad in (
        {str(n): "" for n in range(17)},
        {"k" * 65: ""},
        {"": "v"},
        {"k": "v" * 513},
        {"k": "\ud800"},
    ):
        with pytest.raises(InvalidInput) as error:
            bases.change(shelf.kb.id, metadata=bad)
        assert str(error.value.param).startswith("metadata")
