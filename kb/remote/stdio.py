"""A server that is started here, and speaks over its standard input and output, a message on each line.

The SDK's own way reads lines of any length; this one ends with a server that sends more than it may.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from kb.errors import RemoteFailed
from kb.remote.server import Command

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

MOST_LINE_BYTES = 8_000_000
"""Of one message."""

# Some servers greet on their standard output; one that says nothing else is no server.
_MOST_GARBAGE = 100
_GRACE_SECONDS = 2.0


@asynccontextmanager
async def started(command: Command) -> AsyncIterator["TransportStreams"]:
    """Its messages, and where to send those to it; the block's end ends it with all that it started.

    It gets PATH, HOME and the like, and what the operator set for it; no other secret of this process. What
    it writes to standard error goes to ours. Raises OSError; the block ends with RemoteFailed when it breaks.
    """
    process = await asyncio.create_subprocess_exec(
        command.command,
        *command.args,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=get_default_environment() | dict(command.env),
        limit=MOST_LINE_BYTES,
        start_new_session=True,
    )
    # No await between here and the block: a caller who leaves in between would leave it running.
    received, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, to_send = anyio.create_memory_object_stream[SessionMessage](0)
    asked = False
    try:
        async with received, incoming, outgoing, to_send, anyio.create_task_group() as pipes:
            pipes.start_soon(_read, process, received)
            pipes.start_soon(_write, process, to_send)
            yield incoming, outgoing
            asked = True
            pipes.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await _stop(process, politely=asked)


async def _read(process: asyncio.subprocess.Process, received: Any) -> None:
    assert process.stdout is not None
    garbage = 0
    async with received:
        try:
            async for line in process.stdout:
                try:
                    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError as error:
                    garbage += 1
                    if garbage > _MOST_GARBAGE:
                        raise RemoteFailed("it says what is not of the protocol") from error
                    continue
                await received.send(SessionMessage(message))
        except ValueError as error:
            raise RemoteFailed(f"it sends a message of more than {MOST_LINE_BYTES:,} bytes") from error
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return
    raise RemoteFailed("it ended by itself")


async def _write(process: asyncio.subprocess.Process, to_send: Any) -> None:
    assert process.stdin is not None
    # Where it is gone the reader sees the end of its output, which tells the session.
    with suppress(ConnectionError):
        async for sent in to_send:
            text = sent.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(text.encode() + b"\n")
            await process.stdin.drain()


async def _stop(process: asyncio.subprocess.Process, *, politely: bool) -> None:
    """As the protocol has it: close its input, wait, ask it to end, end it; with its whole group.

    politely: wait until it ends by itself; one that broke the protocol is not waited for.
    """
    assert process.stdin is not None
    process.stdin.close()
    if not politely or not await _ended(process):
        _signal(process, signal.SIGTERM)
        await _ended(process)
    # Also what it started and left behind.
    _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    await _ended(process)
    # The pipes, should someone out of its group still hold them.
    process._transport.close()  # type: ignore[attr-defined]


async def _ended(process: asyncio.subprocess.Process) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_SECONDS):
            await process.wait()
    return process.returncode is not None


def _signal(process: asyncio.subprocess.Process, which: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            # The leader of a session of its own is that of its group.
            os.killpg(process.pid, which)
        elif process.returncode is None:
            process.kill()
