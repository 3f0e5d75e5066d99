"""API keys, jobs and knowledge bases as rows."""

import hashlib
from typing import Any

import pytest

from kb.catalog.jobs import JobFile
from kb.errors import AlreadyExists, InvalidInput, NotFound
from kb.types import ChunkingPolicy, Failure, IngestReport


def test_a_key_admits_until_it_is_deleted(shelf: Any) -> None:
    """Its secret is admitted, nothing else is, and after the deletion neither."""
    keys = shelf.catalog.keys
    assert (keys.exist(), keys.all()) == (False, [])
    first, secret = keys.create("first")
    second, other = keys.create("second")
    assert keys.all() == [first, second]
    assert keys.exist()
    assert [keys.admits(given) for given in (secret, other, "", secret[:-1], secret + "x", first.id)] == [
        first.id,
        second.id,
    ] + [None] * 4
    keys.delete(first.id)
    assert (keys.admits(secret), keys.admits(other), keys.all()) == (None, second.id, [second])
    with pytest.raises(NotFound):
        keys.delete(first.id)


def test_secrets_are_long_and_never_stored(shelf: Any) -> None:
    """32 random bytes each; the database holds their SHA-256 and nothing more of them."""
    made = [shelf.catalog.keys.create("same name")[1] for _ in range(5)]
    assert len(set(made)) == 5
    assert all(secret.startswith("kb_") and len(secret) == 46 for secret in made)
    assert {row[0] for row in shelf.rows("keys", "hash")} == {
        hashlib.sha256(secret.encode()).digest() for secret in made
    }
    assert not any(secret[3:] in repr(shelf.rows("keys")) for secret in made)


def test_a_job_keeps_its_files_until_it_is_done(shelf: Any) -> None:
    """Queued, running, succeeded; files come back in order with bytes and attributes, and go with the end."""
    jobs = shelf.catalog.jobs
    files = [JobFile("b.txt", b"\0\xff", {"n": 1, "t": True}), JobFile("a.txt", b"", {})]
    job = jobs.create(shelf.kb.id, files)
    assert (job.status, job.files, job.report, job.error, job.finished_at) == ("queued", 2, None, None, None)
    assert jobs.start(job.id) == files
    assert jobs.get(job.id).status == "running"
    assert [waiting.id for waiting in jobs.waiting()] == [job.id]
    report = IngestReport(documents=2, added=1, failures=(Failure("a.txt", "empty"),), seconds=0.5)
    jobs.finish(job.id, report=report)
    done = jobs.get(job.id)
    assert (done.status, done.report, done.error) == ("succeeded", report, None)
    assert done.finished_at is not None
    assert (jobs.waiting(), shelf.rows("job_files")) == ([], [])


def test_a_failed_job_tells_why_and_keeps_nothing_that_was_sent(shelf: Any) -> None:
    """Its error is kept, also an empty one; the bytes go, since nothing would ever read or delete them."""
    for error in ("no such model", ""):
        job = shelf.catalog.jobs.create(shelf.kb.id, [JobFile("a", b"a", {})])
        shelf.catalog.jobs.finish(job.id, error=error)
        done = shelf.catalog.jobs.get(job.id)
        assert (done.status, done.error, done.report) == ("failed", error, None)
        assert shelf.catalog.jobs.waiting() == []
    assert shelf.rows("job_files", "data") == []


def test_jobs_wait_in_order_and_go_with_their_knowledge_base(shelf: Any) -> None:
    """Oldest first; deleting the base deletes its jobs and their bytes."""
    made = [shelf.catalog.jobs.create(shelf.kb.id, [JobFile("a", b"a", {})]) for _ in range(3)]
    shelf.catalog.jobs.start(made[1].id)
    assert [job.id for job in shelf.catalog.jobs.waiting()] == [job.id for job in made]
    shelf.catalog.knowledge_bases.delete(shelf.kb.id)
    assert (shelf.catalog.jobs.waiting(), shelf.rows("job_files")) == ([], [])
    with pytest.raises(NotFound):
        shelf.catalog.jobs.get(made[0].id)


def test_a_knowledge_base_is_found_by_name_and_id(shelf: Any) -> None:
    """Both give the same; an unknown one raises NotFound that names those that exist."""
    kb = shelf.catalog.knowledge_bases.get("shelf")
    assert shelf.catalog.knowledge_bases.get(kb.id) == kb
    assert (kb.chunking, kb.dim, kb.fingerprint) == (ChunkingPolicy(64, 0), 48, "words-1")
    with pytest.raises(NotFound, match="there are: shelf"):
        shelf.catalog.knowledge_bases.get("shelves")


@pytest.mark.parametrize("name", ["", "  ", "a/b", "x" * 129, "a\nb", "\0", "\ud800"])
def test_what_cannot_be_a_name_is_refused(shelf: Any, name: str) -> None:
    """InvalidInput names the argument, on making as on renaming."""
    with pytest.raises(InvalidInput) as error:
        shelf.make(name)
    assert error.value.param == "name"
    if name:
        with pytest.raises(InvalidInput):
            shelf.catalog.knowledge_bases.change(shelf.kb.id, name=name)


def test_names_are_unique(shelf: Any) -> None:
    """A taken name is refused, on making as on renaming; changing one's own description is not."""
    other = shelf.make(" other ")
    assert other.name == "other"
    with pytest.raises(AlreadyExists):
        shelf.make("shelf")
    with pytest.raises(AlreadyExists):
        shelf.catalog.knowledge_bases.change(other.id, name="shelf")
    changed = shelf.catalog.knowledge_bases.change(other.id, name="third", description="d")
    assert (changed.name, changed.description, changed.id) == ("third", "d", other.id)
    assert shelf.catalog.knowledge_bases.change(other.id, description="").description == ""


def test_no_name_can_stand_for_another_knowledge_base(shelf: Any) -> None:
    """The id of one base is not taken as the name of another, so that each stays reachable."""
    with pytest.raises((InvalidInput, AlreadyExists)):
        shelf.make(shelf.kb.id)
    assert shelf.catalog.knowledge_bases.get(shelf.kb.id).name == "shelf"


def test_counts_are_per_knowledge_base(shelf: Any) -> None:
    """Documents and chunks of each, by name."""
    empty = shelf.make("another")
    shelf.put(shelf.version("a", "one\ntwo"), shelf.version("b", "three"))
    assert [(kb.name, kb.documents, kb.chunks) for kb in shelf.catalog.knowledge_bases.all()] == [
        (empty.name, 0, 0),
        ("shelf", 2, 3),
    ]
