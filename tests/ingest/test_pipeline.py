"""The whole trip: a folder becomes searchable, and stays level with the folder."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kb.catalog.jobs import JobFile
from kb.catalog.store import Store
from kb.errors import InvalidInput, ModelMismatch, NotFound
from kb.ingest import pipeline as pipeline_module
from kb.types import ChunkingPolicy, IngestReport


def write(folder: Path, **texts: str) -> None:
    """Text files by name."""
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def counts(report: IngestReport) -> dict[str, int]:
    """The counts of a report that are not 0."""
    names = (
        "documents",
        "added",
        "changed",
        "renamed",
        "unchanged",
        "removed",
        "chunks",
        "embedded",
        "reused",
        "failed",
    )
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def places(service: Any, kb: str = "kb") -> dict[str, str]:
    """Documents: uri and id."""
    return {content.uri: content.id for content in service.documents(kb, limit=1000)}


def find(service: Any, query: str, kb: str = "kb") -> list[tuple[str, str]]:
    """Uri and text of the hits that share a word with the query, in order of uri."""
    return sorted((hit.uri, hit.text) for hit in service.search(query, [kb], mode="lexical", top_k=100).hits)


def test_a_folder_becomes_searchable(words: Any, folder: Path, embedder: Any) -> None:
    """Every file is a document with its text exact; the knowledge base is made by its name."""
    write(folder, pump="The pump is started with the green button.", valve="The valve is closed by hand.")
    (folder / "sub").mkdir()
    (folder / "sub" / "guide.md").write_text("# Guide\n\nOil the engine.\n")
    report = words.ingest(folder, "kb")
    assert counts(report) == {"documents": 3, "added": 3, "chunks": 3, "embedded": 3}
    assert report.seconds > 0
    assert set(places(words)) == {"pump.txt", "valve.txt", "sub/guide.md"}
    (hit,) = words.search("oil engine", ["kb"], top_k=1).hits
    assert (hit.uri, hit.title, hit.heading, hit.text) == (
        "sub/guide.md",
        "Guide",
        "Guide",
        "# Guide\n\nOil the engine.",
    )
    assert words.text(hit.content_version_id) == "# Guide\n\nOil the engine.\n"
    assert sorted(embedder.embedded)[1:] == [
        "pump\nThe pump is started with the green button.",
        "valve\nThe valve is closed by hand.",
    ]


def test_a_second_run_does_nothing(words: Any, folder: Path, embedder: Any) -> None:
    """No document is read into the catalog again, nothing is embedded, ids and versions stay."""
    write(folder, a="one", b="two")
    words.ingest(folder, "kb")
    before = words.documents("kb")
    embedder.embedded.clear()
    (folder / "a.txt").touch()
    assert counts(words.ingest(str(folder), "kb")) == {"documents": 2, "unchanged": 2}
    assert (words.documents("kb"), embedder.embedded) == (before, [])


def test_a_changed_file_replaces_its_document(words: Any, folder: Path, embedder: Any) -> None:
    """The same id, a new version; the old words find nothing; only what is new is embedded."""
    write(folder, a="the old pump", b="stays")
    words.ingest(folder, "kb")
    before = places(words)
    embedder.embedded.clear()
    write(folder, a="the new engine")
    assert counts(words.ingest(folder, "kb")) == {
        "documents": 2,
        "changed": 1,
        "unchanged": 1,
        "chunks": 1,
        "embedded": 1,
    }
    assert places(words) == before
    assert (find(words, "pump"), find(words, "engine")) == ([], [("a.txt", "the new engine")])
    assert embedder.embedded == ["a\nthe new engine"]


def test_a_moved_file_embeds_nothing_and_keeps_its_id(words: Any, folder: Path, embedder: Any) -> None:
    """It is found at its new place, and only there."""
    write(folder, old="the pump", other="x")
    words.ingest(folder, "kb", attributes={"k": 1})
    before = places(words)
    embedder.embedded.clear()
    (folder / "sub").mkdir()
    (folder / "old.txt").rename(folder / "sub" / "new.txt")
    assert counts(words.ingest(folder, "kb")) == {"documents": 2, "renamed": 1, "unchanged": 1}
    assert places(words) == {"sub/new.txt": before["old.txt"], "other.txt": before["other.txt"]}
    assert (embedder.embedded, find(words, "pump")) == ([], [("sub/new.txt", "the pump")])
    assert words.document("kb", before["old.txt"]).attributes == {"k": 1}


def test_a_file_that_is_gone_leaves(words: Any, folder: Path) -> None:
    """Its document, text and words are not there any more."""
    write(folder, a="the pump", b="the valve")
    words.ingest(folder, "kb")
    gone = words.document("kb", places(words)["a.txt"])
    (folder / "a.txt").unlink()
    assert counts(words.ingest(folder, "kb")) == {"documents": 1, "unchanged": 1, "removed": 1}
    assert (find(words, "pump"), set(places(words))) == ([], {"b.txt"})
    with pytest.raises(NotFound):
        words.text(gone.version_id)


def test_a_home_folder_is_a_folder_like_any_other(
    words: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path with `~` names the same source as the path it stands for, and removals are seen there too."""
    monkeypatch.setenv("HOME", str(folder.parent))
    write(folder, a="one", b="two")
    words.ingest("~/documents", "kb")
    (folder / "a.txt").unlink()
    assert words.ingest("~/documents", "kb").removed == 1
    assert words.ingest(folder, "kb").unchanged == 1


