"""What the next base holds, made of the one before and of what changed since."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kb.index.policy import GRAPH_FROM, WAY_MARKS
from kb.index.segment import Base, Mask
from kb.index.state import State
from kb.types import Ids, StoredVectors


@dataclass(frozen=True, slots=True)
class NextRows:
    """Chunk ids by row and their vectors in blocks. grown: the base whose graph goes on, if one does."""

    ids: Ids
    blocks: Iterator[StoredVectors]
    grown: Base | None


def next_rows(state: State) -> NextRows:
    """Live rows alone, by ascending id; or, where a graph can be added to, its rows as they stand.

    In the latter case removed rows stay as way marks: their id is -1 and their vector zero.
    """
    base, base_live = state.base, state.base_live
    added, added_ids = state.tail, state.tail_ids
    if base is None:
        order = np.argsort(added_ids)
        return NextRows(added_ids[order], iter([added[order]]), None)
    live = int(np.count_nonzero(base_live))
    if base.has_graph and live + len(added) >= GRAPH_FROM and live >= (1 - WAY_MARKS) * len(base):
        ids = np.concatenate([np.where(base_live, base.ids, -1), added_ids])
        return NextRows(ids, _masked(base, base_live, added), base)
    ids = np.concatenate([base.ids[base_live], added_ids])
    if (np.diff(ids) > 0).all():
        return NextRows(ids, _kept(base, base_live, added), None)
    order = np.argsort(ids)
    rows = np.concatenate(list(_kept(base, base_live, added)))
    return NextRows(ids[order], iter([rows[order]]), None)


def _masked(base: Base, live: Mask, added: StoredVectors) -> Iterator[StoredVectors]:
    at = 0
    for block in base.blocks():
        yield np.where(live[at : at + len(block), None], block, np.float16(0))
        at += len(block)
    yield added


def _kept(base: Base, live: Mask, added: StoredVectors) -> Iterator[StoredVectors]:
    at = 0
    for block in base.blocks():
        yield block[live[at : at + len(block)]]
        at += len(block)
    yield added
