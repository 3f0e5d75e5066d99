"""Files become documents of knowledge bases: attached, described, detached, deleted.

What came otherwise, from a folder say, is described and detached alike, under its own id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select

from kb.catalog.attributes import checked
from kb.catalog.database import Database, new_id, now
from kb.catalog.files import missing
from kb.catalog.holdings import found
from kb.catalog.schema import FILES, attachments, contents, failures, files, jobs, knowledge_bases, sources
from kb.catalog.store import Store
from kb.errors import InvalidInput, NotFound
from kb.types import Attributes, ChunkingPolicy


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that is to be a document. chunking: None for the policy of the knowledge base."""

    file_id: str
    attributes: Attributes = field(default_factory=dict)
    chunking: ChunkingPolicy | None = None


class Attachments:
    """Writes of `attachments`."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store

    def attach(self, kb_id: str, given: Sequence[Attachment]) -> str:
        """Accept files as documents; when this returns they survive a crash. Returns the job's id.

        A file that is attached already is taken in anew. Raises NotFound, or InvalidInput, naming the file.
        """
        if not given:
            raise InvalidInput("name at least one file", param="file_ids")
        if len({one.file_id for one in given}) < len(given):
            raise InvalidInput("a file is named twice", param="files")
        for at, one in enumerate(given):
            checked(one.attributes, at="attributes" if len(given) == 1 else f"files.{at}.attributes")
        job_id, at_once = new_id("job"), now()
        with self._database.write() as connection:
            row = {
                "id": job_id,
                "kb_id": kb_id,
                "status": "queued",
                "files": len(given),
                "created_at": at_once,
            }
            if connection.scalar(select(knowledge_bases.c.id).where(knowledge_bases.c.id == kb_id)) is None:
                raise NotFound("the knowledge base was deleted meanwhile", param="knowledge_base")
            connection.execute(insert(jobs).values(row))
            named = select(files.c.id, files.c.filename).where(files.c.id.in_([one.file_id for one in given]))
            uris = {row.id: f"{row.id}/{row.filename}" for row in connection.execute(named)}
            for one in given:
                if one.file_id not in uris:
                    raise missing(one.file_id)
            visible = _documents(kb_id, list(uris.values()))
            replaces = {row.uri: row.version_id for row in connection.execute(visible)}
            _forget(connection, kb_id, uris)
            rows = [
                {
                    "kb_id": kb_id,
                    "file_id": one.file_id,
                    "job_id": job_id,
                    "uri": uris[one.file_id],
                    "attributes": dict(one.attributes),
                    "chunk_size": one.chunking and one.chunking.size,
                    "chunk_overlap": one.chunking and one.chunking.overlap,
                    "replaces": replaces.get(uris[one.file_id]),
                    "created_at": at_once,
                }
                for one in given
            ]
            connection.execute(insert(attachments), rows)
        return job_id

    def describe(self, kb_id: str, name: str, attributes: Attributes) -> None:
        """Replace the attributes of a document, whether it is in already or not. Raises NotFound."""
        given = checked(attributes)
        with self._database.write() as connection:
            file_id, content_id = found(connection, kb_id, name)
            mine = (attachments.c.kb_id == kb_id, attachments.c.file_id == file_id)
            connection.execute(attachments.update().where(*mine).values(attributes=dict(given)))
            if content_id is not None:
                self._store.attributes_within(connection, kb_id, {content_id: given})

    def detach(self, kb_id: str, name: str) -> None:
        """Delete a document, or see that it never comes in; its file stays. Raises NotFound."""
        with self._database.write() as connection:
            self._detach(connection, kb_id, *found(connection, kb_id, name))

    def delete_file(self, file_id: str) -> None:
        """Delete a file's bytes and every document that was made of it, wherever it is attached."""
        with self._database.write() as connection:
            where = select(attachments.c.kb_id).where(attachments.c.file_id == file_id)
            for kb_id in connection.scalars(where).all():
                self._detach(connection, kb_id, *found(connection, kb_id, file_id))
            if not connection.execute(delete(files).where(files.c.id == file_id)).rowcount:
                raise missing(file_id)

    def _detach(
        self, connection: Connection, kb_id: str, file_id: str | None, content_id: str | None
    ) -> None:
        if file_id is not None:
            mine = (attachments.c.kb_id == kb_id, attachments.c.file_id == file_id)
            uri = connection.scalar(select(attachments.c.uri).where(*mine)) or ""
            _forget(connection, kb_id, {file_id: uri})
        if content_id is not None:
            self._store.remove_within(connection, kb_id, [content_id])


def _forget(connection: Connection, kb_id: str, uris: Mapping[str, str]) -> None:
    """Take attachments away, by the ids of their files, and their failures with them."""
    mine = (attachments.c.kb_id == kb_id, attachments.c.file_id.in_(list(uris)))
    connection.execute(delete(attachments).where(*mine))
    source = select(sources.c.id).where(sources.c.kb_id == kb_id, sources.c.uri == FILES)
    refused = (failures.c.source_id.in_(source), failures.c.uri.in_(list(uris.values())))
    connection.execute(delete(failures).where(*refused))


def _documents(kb_id: str, uris: Sequence[str]) -> Select[Any]:
    return (
        select(contents.c.uri, contents.c.version_id)
        .join(sources, sources.c.id == contents.c.source_id)
        .where(sources.c.kb_id == kb_id, sources.c.uri == FILES, contents.c.uri.in_(uris))
    )
