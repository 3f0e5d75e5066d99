"""The knowledge bases of a catalog: made, listed, changed, deleted."""

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, Table, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from kb.catalog.database import Database, new_id, now
from kb.catalog.paging import Listed, Page, listed, paged
from kb.catalog.receipts import issue
from kb.catalog.schema import chunks, contents, knowledge_bases, models, vectors
from kb.catalog.store import unused
from kb.errors import AlreadyExists, InvalidInput, NotFound
from kb.types import RECALL, ChunkingPolicy, KnowledgeBase, is_unicode

LEAST_RECALL, MOST_RECALL = 0.9, 0.9999
_MAX_NAME = 128
# In a refusal.
_NAMED_AT_MOST = 20
# The limits of the OpenAI metadata contract.
_MAX_KEYS, _MAX_KEY, _MAX_TEXT = 16, 64, 512


def _model(state: str) -> ColumnElement[str | None]:
    found = select(models.c.embedder).where(models.c.kb_id == knowledge_bases.c.id, models.c.state == state)
    return found.correlate(knowledge_bases).scalar_subquery().label(state)


_ROW = select(knowledge_bases, _model("building"), _model("previous"))
_NAMED = _ROW.where(
    (knowledge_bases.c.id == bindparam("name")) | (knowledge_bases.c.name == bindparam("name"))
)


class KnowledgeBases:
    """Rows of `knowledge_bases`, as frozen `KnowledgeBase` values."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._named = database.remember(_NAMED)
        self._every = database.remember(_ROW.order_by(knowledge_bases.c.name))

    def create(
        self,
        name: str,
        *,
        embedder: str,
        fingerprint: str,
        dim: int,
        chunking: ChunkingPolicy,
        description: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> KnowledgeBase:
        """Raises AlreadyExists when the name is taken, InvalidInput when it cannot be one."""
        kb_id = new_id("kb")
        row = {
            "id": kb_id,
            "name": _checked(name),
            "description": description,
            "embedder": embedder,
            "fingerprint": fingerprint,
            "dim": dim,
            "chunk_size": chunking.size,
            "chunk_overlap": chunking.overlap,
            "created_at": now(),
            "metadata": _checked_metadata(metadata or {}),
        }
        try:
            with self._database.write() as connection:
                connection.execute(insert(knowledge_bases).values(row))
        except IntegrityError as error:
            raise AlreadyExists(f"a knowledge base named {name!r} exists already", param="name") from error
        return self.get(kb_id)

    def get(self, name_or_id: str) -> KnowledgeBase:
        """By name or id, its counts left at 0. Raises NotFound, naming the ones that exist."""
        found = self._named(name=name_or_id)
        if not found:
            with self._database.read() as connection:
                known = connection.scalars(select(knowledge_bases.c.name).order_by("name")).all()
            near = difflib.get_close_matches(name_or_id, known, 1)
            meant = f"; did you mean {near[0]!r}?" if near else ";"
            listed = f" there are: {', '.join(known[:_NAMED_AT_MOST])}" if known else " there is none yet"
            raise NotFound(f"no knowledge base {name_or_id!r}{meant}{listed}", param="knowledge_base")
        return _knowledge_base(found[0])

    def every(self) -> list[KnowledgeBase]:
        """All of them, by name, their counts left at 0."""
        return [_knowledge_base(row) for row in self._every()]

    def all(self) -> list[KnowledgeBase]:
        """Every knowledge base, by name, with its counts."""

        def count(table: Table) -> ScalarSelect[Any]:
            counted = select(func.count()).select_from(table).where(table.c.kb_id == knowledge_bases.c.id)
            return counted.correlate(knowledge_bases).scalar_subquery()

        query = _ROW.add_columns(count(contents).label("documents"), count(chunks).label("chunks"))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(knowledge_bases.c.name)).all()
        return [replace(_knowledge_base(row), documents=row.documents, chunks=row.chunks) for row in rows]

    def page(self, page: Page) -> Listed:
        """Knowledge bases in order of their ids, and so of time; their counts left at 0."""
        with self._database.read() as connection:
            rows = connection.execute(paged(_ROW, knowledge_bases.c.id, page)).all()
        return listed([_knowledge_base(row) for row in rows], page)

    def change(
        self,
        kb_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        recall: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> KnowledgeBase:
        """Rename, describe anew, set the recall target or the metadata; None leaves a field as it is."""
        changed = {
            "name": None if name is None else _checked(name),
            "description": description,
            "recall": None if recall is None else _checked_recall(recall),
            "metadata": None if metadata is None else _checked_metadata(metadata),
        }
        values = {key: value for key, value in changed.items() if value is not None}
        if values:
            try:
                with self._database.write() as connection:
                    connection.execute(
                        update(knowledge_bases).where(knowledge_bases.c.id == kb_id).values(values)
                    )
            except IntegrityError as error:
                raise AlreadyExists(
                    f"a knowledge base named {name!r} exists already", param="name"
                ) from error
        return self.get(kb_id)

    def delete(self, kb_id: str) -> None:
        """Remove it with all its documents, texts and the vectors nobody else uses; leaves receipts."""
        with self._database.write() as connection:
            issue(connection, kb_id)
            connection.execute(delete(knowledge_bases).where(knowledge_bases.c.id == kb_id))
            # A vector tells much of its text: none outlives the last chunk that holds it.
            connection.execute(delete(vectors).where(unused()))


def _knowledge_base(row: Any) -> KnowledgeBase:
    return KnowledgeBase(
        id=row.id,
        name=row.name,
        description=row.description,
        embedder=row.embedder,
        fingerprint=row.fingerprint,
        dim=row.dim,
        chunking=ChunkingPolicy(row.chunk_size, row.chunk_overlap),
        created_at=row.created_at,
        building=row.building,
        previous=row.previous,
        recall=RECALL if row.recall is None else row.recall,
        metadata=row.metadata or {},
    )


def _checked(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable() or "/" in name or name.startswith("kb_"):
        # An id must never be another's name; a path segment must stay one.
        message = f"a name is 1 to {_MAX_NAME} printable characters without '/', and does not begin with kb_"
        raise InvalidInput(message, param="name")
    return name


def _checked_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    if len(metadata) > _MAX_KEYS:
        raise InvalidInput(f"at most {_MAX_KEYS} pairs of metadata", param="metadata")
    for key, value in metadata.items():
        if not 1 <= len(key) <= _MAX_KEY or not isinstance(value, str) or len(value) > _MAX_TEXT:
            message = f"a key has 1 to {_MAX_KEY} characters, its text at most {_MAX_TEXT}"
            raise InvalidInput(message, param=f"metadata.{key}")
        if not is_unicode(key + value):
            raise InvalidInput("metadata must be valid Unicode", param="metadata")
    return dict(metadata)


def _checked_recall(recall: float) -> float:
    if not LEAST_RECALL <= recall <= MOST_RECALL:
        message = (
            f"recall must be {LEAST_RECALL} to {MOST_RECALL}, the share of the best that a search finds; "
            f"{RECALL} is the default, 0.999 misses a tenth of that for several times the work"
        )
        raise InvalidInput(message, param="recall")
    return recall
