"""The numbered change feed: what an index that stands at one number needs to reach the newest."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy import bindparam, func, select

from kb.catalog.database import Database
from kb.catalog.schema import changes, chunks, vectors
from kb.catalog.store import stored_rows
from kb.types import Ids, StoredVectors

# Chunks read at once while an index follows: 12 MB of vectors, a few thousand texts.
_STEP = 8192

_HEAD = select(func.max(changes.c.seq).label("seq")).where(changes.c.kb_id == bindparam("kb_id"))


@dataclass(frozen=True, slots=True)
class Step:
    """Changes up to and including `seq`: chunks to add, with vectors and texts by row, and ids to remove."""

    seq: int
    add: Ids
    vectors: StoredVectors
    texts: list[str]
    remove: Ids


class Feed:
    """Reads the feed; it is written by `Store` inside each commit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._head = database.prepare(_HEAD)

    def head(self, kb_id: str) -> int:
        """The newest change number of a knowledge base; 0 where nothing happened yet."""
        return int(self._head(kb_id=kb_id)[0].seq or 0)

    def after(self, kb_id: str, seq: int, fingerprint: str, dim: int) -> Iterator[Step]:
        """The changes behind `seq`, in order, a bounded number of chunks at a time.

        A chunk that was added and removed again within one step is only removed.
        """
        while True:
            with self._database.read() as connection:
                found = connection.execute(
                    select(changes)
                    .where(changes.c.kb_id == kb_id, changes.c.seq > seq)
                    .order_by(changes.c.seq)
                    .limit(_STEP)
                ).all()
                taken, size = 0, 0
                while taken < len(found) and (not taken or size < _STEP):
                    size += found[taken].last_chunk - found[taken].first_chunk + 1
                    taken += 1
                if not taken:
                    return
                seq = found[taken - 1].seq
                added = [row for row in found[:taken] if row.added]
                gone = [
                    np.arange(row.first_chunk, row.last_chunk + 1) for row in found[:taken] if not row.added
                ]
                # One range read for all: ids between them that belong elsewhere are dropped below.
                rows = (
                    connection.execute(
                        select(chunks.c.id, chunks.c.context, chunks.c.text, vectors.c.vector)
                        .join(vectors, (vectors.c.text_hash == chunks.c.text_hash))
                        .where(
                            vectors.c.fingerprint == fingerprint,
                            chunks.c.kb_id == kb_id,
                            chunks.c.id.between(added[0].first_chunk, added[-1].last_chunk),
                        )
                        .order_by(chunks.c.id)
                    ).all()
                    if added
                    else []
                )
            yield Step(
                seq=seq,
                add=np.array([row.id for row in rows], np.int64),
                vectors=stored_rows([row.vector for row in rows], dim),
                texts=[row.context + row.text for row in rows],
                remove=np.concatenate([np.empty(0, np.int64), *gone]),
            )
