"""The queue of jobs: one that must wait does not hold up the others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DataError, OperationalError

from kb.catalog.jobs import JobFile
from kb.errors import ModelUnavailable, StorageFull
from kb.ingest import jobs as jobs_module
from kb.ingest.jobs import JobRunner
from kb.ingest.source import Wanted
from kb.types import IngestReport, Job


class Queue:
    """Two jobs, of which the first cannot be done; `finished` holds what became of each."""

    def __init__(self) -> None:
        self.finished: dict[str, str | None] = {}

    def waiting(self) -> list[Job]:
        """Those that are not done, oldest first."""
        both = [Job(name, "kb", "queued", 1, None, None, "", None) for name in ("first", "second")]
        return [job for job in both if job.id not in self.finished]

    def start(self, job_id: str) -> list[JobFile]:
        """One document, named as its job."""
        return [JobFile(job_id, b"", {})]

    def finish(self, job_id: str, *, report: IngestReport | None = None, error: str | None = None) -> None:
        """Note the end."""
        self.finished[job_id] = error


def work(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """Run the queue until both jobs had their turn, or the first had three."""
    monkeypatch.setattr(jobs_module, "_LOOK_SECONDS", 0)
    queue: Any = Queue()
    turns: list[str] = []

    def run(job: Job, documents: Iterator[Wanted]) -> IngestReport:
        (wanted,) = documents
        turns.append(wanted.file.uri)
        runner._stopping = wanted.file.uri == "second" or turns.count("first") == 3
        if wanted.file.uri == "first":
            raise error
        return IngestReport()

    runner = JobRunner(queue, run, lambda: None, tmp_path / "jobs.lock")
    runner._work_while_leading()
    return queue


@pytest.mark.parametrize(
    "error",
    [
        ModelUnavailable("not here"),
        StorageFull("full"),
        OSError("no"),
        OperationalError("", {}, OSError("busy")),
    ],
)
def test_a_job_that_must_wait_lets_the_next_one_pass(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may pass by itself fails no job, and another knowledge base's job is done meanwhile."""
    assert work(error, tmp_path, monkeypatch).finished == {"second": None}


def test_a_document_the_database_refuses_fails_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that will not pass is the job's failure; it is not tried for ever."""
    finished = work(DataError("", {}, ValueError("too big")), tmp_path, monkeypatch).finished
    assert set(finished) == {"first", "second"}
    assert "DataError" in str(finished["first"])
    assert finished["second"] is None
