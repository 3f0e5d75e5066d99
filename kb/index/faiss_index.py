"""The VectorIndex over one folder, for approximate search.

Its state is replaced as a whole by every change (kb/index/state.py). What changed since the last checkpoint
(kb/index/checkpoint.py) is in memory alone, and is rebuilt from the feed at open. The next checkpoint is
written beside it while searches and changes go on.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from filelock import Timeout

from kb.errors import DimensionMismatch, IndexCorrupt
from kb.index.calibrate import calibrated
from kb.index.checkpoint import CheckpointFolder
from kb.index.policy import Effort
from kb.index.segment import Base, Mask
from kb.index.state import Places, State
from kb.index.tune import Cost, cost
from kb.types import RECALL, Allowed, Ids, Neighbours, StoredVectors, Vectors

# The tail is scanned beside the base: a sixteenth of it costs a search a tenth more.
# Below this many changes a checkpoint would save nobody anything.
_SMALL_TAIL = 4096

log = logging.getLogger(__name__)


def default_recall() -> float:
    """The target where nobody set another."""
    return RECALL


class FaissIndex:
    """A `VectorIndex` over one folder, for vectors of one embedder.

    recall: tells the share of the best that an approximate search must find; asked whenever an effort is
    found out or taken over, for another process may have set it. Opening maps the last checkpoint, or starts
    empty at seq 0 where there is none, or where it is damaged or of another embedder; the feed then brings
    it up to date.
    """

    def __init__(
        self, folder: Path, *, fingerprint: str, dim: int, recall: Callable[[], float] = default_recall
    ) -> None:
        self._disk = CheckpointFolder(folder, fingerprint, dim)
        self._dim = dim
        self._recall = recall
        self._changing = threading.Lock()
        self._stopped = threading.Event()
        self._places: Places | None = None
        self._state = State.empty(dim)
        for attempt in ("first", "last"):
            try:
                self._state = self._disk.open()
                break
            except FileNotFoundError:
                break
            except IndexCorrupt as error:
                # Another process may have switched to a newer checkpoint between manifest and files.
                if attempt == "last":
                    log.warning("%s; rebuilding from the catalog", error)

    @property
    def seq(self) -> int:
        return self._state.seq

    @property
    def wants_checkpoint(self) -> bool:
        return self._state.changed > max(_SMALL_TAIL, len(self._state.base_ids) // 16)

    @property
    def recall(self) -> float | None:
        base = self._state.base
        return None if base is None or base.effort is None else base.effort.recall

    def cost(self) -> Cost | None:
        """What a search of the base costs; None where none is written, or nothing is in it."""
        base = self._state.base
        return None if base is None or not (base.ids >= 0).any() else cost(base)

    def __len__(self) -> int:
        return len(self._state)

    def apply(self, seq: int, add: Ids, vectors: StoredVectors, remove: Ids) -> None:
        if vectors.shape != (len(add), self._dim):
            raise DimensionMismatch(f"vectors have shape {vectors.shape}, not ({len(add)}, {self._dim})")
        with self._changing:
            self._state = self._state.applied(seq, add, vectors, remove)

    def search(self, vector: Vectors, k: int, *, allow: Allowed | None = None) -> Neighbours:
        self._check(vector)
        state = self._state
        kept = None if allow is None or state.base is None else self._kept(state.base, allow)
        return state.search(vector, k, allow, kept)

    def score(self, vector: Vectors, ids: Ids) -> Vectors:
        self._check(vector)
        return self._state.score(vector, ids)

    def ids(self) -> Ids:
        return self._state.live_ids()

    def checkpoint(self) -> None:
        """Write the next base beside this one. Searches and changes go on meanwhile."""
        self._disk.make()
        try:
            with self._disk.lock(wait=False):
                self._take_over()
                state = self._state
                if state.changed or not self._is_written(state.seq):
                    name = self._disk.write(state, self._recall, self._stopped)
                    self._switch(self._disk.open())
                    self._disk.keep_only(name)
                else:
                    self._aim()
        except Timeout:
            return

    def tune(self, *, wait: bool = False) -> None:
        if self.recall is None:
            return
        try:
            with self._disk.lock(wait=wait):
                self._take_over()
                self._aim()
        except (Timeout, FileNotFoundError):
            return

    def adopt(self) -> None:
        try:
            with self._disk.lock(wait=False):
                self._take_over()
        except (Timeout, FileNotFoundError):
            return

    def close(self) -> None:
        self._stopped.set()

    def _take_over(self) -> None:
        with suppress(FileNotFoundError, IndexCorrupt):
            base, written = self._state.base, self._disk.read()
            if base is None or written.name != base.name:
                self._switch(self._disk.open())
            # An effort of another target is left: whoever wrote it did not know of this one yet.
            elif written.effort is not None and written.effort.recall == self._recall():
                self._search_with(written.effort)

    def _aim(self) -> None:
        """Find the base's effort anew where it is that of another target; its files stay as they are.

        A crash leaves the old effort in the manifest, which the next search of any process then mends.
        """
        base, recall = self._state.base, self._recall()
        if base is None or base.effort is None or base.effort.recall == recall:
            return
        effort = calibrated(base, recall, None, self._stopped)
        # Kept in memory first: where the disk refuses the manifest, this process need not try again.
        self._search_with(effort)
        with suppress(FileNotFoundError, IndexCorrupt):
            self._disk.keep_effort(base.name, effort)

    def _search_with(self, effort: Effort) -> None:
        with self._changing:
            base = self._state.base
            if base is not None and base.effort != effort:
                self._state = replace(self._state, base=base.at(effort))

    def _switch(self, opened: State) -> None:
        with self._changing:
            self._state = self._state.onto(opened)

    def _is_written(self, seq: int) -> bool:
        try:
            return self._disk.read().seq == seq
        except (FileNotFoundError, IndexCorrupt):
            return False

    def _kept(self, base: Base, allow: Allowed) -> Mask:
        places = self._places
        if places is None or places.chunks is not allow.chunks or places.base is not base:
            self._places = places = Places.of(base, allow.chunks)
        return places.kept(allow)

    def _check(self, vector: Vectors) -> None:
        if vector.shape != (self._dim,):
            raise DimensionMismatch(
                f"the query vector has shape {vector.shape}, the index holds ({self._dim},)"
            )
