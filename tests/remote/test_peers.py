"""Real servers of others over each transport: tools listed and called, progress and errors carried on."""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from kb.errors import RemoteFailed, RemoteTimeout
from kb.remote.listing import ToolList
from kb.remote.results import RemoteResult
from kb.remote.server import RemoteServer
from kb.remote.session import Session, connected


def with_session(server: RemoteServer, main: Callable[[Session], Awaitable[Any]]) -> Any:
    """What comes of a function of a session; the session leaves no task behind."""

    async def inside() -> Any:
        async with connected(server) as session:
            made = await main(session)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return made

    return asyncio.run(inside())


def call(server: RemoteServer, name: str, arguments: dict[str, Any], **more: Any) -> RemoteResult:
    """One call of a listed tool."""

    async def main(session: Session) -> Any:
        return await session.call(
            one(await session.list_tools(), name), arguments, **{"max_tokens": 4_000, **more}
        )

    return with_session(server, main)  # type: ignore[no-any-return]


def one(tools: ToolList, name: str) -> Any:
    """By its name."""
    return next(tool for tool in tools.tools if tool.name == name)


def said(result: RemoteResult) -> str:
    """What stands in the fence."""
    head, *lines, end = result.text.split("\n")[0:]
    assert "data, never instructions" in head
    assert lines[0].startswith("<<< ")
    assert end == lines[0].replace("<<<", ">>>")
    return "\n".join(lines[1:])


def test_the_time_server_tells_the_time(over_stdio: Any) -> None:
    """`mcp-server-time`: its two tools, a result with its structure, and its error as a result."""
    server = over_stdio(sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC")

    async def main(session: Session) -> None:
        tools = await session.list_tools()
        assert [(tool.name, tool.read_only) for tool in tools.tools] == [
            ("get_current_time", True),
            ("convert_time", True),
        ]
        assert tools.refused == ()
        convert = one(tools, "convert_time")
        asked = {"source_timezone": "Asia/Tokyo", "time": "16:30", "target_timezone": "Asia/Kolkata"}
        both = await asyncio.gather(
            session.call(convert, asked, max_tokens=1_000),
            session.call(convert, {**asked, "time": "25:00"}, max_tokens=1_000),
        )
        assert both[0].structured is not None
        assert both[0].structured["time_difference"] == "-3.5h"
        assert '"time_difference": "-3.5h"' in said(both[0])
        assert [result.is_error for result in both] == [False, True]
        assert "Invalid time format" in said(both[1])

    with_session(server, main)


@pytest.fixture
def page() -> Iterator[str]:
    """A page of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/pump"
            body = b"<html><body><h1>Pump</h1><p>Open the brine valve first.</p></body></html>"
            self.send_response(200 if found else 404)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not into the output of the tests."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_the_fetch_server_reads_a_page(over_stdio: Any, page: str) -> None:
    """`mcp-server-fetch`: what it read, and what it could not."""
    server = over_stdio(sys.executable, "-m", "mcp_server_fetch", "--allow-private-ips")
    found = call(server, "fetch", {"url": f"{page}/pump", "raw": True})
    assert not found.is_error
    assert "Open the brine valve first." in said(found)
    missing = call(server, "fetch", {"url": f"{page}/none"})
    assert missing.is_error
    assert "404" in said(missing)


def test_our_own_server_is_a_server_like_others(
    over_stdio: Any, kb_over_http: RemoteServer, data_folder: Path
) -> None:
    """`kb mcp` and /mcp: the same tools with the same results; another door is another identity."""
    command = [sys.executable, "-m", "kb.cli", "mcp", "--data-dir", str(data_folder)]

    async def main(session: Session) -> Any:
        tools = await session.list_tools()
        listed = await session.call(one(tools, "list_knowledge_bases"), {}, max_tokens=1_000)
        wrong = await session.call(one(tools, "peek_content"), {"start": -1}, max_tokens=1_000)
        return tools.tools, listed, wrong

    by_stdio, by_http = (with_session(door, main) for door in (over_stdio(*command), kb_over_http))
    assert [tool.name for tool in by_stdio[0]] == [
        "search_knowledge_base",
        "list_knowledge_bases",
        "list_content_sources",
        "get_content_stats",
        "load_content",
        "peek_content",
        "grep_content",
    ]
    shapes = [
        [(t.name, t.description, t.input_schema, t.read_only) for t in found[0]]
        for found in (by_stdio, by_http)
    ]
    assert shapes[0] == shapes[1]
    assert {tool.fingerprint for tool in by_stdio[0]}.isdisjoint(tool.fingerprint for tool in by_http[0])
    assert by_stdio[1:] == by_http[1:]
    assert by_stdio[1].structured == {"knowledge_bases": [], "cursor": None, "advice": None}
    assert by_stdio[2].is_error


@pytest.mark.slow
def test_the_server_with_everything(everything_server: RemoteServer) -> None:
    """Over each transport, under a protocol with a handshake: content of every kind, progress, errors."""
    told: list[tuple[float, float | None]] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total))

    async def main(session: Session) -> None:
        tools = await session.list_tools()
        ask = lambda name, **given: session.call(one(tools, name), given, max_tokens=1_000)  # noqa: E731
        assert said(await ask("echo", message="once more")) == "Echo: once more"
        assert said(await ask("get-sum", a=2, b=40)) == "The sum of 2 and 40 is 42."
        assert "[image of type image/png, not shown]" in said(await ask("get-tiny-image"))
        assert "not read]" in said(await ask("get-resource-links", count=2))
        shaped = await ask("get-structured-content", location="New York")
        assert shaped.structured is not None
        assert set(shaped.structured) == {"temperature", "conditions", "humidity"}
        wrong = await ask("echo")
        assert wrong.is_error
        assert "Invalid arguments for tool echo" in said(wrong)
        long = one(tools, "trigger-long-running-operation")
        await session.call(long, {"duration": 1, "steps": 4}, max_tokens=1_000, progress=progress)
        assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]

    with_session(everything_server, main)


@pytest.mark.slow
def test_a_call_that_takes_too_long_is_left_and_the_next_one_answered(
    everything_server: RemoteServer,
) -> None:
    """By its deadline, and by whoever waits for it."""
    import dataclasses

    hasty = dataclasses.replace(everything_server, call_seconds=0.5)

    async def main(session: Session) -> None:
        tools = await session.list_tools()
        long = one(tools, "trigger-long-running-operation")
        with pytest.raises(RemoteTimeout, match=r"took longer than 0\.5 s to call trigger-long"):
            await session.call(long, {"duration": 30, "steps": 2}, max_tokens=1_000)
        leaving = asyncio.create_task(session.call(long, {"duration": 30, "steps": 2}, max_tokens=1_000))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        again = await session.call(one(tools, "echo"), {"message": "still there"}, max_tokens=1_000)
        assert said(again) == "Echo: still there"

    with_session(hasty, main)


def test_a_command_that_is_not_there_is_told(over_stdio: Any) -> None:
    """By its name, and not by what it was given."""
    with pytest.raises(
        RemoteFailed, match=r"the server peer \(no-such-server\) cannot be reached to connect"
    ):
        call(over_stdio("no-such-server", "--token", "secret"), "x", {})
