"""One moment of a dense index: an immutable base, a small exact tail, and masks of removed rows."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from kb.index.segment import Base, Mask, Positions
from kb.index.vectors import products, unit
from kb.types import Allowed, Ids, Neighbours, StoredVectors, Vectors, positions


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Everything a search reads. A change makes another one, so that no search sees half of it."""

    seq: int
    base: Base | None
    order: Positions
    """Rows of the base by ascending chunk id."""
    ordered_ids: Ids
    base_live: Mask
    tail: StoredVectors
    tail_units: Vectors
    tail_ids: Ids
    passed: int = 0
    """Rows that were in the tail and are removed: a server that takes in much would grow by them."""

    @classmethod
    def empty(cls, dim: int) -> Self:
        """Before the first change."""
        none, mask = np.empty(0, np.int64), np.empty(0, bool)
        rows = np.empty((0, dim), np.float16)
        return cls(0, None, none, none, mask, rows, rows.astype(np.float32), none)

    @classmethod
    def written(cls, seq: int, base: Base, dim: int) -> Self:
        """As the base was written, at a change number."""
        order = np.argsort(base.ids, kind="stable")
        return replace(
            cls.empty(dim),
            seq=seq,
            base=base,
            order=order,
            ordered_ids=base.ids[order],
            base_live=base.ids >= 0,
        )

    def __len__(self) -> int:
        """Live vectors."""
        return int(np.count_nonzero(self.base_live)) + len(self.tail_ids)

    @property
    def base_ids(self) -> Ids:
        """Chunk ids of the base, by row."""
        return np.empty(0, np.int64) if self.base is None else self.base.ids

    @property
    def changed(self) -> int:
        """How many rows of the base were removed, and how many the tail has or had."""
        gone = int(np.count_nonzero(~self.base_live & (self.base_ids >= 0)))
        return gone + len(self.tail_ids) + self.passed

    def live_ids(self) -> Ids:
        """Every live chunk, ascending."""
        return np.sort(np.concatenate([self.base_ids[self.base_live], self.tail_ids]))

    def applied(self, seq: int, add: Ids, vectors: StoredVectors, remove: Ids) -> Self:
        """After one step of the feed; see `kb.protocols.VectorIndex.apply`."""
        gone_rows, stays = self._rows_of(remove), ~np.isin(self.tail_ids, remove)
        wanted = ~np.isin(add, remove) & (self._rows_of(add) < 0) & (self._tail_of(add) < 0)
        # Of an id given twice the first vector stays.
        wanted[np.setdiff1d(np.arange(len(add)), np.unique(add, return_index=True)[1])] = False
        return replace(
            self,
            seq=seq,
            base_live=_without(self.base_live, gone_rows),
            tail=np.concatenate([self.tail[stays], vectors[wanted]]),
            tail_units=np.concatenate([self.tail_units[stays], unit(vectors[wanted])]),
            tail_ids=np.concatenate([self.tail_ids[stays], add[wanted]]),
            passed=self.passed + int(np.count_nonzero(~stays)),
        )

    def onto(self, opened: Self) -> Self:
        """The same chunks on another base; what was applied since that was written stays applied."""
        if opened.seq >= self.seq:
            return opened
        base_live = opened.base_live & (positions(opened.base_ids, self.live_ids()) >= 0)
        kept = opened._rows_of(self.tail_ids) < 0
        return replace(
            opened,
            seq=self.seq,
            base_live=base_live,
            tail=self.tail[kept],
            tail_units=self.tail_units[kept],
            tail_ids=self.tail_ids[kept],
        )

    def search(self, vector: Vectors, k: int, allow: Allowed | None, kept: Mask | None) -> Neighbours:
        """The best k. kept: the rows of the base whose chunks are allowed; None, as `allow`, for all."""
        ids, scores, exact = np.empty(0, np.int64), np.empty(0, np.float32), True
        if self.base is not None:
            rows, scores, exact = self.base.search(
                vector, k, self.base_live if kept is None else self.base_live & kept
            )
            ids = self.base.ids[rows]
        if len(self.tail_ids):
            held = slice(None) if allow is None else allow.hold(self.tail_ids)
            ids = np.concatenate([ids, self.tail_ids[held]])
            scores = np.concatenate([scores, products(self.tail_units, vector)[held]])
        best = np.lexsort((ids, -scores))[:k]
        return Neighbours(ids[best], scores[best], exact)

    def score(self, vector: Vectors, ids: Ids) -> Vectors:
        """The score of each chunk; nan where it is not live."""
        scores = np.full(len(ids), np.nan, np.float32)
        rows = self._rows_of(ids)
        if self.base is not None and (rows >= 0).any():
            scores[rows >= 0] = self.base.score(vector, rows[rows >= 0])
        tail = self._tail_of(ids)
        scores[tail >= 0] = products(self.tail_units[tail[tail >= 0]], vector)
        return scores

    def _rows_of(self, ids: Ids) -> Positions:
        """Rows of the base that hold some ids; -1 where none does, or it was removed."""
        at = positions(ids, self.ordered_ids)
        rows = np.where(at < 0, -1, self.order[at] if len(self.order) else at)
        live = self.base_live[rows] if len(self.base_live) else np.zeros(len(rows), bool)
        return np.where((rows >= 0) & live, rows, -1)

    def _tail_of(self, ids: Ids) -> Positions:
        """The same of the tail."""
        order = np.argsort(self.tail_ids, kind="stable")
        at = positions(ids, self.tail_ids[order])
        return np.where(at < 0, -1, order[at]) if len(order) else at


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where the rows of a base stand among the chunks of a filter."""

    base: Base
    chunks: Ids
    at: Positions
    known: Mask

    @classmethod
    def of(cls, base: Base, chunks: Ids) -> Self:
        """Found by looking up each row: worth keeping while neither changes."""
        at = positions(base.ids, chunks)
        return cls(base, chunks, at, at >= 0)

    def kept(self, allow: Allowed) -> Mask:
        """The rows that a filter over these chunks keeps."""
        return allow.mask[self.at] & self.known if len(self.chunks) else np.zeros(len(self.base), bool)


def _without(mask: Mask, rows: Positions) -> Mask:
    """A mask with some rows (-1: none) cleared."""
    rows = rows[rows >= 0]
    if not len(rows):
        return mask
    cleared = mask.copy()
    cleared[rows] = False
    return cleared
