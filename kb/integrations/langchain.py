"""A LangChain retriever over knowledge bases."""

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, InstanceOf

from kb.integrations.citation import citation, identity
from kb.search.rerank import Rerank
from kb.service import Service
from kb.types import Comparison, Compound, Expand, Hit, Mode

try:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
except ModuleNotFoundError as missing:
    raise ImportError("LangChain is not installed: pip install 'langchain-core>=1.0'") from missing


class KnowledgeBaseRetriever(BaseRetriever):
    """The passages of some knowledge bases, by name or id, that answer a question best.

    A document's `page_content` is exactly the passage, its `id` names version and span, and its `metadata` is
    that of `kb.integrations.citation`. The options are those of `Service.search`; each call may give others:
    `retriever.invoke("…", top_k=3)`. The service stays open for as long as the retriever is used.
    """

    model_config = ConfigDict(extra="forbid")

    service: InstanceOf[Service]
    knowledge_bases: Sequence[str]
    top_k: int = 10
    mode: Mode = "hybrid"
    where: InstanceOf[Comparison] | InstanceOf[Compound] | None = None
    score_threshold: float | None = None
    dense_weight: float | None = None
    max_per_document: int | None = None
    collapse_duplicates: bool = False
    expand: Expand | None = None
    rerank: InstanceOf[Rerank] | None = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return self._found(query, **options)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        # A search computes: on the event loop it would hold up everybody else's.
        return await asyncio.to_thread(self._found, query, **options)

    def _found(self, query: str, **options: Any) -> list[Document]:
        own = {
            "top_k": self.top_k,
            "mode": self.mode,
            "where": self.where,
            "score_threshold": self.score_threshold,
            "dense_weight": self.dense_weight,
            "max_per_document": self.max_per_document,
            "collapse_duplicates": self.collapse_duplicates,
            "expand": self.expand,
            "rerank": self.rerank,
        }
        found = self.service.search(query, self.knowledge_bases, **{**own, **options})
        return [_document(hit) for hit in found.hits]


def _document(hit: Hit) -> Document:
    return Document(id=identity(hit), page_content=hit.text, metadata=citation(hit))
