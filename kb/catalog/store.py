"""Documents as they are written: each visible whole, in one transaction, with its numbered change."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from typing import TypeVar

import numpy as np
from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from kb.catalog.attributes import attribute_rows
from kb.catalog.database import Database, new_id, now
from kb.catalog.receipts import issue
from kb.catalog.schema import (
    FILES,
    attachments,
    attributes,
    changes,
    chunks,
    contents,
    failures,
    jobs,
    knowledge_bases,
    models,
    sources,
    vectors,
    versions,
)
from kb.errors import ModelChanged, NotFound
from kb.types import Attributes, Chunk, Document, Failure, StoredVectors, Vectors

# Host parameters of one statement; SQLite and PostgreSQL both take several times more.
_AT_ONCE = 5000

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A document ready to be committed; its chunks in order."""

    uri: str
    title: str
    sha256: str
    byte_size: int
    document: Document
    chunks: Sequence[Chunk]
    attributes: Attributes = field(default_factory=dict)
    language: str = ""
    tokens: int | None = None

    def embedded_texts(self) -> list[str]:
        """What is embedded and indexed for each chunk: its context, then its text."""
        return [chunk.context + self.document.text[chunk.start : chunk.end] for chunk in self.chunks]


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit made; `replaced` where an older version gave way."""

    content_id: str
    version_id: str
    replaced: bool
    chunks: int = 0


class VectorsMissing(Exception):
    """Vectors counted on have been deleted meanwhile; embed the texts and commit again."""


def text_hash(text: str) -> bytes:
    """Names an embedded text: 16 bytes of BLAKE2b."""
    return blake2b(text.encode(), digest_size=16).digest()


def pack_vectors(rows: Vectors) -> list[bytes]:
    """Vectors as they are stored: float16, little-endian."""
    return [row.tobytes() for row in rows.astype("<f2")]


def checksum(stored: bytes) -> int:
    """CRC-32 of a stored vector."""
    return zlib.crc32(stored)


def stored_rows(stored: Sequence[bytes], dim: int) -> StoredVectors:
    """Stored vectors as they are, shape (len(stored), dim)."""
    return np.frombuffer(bytearray().join(stored), "<f2").reshape(len(stored), dim)


def unpack_vectors(stored: Sequence[bytes], dim: int) -> Vectors:
    """Stored vectors as float32 rows, brought back to unit length after the rounding."""
    rows = stored_rows(stored, dim).astype(np.float32)
    norms = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray(rows / norms, np.float32)


class Store:
    """Writes of the documents of all knowledge bases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def source(self, kb_id: str, uri: str) -> str:
        """The id of a source, made on first use. Raises NotFound when the knowledge base is gone."""
        with self._database.write() as connection:
            if connection.scalar(select(knowledge_bases.c.id).where(knowledge_bases.c.id == kb_id)) is None:
                raise NotFound("the knowledge base was deleted meanwhile", param="knowledge_base")
            query = select(sources.c.id).where(sources.c.kb_id == kb_id, sources.c.uri == uri)
            found = connection.scalar(query)
            if found is None:
                found = new_id("src")
                connection.execute(insert(sources).values(id=found, kb_id=kb_id, uri=uri, created_at=now()))
            return str(found)

    def missing(self, fingerprint: str, hashes: Iterable[bytes]) -> set[bytes]:
        """Those of the hashes that have no vector yet."""
        wanted = set(hashes)
        with self._database.read() as connection:
            return wanted - _stored(connection, fingerprint, wanted)

    def store_vectors(self, fingerprint: str, made: Mapping[bytes, bytes]) -> None:
        """Keep vectors ahead of their document, so that a large one interrupted goes on from there."""
        with self._database.write() as connection:
            add_vectors(connection, fingerprint, made)

    def commit(
        self,
        kb_id: str,
        source_id: str,
        fingerprint: str,
        batch: Sequence[NewVersion],
        made: Mapping[bytes, bytes],
        job_id: str | None = None,
    ) -> list[Committed]:
        """Make new versions visible and the ones they replace invisible, all in one transaction.

        made: float16 vectors by text hash, for texts that had none. job_id: of the job that attached them;
        what was detached, attached anew or cancelled meanwhile is left out, and the others have the
        attributes that their attachment has now. Raises VectorsMissing, ModelChanged when the knowledge base
        is under another model, or NotFound when it is gone; then nothing has changed.
        """
        live = select(knowledge_bases.c.fingerprint).join(sources, sources.c.kb_id == knowledge_bases.c.id)
        with self._database.write() as connection:
            found = connection.scalar(live.where(sources.c.id == source_id))
            if found is None:
                raise NotFound("the knowledge base was deleted meanwhile", param="knowledge_base")
            if found != fingerprint:
                raise ModelChanged("the knowledge base was switched to another model meanwhile; ingest again")
            add_vectors(connection, fingerprint, made)
            replaced: set[bytes] = set()
            if job_id is not None:
                given = _attached(connection, kb_id, job_id, [version.uri for version in batch])
                replaced |= _hashes(version for version in batch if version.uri not in given)
                batch = [replace(one, attributes=given[one.uri]) for one in batch if one.uri in given]
            needed = _hashes(batch)
            if needed - _stored(connection, fingerprint, needed):
                raise VectorsMissing
            committed = [self._add(connection, kb_id, source_id, version, replaced) for version in batch]
            _forget_vectors(connection, replaced)
            return committed

    def rename(self, content_id: str, uri: str) -> None:
        """The same document stands at another place now."""
        with self._database.write() as connection:
            connection.execute(update(contents).where(contents.c.id == content_id).values(uri=uri))

    def set_attributes(self, kb_id: str, given: Mapping[str, Attributes]) -> None:
        """Replace the attributes of documents, by content id; the feed names their chunks again."""
        with self._database.write() as connection:
            self.attributes_within(connection, kb_id, given)

    def attributes_within(self, connection: Connection, kb_id: str, given: Mapping[str, Attributes]) -> None:
        """`set_attributes` as a part of another transaction."""
        for content_id, new in given.items():
            connection.execute(
                update(contents).where(contents.c.id == content_id).values(attributes=dict(new))
            )
            _set_attributes(connection, kb_id, content_id, new)
            if span := _chunk_range(connection, content_id):
                self._log(connection, kb_id, True, *span)

    def remove(self, kb_id: str, content_ids: Sequence[str]) -> None:
        """Delete documents with every version, text and vector that nothing else holds; leaves receipts."""
        with self._database.write() as connection:
            self.remove_within(connection, kb_id, content_ids)

    def remove_within(self, connection: Connection, kb_id: str, content_ids: Sequence[str]) -> None:
        """`remove` as a part of another transaction. A file that was attached as one of them no longer is."""
        for some in _portions(content_ids):
            issue(connection, kb_id, some)
        hashes: set[bytes] = set()
        for content_id in content_ids:
            hashes |= self._drop_chunks(connection, kb_id, content_id)
            place = select(contents.c.uri).join(sources, sources.c.id == contents.c.source_id)
            place = place.where(contents.c.id == content_id, sources.c.uri == FILES)
            connection.execute(
                delete(attachments).where(
                    attachments.c.kb_id == kb_id, attachments.c.uri == place.scalar_subquery()
                )
            )
            connection.execute(delete(contents).where(contents.c.id == content_id))
        _forget_vectors(connection, hashes)

    def clear_failures(self, source_id: str) -> None:
        """Empty the quarantine of a source, before all of it is tried again."""
        with self._database.write() as connection:
            connection.execute(delete(failures).where(failures.c.source_id == source_id))

    def set_failures(
        self, source_id: str, failed: Sequence[Failure], healed: Sequence[str], job_id: str | None = None
    ) -> None:
        """Quarantine documents with their reasons, and let others out of it. job_id: as in `commit`.

        Raises NotFound when the knowledge base is gone, and the source with it.
        """
        if not failed and not healed:
            return
        with self._database.write() as connection:
            kb_id = connection.scalar(select(sources.c.kb_id).where(sources.c.id == source_id))
            if kb_id is None:
                raise NotFound("the knowledge base was deleted meanwhile", param="knowledge_base")
            if job_id is not None:
                there = _attached(connection, kb_id, job_id, [one.uri for one in failed])
                failed = [one for one in failed if one.uri in there]
            for uri in [*healed, *(failure.uri for failure in failed)]:
                connection.execute(
                    delete(failures).where(failures.c.source_id == source_id, failures.c.uri == uri)
                )
            for failure in failed:
                row = {
                    "source_id": source_id,
                    "uri": failure.uri,
                    "reason": failure.reason,
                    "created_at": now(),
                    "kind": failure.kind or None,
                }
                connection.execute(insert(failures).values(row))

    def _add(
        self, connection: Connection, kb_id: str, source_id: str, new: NewVersion, replaced: set[bytes]
    ) -> Committed:
        at = (contents.c.source_id == source_id, contents.c.uri == new.uri)
        old_id, version_id = connection.scalar(select(contents.c.id).where(*at)), new_id("ver")
        attributes_now = dict(new.attributes)
        content_id = old_id or new_id("doc")
        if old_id is None:
            row = {
                "id": content_id,
                "kb_id": kb_id,
                "source_id": source_id,
                "uri": new.uri,
                "created_at": now(),
            }
            connection.execute(
                insert(contents).values(**row, version_id=version_id, attributes=attributes_now)
            )
        else:
            # The version itself keeps its text, so that an old citation still opens.
            replaced |= self._drop_chunks(connection, kb_id, content_id)
            changed = {"version_id": version_id, "attributes": attributes_now}
            connection.execute(update(contents).where(contents.c.id == content_id).values(changed))
        _set_attributes(connection, kb_id, content_id, new.attributes)
        text = new.document.text
        connection.execute(
            insert(versions).values(
                id=version_id,
                content_id=content_id,
                title=new.title,
                sha256=new.sha256,
                media_type=new.document.media_type,
                byte_size=new.byte_size,
                characters=len(text),
                pages=[asdict(page) for page in new.document.pages],
                headings=[asdict(heading) for heading in new.document.headings],
                created_at=now(),
                text=text,
                language=new.language or None,
                tokens=new.tokens,
            )
        )
        if new.chunks:
            first = self._database.next_numbers(connection, "chunk", len(new.chunks))
            rows = [
                {
                    "id": first + position,
                    "kb_id": kb_id,
                    "content_id": content_id,
                    "version_id": version_id,
                    "start": chunk.start,
                    "end": chunk.end,
                    "page": chunk.page,
                    "heading": chunk.heading,
                    "context": chunk.context,
                    "text": text[chunk.start : chunk.end],
                    "text_hash": text_hash(embedded),
                    "tokens": chunk.tokens,
                }
                for position, (chunk, embedded) in enumerate(
                    zip(new.chunks, new.embedded_texts(), strict=True)
                )
            ]
            connection.execute(insert(chunks), rows)
            self._log(connection, kb_id, True, first, first + len(rows) - 1)
        return Committed(content_id, version_id, content_id == old_id, len(new.chunks))

    def _drop_chunks(self, connection: Connection, kb_id: str, content_id: str) -> set[bytes]:
        """Take a document's visible version out of sight; returns the hashes of its texts."""
        mine = chunks.c.content_id == content_id
        span = _chunk_range(connection, content_id)
        if span is None:
            return set()
        hashes = set(connection.scalars(select(chunks.c.text_hash).where(mine)))
        connection.execute(delete(chunks).where(mine))
        self._log(connection, kb_id, False, *span)
        return hashes

    def _log(self, connection: Connection, kb_id: str, added: bool, first: int, last: int) -> None:
        seq = self._database.next_numbers(connection, "change", 1)
        row = {"seq": seq, "kb_id": kb_id, "added": added, "first_chunk": first, "last_chunk": last}
        connection.execute(insert(changes).values(row))


