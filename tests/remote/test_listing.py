"""Which of the tools that a server lists are offered, and how long its list is kept."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from kb.remote.approval import ToolFilter
from kb.remote.listing import Refused, ToolList, ToolLists, apart, judged
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


def test_a_name_that_two_have_is_nobodys(tool: Make) -> None:
    """Neither of two servers, nor one of ours, can be taken the place of."""
    one, other = judged(SERVER, [tool("a"), tool("b")]), judged(SERVER, [tool("b"), tool("c"), tool("grep")])
    first, second = apart([one, other], ["grep"])
    assert [t.name for t in first.tools] == ["a"]
    assert [t.name for t in second.tools] == ["c"]
    assert [r.name for r in (*first.refused, *second.refused)] == ["b", "b", "grep"]
    assert set(reasons(second).values()) == {
        "another tool of this run has its name; leave one out by allowed_tools"
    }


class Asked:
    """Counts how often a list was asked for, and gives another one each time."""

    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> ToolList:
        """The next."""
        self.times += 1
        await asyncio.sleep(0)
        return ToolList((), (Refused(str(self.times), ""),))


def test_a_list_is_kept_for_some_minutes() -> None:
    """By server, credentials and what is allowed; forgotten when it is told to be."""
    now, ask = 0.0, Asked()
    lists = ToolLists(seconds=300, clock=lambda: now)

    def name(server: RemoteServer = SERVER) -> str:
        return asyncio.run(lists.of(server, ask)).refused[0].name

    assert [name(), name()] == ["1", "1"]
    now = 299.9
    assert name() == "1"
    now = 300
    assert name() == "2"
    keyed = dataclasses.replace(SERVER, at=Address("https://a.test/mcp", {"authorization": "Bearer t"}))
    assert [name(keyed), name(), name(keyed)] == ["3", "2", "3"]
    assert name(dataclasses.replace(SERVER, allowed=(ToolFilter(read_only=True),))) == "4"
    assert name(dataclasses.replace(SERVER, label="b")) == "2"
    lists.forget(SERVER)
    assert [name(), name(keyed)] == ["5", "3"]


def test_a_list_is_asked_for_once_however_many_want_it() -> None:
    """What one could not get the next one asks for; no more than so many are kept."""
    lists, ask = ToolLists(most=2), Asked()

    async def main() -> None:
        found = await asyncio.gather(*(lists.of(SERVER, ask) for _ in range(50)))
        assert {one.refused[0].name for one in found} == {"1"}

        async def fails() -> ToolList:
            raise OSError("gone")

        other = dataclasses.replace(SERVER, at=Address("https://b.test"))
        with pytest.raises(OSError, match="gone"):
            await lists.of(other, fails)
        assert (await lists.of(other, ask)).refused[0].name == "2"
        third = dataclasses.replace(SERVER, at=Address("https://c.test"))
        assert (await lists.of(third, ask)).refused[0].name == "3"
        assert (await lists.of(SERVER, ask)).refused[0].name == "4"

    asyncio.run(main())
    assert lists._asking == {}
