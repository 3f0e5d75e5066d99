"""Versions as they are read: what one is, its text with the marks on it, and which are current."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Row, Select, bindparam, case, func, select

from kb.catalog.database import Database
from kb.catalog.schema import chunks, contents, knowledge_bases, sources, versions
from kb.errors import NotFound
from kb.tokens import count_tokens
from kb.types import Chunk, Heading, MarkedText, Page, Version

# Everything but the text, which may be a book.
_VERSION = (
    select(
        versions.c.id,
        versions.c.content_id,
        contents.c.kb_id,
        contents.c.version_id,
        knowledge_bases.c.name,
        contents.c.uri,
        sources.c.uri.label("source"),
        versions.c.title,
        versions.c.media_type,
        versions.c.byte_size,
        versions.c.characters,
        versions.c.tokens,
        versions.c.language,
        func.json_array_length(versions.c.pages).label("pages"),
        versions.c.created_at,
    )
    .join(contents, contents.c.id == versions.c.content_id)
    .join(sources, sources.c.id == contents.c.source_id)
    .join(knowledge_bases, knowledge_bases.c.id == contents.c.kb_id)
)
_ONE = _VERSION.where(versions.c.id == bindparam("id"))
_CURRENT = _VERSION.where(contents.c.version_id == versions.c.id)
_OWNER = select(contents.c.version_id).where(contents.c.id == bindparam("id"))
# Versions looked through at once for a page of those that are wanted.
_AT_ONCE = 500


# Chunks by document, their texts only where their tokens were never counted.
_OUTLINE = (
    select(
        chunks.c.version_id,
        *(chunks.c[name] for name in ("start", "end", "page", "heading", "tokens")),
        case((chunks.c.tokens.is_(None), chunks.c.text)).label("text"),
    )
    .where(chunks.c.version_id.in_(bindparam("ids", expanding=True)))
    .order_by(chunks.c.id)
)

_SEVERAL = _CURRENT.where(versions.c.id.in_(bindparam("ids", expanding=True)))


class Versions:
    """Reads of the versions of all knowledge bases."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._one = database.prepare(_ONE)
        self._owner = database.prepare(_OWNER)
        self._several = database.prepare(_SEVERAL)
        self._outline = database.prepare(_OUTLINE)

    def get(self, version_id: str) -> Version:
        """What a version is now. Raises NotFound."""
        rows = self._one(id=version_id)
        if not rows:
            current = self._owner(id=version_id)
            hint = (
                f"that is a document; its current version is {current[0].version_id}"
                if current
                else "it was deleted, or never existed; list_content_sources lists those there are"
            )
            raise NotFound(f"no content version {version_id!r}: {hint}", param="content_version_id")
        return _version(rows[0])

    def marked(self, version_id: str) -> MarkedText:
        """The whole text and its marks. Raises NotFound."""
        query = select(versions.c.text, versions.c.pages, versions.c.headings)
        with self._database.read() as connection:
            row = connection.execute(query.where(versions.c.id == version_id)).one_or_none()
        if row is None:
            raise NotFound(f"no content version {version_id!r}", param="content_version_id")
        return MarkedText(
            row.text,
            tuple(Page(**page) for page in row.pages),
            tuple(Heading(**heading) for heading in row.headings),
        )

    def current(self, kb_id: str | None, after: str = "") -> Iterator[Version]:
        """The visible versions of a knowledge base, or of all, in order of their documents' ids."""
        query = _within(_CURRENT, kb_id).order_by(contents.c.id).limit(_AT_ONCE)
        while True:
            with self._database.read() as connection:
                rows = connection.execute(query.where(contents.c.id > after)).all()
            yield from map(_version, rows)
            if len(rows) < _AT_ONCE:
                return
            after = rows[-1].content_id

    def still_current(self, version_ids: Sequence[str]) -> dict[str, Version]:
        """Those of some versions that are current, by id."""
        return {row.id: _version(row) for row in self._several(ids=list(version_ids))}

    def chunks(self, version_ids: Sequence[str]) -> dict[str, list[Chunk]]:
        """The chunks of those that are current, in order, with their tokens."""
        found: dict[str, list[Chunk]] = {}
        for row in self._outline(ids=list(version_ids)):
            # One for what lies between it and the next.
            tokens = count_tokens(row.text) + 1 if row.tokens is None else row.tokens
            made = Chunk(row.start, row.end, row.page, row.heading, tokens=tokens)
            found.setdefault(row.version_id, []).append(made)
        return found

    def languages(self, kb_id: str) -> dict[str, int]:
        """How many documents of a knowledge base are in each language that was recognised, most first."""
        query = (
            select(versions.c.language, func.count())
            .join(contents, contents.c.version_id == versions.c.id)
            .where(contents.c.kb_id == kb_id, versions.c.language.is_not(None))
            .group_by(versions.c.language)
        )
        with self._database.read() as connection:
            counted = Counter({row[0]: row[1] for row in connection.execute(query)})
        return dict(counted.most_common())


def _within(query: Select[Any], kb_id: str | None) -> Select[Any]:
    return query if kb_id is None else query.where(contents.c.kb_id == kb_id)


def _version(row: Row[Any] | Any) -> Version:
    return Version(
        id=row.id,
        content_id=row.content_id,
        knowledge_base_id=row.kb_id,
        knowledge_base=row.name,
        uri=row.uri,
        source=row.source,
        title=row.title,
        media_type=row.media_type,
        byte_size=row.byte_size,
        characters=row.characters,
        tokens=row.tokens,
        language=row.language or "",
        pages=row.pages,
        created_at=row.created_at,
        superseded_by=None if row.version_id == row.id else row.version_id,
    )