def test_an_emptied_folder_is_refused_and_nothing_is_removed(words: Any, folder: Path) -> None:
    """A lost mount does not cost the knowledge base; nor is one made for it."""
    write(folder, a="one")
    words.ingest(folder, "kb")
    (folder / "a.txt").unlink()
    for kb in ("kb", "never"):
        with pytest.raises(InvalidInput, match="nothing was changed"):
            words.ingest(folder, kb)
    assert set(places(words)) == {"a.txt"}
    assert [kb.name for kb in words.knowledge_bases()] == ["kb"]


def test_one_file_does_not_remove_its_siblings(words: Any, folder: Path) -> None:
    """A single file goes in or is updated; the rest of its folder's documents stay."""
    write(folder, a="one", b="two")
    words.ingest(folder, "kb")
    write(folder, a="one changed", c="three")
    assert counts(words.ingest(folder / "a.txt", "kb"))["changed"] == 1
    assert set(places(words)) == {"a.txt", "b.txt"}
    (folder / "b.txt").unlink()
    assert counts(words.ingest(folder / "c.txt", "kb"))["added"] == 1
    assert set(places(words)) == {"a.txt", "b.txt", "c.txt"}
    assert counts(words.ingest(folder, "kb")) == {"documents": 2, "unchanged": 2, "removed": 1}


def test_a_broken_file_is_quarantined_and_the_others_go_in(words: Any, folder: Path) -> None:
    """Its reason is in the report and in the list, until it is mended."""
    write(folder, a="one", z="two")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing more")
    (folder / "empty.txt").write_bytes(b"")
    report = words.ingest(folder, "kb")
    assert (report.added, report.failed, set(places(words))) == (2, 2, {"a.txt", "z.txt"})
    assert words.failures("kb") == sorted(report.failures, key=lambda failure: failure.uri)
    assert [failure.uri for failure in report.failures] == ["broken.pdf", "empty.txt"]
    assert all(failure.reason.startswith(failure.uri) for failure in report.failures)
    (folder / "empty.txt").write_text("no longer empty")
    report = words.ingest(folder, "kb")
    assert (report.added, [failure.uri for failure in report.failures]) == (1, ["broken.pdf"])
    assert [failure.uri for failure in words.failures("kb")] == ["broken.pdf"]
    (folder / "broken.pdf").unlink()
    words.ingest(folder, "kb")
    assert words.failures("kb") == []


