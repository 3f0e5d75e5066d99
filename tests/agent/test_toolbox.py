"""The tools of a run: what they are called, what a yes is bound to, what of their results can be cited."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from kb.agent.numbers import Numbers
from kb.agent.remote_tools import ConnectedTool
from kb.agent.toolbox import Outcome, OwnTool, Toolbox, digest_of, model_name, own_tools, strict_json
from kb.errors import InvalidInput
from kb.remote.server import Address, RemoteServer, RemoteTool
from kb.tokens import count_tokens
from kb.tools import TOOLS

LINES = [f"Valve {number} is opened by hand before pump {number} is started." for number in range(60)]
METADATA: dict[str, str] = {}


@dataclass(frozen=True)
class Plain:
    """A tool of nobody."""

    label: str
    name: str
    needs_approval: bool = False

    @property
    def function(self) -> Mapping[str, Any]:
        """Under its name for a model."""
        return {"type": "function", "name": model_name(self.label, self.name), "parameters": {}}

    def digest(self, arguments: str) -> str:
        """Of nothing else."""
        return digest_of(self.label, self.function, arguments)

    async def call(self, arguments: Mapping[str, Any], numbers: Numbers) -> Outcome:
        """Nothing."""
        return Outcome("")


@pytest.fixture
def version(words: Any, fakes: ModuleType) -> str:
    """Of a document with many lines, in the knowledge base `shelf`."""
    shelf = fakes.Shelf(words.catalog)
    shelf.put(shelf.version("valves.md", "\n".join(LINES)))
    return str(words.search("valve", ["shelf"], top_k=1).hits[0].content_version_id)


def called(service: Any, name: str, numbers: Numbers, window: int = 1_000_000, **given: Any) -> Outcome:
    """What comes of a call of one of our own."""
    tools = {tool.name: tool for tool in own_tools(service, METADATA, "", window)}
    return asyncio.run(tools[name].call(given, numbers))


@pytest.mark.parametrize(
    ("label", "name", "told"),
    [
        ("kb", "search", "search"),
        ("clock", "get_time", "clock__get_time"),
        ("a-b", "c.d", "a-b__c_d"),
        ("x", "y" * 64, "x__" + "y" * 61),
        ("l" * 64, "name", "l" * 64),
    ],
)
def test_a_model_calls_a_tool_by_its_server_and_its_name(label: str, name: str, told: str) -> None:
    """As far as endpoints take names: 64 of letters, digits, underscores and hyphens."""
    assert model_name(label, name) == told


def test_the_first_of_a_name_has_it() -> None:
    """Of one server, of two, and of a function of the client; the others are not offered."""
    box = Toolbox([Plain("kb", "search")], [{"name": "b__taken"}])
    offered = box.add([Plain("a", "x.y"), Plain("a", "x_y"), Plain("b", "taken"), Plain("b", "free")])
    assert [(tool.label, tool.name) for tool in offered] == [("a", "x.y"), ("b", "free")]
    assert box.add([Plain("a__x", "y"), Plain("a", "x.y")]) == [Plain("a__x", "y")]
    assert list(box.tools) == ["search", "a__x_y", "b__free", "a__x__y"]
    assert box.find("a", "x.y") == Plain("a", "x.y")
    assert box.find("a", "x_y") is None
    assert [function["name"] for function in box.functions] == list(box.tools)
    with pytest.raises(InvalidInput, match="a tool of this server is called 'search' as well"):
        Toolbox([Plain("kb", "search")], [{"name": "search"}])


def test_a_digest_is_of_the_server_the_definition_and_the_arguments() -> None:
    """As the model wrote them: each change makes another."""
    function = {"name": "open", "parameters": {"a": 1, "b": 2}}
    first = digest_of("kb", function, "{}")
    assert first == digest_of("kb", {"parameters": {"b": 2, "a": 1}, "name": "open"}, "{}")
    others = [
        digest_of("other", function, "{}"),
        digest_of("kb", {**function, "description": "x"}, "{}"),
        digest_of("kb", function, "{ }"),
        digest_of("kb", function, ""),
    ]
    assert len({first, *others}) == 5
    assert len(first) == 64


def test_a_yes_to_a_tool_of_others_is_for_its_arguments_however_they_are_written() -> None:
    """What is no JSON object is bound to as it stands; another definition or server is another yes."""

    def digest(arguments: str, fingerprint: str = "f", url: str = "https://a.test") -> str:
        server = RemoteServer("a", Address(url))
        tool = RemoteTool("open", "", {"type": "object"}, False, fingerprint)
        return ConnectedTool(server, tool, None, 1).digest(arguments)  # type: ignore[arg-type]

    same = ['{"a": 1, "b": [2]}', ' {"b":[2],"a":1}']
    others = ['{"a": 2, "b": [2]}', "", "{", '{"": "{"}x', "[]", '{"a": NaN}']
    assert len({digest(one) for one in same}) == 1
    assert digest("") == digest("{}")
    assert len({digest(one) for one in [same[0], *others]}) == 7
    assert len({digest("{}"), digest("{}", "g"), digest("{}", url="https://b.test")}) == 3


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"a": Infinity}', "[1,]", "{'a': 1}", '{"a": 1} x'])
def test_json_is_read_as_its_standard_has_it(text: str) -> None:
    """Endpoints and models write other things."""
    with pytest.raises(ValueError, match=r"."):
        strict_json(text)
    assert strict_json(' {"a": [1e3, null]} ') == {"a": [1000.0, None]}


def test_what_a_tool_shows_can_be_cited_by_a_number(words: Any, version: str) -> None:
    """Each passage, span and match, numbered on and on; the text there is what was shown."""
    numbers, id_ = Numbers(), {"source_connection_content_version_id": version}
    found = called(
        words, "search_knowledge_base", numbers, query="valve 7", knowledge_base_id="shelf", top_k=2
    )
    assert "[1] " in found.text
    assert "[2] " in found.text
    peeked = called(words, "peek_content", numbers, **id_, start=0, end=len(LINES[0]))
    assert peeked.text.endswith(f"To cite: characters 0 to {len(LINES[0])} are [3].")
    matched = called(words, "grep_content", numbers, **id_, pattern="Valve 5[01]", regex=True)
    assert matched.text.endswith("are [5].")
    whole = words.contents.open(version).text
    cited = [whole[one.start : one.end] for one in numbers.sources]
    assert [one.number for one in numbers.sources] == [1, 2, 3, 4, 5]
    assert (cited[2], "Valve 50 " in cited[3], "Valve 51 " in cited[4]) == (LINES[0], True, True)
    assert "To cite" not in called(words, "list_knowledge_bases", numbers).text
    assert "To cite" not in called(words, "get_content_stats", numbers, **id_).text


@pytest.mark.parametrize("window", [2_000, 20_000, 1_000_000])
def test_a_result_takes_its_share_of_the_window(words: Any, version: str, window: int) -> None:
    """And no less than 256 tokens, so that a small window is told something too."""
    given = {"source_connection_content_version_id": version}
    most = max(256, window // TOOLS["load_content"].share)
    outcome = called(words, "load_content", Numbers(), window, **given)
    # What may be cited is told behind it.
    assert count_tokens(outcome.text.partition("\nTo cite")[0]) <= most
    assert not outcome.is_error


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("peek_content", {"start": "x"}, "start"),
        ("search_knowledge_base", {"query": "x", "knowledge_base_id": "none\u202e"}, "none\\u202e"),
        (
            "search_knowledge_base",
            {"query": "x", "knowledge_base_id": "shelf", "limit": 3},
            "no such argument",
        ),
    ],
)
def test_a_call_that_cannot_be_made_is_answered(
    words: Any, version: str, name: str, given: dict[str, Any], told: str
) -> None:
    """With what is wrong with it, and nothing that hides."""
    outcome = called(words, name, Numbers(), **given)
    assert outcome.is_error
    assert told in outcome.text


def test_our_own_tools_ask_nobody(words: Any) -> None:
    """They read and change nothing."""
    tools = own_tools(words, METADATA, "", 1_000)
    assert {tool.name for tool in tools} == set(TOOLS)
    assert {(tool.label, tool.needs_approval) for tool in tools} == {("kb", False)}
    assert all(isinstance(tool, OwnTool) for tool in tools)
    assert json.dumps([tool.function for tool in tools])
