"""A knowledge base changes its embedding model: the next one beside the live one, the previous one kept.

The live model stands in the row of its knowledge base. At any commit every chunk has its vector under it,
so that whoever reads that row, then the feed, misses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, delete, func, insert, select, update

from kb.catalog.database import Database, now
from kb.catalog.schema import changes, chunks, knowledge_bases, models, vectors
from kb.catalog.store import add_vectors, unused
from kb.errors import ModelChanged, NotFound
from kb.types import EmbeddingModel, KnowledgeBase

# Texts read at once: as many as are embedded and stored at once.
_PAGE = 256


@dataclass(frozen=True, slots=True)
class Missing:
    """Texts without a vector, by hash, in order of their chunks.

    head: the newest change number in the same snapshot. last: the last chunk looked at; None at the end.
    """

    texts: Mapping[bytes, str]
    head: int
    last: int | None


class Models:
    """Rows of `models`, and the one transaction that exchanges them with the live model."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, kb_id: str) -> dict[str, EmbeddingModel]:
        """The models beside the live one, by state: `building`, `previous`."""
        with self._database.read() as connection:
            rows = connection.execute(select(models).where(models.c.kb_id == kb_id)).all()
        return {row.state: EmbeddingModel(row.embedder, row.fingerprint, row.dim) for row in rows}

    def begin(self, kb_id: str, model: EmbeddingModel) -> None:
        """Make it the model that is being built, instead of any other."""
        with self._database.write() as connection:
            _put(connection, kb_id, "building", model)

    def missing(self, kb_id: str, fingerprint: str, after: int = 0) -> Missing:
        """Some texts that have no vector under a model, of chunks behind `after`."""
        query = _without(kb_id, fingerprint, chunks.c.id, chunks.c.text_hash, chunks.c.context, chunks.c.text)
        with self._database.read() as connection:
            rows = connection.execute(
                query.where(chunks.c.id > after).order_by(chunks.c.id).limit(_PAGE)
            ).all()
            head = connection.scalar(select(func.max(changes.c.seq)).where(changes.c.kb_id == kb_id))
        texts = {row.text_hash: row.context + row.text for row in rows}
        return Missing(texts, head or 0, rows[-1].id if rows else None)

    def count_missing(self, kb_id: str, fingerprint: str) -> int:
        """How many distinct texts have no vector under a model."""
        query = _without(kb_id, fingerprint, func.count(chunks.c.text_hash.distinct()))
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0)

    def store(self, kb_id: str, fingerprint: str, made: Mapping[bytes, bytes]) -> None:
        """Keep vectors, but for those of texts that were deleted meanwhile."""
        there = select(chunks.c.text_hash).where(chunks.c.kb_id == kb_id, chunks.c.text_hash.in_(list(made)))
        with self._database.write() as connection:
            kept = set(connection.scalars(there))
            add_vectors(connection, fingerprint, {name: made[name] for name in kept})

    def switch(self, kb: KnowledgeBase, model: EmbeddingModel) -> bool:
        """Make `model` live and the one of `kb` the previous, all in one transaction.

        False, and nothing has changed, where a text still has no vector under it. Raises ModelChanged when
        another switch came first, NotFound when the knowledge base is gone.
        """
        with self._database.write() as connection:
            live = connection.scalar(
                select(knowledge_bases.c.fingerprint).where(knowledge_bases.c.id == kb.id)
            )
            if live is None:
                raise NotFound("the knowledge base was deleted meanwhile", param="knowledge_base")
            if live != kb.fingerprint:
                raise ModelChanged("the knowledge base was switched to another model meanwhile")
            if connection.execute(_without(kb.id, model.fingerprint, chunks.c.id).limit(1)).first():
                return False
            _put(connection, kb.id, "previous", EmbeddingModel(kb.embedder, kb.fingerprint, kb.dim))
            connection.execute(
                delete(models).where(models.c.kb_id == kb.id, models.c.fingerprint == model.fingerprint)
            )
            changed = {"embedder": model.embedder, "fingerprint": model.fingerprint, "dim": model.dim}
            connection.execute(update(knowledge_bases).where(knowledge_bases.c.id == kb.id).values(changed))
            return True

    def forget(self, kb_id: str) -> None:
        """Keep the live model alone."""
        with self._database.write() as connection:
            connection.execute(delete(models).where(models.c.kb_id == kb_id))

    def drop_vectors(self, fingerprint: str) -> None:
        """Delete the vectors of a model that no knowledge base needs any more."""
        with self._database.write() as connection:
            connection.execute(delete(vectors).where(vectors.c.fingerprint == fingerprint, unused()))


def _put(connection: Connection, kb_id: str, state: str, model: EmbeddingModel) -> None:
    connection.execute(delete(models).where(models.c.kb_id == kb_id, models.c.state == state))
    connection.execute(
        insert(models).values(
            kb_id=kb_id,
            state=state,
            embedder=model.embedder,
            fingerprint=model.fingerprint,
            dim=model.dim,
            created_at=now(),
        )
    )


def _without(kb_id: str, fingerprint: str, *columns: Any) -> Select[Any]:
    """Columns of the chunks that have no vector under a model."""
    has = select(1).where(
        and_(vectors.c.text_hash == chunks.c.text_hash, vectors.c.fingerprint == fingerprint)
    )
    return select(*columns).where(chunks.c.kb_id == kb_id, ~has.exists())