def test_a_document_that_breaks_keeps_its_last_good_version(words: Any, folder: Path) -> None:
    """The old text stays searchable beside the reason; undoing the change heals it."""
    write(folder, a="the pump")
    words.ingest(folder, "kb")
    (folder / "a.txt").write_bytes(b"")
    report = words.ingest(folder, "kb")
    assert (report.failed, find(words, "pump")) == (1, [("a.txt", "the pump")])
    assert [failure.uri for failure in words.failures("kb")] == ["a.txt"]
    write(folder, a="the pump")
    assert words.ingest(folder, "kb").unchanged == 1
    assert words.failures("kb") == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_quarantined(words: Any, folder: Path) -> None:
    """Listed with the system's reason; what was known of it stays."""
    write(folder, a="the pump", b="x")
    words.ingest(folder, "kb")
    (folder / "a.txt").chmod(0)
    report = words.ingest(folder, "kb")
    (folder / "a.txt").chmod(0o600)
    assert [(failure.uri, failure.reason) for failure in report.failures] == [
        ("a.txt", "cannot be read: Permission denied")
    ]
    assert words.failures("kb") == list(report.failures)
    assert find(words, "pump") == [("a.txt", "the pump")]


@pytest.mark.skipif(os.name == "nt", reason="names there are Unicode")
def test_a_file_name_that_is_no_unicode_is_that_files_failure(words: Any, folder: Path) -> None:
    """Bytes from an old system in one name do not stop the others; the document goes in or is reported."""
    write(folder, a="the pump")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt")).write_text("the valve")
    report = words.ingest(folder, "kb")
    assert ("a.txt", "the pump") in find(words, "pump")
    assert report.added + report.failed == 2
    assert words.ingest(folder, "kb").unchanged >= 1


def test_attributes_are_set_kept_and_replaced(words: Any, folder: Path) -> None:
    """Given ones go to every document; without any the known ones stay; {} takes them away."""

    def held() -> dict[str, Any]:
        return {content.uri: dict(content.attributes) for content in words.documents("kb")}

    write(folder, a="one", b="two")
    words.ingest(folder, "kb", attributes={"team": "x", "n": 1})
    write(folder, a="one changed", c="three")
    words.ingest(folder, "kb")
    assert held() == {"a.txt": {"team": "x", "n": 1}, "b.txt": {"team": "x", "n": 1}, "c.txt": {}}
    assert words.ingest(folder, "kb", attributes={"team": "y"}).unchanged == 3
    assert held() == {uri: {"team": "y"} for uri in ("a.txt", "b.txt", "c.txt")}
    words.ingest(folder, "kb", attributes={})
    assert held() == {"a.txt": {}, "b.txt": {}, "c.txt": {}}


def test_an_attribute_may_change_its_kind_alone(words: Any, folder: Path) -> None:
    """From 1 to True is a change, though Python calls them equal."""
    write(folder, a="one")
    words.ingest(folder, "kb", attributes={"flag": 1})
    words.ingest(folder, "kb", attributes={"flag": True})
    (content,) = words.documents("kb")
    assert content.attributes["flag"] is True


def test_bad_attributes_are_refused_before_anything_happens(words: Any, folder: Path) -> None:
    """InvalidInput, and no knowledge base was made."""
    write(folder, a="one")
    with pytest.raises(InvalidInput):
        words.ingest(folder, "kb", attributes={"k": None})
    assert words.knowledge_bases() == []


def test_a_second_knowledge_base_embeds_nothing(words: Any, folder: Path, embedder: Any) -> None:
    """The same texts under the same model have vectors already, and outlive the first base."""
    write(folder, a="the pump", b="the valve")
    words.ingest(folder, "first")
    embedder.embedded.clear()
    assert counts(words.ingest(folder, "second")) == {"documents": 2, "added": 2, "chunks": 2, "reused": 2}
    words.delete_knowledge_base("first")
    assert (find(words, "pump", "second"), embedder.embedded) == ([("a.txt", "the pump")], [])
    assert [hit.uri for hit in words.search("valve", ["second"], mode="dense", top_k=1).hits] == ["b.txt"]


