"""Jobs: documents that were accepted and wait in the catalog until they are in."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Row, Update, delete, insert, select, update

from kb.catalog.attributes import checked
from kb.catalog.database import Database, new_id, now
from kb.catalog.holdings import is_in
from kb.catalog.schema import attachments, files, job_files, jobs
from kb.errors import InvalidInput, NotFound
from kb.types import Attributes, ChunkingPolicy, Failure, IngestReport, Job, is_unicode

_OPEN = ("queued", "running")


@dataclass(frozen=True, slots=True)
class JobFile:
    """Bytes sent in under a name. chunking: None for the policy of the knowledge base."""

    name: str
    data: bytes
    attributes: Attributes
    chunking: ChunkingPolicy | None = None


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
        query = select(jobs).where(jobs.c.status.in_(_OPEN)).order_by(jobs.c.id)
        with self._database.read() as connection:
            return [_job(row) for row in connection.execute(query)]

    def start(self, job_id: str) -> Iterable[JobFile]:
        """Mark a job as running and read its files.

        Attached ones are read one after the other, each only if it is attached by this job still, is not in
        yet, and the job goes on.
        """
        with self._database.write() as connection:
            connection.execute(_unless_ended(job_id).values(status="running"))
            query = select(job_files).where(job_files.c.job_id == job_id).order_by(job_files.c.position)
            sent = [JobFile(row.name, row.data, row.attributes) for row in connection.execute(query)]
            mine = select(attachments.c.file_id).where(attachments.c.job_id == job_id)
            attached = connection.scalars(mine.order_by(attachments.c.file_id)).all()
        read = (self._attached(job_id, file_id) for file_id in attached)
        return sent or (file for file in read if file is not None)

    def attaches(self, job_id: str) -> bool:
        """Whether the documents of a job are attached files."""
        with self._database.read() as connection:
            query = select(attachments.c.file_id).where(attachments.c.job_id == job_id)
            return connection.scalar(query.limit(1)) is not None

    def cancel(self, job_id: str) -> Job:
        """End a job: what is not in yet stays out, from here on. One that has ended stays as it is."""
        with self._database.write() as connection:
            connection.execute(_unless_ended(job_id).values(status="cancelled", finished_at=now()))
            connection.execute(delete(job_files).where(job_files.c.job_id == job_id))
        return self.get(job_id)

    def finish(self, job_id: str, *, report: IngestReport | None = None, error: str | None = None) -> None:
        """Close a job with its report, or the reason it failed; nothing reads its bytes again, so they go.

        One that was cancelled meanwhile stays so.
        """
        with self._database.write() as connection:
            values = {
                "status": "succeeded" if error is None else "failed",
                "report": asdict(report) if report else None,
                "error": error,
                "finished_at": now(),
            }
            connection.execute(_unless_ended(job_id).values(values))
            connection.execute(delete(job_files).where(job_files.c.job_id == job_id))

    def _attached(self, job_id: str, file_id: str) -> JobFile | None:
        query = (
            select(attachments, files.c.data)
            .join(files, files.c.id == attachments.c.file_id)
            .join(jobs, jobs.c.id == attachments.c.job_id)
            .where(attachments.c.job_id == job_id, attachments.c.file_id == file_id)
            .where(jobs.c.status.in_(_OPEN), ~is_in())
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        own = None if row.chunk_size is None else ChunkingPolicy(row.chunk_size, row.chunk_overlap)
        return JobFile(row.uri, row.data, row.attributes, own)


def _unless_ended(job_id: str) -> Update:
    return update(jobs).where(jobs.c.id == job_id, jobs.c.status.in_(_OPEN))


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
