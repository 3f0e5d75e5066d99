"""The LlamaIndex retriever serves LlamaIndex's query engine, and what it gives can be cited."""

import asyncio
import sys
from typing import Any

import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

import kb
from kb.errors import InvalidInput
from kb.integrations.llama_index import KnowledgeBaseRetriever

QUESTION = "How is the pump started?"


def test_it_is_a_retriever() -> None:
    """What LlamaIndex's own packages of retrievers are tested for."""
    assert BaseRetriever.__name__ in [base.__name__ for base in KnowledgeBaseRetriever.__mro__]


def test_a_node_is_the_passage_with_all_that_a_citation_needs(handbook: kb.Service) -> None:
    """Text, id, span, source and metadata are those of the hit, and open the same text again."""
    hit = handbook.search(QUESTION, ["handbook"], top_k=1).hits[0]
    (found,) = KnowledgeBaseRetriever(handbook, ["handbook"], top_k=1).retrieve(QUESTION)
    assert isinstance(found, NodeWithScore)
    node = found.node
    assert isinstance(node, TextNode)
    assert node.get_content() == hit.text
    assert found.score == hit.score
    assert node.node_id == f"{hit.content_version_id}:{hit.start}-{hit.end}"
    assert (node.ref_doc_id, node.start_char_idx, node.end_char_idx) == (
        hit.content_version_id,
        hit.start,
        hit.end,
    )
    assert node.metadata == {
        "title": "Starting",
        "heading": "Starting",
        "page": None,
        "uri": "startup.md",
        "attributes": {"team": "operations"},
        "knowledge_base_id": handbook.knowledge_base("handbook").id,
        "content_id": hit.content_id,
        "content_version_id": hit.content_version_id,
        "start": hit.start,
        "end": hit.end,
        "score": hit.score,
        "scores": dict(hit.scores),
    }
    assert handbook.text(node.ref_doc_id, node.start_char_idx, node.end_char_idx) == node.text


def test_a_model_reads_where_it_stands_and_no_ids(handbook: kb.Service) -> None:
    """Above the passage: title, heading and file, and a page only where there is one."""
    (found,) = KnowledgeBaseRetriever(handbook, ["handbook"], top_k=1).retrieve(QUESTION)
    above = "title: Starting\nheading: Starting\nuri: startup.md"
    assert found.node.get_content(MetadataMode.LLM) == f"{above}\n\n{found.node.get_content()}"


def test_options_are_those_of_the_search(handbook: kb.Service) -> None:
    """And are checked as there."""
    options: dict[str, Any] = {
        "mode": "dense",
        "where": kb.parse_filter({"type": "eq", "key": "team", "value": "operations"}),
        "score_threshold": 0.3,
        "dense_weight": 0.7,
        "max_per_document": 1,
        "collapse_duplicates": True,
        "expand": "section",
    }
    hits = handbook.search(QUESTION, ["handbook"], **options).hits
    found = KnowledgeBaseRetriever(handbook, ["handbook"], **options).retrieve(QueryBundle(QUESTION))
    assert 0 < len(hits) < 4
    assert [(one.text, one.score) for one in found] == [(hit.text, hit.score) for hit in hits]
    elsewhere = kb.parse_filter({"type": "eq", "key": "team", "value": "sales"})
    assert KnowledgeBaseRetriever(handbook, ["handbook"], where=elsewhere).retrieve(QUESTION) == []
    with pytest.raises(InvalidInput, match="top_k must be 1 to 1000"):
        KnowledgeBaseRetriever(handbook, ["handbook"], top_k=0).retrieve(QUESTION)
    with pytest.raises(InvalidInput, match="no reranker is set"):
        KnowledgeBaseRetriever(handbook, ["handbook"], rerank=kb.Rerank()).retrieve(QUESTION)


@pytest.mark.anyio
async def test_a_search_does_not_hold_the_event_loop(handbook: kb.Service, searches_need: Any) -> None:
    """Whoever shares the loop goes on meanwhile."""
    searches_need(asyncio.get_running_loop())
    found = await KnowledgeBaseRetriever(handbook, ["handbook"], top_k=1).aretrieve(QUESTION)
    assert [one.metadata["uri"] for one in found] == ["startup.md"]


def test_a_query_engine_answers_from_it(handbook: kb.Service) -> None:
    """The passages stand in the prompt, which the model gives back, and are the answer's sources."""
    retriever = KnowledgeBaseRetriever(handbook, ["handbook"], top_k=2)
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
    answer = engine.query(QUESTION)
    hits = handbook.search(QUESTION, ["handbook"], top_k=2).hits
    assert [source.node.get_content() for source in answer.source_nodes] == [hit.text for hit in hits]
    assert all(hit.text in str(answer) for hit in hits)
    assert QUESTION in str(answer)


def test_without_the_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready to be typed."""
    monkeypatch.delitem(sys.modules, "kb.integrations.llama_index")
    for name in [name for name in sys.modules if name.partition(".")[0] == "llama_index"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'llama-index-core>=0.14'"):
        import kb.integrations.llama_index  # noqa: F401