def test_equal_texts_are_embedded_once(words: Any, folder: Path, embedder: Any) -> None:
    """Copies under one title, within a batch and across batches, share a vector."""
    for name in ("x", "y", "z"):
        (folder / name).mkdir()
        (folder / name / "same.txt").write_text("the pump")
    report = words.ingest(folder, "kb")
    assert (report.added, report.chunks, report.embedded, embedder.embedded) == (3, 3, 1, ["same\nthe pump"])


def test_a_large_document_is_stored_in_portions(
    words: Any, folder: Path, embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was embedded before an interruption is used, and nothing is visible until all is there."""
    monkeypatch.setattr(pipeline_module, "_BATCH_TEXTS", 8)
    words.create_knowledge_base("kb", chunking=ChunkingPolicy(16))
    write(folder, big="\n\n".join(" ".join(f"w{n}x{m}" for m in range(12)) for n in range(30)))
    embed = type(embedder).embed_passages
    asked: list[int] = []

    def fail_late(self: Any, texts: list[str]) -> Any:
        asked.append(len(texts))
        if len(asked) == 4:
            raise RuntimeError("pulled the plug")
        return embed(self, texts)

    monkeypatch.setattr(type(embedder), "embed_passages", fail_late)
    with pytest.raises(RuntimeError, match="plug"):
        words.ingest(folder, "kb")
    assert (asked, words.documents("kb")) == ([8, 8, 8, 6], [])
    report = words.ingest(folder, "kb")
    assert counts(report) == {"documents": 1, "added": 1, "chunks": 30, "embedded": 6, "reused": 24}


def test_vectors_deleted_meanwhile_are_made_again(
    words: Any, folder: Path, embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last other document of a text goes between look-up and commit: it is embedded after all."""
    write(folder, a="the pump")
    words.ingest(folder, "first")
    missing = Store.missing
    calls = []

    def then_deleted(self: Store, fingerprint: str, hashes: Any) -> set[bytes]:
        found = missing(self, fingerprint, hashes)
        calls.append(len(found))
        if len(calls) == 1:
            words.delete_knowledge_base("first")
        return found

    monkeypatch.setattr(Store, "missing", then_deleted)
    report = words.ingest(folder, "second")
    assert calls == [0, 1]
    assert (report.added, report.embedded, report.reused) == (1, 1, 0)
    assert find(words, "pump", "second") == [("a.txt", "the pump")]


def test_batches_bound_what_an_interruption_costs(
    words: Any, folder: Path, embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents of the batches before an error stay, whole; the next run does the rest."""
    monkeypatch.setattr(pipeline_module, "_BATCH_DOCUMENTS", 2)
    write(folder, **{f"f{n}": f"the pump number {n}" for n in range(5)})
    embed = type(embedder).embed_passages

    def fail(self: Any, texts: list[str]) -> Any:
        if any("number 3" in text for text in texts):
            raise RuntimeError("pulled the plug")
        return embed(self, texts)

    with monkeypatch.context() as patched:
        patched.setattr(type(embedder), "embed_passages", fail)
        with pytest.raises(RuntimeError, match="plug"):
            words.ingest(folder, "kb")
    assert [uri for uri, _ in find(words, "pump")] == ["f0.txt", "f1.txt"]
    assert counts(words.ingest(folder, "kb")) == {
        "documents": 5,
        "unchanged": 2,
        "added": 3,
        "chunks": 3,
        "embedded": 3,
    }


def test_progress_is_told_and_never_goes_back(
    words: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents done of all and texts embedded; the last call says that all is done."""
    monkeypatch.setattr(pipeline_module, "_BATCH_DOCUMENTS", 2)
    write(folder, **{f"f{n}": f"text {n}" for n in range(5)})
    told: list[tuple[int, int, int]] = []
    words.ingest(folder, "kb", progress=lambda *numbers: told.append(numbers))
    assert told == sorted(told)
    assert {total for _, total, _ in told} == {5}
    assert told[-1] == (5, 5, 5)


def test_refused_documents_are_progress_too(words: Any, folder: Path) -> None:
    """A folder of nothing but broken files is done when all were tried."""
    write(folder, a="", b="")
    told: list[tuple[int, int, int]] = []
    words.ingest(folder, "kb", progress=lambda *numbers: told.append(numbers))
    assert told[-1][:2] == (2, 2)


def test_another_version_of_the_model_is_refused(words: Any, folder: Path, embedder: Any) -> None:
    """A changed fingerprint is never mixed in: neither ingest nor search goes on."""
    write(folder, a="the pump")
    words.ingest(folder, "kb")
    embedder.fingerprint = "words-2"
    write(folder, a="changed")
    with pytest.raises(ModelMismatch):
        words.ingest(folder, "kb")
    with pytest.raises(ModelMismatch):
        words.search("pump", ["kb"])
    assert find(words, "pump") == [("a.txt", "the pump")]


def send(service: Any, **texts: str) -> Any:
    """A job of text documents."""
    return service.submit("kb", [JobFile(f"{name}.txt", text.encode(), {}) for name, text in texts.items()])


def test_a_job_takes_its_documents_in(words: Any) -> None:
    """Its report counts them, its failures have their reasons, and the same name again replaces."""
    words.create_knowledge_base("kb")
    words.jobs.start()
    try:
        done = words.jobs.wait(send(words, a="the pump", empty="", b="the valve").id)
        assert (done.status, done.files, done.error) == ("succeeded", 3, None)
        assert counts(done.report) == {"documents": 2, "added": 2, "chunks": 2, "embedded": 2, "failed": 1}
        assert [failure.uri for failure in done.report.failures] == ["empty.txt"]
        again = words.jobs.wait(send(words, a="the engine").id)
        assert (again.report.changed, find(words, "pump engine")) == (1, [("a.txt", "the engine")])
        assert set(places(words)) == {"a.txt", "b.txt"}
    finally:
        words.jobs.stop()


def test_sending_a_mended_document_heals_it(words: Any) -> None:
    """The reason is listed until the same name comes again with a text."""
    words.create_knowledge_base("kb")
    words.jobs.start()
    try:
        words.jobs.wait(send(words, a="", b="").id)
        assert [failure.uri for failure in words.failures("kb")] == ["a.txt", "b.txt"]
        words.jobs.wait(send(words, a="the pump").id)
        assert [failure.uri for failure in words.failures("kb")] == ["b.txt"]
    finally:
        words.jobs.stop()


def test_a_job_survives_a_restart_and_runs_once(open_service: Callable[[], Any], embedder: Any) -> None:
    """Accepted by a process that never ran it, half done by one that died, finished by the third."""
    first = open_service()
    first.create_knowledge_base("kb")
    job = send(first, a="the pump", b="the valve")
    # The second process began and died: the job stands as running.
    open_service().catalog.jobs.start(job.id)
    third, fourth = open_service(), open_service()
    for service in (third, fourth):
        service.jobs.start()
    try:
        done = third.jobs.wait(job.id)
        assert fourth.jobs.wait(job.id) == done
    finally:
        third.jobs.stop()
        fourth.jobs.stop()
    assert (done.status, done.report.added) == ("succeeded", 2)
    assert len(embedder.embedded) == 2
    assert set(places(third)) == {"a.txt", "b.txt"}


def test_a_failed_job_has_its_reason_and_the_next_one_runs(words: Any, embedder: Any) -> None:
    """An error of the whole job is in the job; the thread goes on."""
    words.create_knowledge_base("kb")
    embedder.fingerprint = "words-2"
    refused = send(words, a="the pump")
    words.jobs.start()
    try:
        done = words.jobs.wait(refused.id)
        assert (done.status, done.report) == ("failed", None)
        assert "another version of the model" in done.error
        embedder.fingerprint = "words-1"
        assert words.jobs.wait(send(words, a="the pump").id).status == "succeeded"
    finally:
        words.jobs.stop()


def test_an_unforeseen_error_fails_the_job_only(
    words: Any, embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug met by one job is told in that job, and the next one runs."""
    words.create_knowledge_base("kb")
    words.jobs.start()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(type(embedder), "embed_passages", lambda self, texts: 1 / 0)
            done = words.jobs.wait(send(words, a="the pump").id)
        assert (done.status, done.error) == ("failed", "internal error: ZeroDivisionError: division by zero")
        assert words.jobs.wait(send(words, b="the valve").id).status == "succeeded"
    finally:
        words.jobs.stop()


def test_a_stop_comes_between_documents(
    open_service: Callable[[], Any], embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was committed stays; the next start finishes the job without embedding anything twice."""
    monkeypatch.setattr(pipeline_module, "_BATCH_DOCUMENTS", 1)
    service = open_service()
    service.create_knowledge_base("kb")
    job = send(service, **{f"f{n}": f"text {n}" for n in range(6)})
    committed = Store.commit
    reached = threading.Event()
    stopping = threading.Event()

    def commit(self: Store, *given: Any) -> Any:
        done = committed(self, *given)
        if given[3][0].uri == "f2.txt":
            reached.set()
            stopping.wait(30)
        return done

    monkeypatch.setattr(Store, "commit", commit)
    service.jobs.start()
    assert reached.wait(30)
    service.jobs._stopping = True
    stopping.set()
    service.jobs.stop()
    assert service.catalog.jobs.get(job.id).status == "running"
    assert set(places(service)) == {"f0.txt", "f1.txt", "f2.txt"}
    again = open_service()
    again.jobs.start()
    done = again.jobs.wait(job.id)
    again.jobs.stop()
    assert (done.status, len(places(again))) == ("succeeded", 6)
    assert sorted(embedder.embedded) == [f"f{n}\ntext {n}" for n in range(6)]


@pytest.mark.parametrize(
    ("files", "param"),
    [
        ([], "documents"),
        ([JobFile(" ", b"x", {})], "documents.0.name"),
        ([JobFile("ok", b"x", {}), JobFile("n" * 513, b"x", {})], "documents.1.name"),
        ([JobFile("ok", b"x", {"k": None})], "documents.0.attributes.k"),  # type: ignore[dict-item]
        ([JobFile("\ud800", b"x", {})], "documents.0.name"),
    ],
)
def test_documents_that_cannot_be_accepted_are_refused(words: Any, files: list[JobFile], param: str) -> None:
    """InvalidInput at once, and no job."""
    words.create_knowledge_base("kb")
    with pytest.raises(InvalidInput) as error:
        words.submit("kb", files)
    assert error.value.param == param
    assert words.catalog.jobs.waiting() == []


def test_a_deleted_knowledge_base_leaves_nothing(words: Any, folder: Path, fakes: ModuleType) -> None:
    """Documents, texts, vectors, failures and index files are gone; the name is free."""
    write(folder, a="the pump", b="")
    words.ingest(folder, "kb")
    kb = words.knowledge_base("kb")
    assert (kb.documents, kb.chunks) == (1, 1)
    assert (words.settings.indexes_dir / kb.id).is_dir()
    assert words.delete_knowledge_base("kb") == kb
    assert not (words.settings.indexes_dir / kb.id).exists()
    assert fakes.Shelf(words.catalog).rows("vectors") == []
    with pytest.raises(NotFound):
        words.search("pump", ["kb"])
    assert words.ingest(folder, "kb").added == 1


def test_documents_are_listed_in_pages(words: Any, fakes: ModuleType) -> None:
    """Every document once, in the order of ids; a limit out of range is refused."""
    shelf = fakes.Shelf(words.catalog)
    shelf.put(*(shelf.version(f"{n}", f"text {n}") for n in range(7)))
    seen: list[str] = []
    while page := words.documents("shelf", limit=3, after=seen[-1] if seen else None):
        assert len(page) <= 3
        seen += [content.id for content in page]
    assert (len(seen), seen) == (7, sorted(set(seen)))
    for limit in (0, 1001):
        with pytest.raises(InvalidInput):
            words.documents("shelf", limit=limit)
