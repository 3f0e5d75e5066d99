"""Search of the web within a run: called, numbered, cited."""

import asyncio
from typing import Any

import pytest

from kb.agent.asked import WebUse
from kb.agent.cite import Citation, Citer
from kb.agent.numbers import Numbers
from kb.agent.toolbox import Outcome
from kb.agent.web_tool import WebTool
from kb.agent.writer import Writer
from kb.errors import NotFound, RemoteFailed
from kb.gateway.events import TextDelta
from kb.types import Document, Domains
from kb.web.page import WebPage
from kb.web.research import Findings, WebPassage

TEXT = "The shop opens at nine. It closes at five."
PAGE = WebPage("web_1", "https://a.example/x", "Shop", "2024-05-06", Document(TEXT, "text/html"), 0)


class Found:
    """A `Research` that finds one page, or fails. asked: the questions with their domains."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[tuple[str, int, Domains]] = []

    async def find(self, query: str, budget: int, *, domains: Domains, location: object) -> Findings:
        """The whole page."""
        self.asked.append((query, budget, domains))
        if self.error:
            raise self.error
        return Findings(query, (WebPassage(PAGE, 0, len(TEXT), None),), ())


def call(research: Any, arguments: dict[str, Any], numbers: Numbers | None = None) -> Outcome:
    """What comes of a call."""
    tool = WebTool(research, WebUse(Domains(allowed=("a.example",)), size="low"), 8000)
    return asyncio.run(tool.call(arguments, numbers or Numbers()))


def cited(answer: str, numbers: Numbers, text_of: Any = lambda _: TEXT) -> list[dict[str, Any]]:
    """The annotations of an answer."""
    writer = Writer({"id": "resp_1", "output": []}, lambda: Citer(numbers.sources, text_of, lambda *_: None))
    for part in (writer.began(), writer.write(TextDelta(0, answer)), writer.close(whole=True)):
        list(part)
    found: list[dict[str, Any]] = writer.output[0]["content"][0]["annotations"]
    return found


def test_passages_go_on_with_the_numbers_of_the_run() -> None:
    """And the domains are those of the request, whatever the model writes."""
    research, numbers = Found(), Numbers()
    call(research, {"query": "When does it open?"}, numbers)
    outcome = call(research, {"query": "again"}, numbers)
    assert not outcome.is_error
    assert '[2] "Shop" ("https://a.example/x"), published 2024-05-06, read 1970-01-01' in outcome.text
    assert [source.number for source in numbers.sources] == [1, 2]
    assert research.asked[1] == ("again", 500, Domains(allowed=("a.example",)))


@pytest.mark.parametrize(
    "arguments",
    [{}, {"query": 3}, {"query": "  "}, {"query": "x" * 1001}, {"query": "x", "domains": ["evil.test"]}],
)
def test_other_arguments_are_answered_with_advice(arguments: dict[str, Any]) -> None:
    """And nothing is searched."""
    research = Found()
    outcome = call(research, arguments)
    assert outcome.is_error
    assert "one argument" in outcome.text
    assert research.asked == []


def test_an_engine_that_fails_is_told() -> None:
    """The model can go on without it."""
    assert call(Found(RemoteFailed("SearXNG answered 500")), {"query": "x"}) == Outcome(
        "SearXNG answered 500", is_error=True
    )


def test_a_page_is_cited_by_its_address_with_the_quote_in_it() -> None:
    """As the API has url_citation; start_index to end_index is the marker in the answer."""
    numbers = Numbers()
    call(Found(), {"query": "x"}, numbers)
    answer = 'At nine [1: "opens at nine"].'
    assert cited(answer, numbers) == [
        {
            "type": "url_citation",
            "url": "https://a.example/x",
            "start_index": 8,
            "end_index": 11,
            "number": 1,
            "title": "Shop",
            "content_id": "web_1",
            "content_version_id": "web_1",
            "start": 9,
            "end": 22,
            "page": None,
            "quote": "opens at nine",
        }
    ]


def test_words_that_do_not_stand_in_the_page_are_no_citation() -> None:
    """As of documents."""
    numbers = Numbers()
    call(Found(), {"query": "x"}, numbers)
    assert cited('At ten [1: "opens at ten"].', numbers) == []


def test_a_page_that_is_no_longer_kept_is_cited_no_more() -> None:
    """What was read cannot be compared then."""

    def gone(_: str) -> str:
        raise NotFound("gone")

    numbers = Numbers()
    call(Found(), {"query": "x"}, numbers)
    assert cited('At nine [1: "opens at nine"].', numbers, gone) == []


def test_an_annotation_becomes_a_citation_again() -> None:
    """For `kb.ask`, in both forms."""
    from kb.agent.ask import answer_of

    numbers = Numbers()
    call(Found(), {"query": "x"}, numbers)
    content = [{"type": "output_text", "text": "", "annotations": cited('It is [1: "at nine"].', numbers)}]
    details = {"cached_tokens": 0, "reasoning_tokens": 0}
    usage = {
        "input_tokens": 1,
        "output_tokens": 1,
        "input_tokens_details": details,
        "output_tokens_details": details,
        "estimated": False,
        "credits": "0",
    }
    response = {"output": [{"content": content}], "usage": usage, "incomplete_details": None}
    answer = answer_of({**response, "status": "completed", "service_tier": "default"})
    place = ("web_1", "web_1", "Shop", "https://a.example/x", 15, 22, "at nine", None)
    assert answer.citations == (Citation(1, *place, 6, 9),)
