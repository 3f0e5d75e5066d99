"""The indexes of the knowledge bases of a data folder, each opened once.

The only file that chooses a VectorIndex and a LexicalIndex.
"""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kb.catalog import Catalog
from kb.index import checkpoint, lexical
from kb.index.faiss_index import FaissIndex
from kb.index.lexical import TantivyIndex
from kb.search.live import LiveIndexes, undisturbed
from kb.types import KnowledgeBase


class Indexes:
    """One `LiveIndexes` for each knowledge base. Thread-safe.

    <folder>/<knowledge base>/<fingerprint>/    the dense index under one of its models
    <folder>/<knowledge base>/lexical/          the lexical one, for all of them
    """

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self.folder = folder
        self._catalog = catalog
        self._lock = threading.Lock()
        self._live: dict[str, LiveIndexes] = {}
        # One checkpoint at a time: each takes half of the cores.
        self._background = ThreadPoolExecutor(1, thread_name_prefix="kb-checkpoint")

    def close(self) -> None:
        """End what is under way in the background; the next start goes on with it."""
        for live in self._live.values():
            live.vectors.close()
        self._background.shutdown()

    def live(self, kb: KnowledgeBase) -> LiveIndexes:
        """Those of a knowledge base under the model that its row names, on their way to its recall target."""
        with self._lock:
            known = self._live.get(kb.id)
            if known is None or known.fingerprint != kb.fingerprint:
                # One model's at a time: a search that is still under the other one holds its own.
                known = self._live[kb.id] = self.opened(kb)
        # The row may have been changed by another process; a target that an index did not come to before a
        # crash is found here too.
        known.aim(kb.recall)
        return known

    def follow(self, kb_id: str) -> LiveIndexes:
        """Those of a knowledge base as it is now, brought level with the catalog. Raises NotFound."""

        def level() -> LiveIndexes:
            live = self.live(self._catalog.knowledge_bases.get(kb_id))
            live.catch_up()
            return live

        return undisturbed(level)

    def opened(self, kb: KnowledgeBase) -> LiveIndexes:
        """Its indexes opened anew, beside any that are live."""
        words = TantivyIndex(self.folder / kb.id / "lexical")
        return LiveIndexes(kb, self._catalog.feed, self.dense(kb), words, self._background.submit)

    def dense(self, kb: KnowledgeBase) -> FaissIndex:
        """The dense one alone, opened anew; it asks the row for its recall target."""

        def recall() -> float:
            return self._catalog.knowledge_bases.get(kb.id).recall

        return FaissIndex(self._dense_folder(kb), fingerprint=kb.fingerprint, dim=kb.dim, recall=recall)

    def remove(self, kb_id: str) -> None:
        """Forget a knowledge base that is gone, with its files."""
        with self._lock:
            self._live.pop(kb_id, None)
        shutil.rmtree(self.folder / kb_id, ignore_errors=True)

    def reopen(self) -> None:
        """Open each anew at its next use: the files were changed beside them."""
        with self._lock:
            self._live.clear()

    def damage(self, kb: KnowledgeBase) -> list[str]:
        """What is wrong with the files of a knowledge base."""
        words = self.folder / kb.id / "lexical"
        found = [checkpoint.damage(self._dense_folder(kb)), lexical.damage(words)]
        if kb.chunks and not words.is_dir():
            found.append(f"{words} is missing")
        return [what for what in found if what]

    def discard(self, kb: KnowledgeBase) -> None:
        """Forget its checkpoints, so that the next opening starts from nothing."""
        checkpoint.discard(self._dense_folder(kb))
        lexical.discard(self.folder / kb.id / "lexical")

    def _dense_folder(self, kb: KnowledgeBase) -> Path:
        return self.folder / kb.id / kb.fingerprint
