"""What a server of others names is loaded by nobody, and what it says of its results costs nobody else."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from inside import UNGUARDED, Site

from kb.errors import KbError
from kb.remote.server import RemoteServer
from kb.remote.session import connected
from kb.web.guard import Guard


def told(server: RemoteServer, arguments: Any = None) -> str:
    """All that a run reads of a server: its tools, and what each of them gives."""

    async def main() -> str:
        async with connected(server) as session:
            listed = await session.list_tools()
            called = [
                (await session.call(tool, arguments or {}, max_tokens=5_000)).text for tool in listed.tools
            ]
            return f"{listed}\n{called}"

    try:
        return asyncio.run(main())
    except KbError as error:
        return str(error)


def refers(address: str) -> dict[str, Any]:
    """A schema in another place."""
    return {"$schema": address, "$id": address, "$ref": address, "type": "object"}


def describes(says: dict[str, Any], address: str, tool: Any) -> None:
    """Of its tools and of itself, in every field that holds an address."""
    icons = [{"src": address}]
    says["initialize"] = {
        **says["initialize"],
        "serverInfo": {"name": "x", "version": "1", "websiteUrl": address, "icons": icons},
        "instructions": address,
    }
    named = tool("echo", f"See {address}", icons=icons, outputSchema=refers(address))
    says["tools/list"] = {"tools": [{**named, "inputSchema": refers(address)}]}
    says["tools/call"] = {"content": [], "structuredContent": {"url": address}}


def gives(says: dict[str, Any], address: str, tool: Any) -> None:
    """A result that is elsewhere."""
    content = [
        {"type": "resource_link", "name": "more", "uri": address},
        {"type": "resource", "resource": {"uri": address, "text": f"![x]({address})"}},
        {"type": "text", "text": address},
    ]
    says["tools/call"] = {"content": content}


def wants_a_key(says: dict[str, Any], address: str, tool: Any) -> None:
    """From a place that it names, as RFC 9728 has it."""
    challenge = f'Bearer resource_metadata="{address}", authorization_uri="{address}"'

    def refuses(handler: Any, request: Any) -> None:
        more = {"www-authenticate": challenge, "link": f"<{address}>; rel=describedby"}
        handler.reply(b"", status=401, location=address, **more)

    says["tools/call"] = refuses


def is_elsewhere(says: dict[str, Any], address: str, tool: Any) -> None:
    """As servers of the first transport over HTTP announce where they are to be asked."""
    event = f"event: endpoint\ndata: {address}\n\n".encode()
    for method in ("tools/call", "GET"):
        says[method] = lambda handler, _: handler.reply(event, kind="text/event-stream")


@pytest.mark.parametrize("announces", [describes, gives, wants_a_key, is_elsewhere])
def test_what_a_server_names_is_not_loaded(
    announces: Callable[..., None], bare: Any, over_http: Any, tool: Any, canary: Site
) -> None:
    """Although it would be reached: this server is of the operator's own network."""
    address = f"http://127.0.0.1:{canary.port}/"
    announces(bare.says, address, tool)
    said = told(over_http(bare.url, call_seconds=5))
    assert "tools/call" in bare.asked
    assert (canary.hits, "a secret of the inside" in said) == (0, False)
    asyncio.run(Guard(UNGUARDED).fetch(address))
    assert canary.hits == 1


def test_a_result_is_not_held_against_what_the_server_says_of_it(
    bare: Any, over_http: Any, tool: Any
) -> None:
    """It is text for a model. To match an expression of the server's could take this process for ever."""
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": "^(a|a)*$"}}}
    bare.says["tools/list"] = {"tools": [tool("echo", outputSchema=schema)]}
    bare.says["tools/call"] = {"content": [], "structuredContent": {"x": "a" * 22 + "!"}}
    assert json.dumps("a" * 22 + "!") in told(over_http(bare.url))
