"""The models that this process has loaded: embedders by name, and the reranker.

The only file that chooses an Embedder and a Reranker.
"""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from kb.embed.batching import QueryBatcher
from kb.embed.folder import exported
from kb.errors import InvalidInput, KbError, ModelMismatch
from kb.protocols import Embedder, Reranker
from kb.types import KnowledgeBase, Vectors

log = logging.getLogger(__name__)


class LoadedModels:
    """Models by name or path: each is loaded once, and exported first if `folder` lacks its graph.

    Thread-safe. folder: exported graphs. threads: cores one run of a model may use, 0 for all. reranker: the
    CrossEncoder of searches that ask for one, None for none.
    """

    def __init__(self, folder: Path, *, threads: int = 0, reranker: str | None = None) -> None:
        self._folder = folder
        self._threads = threads
        self._reranker_name = reranker
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._embedders: dict[str, Embedder] = {}
        self._batchers: dict[str, QueryBatcher] = {}
        self._loading_reranker = threading.Lock()
        self._reranker: Reranker | None = None

    def embedder(self, model: str) -> Embedder:
        """As it was when it was first asked for. Raises ModelUnavailable."""
        # A lock per model: an export of half a minute must not hold up searches with another.
        with self._lock:
            loading = self._loading.setdefault(model, threading.Lock())
        with loading:
            if model not in self._embedders:
                from kb.embed.runtime import OnnxEmbedder

                folder = exported(model, self._folder)
                self._embedders[model] = OnnxEmbedder(folder, threads=self._threads)
            return self._embedders[model]

    def embedder_of(self, kb: KnowledgeBase) -> Embedder:
        """The one that a knowledge base is under. Raises ModelUnavailable, or ModelMismatch where its name
        stands for another by now."""
        loaded = self.embedder(kb.embedder)
        if loaded.fingerprint != kb.fingerprint:
            # The model's folder may have been replaced since it was loaded, as `reembed` may have found it.
            with self._lock:
                self._embedders.pop(kb.embedder, None)
            loaded = self.embedder(kb.embedder)
        if loaded.fingerprint != kb.fingerprint:
            raise ModelMismatch(
                f"{kb.name} was built with another version of the model {kb.embedder}; put it back, "
                f"or bring it under this one: kb reembed {kb.name} --model {kb.embedder}"
            )
        return loaded

    def embed_queries(self, kb: KnowledgeBase, queries: Sequence[str]) -> list[Vectors]:
        """The vector of each query under a knowledge base's model, shape (dim,). Raises as `embedder_of`."""
        return self.batcher(kb).embed(queries)

    def batcher(self, kb: KnowledgeBase) -> QueryBatcher:
        """What embeds the queries of a knowledge base; a model that is prepared for it is loaded ahead."""
        if kb.building is not None and kb.building not in self._loading:
            # Loaded before the switch, outside any search.
            threading.Thread(target=self._load_ahead, args=(kb.building,), daemon=True).start()
        with self._lock:
            known = self._batchers.get(kb.fingerprint)
        if known is None:
            loaded = self.embedder_of(kb)
            with self._lock:
                known = self._batchers.setdefault(kb.fingerprint, QueryBatcher(loaded))
        return known

    def reranker(self) -> Reranker:
        """Raises InvalidInput where none is set, ModelUnavailable where it cannot serve."""
        model = self._reranker_name
        if model is None:
            raise InvalidInput(
                "no reranker is set; start with KB_RERANKER set to a sentence-transformers CrossEncoder, "
                "by path or by the name of one that is downloaded",
                param="rerank",
            )
        with self._loading_reranker:
            if self._reranker is None:
                from kb.embed.reranker import OnnxReranker

                folder = exported(model, self._folder, "reranker")
                self._reranker = OnnxReranker(folder, threads=self._threads)
            return self._reranker

    def _load_ahead(self, model: str) -> None:
        try:
            self.embedder(model)
        except KbError as error:
            log.warning("%s, which is being prepared, cannot be loaded here: %s", model, error)
