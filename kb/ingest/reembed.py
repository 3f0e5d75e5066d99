"""Another embedding model for a knowledge base: built beside the live one, then made live."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from filelock import FileLock, Timeout

from kb.catalog import Catalog
from kb.catalog.store import pack_vectors
from kb.embed.loaded import LoadedModels
from kb.errors import DataFolderInUse, InvalidInput, NotFound
from kb.ingest.level import Progress
from kb.protocols import Embedder, VectorIndex
from kb.search.core import SearchCore
from kb.search.indexes import Indexes
from kb.search.live import LiveIndexes, StillIndexes
from kb.search.shape import Shape
from kb.types import EmbeddingModel, KnowledgeBase, Mode, Reembedded, SearchResult

Judge = Callable[[Callable[..., SearchResult]], float]
"""Asks queries of a search (called with a query and `top_k`) and gives their nDCG@10."""


class ModelChange:
    """Changes the models of knowledge bases; of each, one change at a time in a data folder.

    dense_weight: of hybrid search, by which judgments compare.
    """

    def __init__(self, catalog: Catalog, models: LoadedModels, indexes: Indexes, dense_weight: float) -> None:
        self._catalog = catalog
        self._models = models
        self._indexes = indexes
        self._dense_weight = dense_weight

    def to(
        self,
        kb: KnowledgeBase,
        model: str,
        *,
        judge: Judge | None = None,
        only_if_better: bool = False,
        progress: Progress,
    ) -> Reembedded:
        """Bring a knowledge base under a model; see `kb.service.Service.reembed`."""
        if only_if_better and judge is None:
            raise InvalidInput("only_if_better needs judged queries", param="only_if_better")
        loaded = self._models.embedder(model)
        if loaded.fingerprint == kb.fingerprint:
            raise InvalidInput(f"{kb.name} is under {model} already", param="model")
        wanted = EmbeddingModel(model, loaded.fingerprint, loaded.dim)
        return self._change(kb, wanted, loaded, judge=judge, only_if_better=only_if_better, progress=progress)

    def back(self, kb: KnowledgeBase, progress: Progress) -> Reembedded:
        """Return it to the model that was live before; see `kb.service.Service.rollback`."""
        previous = self._catalog.models.of(kb.id).get("previous")
        if previous is None:
            raise NotFound(f"no previous model of {kb.name} is kept", param="knowledge_base")
        loaded = self._models.embedder_of(_under(kb, previous))
        return self._change(kb, previous, loaded, judge=None, only_if_better=False, progress=progress)

    def forget(self, kb: KnowledgeBase) -> list[str]:
        """Drop every model but the live one; returns their names."""
        with self._alone(kb):
            kept = self._catalog.models.of(kb.id).values()
            self._catalog.models.forget(kb.id)
            self._drop(kb.id, kept)
        return [model.embedder for model in kept]

    def _change(
        self,
        kb: KnowledgeBase,
        model: EmbeddingModel,
        embedder: Embedder,
        *,
        judge: Judge | None,
        only_if_better: bool,
        progress: Progress,
    ) -> Reembedded:
        started = time.monotonic()
        with self._alone(kb):
            before = self._catalog.models.of(kb.id).values()
            self._catalog.models.begin(kb.id, model)
            self._drop(kb.id, before)
            candidate = _under(kb, model)
            beside = self._indexes.opened(candidate)
            build = _Build(self._catalog, kb, model, embedder, beside.vectors, progress)
            build.prepare()
            scores = None
            if judge is not None:
                mine, still = self._indexes.opened(kb), StillIndexes(beside)
                scores = self._judged(judge, kb, mine), self._judged(judge, candidate, still)
            switched = not only_if_better or scores is None or scores[1] > scores[0]
            if switched:
                build.switch()
                self._drop(kb.id, before)
        return Reembedded(
            embedder=model.embedder,
            previous=kb.embedder,
            switched=switched,
            embedded=build.embedded,
            before=scores[0] if scores else None,
            after=scores[1] if scores else None,
            remark=_remark(kb, embedder),
            seconds=round(time.monotonic() - started, 3),
        )

    def _judged(self, judge: Judge, kb: KnowledgeBase, indexes: LiveIndexes) -> float:
        models = self._models
        core = SearchCore(self._catalog.documents, models.embed_queries, lambda _: indexes, models.reranker)

        def search(query: str, *, top_k: int = 10, mode: Mode = "hybrid") -> SearchResult:
            return core.search([kb], query, Shape(top_k), mode=mode, dense_weight=self._dense_weight)

        return judge(search)

    @contextmanager
    def _alone(self, kb: KnowledgeBase) -> Iterator[None]:
        folder = self._indexes.folder / kb.id
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / "reembed.lock", timeout=0):
                yield
        except Timeout:
            raise DataFolderInUse(f"the model of {kb.name} is being changed already") from None

    def _drop(self, kb_id: str, models: Iterable[EmbeddingModel]) -> None:
        """Free what those of some models take that the knowledge base does not keep."""
        kept = {model.fingerprint for model in self._catalog.models.of(kb_id).values()}
        kept.add(self._catalog.knowledge_bases.get(kb_id).fingerprint)
        for fingerprint in {model.fingerprint for model in models} - kept:
            self._catalog.models.drop_vectors(fingerprint)
            shutil.rmtree(self._indexes.folder / kb_id / fingerprint, ignore_errors=True)


class _Build:
    """Vectors and index of one model; after an interruption another build goes on from there.

    index: the model's own, which nobody searches yet. progress: called with texts done, texts to do, and
    texts embedded.
    """

    def __init__(
        self,
        catalog: Catalog,
        kb: KnowledgeBase,
        model: EmbeddingModel,
        embedder: Embedder,
        index: VectorIndex,
        progress: Progress,
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
        models, fingerprint = self._catalog.models, self._model.fingerprint
        after = 0
        while True:
            missing = models.missing(self._kb.id, fingerprint, after)
            if missing.last is None and after == 0:
                return missing.head
            # At the end once more from the start: that none is missing is seen in one snapshot.
            after = missing.last or 0
            if missing.texts:
                vectors = self._embedder.embed_passages(list(missing.texts.values()))
                made = dict(zip(missing.texts, pack_vectors(vectors), strict=True))
                models.store(self._kb.id, fingerprint, made)
                self.embedded += len(made)
                self._total = max(self._total, self.embedded)
                self._progress(self.embedded, self._total, self.embedded)


def _under(kb: KnowledgeBase, model: EmbeddingModel) -> KnowledgeBase:
    """A knowledge base as it would be under a model."""
    return replace(kb, embedder=model.embedder, fingerprint=model.fingerprint, dim=model.dim)


def _remark(kb: KnowledgeBase, embedder: Embedder) -> str | None:
    size = kb.chunking.size
    if size is None or size <= embedder.max_tokens:
        return None
    return (
        f"chunks have up to {size} tokens and the model reads {embedder.max_tokens}: the rest of a chunk "
        "is not embedded; to cut smaller, ingest into a new knowledge base"
    )