def _hashes(some: Iterable[NewVersion]) -> set[bytes]:
    return {text_hash(text) for version in some for text in version.embedded_texts()}


def _attached(connection: Connection, kb_id: str, job_id: str, uris: Iterable[str]) -> dict[str, Attributes]:
    """Of some places those whose file is attached by a job that goes on, with its attributes."""
    found: dict[str, Attributes] = {}
    for some in _portions(uris):
        query = (
            select(attachments.c.uri, attachments.c.attributes)
            .join(jobs, jobs.c.id == attachments.c.job_id)
            .where(attachments.c.kb_id == kb_id, attachments.c.uri.in_(some))
            .where(attachments.c.job_id == job_id, jobs.c.status == "running")
        )
        found |= {row.uri: row.attributes for row in connection.execute(query)}
    return found


def _chunk_range(connection: Connection, content_id: str) -> tuple[int, int] | None:
    """The first and last chunk of a document's visible version; the numbers between are its own too."""
    query = select(func.min(chunks.c.id), func.max(chunks.c.id)).where(chunks.c.content_id == content_id)
    first, last = connection.execute(query).one()
    return None if first is None else (first, last)


def unused() -> ColumnElement[bool]:
    """A condition on `vectors` that holds for those that no chunk needs under any model that is kept."""

    def under(kb_id: ColumnElement[str], fingerprint: ColumnElement[str]) -> ColumnElement[bool]:
        found = select(1).where(kb_id == chunks.c.kb_id, fingerprint == vectors.c.fingerprint)
        # Named, because of itself it would look no further than the select around it.
        return found.correlate(chunks, vectors).exists()

    kept = or_(
        under(knowledge_bases.c.id, knowledge_bases.c.fingerprint),
        under(models.c.kb_id, models.c.fingerprint),
    )
    return ~select(1).where(chunks.c.text_hash == vectors.c.text_hash, kept).correlate(vectors).exists()


