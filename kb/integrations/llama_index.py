"""A LlamaIndex retriever over knowledge bases."""

import asyncio
from collections.abc import Sequence
from functools import partial

from kb.integrations.citation import citation, identity
from kb.search.rerank import Rerank
from kb.service import Service
from kb.types import Expand, Filter, Hit, Mode

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.schema import (
        NodeRelationship,
        NodeWithScore,
        QueryBundle,
        RelatedNodeInfo,
        TextNode,
    )
except ModuleNotFoundError as missing:
    raise ImportError("LlamaIndex is not installed: pip install 'llama-index-core>=0.14'") from missing

# What a language model reads above a passage; the rest is for programs.
_FOR_MODELS = ("title", "heading", "page", "uri")


class KnowledgeBaseRetriever(BaseRetriever):
    """The passages of some knowledge bases, by name or id, that answer a question best.

    A node's content is exactly the passage, `start_char_idx` to `end_char_idx` of the version that is its
    source node; its id names version and span, and its metadata is that of `kb.integrations.citation`. The
    options are those of `Service.search`. The service stays open for as long as the retriever is used.
    """

    def __init__(
        self,
        service: Service,
        knowledge_bases: Sequence[str],
        *,
        top_k: int = 10,
        mode: Mode = "hybrid",
        where: Filter | None = None,
        score_threshold: float | None = None,
        dense_weight: float | None = None,
        max_per_document: int | None = None,
        collapse_duplicates: bool = False,
        expand: Expand | None = None,
        rerank: Rerank | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        super().__init__(callback_manager)
        self._search = partial(
            service.search,
            kbs=knowledge_bases,
            top_k=top_k,
            mode=mode,
            where=where,
            score_threshold=score_threshold,
            dense_weight=dense_weight,
            max_per_document=max_per_document,
            collapse_duplicates=collapse_duplicates,
            expand=expand,
            rerank=rerank,
        )

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [_node(hit) for hit in self._search(query_bundle.query_str).hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        # A search computes: on the event loop it would hold up everybody else's.
        return await asyncio.to_thread(self._retrieve, query_bundle)


def _node(hit: Hit) -> NodeWithScore:
    metadata = citation(hit)
    for_programs = [name for name in metadata if name not in _FOR_MODELS or metadata[name] is None]
    node = TextNode(
        id_=identity(hit),
        text=hit.text,
        start_char_idx=hit.start,
        end_char_idx=hit.end,
        metadata=metadata,
        excluded_llm_metadata_keys=for_programs,
        excluded_embed_metadata_keys=for_programs,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=hit.content_version_id)},
    )
    return NodeWithScore(node=node, score=hit.score)
