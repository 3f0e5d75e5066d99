"""Documents as they are read: listed, opened by span, filtered, and turned into hits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, TypeVar

from sqlalchemy import Row, Select, bindparam, func, select

from kb.catalog.database import Database
from kb.catalog.schema import chunks, contents, failures, sources, versions
from kb.errors import NotFound
from kb.types import Attributes, Chunk, Content, Failure, Heading, Hit, Passage

T = TypeVar("T")

_HITS = (
    select(
        *(chunks.c[name] for name in ("kb_id", "id", "version_id", "content_id")),
        versions.c.title,
        contents.c.uri,
        *(chunks.c[name] for name in ("text", "start", "end", "page", "heading")),
        contents.c.attributes,
    )
    .join(contents, contents.c.id == chunks.c.content_id)
    .join(versions, versions.c.id == chunks.c.version_id)
    .where(chunks.c.id.in_(bindparam("ids", expanding=True)))
)

_INDEXED = select(chunks.c.id, chunks.c.context, chunks.c.text).where(
    chunks.c.id.in_(bindparam("ids", expanding=True))
)
_OWNERS = select(chunks.c.id, chunks.c.content_id).where(chunks.c.id.in_(bindparam("ids", expanding=True)))
_TEXTS = select(chunks.c.id, chunks.c.text).where(chunks.c.id.in_(bindparam("ids", expanding=True)))
# Host parameters of one statement; SQLite and PostgreSQL both take several times more.
_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalog holds at one place of a source."""

    content_id: str
    sha256: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Opened:
    """A version's text with the marks on it."""

    id: str
    text: str
    headings: Sequence[Heading]


class Documents:
    """Reads of the documents of all knowledge bases."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hits = database.prepare(_HITS)
        self._indexed = database.prepare(_INDEXED)
        self._owners = database.prepare(_OWNERS)
        self._texts = database.prepare(_TEXTS)

    def known(self, source_id: str) -> dict[str, Known]:
        """What is visible of a source, by uri."""
        query = (
            select(contents.c.uri, contents.c.id, versions.c.sha256, contents.c.attributes)
            .join(versions, versions.c.id == contents.c.version_id)
            .where(contents.c.source_id == source_id)
        )
        with self._database.read() as connection:
            return {row.uri: Known(row.id, row.sha256, row.attributes) for row in connection.execute(query)}

    def get(self, kb_id: str, content_id: str) -> Content:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(_described(kb_id).where(contents.c.id == content_id)).one_or_none()
        if row is None:
            raise NotFound(f"no document {content_id!r} in this knowledge base", param="content_id")
        return _content(row)

    def page(self, kb_id: str, *, limit: int = 100, after: str | None = None) -> list[Content]:
        """Documents in order of their ids, starting behind `after`."""
        query = _described(kb_id).order_by(contents.c.id).limit(limit)
        with self._database.read() as connection:
            return [_content(row) for row in connection.execute(query.where(contents.c.id > (after or "")))]

    def hits(
        self, ids: Sequence[int], scores: Sequence[float], parts: Mapping[str, Sequence[float]]
    ) -> list[Hit]:
        """The visible chunks among `ids`, in their order; a chunk replaced meanwhile is absent.

        scores: of each id. parts: what they were made of, by name, of each id; nan where it has no such part.
        """
        rows = {row.id: row for row in self._hits(ids=ids)}
        return [
            _hit(
                rows[chunk_id],
                scores[at],
                {name: values[at] for name, values in parts.items() if not isnan(values[at])},
            )
            for at, chunk_id in enumerate(ids)
            if chunk_id in rows
        ]

    def indexed(self, chunk_ids: Sequence[int]) -> list[str]:
        """What is indexed of each chunk, context and text, in order; "" where it was replaced meanwhile."""
        found = {row.id: row.context + row.text for row in self._indexed(ids=chunk_ids)}
        return [found.get(chunk_id, "") for chunk_id in chunk_ids]

    def owners(self, chunk_ids: Sequence[int]) -> dict[int, str]:
        """The content ids of the visible chunks among some."""
        return {row.id: row.content_id for some in _portions(chunk_ids) for row in self._owners(ids=some)}

    def texts(self, chunk_ids: Sequence[int]) -> dict[int, str]:
        """The texts of the visible chunks among some."""
        return {row.id: row.text for some in _portions(chunk_ids) for row in self._texts(ids=some)}

    def passages(self, chunk_ids: Sequence[int]) -> dict[int, Passage]:
        """Where the visible chunks among some stand."""
        with self._database.read() as connection:
            return {
                row.id: Passage(row.content_id, row.version_id, row.id, row.start, row.end)
                for some in _portions(chunk_ids)
                for row in connection.execute(select(chunks).where(chunks.c.id.in_(some)))
            }

    def chunks(self, content_id: str) -> list[tuple[Passage, Chunk]]:
        """The chunks of a document, in order."""
        query = select(chunks).where(chunks.c.content_id == content_id).order_by(chunks.c.id)
        with self._database.read() as connection:
            return [
                (
                    Passage(content_id, row.version_id, row.id, row.start, row.end),
                    Chunk(row.start, row.end, row.page, row.heading, row.context),
                )
                for row in connection.execute(query)
            ]

    def opened(self, version_ids: Sequence[str]) -> Iterator[Opened]:
        """Versions with their whole texts, one at a time: together they may be larger than the memory."""
        query = select(versions.c.id, versions.c.text, versions.c.headings)
        with self._database.read() as connection:
            for some in _portions(version_ids):
                rows = connection.execution_options(yield_per=1).execute(query.where(versions.c.id.in_(some)))
                for row in rows:
                    yield Opened(row.id, row.text, [Heading(**heading) for heading in row.headings])

    def failures(self, kb_id: str) -> list[Failure]:
        """The documents in quarantine."""
        query = select(failures).join(sources, sources.c.id == failures.c.source_id)
        with self._database.read() as connection:
            rows = connection.execute(query.where(sources.c.kb_id == kb_id).order_by(failures.c.uri))
            return [Failure(row.uri, row.reason, row.kind or "") for row in rows]


def _portions(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[at : at + _AT_ONCE] for at in range(0, len(items), _AT_ONCE))


def _hit(row: Any, score: float, parts: Mapping[str, float]) -> Hit:
    return Hit(
        knowledge_base_id=row.kb_id,
        chunk_id=row.id,
        content_version_id=row.version_id,
        content_id=row.content_id,
        title=row.title,
        uri=row.uri,
        text=row.text,
        start=row.start,
        end=row.end,
        page=row.page,
        heading=row.heading,
        score=score,
        scores=parts,
        attributes=row.attributes,
    )


def _described(kb_id: str) -> Select[Any]:
    counted = select(func.count()).select_from(chunks).where(chunks.c.content_id == contents.c.id)
    return (
        select(
            contents,
            versions.c.title,
            versions.c.media_type,
            versions.c.byte_size,
            versions.c.characters,
            counted.correlate(contents).scalar_subquery().label("chunks"),
        )
        .join(versions, versions.c.id == contents.c.version_id)
        .where(contents.c.kb_id == kb_id)
    )


def _content(row: Row[Any]) -> Content:
    return Content(
        id=row.id,
        version_id=row.version_id,
        uri=row.uri,
        title=row.title,
        media_type=row.media_type,
        byte_size=row.byte_size,
        characters=row.characters,
        chunks=row.chunks,
        attributes=row.attributes,
        created_at=row.created_at,
    )
