"""A server that hangs, floods, dies in the middle or answers garbage: the run is told, and nothing more."""

import asyncio
import json
import os
import select
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kb.errors import AddressRefused, RemoteFailed, RemoteTimeout
from kb.remote.server import Address, RemoteServer, RemoteTool
from kb.remote.session import Session, connected

ECHO = RemoteTool("echo", "", {"type": "object"}, False, "")


def with_session(server: RemoteServer, main: Callable[[Session], Awaitable[Any]], **more: Any) -> Any:
    """What comes of a function of a session; the session leaves no task behind."""

    async def inside() -> Any:
        try:
            async with connected(server, **more) as session:
                return await main(session)
        finally:
            # Generators of httpx2 that nobody reads to their end are closed by the loop in its next turns.
            for _ in range(10):
                await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    return asyncio.run(inside())


def ended(pid: int, seconds: float) -> bool:
    """Whether a process has ended, or does within so long."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


def listed(server: RemoteServer, **more: Any) -> Any:
    """Its tools."""
    return with_session(server, lambda session: session.list_tools(), **more)


def called(server: RemoteServer) -> Any:
    """What `echo` gives."""
    return with_session(server, lambda session: session.call(ECHO, {}, max_tokens=500))


def test_a_server_that_behaves(bare: Any, over_http: Any) -> None:
    """So that the faults below are theirs."""
    assert [tool.name for tool in listed(over_http(bare.url)).tools] == ["echo"]
    assert called(over_http(bare.url)).text.split("\n")[2] == "said"
    assert bare.asked[:3] == ["server/discover", "initialize", "notifications/initialized"]


def hangs(handler: Any, request: Any) -> None:
    """Says nothing until the test is over."""
    handler.server.left.wait(20)


@pytest.mark.parametrize(
    ("method", "what"),
    [("initialize", "to connect"), ("tools/list", "to list its tools"), ("tools/call", "to call echo")],
)
def test_a_server_that_hangs_is_left_in_time(method: str, what: str, bare: Any, over_http: Any) -> None:
    """In whichever step."""
    bare.says[method] = hangs
    server = over_http(bare.url, connect_seconds=0.5, list_seconds=0.5, call_seconds=0.5)
    begun = time.monotonic()
    with pytest.raises(
        RemoteTimeout, match=f"(took longer than 0.5 s|did not answer in time when it was asked) {what}"
    ):
        (called if method == "tools/call" else listed)(server)
    assert time.monotonic() - begun < 5


def floods(handler: Any, request: Any) -> None:
    """A result without end, of which it never tells the length."""
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.end_headers()
    handler.close_connection = True
    for _ in range(400):
        handler.wfile.write(b" " * 100_000)


def streams(handler: Any, request: Any) -> None:
    """An event without end."""
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.end_headers()
    handler.close_connection = True
    handler.wfile.write(b"data: ")
    for _ in range(400):
        handler.wfile.write(b" " * 100_000)


def breaks_off(handler: Any, request: Any) -> None:
    """Half of a response."""
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"jsonrpc"')
    handler.close_connection = True


def refuses(handler: Any, request: Any) -> None:
    """Another key is needed."""
    handler.reply(b"who are you?", status=401, kind="text/plain")


def leads_away(handler: Any, request: Any) -> None:
    """To another origin."""
    handler.reply(b"", status=307, location="http://169.254.169.254/latest/meta-data")


def complains(handler: Any, request: Any) -> None:
    """In the protocol's own way, with words that hide something."""
    error = {"code": -32000, "message": "out\u202e of order\nfor now"}
    handler.reply(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode())


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (floods, r"answers with more than 8,000,000 bytes"),
        (streams, r"failed when it was asked to call echo: SSE stream"),
        (breaks_off, r"cannot be reached to call echo: peer closed connection"),
        (refuses, r"failed when it was asked to call echo: Server returned an error response \(HTTP 401\)"),
        (leads_away, r"Redirect to http://169\.254\.169\.254/latest/meta-data not followed"),
        (complains, r"to call echo: out\\u\{202E\} of order for now"),
        (b"garbage", r"failed when it was asked to call echo: Failed to parse JSON response"),
        (b"[" * 100_000, r"failed when it was asked to call echo: Failed to parse JSON response"),
        ({"content": "no list"}, r"answers with what is not of the protocol .* ValidationError"),
    ],
)
def test_a_call_that_goes_wrong_is_told(says: Any, told: str, bare: Any, over_http: Any) -> None:
    """By what went wrong, and where; never as an answer."""
    bare.says["tools/call"] = says
    with pytest.raises(RemoteFailed, match=told) as raised:
        called(over_http(bare.url))
    assert f"the server peer ({bare.url})" in str(raised.value)


def test_a_server_is_not_asked_again_and_again(bare: Any, over_http: Any) -> None:
    """By a stream of its own, or by one that breaks off each time and asks to be gone on with at once."""
    event = b"id: 1\nretry: 0\ndata:\n\n"

    def breaks(handler: Any, request: Any) -> None:
        handler.reply(event, kind="text/event-stream")

    def begins(handler: Any, request: Any) -> None:
        result = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": bare.says["begun"]}).encode()
        handler.reply(result, **{"mcp-session-id": "1"})

    bare.says |= {"begun": bare.says["initialize"], "initialize": begins, "GET": breaks, "tools/call": breaks}
    with pytest.raises(RemoteFailed, match="SSE stream ended and reconnection attempts were exhausted"):
        called(over_http(bare.url))
    assert bare.asked.count("GET") <= 20


def test_a_server_that_is_gone_is_told(bare: Any, over_http: Any) -> None:
    """Nobody listens there."""
    url = bare.url.replace(str(bare.server_address[1]), "1")
    with pytest.raises(RemoteFailed, match=r"cannot be reached to connect: .*(refused|failed)"):
        listed(over_http(url))