def _set_attributes(connection: Connection, kb_id: str, content_id: str, given: Attributes) -> None:
    connection.execute(delete(attributes).where(attributes.c.content_id == content_id))
    if given:
        connection.execute(insert(attributes), attribute_rows(kb_id, content_id, given))


def _forget_vectors(connection: Connection, hashes: Iterable[bytes]) -> None:
    """Drop the vectors of texts that no chunk holds any more: a vector tells much of its text."""
    for some in _portions(hashes):
        connection.execute(delete(vectors).where(vectors.c.text_hash.in_(some), unused()))


def _stored(connection: Connection, fingerprint: str, hashes: Iterable[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    for some in _portions(hashes):
        query = select(vectors.c.text_hash).where(
            vectors.c.fingerprint == fingerprint, vectors.c.text_hash.in_(some)
        )
        found.update(connection.scalars(query))
    return found


def add_vectors(connection: Connection, fingerprint: str, made: Mapping[bytes, bytes]) -> None:
    """Store those of some vectors that are not there yet."""
    new = made.keys() - _stored(connection, fingerprint, made)
    if new:
        rows = [
            {
                "fingerprint": fingerprint,
                "text_hash": name,
                "vector": made[name],
                "checksum": checksum(made[name]),
            }
            for name in new
        ]
        connection.execute(insert(vectors), rows)


def _portions(items: Iterable[_Item]) -> Iterable[list[_Item]]:
    every = list(items)
    return (every[at : at + _AT_ONCE] for at in range(0, len(every), _AT_ONCE))
