"""What a knowledge base holds, as a list: files that are attached to it, with how far each is, and the
documents that came otherwise, from a folder say, each under its own id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Select, bindparam, case, func, literal, null, select

from kb.catalog.database import Database
from kb.catalog.paging import Listed, Page, listed, paged
from kb.catalog.schema import FILES, attachments, contents, failures, files, jobs, sources, versions
from kb.errors import NotFound
from kb.types import Attributes, ChunkingPolicy

State = Literal["in_progress", "completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Holding:
    """How far a document is. id: of its file, or its own where it came otherwise.

    content_id, version_id, byte_size: None and 0 until it is in. chunking: None for the policy
    of the knowledge base. error,
    error_kind: where it failed; the kind as in `kb.types.Failure`, "" where the fault is not the file's.
    """

    id: str
    filename: str
    state: State
    attributes: Attributes
    chunking: ChunkingPolicy | None
    created_at: str
    content_id: str | None
    version_id: str | None
    byte_size: int
    error: str | None
    error_kind: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Documents of a knowledge base or of a job by how far they are, and the bytes of those that are in."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    byte_size: int = 0


def is_in() -> ColumnElement[bool]:
    """A condition on `attachments` that holds for those whose document is there."""
    there = (
        select(1)
        .select_from(contents.join(sources, sources.c.id == contents.c.source_id))
        .where(sources.c.kb_id == attachments.c.kb_id, sources.c.uri == FILES)
        .where(contents.c.uri == attachments.c.uri)
        .where(attachments.c.replaces.is_(None) | (contents.c.version_id != attachments.c.replaces))
    )
    return there.correlate(attachments).exists()


_TOLD = failures.c.reason
_how_far: ColumnElement[str] = case(
    (
        contents.c.id.is_not(None)
        & (attachments.c.replaces.is_(None) | (contents.c.version_id != attachments.c.replaces)),
        "completed",
    ),
    (_TOLD.is_not(None), "failed"),
    (jobs.c.status == "cancelled", "cancelled"),
    (jobs.c.status.in_(("queued", "running")), "in_progress"),
    else_="failed",
)
_JOINED = (
    attachments.join(files, files.c.id == attachments.c.file_id)
    .join(jobs, jobs.c.id == attachments.c.job_id)
    .outerjoin(sources, (sources.c.kb_id == attachments.c.kb_id) & (sources.c.uri == FILES))
    .outerjoin(contents, (contents.c.source_id == sources.c.id) & (contents.c.uri == attachments.c.uri))
    .outerjoin(versions, versions.c.id == contents.c.version_id)
    .outerjoin(failures, (failures.c.source_id == sources.c.id) & (failures.c.uri == attachments.c.uri))
)
_SENT = select(
    attachments.c.file_id.label("id"),
    files.c.filename,
    _how_far.label("state"),
    attachments.c.attributes.label("asked"),
    contents.c.attributes,
    attachments.c.chunk_size,
    attachments.c.chunk_overlap,
    attachments.c.created_at,
    contents.c.id.label("content_id"),
    contents.c.version_id,
    versions.c.byte_size,
    func.coalesce(_TOLD, jobs.c.error).label("error"),
    failures.c.kind,
).select_from(_JOINED)

_NAMES = (
    select(contents.c.id, attachments.c.file_id, files.c.filename)
    .join(sources, (sources.c.id == contents.c.source_id) & (sources.c.uri == FILES))
    .join(attachments, (attachments.c.kb_id == contents.c.kb_id) & (attachments.c.uri == contents.c.uri))
    .join(files, files.c.id == attachments.c.file_id)
    .where(contents.c.id.in_(bindparam("ids", expanding=True)))
)


class Holdings:
    """Reads of `attachments`, and of the other documents of a knowledge base beside them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._names = database.prepare(_NAMES)

    def get(self, kb_id: str, name: str) -> Holding:
        """A document by the id of its file, or by its own. Raises NotFound."""
        with self._database.read() as connection:
            file_id, content_id = found(connection, kb_id, name)
            if file_id is None:
                query = _others(kb_id).where(contents.c.id == content_id)
            else:
                query = _SENT.where(attachments.c.kb_id == kb_id, attachments.c.file_id == file_id)
            return _holding(connection.execute(query).one())

    def page(self, kb_id: str, page: Page, state: State | None = None, job_id: str | None = None) -> Listed:
        """Documents in order of their ids' numbers, and so of when their file, or they, came in.

        job_id: only what that job attached.
        """
        sent = _SENT.where(attachments.c.kb_id == kb_id)
        if job_id is not None:
            sent = sent.where(attachments.c.job_id == job_id)
        if state is not None:
            sent = sent.where(_how_far == state)
        with self._database.read() as connection:
            rows = [*connection.execute(paged(sent, attachments.c.file_id, page, "file_"))]
            if job_id is None and state in (None, "completed"):
                rows += connection.execute(paged(_others(kb_id), contents.c.id, page, "doc_"))
        rows.sort(key=lambda row: str(row.id).partition("_")[2], reverse=page.newest_first != page.backwards)
        return listed([_holding(row) for row in rows], page)

    def counts(self, kb_ids: Sequence[str]) -> dict[str, Counts]:
        """Of each knowledge base."""
        sent = select(attachments.c.kb_id, *_counted()).select_from(_JOINED)
        sent = sent.where(attachments.c.kb_id.in_(kb_ids)).group_by(attachments.c.kb_id)
        others = (
            select(contents.c.kb_id, func.count(), func.sum(versions.c.byte_size))
            .join(versions, versions.c.id == contents.c.version_id)
            .join(sources, sources.c.id == contents.c.source_id)
            .where(contents.c.kb_id.in_(kb_ids), sources.c.uri != FILES)
            .group_by(contents.c.kb_id)
        )
        found = {kb_id: Counts() for kb_id in kb_ids}
        with self._database.read() as connection:
            for kb_id, *counted in connection.execute(sent):
                found[kb_id] = Counts(*map(int, counted))
            for kb_id, documents, size in connection.execute(others):
                of = found[kb_id]
                found[kb_id] = Counts(
                    of.in_progress,
                    of.completed + documents,
                    of.failed,
                    of.cancelled,
                    of.byte_size + int(size),
                )
        return found

    def counts_of(self, job_id: str) -> Counts:
        """Of what a job attached."""
        query = select(*_counted()).select_from(_JOINED).where(attachments.c.job_id == job_id)
        with self._database.read() as connection:
            return Counts(*(int(value or 0) for value in connection.execute(query).one()))

    def names(self, content_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """File id and filename of those of some documents that are made of a file, by content id."""
        return {row.id: (row.file_id, row.filename) for row in self._names(ids=content_ids)}


def found(connection: Connection, kb_id: str, name: str) -> tuple[str | None, str | None]:
    """The id of a document's file, and its own, where there are such. Raises NotFound where neither is."""
    joined = select(attachments.c.file_id, contents.c.id).select_from(_JOINED)
    mine = joined.where(attachments.c.kb_id == kb_id, attachments.c.file_id == name)
    if row := connection.execute(mine).one_or_none():
        return row.file_id, row.id
    own = select(contents.c.id).where(contents.c.kb_id == kb_id, contents.c.id == name)
    if connection.scalar(own) is None:
        raise NotFound(f"no file {name!r} in this knowledge base", param="file_id")
    return next((row.file_id for row in connection.execute(_NAMES, {"ids": [name]})), None), name


def _others(kb_id: str) -> Select[Any]:
    """Documents that are made of no file, in the columns of `_SENT`."""
    return (
        select(
            contents.c.id,
            contents.c.uri.label("filename"),
            literal("completed").label("state"),
            contents.c.attributes.label("asked"),
            contents.c.attributes,
            null().label("chunk_size"),
            null().label("chunk_overlap"),
            contents.c.created_at,
            contents.c.id.label("content_id"),
            contents.c.version_id,
            versions.c.byte_size,
            null().label("error"),
            null().label("kind"),
        )
        .join(versions, versions.c.id == contents.c.version_id)
        .join(sources, sources.c.id == contents.c.source_id)
        .where(contents.c.kb_id == kb_id, sources.c.uri != FILES)
    )


def _counted() -> list[ColumnElement[Any]]:
    states = ("in_progress", "completed", "failed", "cancelled")
    counts = [func.sum(case((_how_far == state, 1), else_=0)) for state in states]
    return [*counts, func.coalesce(func.sum(versions.c.byte_size), 0)]


def _holding(row: Any) -> Holding:
    failed = row.state == "failed"
    return Holding(
        id=row.id,
        filename=row.filename,
        state=row.state,
        attributes=row.attributes if row.state == "completed" else row.asked,
        chunking=None if row.chunk_size is None else ChunkingPolicy(row.chunk_size, row.chunk_overlap),
        created_at=row.created_at,
        content_id=row.content_id,
        version_id=row.version_id,
        byte_size=row.byte_size or 0,
        error=(row.error or "it did not go in") if failed else None,
        error_kind=(row.kind or "") if failed else "",
    )
