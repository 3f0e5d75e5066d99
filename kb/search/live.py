"""The indexes of one knowledge base, kept level with the catalog."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from kb.catalog.feed import Feed
from kb.errors import Interrupted, ModelChanged, NotFound, StorageFailed, storage
from kb.protocols import LexicalIndex, VectorIndex
from kb.search.columns import AttributeColumns
from kb.types import KnowledgeBase

_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


class LiveIndexes:
    """Both indexes of a knowledge base. Whoever searches calls `catch_up` first, and so sees every
    acknowledged write, whichever process made it.

    later: runs something in the background, where a checkpoint holds up nobody.
    """

    def __init__(
        self,
        kb: KnowledgeBase,
        feed: Feed,
        vectors: VectorIndex,
        lexical: LexicalIndex,
        later: Callable[[Callable[[], None]], object],
    ) -> None:
        self._kb = kb
        self._feed = feed
        self.vectors = vectors
        self.lexical = lexical
        self.columns = AttributeColumns(kb.id, feed)
        self._later = later
        self.fingerprint = kb.fingerprint
        self._applying = threading.Lock()
        self._checkpointing = threading.Lock()
        # What both were seen to have reached: spares a look at the lexical index's files on every search.
        self._reached = 0

    def catch_up(self) -> None:
        """Apply the changes that the indexes have not seen; one cheap look-up when there are none.

        Raises ModelChanged when there are some and the knowledge base is under another model by now,
        StorageFull or StorageFailed; the catalog has the changes, and the next call tries again.
        """
        head = self._feed.head(self._kb.id)
        if self._level(head):
            return
        with self._applying, storage():
            if self._level(head):
                return
            behind = min(self.vectors.seq, self.lexical.seq)
            for step in self._feed.after(self._kb.id, behind, self._kb.fingerprint, self._kb.dim):
                if step.seq > self.vectors.seq:
                    self.vectors.apply(step.seq, step.add, step.vectors, step.remove)
                if step.seq > self.lexical.seq:
                    self.lexical.apply(step.seq, step.add, step.passages, step.remove)
        if self.vectors.wants_checkpoint:
            self._soon(self._checkpoint)

    def aim(self, recall: float) -> None:
        """Come to a recall target in the background, where the vectors are searched at another one."""
        if self.vectors.recall not in (None, recall):
            self._soon(self.vectors.tune)

    def settle(self) -> None:
        """Wait until no checkpoint is under way."""
        with self._checkpointing:
            return

    def _checkpoint(self) -> None:
        self.vectors.adopt()
        if self.vectors.wants_checkpoint:
            self.vectors.checkpoint()

    def _soon(self, work: Callable[[], None]) -> None:
        """In the background, unless something is at work there already."""
        if self._checkpointing.acquire(blocking=False):
            self._later(partial(self._write, work))

    def _write(self, work: Callable[[], None]) -> None:
        try:
            with storage():
                work()
        except NotFound:
            log.info("%s was deleted while its index was written", self._kb.name)
        except Interrupted:
            log.info("the index of %s is written at the next start", self._kb.name)
        except (OSError, StorageFailed) as error:
            # A full disk, say: everything is in the catalog and in memory, and the next change tries again.
            log.error("the index of %s could not be written: %s", self._kb.name, error)
        finally:
            self._checkpointing.release()

    def _level(self, head: int) -> bool:
        if self._reached < head:
            self._reached = min(self.vectors.seq, self.lexical.seq)
        return self._reached >= head


class StillIndexes(LiveIndexes):
    """Those of a model that is not live as they are, for a comparison."""

    def __init__(self, indexes: LiveIndexes) -> None:
        self.vectors = indexes.vectors
        self.lexical = indexes.lexical
        self.columns = indexes.columns

    def catch_up(self) -> None:
        """Nothing: what is written meanwhile does not count."""


def undisturbed(work: Callable[[], _Result]) -> _Result:
    """What some work on a knowledge base as it is now gives, begun again where its model was switched."""
    while True:
        try:
            return work()
        except ModelChanged:
            continue
