"""Which of the tools that a server lists are offered, and how long its list is kept."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from kb.remote.approval import ToolFilter
from kb.remote.listing import ToolList, judged
from kb.remote.server import Address, RemoteServer

SERVER = RemoteServer("a", Address("https://a.test/mcp"))
Make = Callable[..., dict[str, Any]]


def reasons(found: ToolList) -> dict[str, str]:
    """By name."""
    return {one.name: one.reason for one in found.refused}


def test_a_tool_is_what_its_server_says_of_it(tool: Make) -> None:
    """read_only where it says so itself, and what hides in a description is shown."""
    found = judged(
        SERVER,
        [
            tool("read", "Reads.\u202e", annotations={"readOnlyHint": True}),
            tool("write", annotations={"readOnlyHint": False}),
            tool("other"),
            {"name": "silent", "inputSchema": {"type": "object"}},
        ],
    )
    assert [(one.name, one.description, one.read_only) for one in found.tools] == [
        ("read", "Reads.\\u{202E}", True),
        ("write", "Says it again.", False),
        ("other", "Says it again.", False),
        ("silent", "", False),
    ]
    assert found.refused == ()


def test_nothing_hides_in_a_schema(tool: Make) -> None:
    """Its descriptions are a server's words as well, and so are its names and values."""
    hides = {
        "type": "object",
        "properties": {"x\u200b": {"enum": ["a\u202e", 1], "description": "b\U000e0041"}},
    }
    shows = {"x\\u{200B}": {"enum": ["a\\u{202E}", 1], "description": "b\\u{E0041}"}}
    (found,) = judged(SERVER, [tool("echo", inputSchema=hides)]).tools
    assert found.input_schema == {"type": "object", "properties": shows}
    (shown,) = judged(SERVER, [tool("echo", inputSchema=dict(found.input_schema))]).tools
    assert shown.fingerprint != found.fingerprint


def test_one_tool_that_cannot_be_offered_leaves_the_others(tool: Make) -> None:
    """Each with its reason."""
    found = judged(
        SERVER,
        [
            tool("good"),
            tool("x" * 65),
            tool("a b"),
            tool("evil\u202e"),
            tool("twin"),
            tool("twin", "Says something else."),
            tool("long", "ä" * 5_001),
            tool("just", "ä" * 5_000),
            tool("list", inputSchema={"type": "array"}),
            tool("deep", inputSchema={"type": "object", "description": "x" * 64_000}),
        ],
    )
    assert [one.name for one in found.tools] == ["good", "just"]
    assert reasons(found) == {
        "x" * 65: "its name is not 1 to 64 of A-Z, a-z, 0-9, _, . and -",
        "a b": "its name is not 1 to 64 of A-Z, a-z, 0-9, _, . and -",
        "evil\\u{202E}": "its name is not 1 to 64 of A-Z, a-z, 0-9, _, . and -",
        "twin": "its server lists 2 tools of this name",
        "long": "its description has more than 10,000 bytes",
        "list": "its arguments are no object",
        "deep": "the schema of its arguments has more than 64,000 bytes",
    }


def test_what_is_not_allowed_is_left_out(tool: Make) -> None:
    """All filters hold, and 128 are counted of those that are allowed."""
    many = [tool(f"t{n}", annotations={"readOnlyHint": n % 2 == 0}) for n in range(300)]
    found = judged(SERVER, many)
    assert len(found.tools) == 128
    assert len(found.refused) == 172
    assert "name those that are needed in allowed_tools" in reasons(found)["t128"]
    names = ToolFilter(tool_names=("t7", "t8", "t298", "none"))
    both = dataclasses.replace(SERVER, allowed=(names, ToolFilter(read_only=True)))
    found = judged(both, many)
    assert ([one.name for one in found.tools], found.refused) == (["t8", "t298"], ())


@pytest.mark.parametrize(
    "changed",
    [
        {"description": "Says it again!"},
        {"description": "Says it again.\u200b"},
        {"inputSchema": {"type": "object", "properties": {"to": {"type": "string"}}}},
        {"annotations": {"readOnlyHint": True}},
        {"name": "echo2"},
    ],
)
def test_a_definition_that_changes_changes_its_fingerprint(changed: dict[str, Any], tool: Make) -> None:
    """And nothing else does: not what stands beside it, nor the order of keys."""
    before = judged(SERVER, [tool("echo")]).tools[0].fingerprint
    assert (
        judged(SERVER, [tool("first"), dict(reversed(tool("echo").items()))]).tools[1].fingerprint == before
    )
    assert judged(SERVER, [{**tool("echo"), **changed}]).tools[0].fingerprint != before
    elsewhere = dataclasses.replace(SERVER, at=Address("https://b.test/mcp"))
    assert judged(elsewhere, [tool("echo")]).tools[0].fingerprint != before
