"""Builds another model's vectors and index beside the live ones, and follows what is written meanwhile."""

from collections.abc import Callable

from kb.catalog import Catalog
from kb.catalog.store import pack_vectors
from kb.protocols import Embedder, VectorIndex
from kb.types import EmbeddingModel, KnowledgeBase


class Reembed:
    """One run of one model for one knowledge base; a run after an interruption goes on from there.

    index: the model's own, which nobody searches yet. progress: called with texts that have their vector,
    texts in all, and texts embedded by this run.
    """

    def __init__(
        self,
        catalog: Catalog,
        kb: KnowledgeBase,
        model: EmbeddingModel,
        embedder: Embedder,
        index: VectorIndex,
        progress: Callable[[int, int, int], None],
    ) -> None:
        self._catalog = catalog
        self._kb = kb
        self._model = model
        self._embedder = embedder
        self._index = index
        self._progress = progress
        self._total = catalog.models.count_missing(kb.id, model.fingerprint)
        self.embedded = 0

    def prepare(self) -> None:
        """Vectors and index reach what was there at some moment during this call."""
        head = self._fill()
        fingerprint, dim = self._model.fingerprint, self._model.dim
        for step in self._catalog.feed.after(self._kb.id, self._index.seq, fingerprint, dim, until=head):
            self._index.apply(step.seq, step.add, step.vectors, step.remove)

    def switch(self) -> None:
        """Make the model live, as soon as nothing is missing. Raises what `Models.switch` does."""
        # What is on the disk now, others need not follow the feed for.
        self._index.checkpoint()
        while not self._catalog.models.switch(self._kb, self._model):
            self._fill()

    def _fill(self) -> int:
        """Embed what has no vector; returns a change number at which nothing lacked one."""
        after = 0
        while True:
            missing = self._catalog.models.missing(self._kb.id, self._model.fingerprint, after)
            if missing.last is None and after == 0:
                return missing.head
            # At the end once more from the start: that none is missing is seen in one snapshot.
            after = missing.last or 0
            if missing.texts:
                names = list(missing.texts)
                vectors = self._embedder.embed_passages(list(missing.texts.values()))
                made = dict(zip(names, pack_vectors(vectors), strict=True))
                self._catalog.models.store(self._kb.id, self._model.fingerprint, made)
                self.embedded += len(made)
                self._total = max(self._total, self.embedded)
                self._progress(self.embedded, self._total, self.embedded)
