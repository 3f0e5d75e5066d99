"""The LangChain retriever passes LangChain's own tests, and what it gives can be cited."""

import asyncio
import sys
from typing import Any

import pytest

pytest.importorskip("langchain_tests", reason="langchain-tests is not installed")

from langchain_tests.integration_tests import RetrieversIntegrationTests

import kb
from kb.errors import InvalidInput
from kb.integrations.langchain import KnowledgeBaseRetriever

QUESTION = "How is the pump started?"


@pytest.mark.anyio
class TestStandard(RetrieversIntegrationTests):
    """LangChain's tests of retrievers, over the real model."""

    @pytest.fixture(autouse=True)
    def _over(self, handbook: kb.Service) -> None:
        self.service = handbook

    @property
    def retriever_constructor(self) -> type[KnowledgeBaseRetriever]:
        """The class under test."""
        return KnowledgeBaseRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        """Four documents are there; the tests ask for three."""
        return {"service": self.service, "knowledge_bases": ["handbook"]}

    @property
    def retriever_query_example(self) -> str:
        """Something that they answer."""
        return QUESTION

    @property
    def num_results_arg_name(self) -> str:
        """As `Service.search` calls it."""
        return "top_k"


def test_a_document_is_the_passage_with_all_that_a_citation_needs(handbook: kb.Service) -> None:
    """Text, id and metadata are those of the hit, and open the same text again."""
    hit = handbook.search(QUESTION, ["handbook"], top_k=1).hits[0]
    (found,) = KnowledgeBaseRetriever(service=handbook, knowledge_bases=["handbook"], top_k=1).invoke(
        QUESTION
    )
    assert found.page_content == hit.text
    assert found.id == f"{hit.content_version_id}:{hit.start}-{hit.end}"
    assert found.metadata == {
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
    cited = (found.metadata["content_version_id"], found.metadata["start"], found.metadata["end"])
    assert handbook.text(*cited) == found.page_content


def test_options_are_those_of_the_search(handbook: kb.Service) -> None:
    """Given when it is made, or with a call."""
    elsewhere = kb.parse_filter({"type": "eq", "key": "team", "value": "sales"})
    options: dict[str, Any] = {
        "mode": "dense",
        "where": kb.parse_filter({"type": "eq", "key": "team", "value": "operations"}),
        "score_threshold": 0.3,
        "dense_weight": 0.7,
        "max_per_document": 1,
        "collapse_duplicates": True,
        "expand": "section",
    }
    retriever = KnowledgeBaseRetriever(service=handbook, knowledge_bases=["handbook"], **options)
    hits = handbook.search(QUESTION, ["handbook"], **options).hits
    assert 0 < len(hits) < 4
    assert [(one.page_content, one.metadata["score"]) for one in retriever.invoke(QUESTION)] == [
        (hit.text, hit.score) for hit in hits
    ]
    assert retriever.invoke(QUESTION, where=elsewhere) == []
    with pytest.raises(InvalidInput, match="top_k must be 1 to 1000"):
        retriever.invoke(QUESTION, top_k=0)
    with pytest.raises(InvalidInput, match="no reranker is set"):
        retriever.invoke(QUESTION, rerank=kb.Rerank())


@pytest.mark.parametrize(
    "wrong", [{"k": 3}, {"where": {"type": "eq"}}, {"mode": "magic"}, {"service": "handbook"}]
)
def test_what_is_no_option_is_refused(handbook: kb.Service, wrong: dict[str, Any]) -> None:
    """When it is made, not at the first question."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        KnowledgeBaseRetriever(**{"service": handbook, "knowledge_bases": ["handbook"], **wrong})


@pytest.mark.anyio
async def test_a_search_does_not_hold_the_event_loop(handbook: kb.Service, searches_need: Any) -> None:
    """Whoever shares the loop goes on meanwhile."""
    retriever = KnowledgeBaseRetriever(service=handbook, knowledge_bases=["handbook"])
    searches_need(asyncio.get_running_loop())
    found = await retriever.ainvoke(QUESTION, top_k=1)
    assert [one.metadata["uri"] for one in found] == ["startup.md"]


def test_it_is_a_link_of_a_chain(handbook: kb.Service) -> None:
    """Piped into what follows, and asked several questions at once."""
    retriever = KnowledgeBaseRetriever(service=handbook, knowledge_bases=["handbook"], top_k=1)
    chain = retriever | (lambda found: found[0].metadata["uri"])
    assert chain.invoke(QUESTION) == "startup.md"
    assert chain.batch([QUESTION, "Which part is the scraper blade?"]) == ["startup.md", "parts.txt"]


def test_without_the_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready to be typed."""
    monkeypatch.delitem(sys.modules, "kb.integrations.langchain")
    for name in [name for name in sys.modules if name.partition(".")[0] == "langchain_core"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'langchain-core>=1.0'"):
        import kb.integrations.langchain  # noqa: F401
