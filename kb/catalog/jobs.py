"""Jobs: documents that were accepted and wait in the catalog until they are in."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from kb.catalog.attributes import checked
from kb.catalog.database import Database, new_id, now
from kb.catalog.schema import job_files, jobs
from kb.errors import InvalidInput, NotFound
from kb.types import Attributes, Failure, IngestReport, Job, is_unicode


@dataclass(frozen=True, slots=True)
class JobFile:
    """Bytes sent in under a name."""

    name: str
    data: bytes
    attributes: Attributes


class Jobs:
    """The queue of a data folder."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, kb_id: str, files: Sequence[JobFile]) -> Job:
        """Accept files: when this returns they survive a crash. Raises InvalidInput, naming the file."""
        _check(files)
        job_id = new_id("job")
        with self._database.write() as connection:
            row = {"id": job_id, "kb_id": kb_id, "status": "queued", "files": len(files), "created_at": now()}
            connection.execute(insert(jobs).values(row))
            rows = [
                {
                    "job_id": job_id,
                    "position": at,
                    "name": file.name,
                    "attributes": dict(file.attributes),
                    "data": file.data,
                }
                for at, file in enumerate(files)
            ]
            connection.execute(insert(job_files), rows)
        return self.get(job_id)

    def get(self, job_id: str) -> Job:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise NotFound(f"no job {job_id!r}", param="job")
        return _job(row)

    def waiting(self) -> list[Job]:
        """Jobs that are not done, oldest first; one found running was interrupted and starts again."""
        query = select(jobs).where(jobs.c.status.in_(("queued", "running"))).order_by(jobs.c.id)
        with self._database.read() as connection:
            return [_job(row) for row in connection.execute(query)]

    def start(self, job_id: str) -> list[JobFile]:
        """Mark a job as running and read its files."""
        with self._database.write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(status="running"))
            query = select(job_files).where(job_files.c.job_id == job_id).order_by(job_files.c.position)
            return [JobFile(row.name, row.data, row.attributes) for row in connection.execute(query)]

    def finish(self, job_id: str, *, report: IngestReport | None = None, error: str | None = None) -> None:
        """Close a job with its report, or the reason it failed; nothing reads its bytes again, so they go."""
        with self._database.write() as connection:
            values = {
                "status": "succeeded" if error is None else "failed",
                "report": asdict(report) if report else None,
                "error": error,
                "finished_at": now(),
            }
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(values))
            connection.execute(delete(job_files).where(job_files.c.job_id == job_id))


def _job(row: Row[Any]) -> Job:
    report = row.report and IngestReport(
        **{**row.report, "failures": tuple(Failure(**failure) for failure in row.report["failures"])}
    )
    return Job(row.id, row.kb_id, row.status, row.files, report, row.error, row.created_at, row.finished_at)


def _check(files: Sequence[JobFile]) -> None:
    if not files:
        raise InvalidInput("send at least one document", param="documents")
    for at, file in enumerate(files):
        if not file.name.strip() or len(file.name) > 512 or not is_unicode(file.name):
            raise InvalidInput("a document's name is 1 to 512 characters", param=f"documents.{at}.name")
        checked(file.attributes, at=f"documents.{at}.attributes")