def test_a_list_of_tools_has_an_end(bare: Any, over_http: Any, tool: Any) -> None:
    """In bytes and in pages."""
    bare.says["tools/list"] = {"tools": [tool(f"t{n}", "x" * 9_000) for n in range(120)]}
    with pytest.raises(RemoteFailed, match=r"its list of tools has more than 1,000,000 bytes"):
        listed(over_http(bare.url))
    bare.says["tools/list"] = {"tools": [], "nextCursor": "more"}
    with pytest.raises(RemoteFailed, match=r"its list of tools has more than 100 pages"):
        listed(over_http(bare.url))


def test_what_broke_one_call_breaks_no_other_server(bare: Any, over_http: Any) -> None:
    """The run goes on, with its other sessions."""
    bare.says["tools/call"] = floods
    good = over_http(bare.url)

    async def main(session: Session) -> Any:
        async with connected(good) as other:
            with pytest.raises(RemoteFailed):
                await session.call(ECHO, {}, max_tokens=500)
            with pytest.raises(RemoteFailed):
                await session.call(ECHO, {}, max_tokens=500)
            bare.says["tools/call"] = {"content": [{"type": "text", "text": "fine"}]}
            return await other.call(ECHO, {}, max_tokens=500)

    assert "fine" in with_session(good, main).text


def test_the_address_of_a_user_reaches_nothing_inside(bare: Any) -> None:
    """Directly or by a name; the server is hit 0 times."""

    async def inside(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    port = bare.server_address[1]
    for url in (
        bare.url,
        f"http://localhost:{port}/mcp",
        f"http://2130706433:{port}/mcp",
        f"http://[::1]:{port}/",
    ):
        with pytest.raises(AddressRefused) as raised:
            listed(RemoteServer("theirs", Address(url)))
        assert raised.value.param == "server_url"
    with pytest.raises(AddressRefused, match=r"example\.test is not an address of the public network"):
        listed(RemoteServer("theirs", Address(f"http://example.test:{port}/mcp")), resolve=inside)
    assert bare.asked == []


def test_credentials_are_sent_and_never_told(bare: Any, over_http: Any) -> None:
    """Neither by the error nor by the description of the server."""
    server = RemoteServer(
        "peer", Address(bare.url, {"authorization": "Bearer s3cret"}, over_http(bare.url).at.allow)
    )
    bare.says["tools/list"] = refuses
    with pytest.raises(RemoteFailed) as raised:
        listed(server)
    assert bare.headers[0]["authorization"] == "Bearer s3cret"
    assert "s3cret" not in f"{raised.value!r} {raised.value.__cause__!r} {server!r}"


SCRIPT = """
import json, os, signal, subprocess, sys, time
fault = sys.argv[1]
def say(request, **more):
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **more}), flush=True)
if fault == "greets":
    print("Welcome! This is no message.", flush=True)
if fault == "stays":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open(sys.argv[2], "w").write(f"{os.getpid()} {child.pid}")
for line in sys.stdin:
    request = json.loads(line)
    if request["method"] == "initialize":
        say(request, result={"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                             "serverInfo": {"name": "bare", "version": "1"}})
    elif request["method"] == "tools/list":
        if fault == "dies":
            sys.exit(1)
        if fault == "floods":
            while True:
                sys.stdout.write("x" * 100_000)
        if fault == "chatters":
            while True:
                print("no message", flush=True)
        if fault == "environment":
            say(request, result={"tools": [{"name": name, "inputSchema": {"type": "object"}}
                                           for name in os.environ if name.startswith("KB_")]})
            continue
        say(request, result={"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]})
    elif "id" in request:
        say(request, error={"code": -32601, "message": "Method not found"})
if fault == "stays":
    time.sleep(60)
"""


def script(over_stdio: Any, fault: str, *more: str, **limits: Any) -> RemoteServer:
    """A process that has a fault."""
    return over_stdio(sys.executable, "-c", SCRIPT, fault, *more, **limits)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("dies", r"failed when it was asked to list its tools: it ended by itself"),
        ("floods", r"it sends a message of more than 8,000,000 bytes"),
        ("chatters", r"it says what is not of the protocol"),
    ],
)
def test_a_started_server_that_goes_wrong_is_told(fault: str, told: str, over_stdio: Any) -> None:
    """And ended."""
    with pytest.raises(RemoteFailed, match=told):
        listed(script(over_stdio, fault))


def test_a_greeting_is_passed_over(over_stdio: Any) -> None:
    """Some servers print one where only messages belong."""
    assert [tool.name for tool in listed(script(over_stdio, "greets")).tools] == ["echo"]


def test_a_started_server_sees_no_secret_of_ours(over_stdio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets what its operator gave it."""
    monkeypatch.setenv("KB_SECRET", "s3cret")
    server = script(over_stdio, "environment")
    assert listed(server).tools == ()
    given = RemoteServer(
        "peer", type(server.at)(server.at.command, server.at.args, {**server.at.env, "KB_MINE": "1"})
    )
    assert [tool.name for tool in listed(given).tools] == ["KB_MINE"]


def test_a_started_server_that_will_not_end_is_ended_with_all_it_started(
    over_stdio: Any, tmp_path: Path
) -> None:
    """Its group gets four seconds."""
    begun = time.monotonic()
    assert [tool.name for tool in listed(script(over_stdio, "stays", str(tmp_path / "pids"))).tools] == [
        "echo"
    ]
    assert time.monotonic() - begun < 9
    for pid in (tmp_path / "pids").read_text().split():
        # To kill one is to ask the system for it, which may take a moment.
        assert ended(int(pid), seconds=5)
