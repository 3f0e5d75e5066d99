"""The run: rounds of a model and of the tools that it calls, until it has answered.

Every round is a call of the gateway, metered by itself. Every tool call is written down before it is made and
after, and is never made twice. What needs a person's yes ends the response; another one goes on from there.
"""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from decimal import Decimal
from importlib import import_module
from typing import Any

from kb.agent import history
from kb.agent.asked import Run
from kb.agent.output import Event
from kb.agent.remote_tools import ConnectedTool
from kb.agent.toolbox import LEAST_ROUND, OWN, Outcome, ServerTool, model_name, strict_json
from kb.agent.web_tool import ITEM, WebTool
from kb.agent.writer import Writer
from kb.catalog import Catalog
from kb.catalog.approvals import Approval
from kb.catalog.database import new_id, now
from kb.catalog.steps import Status
from kb.errors import KbError
from kb.gateway.core import Gateway
from kb.gateway.events import ArgumentsDelta, CallAdded, Ended, Item, ModelCall, Part
from kb.metering.rates import Usage
from kb.remote.server import RemoteServer
from kb.tokens import count_tokens

log = logging.getLogger(__name__)

MOST_ROUNDS = 24
"""Of one run; the last of them has to answer."""

_AT_ONCE = 4
_ANSWER_NOW = (
    "No more tools can be called in this run. Answer now from what you have; say what you could not find out."
)
_NO_MORE = "This call was not made: no more tools can be called in this run."
_NOT_KNOWN = (
    "This call was begun before, and its run ended before it was known what came of it; it is not made again."
)
_LEFT_OUT = (
    "(This result was left out for want of room. Call the tool again, and ask for less, if you need it.)"
)


@dataclass(slots=True)
class ToolCall:
    """A call of one of the service's tools, as the model makes it. item_id: of the item that shows it.

    approval: the request that was said yes or no to. refused: why it is not made.
    """

    item_id: str
    call_id: str
    function: str
    tool: ServerTool | None
    arguments: str = ""
    approval: str | None = None
    refused: str | None = None


class Loop:
    """One run. Iterate over `events` once."""

    def __init__(self, run: Run, writer: Writer, gateway: Gateway, catalog: Catalog) -> None:
        self._run = run
        self._writer = writer
        self._gateway = gateway
        self._catalog = catalog
        self._items: list[Item] = list(run.call.items)
        self._tokens = run.call.input_tokens
        self._made = 0
        self._is_open = False
        self.usage = Usage(0, 0)
        self.credits = Decimal()
        self.last: Ended | None = None

    async def events(self) -> AsyncGenerator[Event, None]:
        """The events of every round; when they end, `last` tells how the last round did."""
        async with AsyncExitStack() as stack:
            if self._run.asked.servers or self._run.decided:
                async with aclosing(self._opening(stack)) as events:
                    async for event in events:
                        yield event
                decided = [self._decided(one) for one in self._run.decided]
                async with aclosing(self._executed(decided)) as events:
                    async for event in events:
                        yield event
            async with aclosing(self._rounds(stack)) as events:
                async for event in events:
                    yield event

    async def _rounds(self, stack: AsyncExitStack) -> AsyncGenerator[Event, None]:
        for number in range(1, MOST_ROUNDS + 1):
            calls: list[ToolCall] = []
            final = number == MOST_ROUNDS or self._is_spent()
            async with aclosing(self._round(calls, stack, final=final)) as events:
                async for event in events:
                    yield event
            assert self.last is not None
            if not calls or self.last.status != "completed":
                return
            for call in calls[0 if final else self._left() :]:
                call.refused = _NO_MORE
            waiting = [one for one in calls if one.tool and one.tool.needs_approval and not one.refused]
            async with aclosing(self._executed([call for call in calls if call not in waiting])) as events:
                async for event in events:
                    yield event
            if waiting:
                for event in await self._asked_for(waiting):
                    yield event
                return
            if final or any(item["type"] == "function_call" for item in self._writer.output):
                # A model that calls what it was not offered has had its say; the client's own functions are
                # the client's to call.
                return

    async def _opening(self, stack: AsyncExitStack) -> AsyncGenerator[Event, None]:
        """What every response begins with: the tools of its servers, and the search that was done for it."""
        self._is_open = True
        for event in self._writer.began():
            yield event
        if own := [tool for tool in self._run.toolbox.tools.values() if tool.label == OWN]:
            for event in self._writer.calls.listed(OWN, own):
                yield event
        for server in self._run.asked.servers:
            for event in await self._connected(server, stack):
                yield event
        if self._run.grounded:
            for event in self._writer.calls.searched(self._run.grounded, self._run.results):
                yield event

    async def _connected(self, server: RemoteServer, stack: AsyncExitStack) -> list[Event]:
        """Connect to a server for as long as the run lasts. One that fails is told of, and done without."""
        # The SDK behind it takes half a second to import, for which others would wait on the event loop.
        sessions = await asyncio.to_thread(import_module, "kb.remote.session")
        try:
            session = await stack.enter_async_context(sessions.connected(server))
            listed = await session.list_tools()
        except KbError as error:
            return list(self._writer.calls.not_listed(server.label, str(error)))
        tools = [ConnectedTool(server, tool, session, self._run.window.size) for tool in listed.tools]
        told = json.dumps([tool.function for tool in tools], ensure_ascii=False)
        tokens = await asyncio.to_thread(count_tokens, told)
        if self._tokens + tokens + LEAST_ROUND > self._room:
            why = (
                f"its tools take {tokens:,} tokens, for which the window has no room; "
                "name those that are needed in allowed_tools"
            )
            return list(self._writer.calls.not_listed(server.label, why))
        self._tokens += tokens
        return list(self._writer.calls.listed(server.label, self._run.toolbox.add(tools)))

    @property
    def _room(self) -> int:
        """Tokens that the input of a call may have."""
        window = self._run.window
        return window.size - window.output - window.margin

    def _left(self) -> int:
        """How many calls may still be made."""
        most = self._run.asked.max_tool_calls
        return sys.maxsize if most is None else max(0, most - self._made)

    def _is_spent(self) -> bool:
        """Whether the run has used up what it may."""
        asked = self._run.asked
        return self._left() == 0 or (asked.max_credits is not None and self.credits >= asked.max_credits)

    async def _round(
        self, calls: list[ToolCall], stack: AsyncExitStack, *, final: bool
    ) -> AsyncGenerator[Event, None]:
        """One call of the model; what it calls of the service's tools goes into `calls`."""
        by_index: dict[int, ToolCall] = {}
        async with self._gateway.call(self._call(final=final)) as answer:
            if not self._is_open:
                async with aclosing(self._opening(stack)) as events:
                    async for event in events:
                        yield event
            async for part in answer:
                if isinstance(part, Ended):
                    self._end(part)
                    for event in self._writer.close(whole=part.status == "completed"):
                        yield event
                elif not self._is_ours(part, by_index, calls):
                    for event in self._writer.write(part):
                        yield event
        await self._add(self._writer.said())

    def _is_ours(self, part: Part, by_index: dict[int, ToolCall], calls: list[ToolCall]) -> bool:
        """Take what belongs to a call of the service's tools."""
        box, clients = self._run.toolbox, {tool["name"] for tool in self._run.call.tools}
        if isinstance(part, CallAdded) and box and part.name not in clients:
            tool = box.tools.get(part.name)
            kind = ITEM if isinstance(tool, WebTool) else "mcp"
            call = ToolCall(new_id(kind), part.call_id, part.name, tool)
            if call.tool is None:
                call.refused = (
                    f"There is no tool {part.name!r}. There are: {', '.join([*box.tools, *clients])}."
                )
            by_index[part.index] = call
            calls.append(call)
            return True
        if isinstance(part, ArgumentsDelta) and part.index in by_index:
            by_index[part.index].arguments += part.text
            return True
        return False

    def _call(self, *, final: bool) -> ModelCall:
        call, box = self._run.call, self._run.toolbox
        functions, parameters = [*call.tools, *box.functions], dict(call.parameters)
        self._items = self._fitting(self._items)
        items, tokens = self._items, self._tokens
        if self._made or final:
            # What was required has been called; to require it again would have no end.
            parameters.pop("tool_choice", None)
        if final and box:
            functions = list(call.tools)
            items = [*items, {"type": "message", "role": "developer", "content": _ANSWER_NOW}]
            tokens += history.tokens_of(items[-1:])
        return replace(call, items=items, tools=functions, parameters=parameters, input_tokens=tokens)

    def _fitting(self, items: list[Item]) -> list[Item]:
        """Items that the window has room for: of tools' results the oldest are left out where need be."""
        for at, item in enumerate(items):
            if self._tokens <= self._room:
                break
            if item.get("type") == "function_call_output" and item["output"] != _LEFT_OUT:
                items[at] = {**item, "output": _LEFT_OUT}
                self._tokens -= history.tokens_of([item]) - history.tokens_of([items[at]])
        return items

    def _end(self, ended: Ended) -> None:
        one = ended.usage
        self.last = ended
        self.credits += ended.credits
        self.usage = Usage(
            self.usage.input + one.input,
            self.usage.output + one.output,
            cached=self.usage.cached + one.cached,
            reasoning=self.usage.reasoning + one.reasoning,
            estimated=self.usage.estimated or one.estimated,
        )

    async def _executed(self, calls: Sequence[ToolCall]) -> AsyncGenerator[Event, None]:
        """Make calls side by side, and tell of them in their order."""
        limit = asyncio.Semaphore(_AT_ONCE)

        async def made(call: ToolCall) -> Outcome:
            async with limit:
                return await self._made_once(call)

        for call in calls:
            for event in self._began(call):
                yield event
        running = [asyncio.ensure_future(made(call)) for call in calls]
        try:
            for call, task in zip(calls, running, strict=True):
                outcome = await task
                self._made += 1
                about = {"call_id": call.call_id, "name": call.function, "arguments": call.arguments}
                output = {"call_id": call.call_id, "output": outcome.text}
                await self._add(
                    [{"type": "function_call", **about}, {"type": "function_call_output", **output}]
                )
                for event in self._answered(call, outcome):
                    yield event
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)

    def _began(self, call: ToolCall) -> Iterator[Event]:
        if isinstance(call.tool, WebTool):
            return self._writer.calls.web_search_began(call.item_id, _query(call.arguments))
        label, name = (call.tool.label, call.tool.name) if call.tool else (OWN, call.function)
        return self._writer.calls.tool_called(call.item_id, label, name, call.arguments, call.approval)

    def _answered(self, call: ToolCall, outcome: Outcome) -> Iterator[Event]:
        if not isinstance(call.tool, WebTool):
            return self._writer.calls.tool_answered(call.item_id, outcome.text, is_error=outcome.is_error)
        pages = outcome.pages if self._run.asked.show_pages else None
        return self._writer.calls.web_search_ended(
            call.item_id, outcome.text if outcome.is_error else None, pages
        )

    async def _add(self, items: Sequence[Item]) -> None:
        """Items for the next round. A long result takes some time to be counted."""
        if not items:
            return
        self._items += items
        self._tokens += await asyncio.to_thread(history.tokens_of, items)

    async def _made_once(self, call: ToolCall) -> Outcome:
        """Make a call that was never made before, and write down what came of it."""
        tool, steps, run_id = call.tool, self._catalog.steps, self._run.id
        if call.refused or tool is None:
            return Outcome(call.refused or "", is_error=True)
        arguments = _parsed(call.arguments)
        if isinstance(arguments, str):
            return Outcome(arguments, is_error=True)
        step = call.approval or call.item_id
        about = (run_id, step, tool.label, tool.name, call.arguments)
        if before := await asyncio.to_thread(steps.begin, *about):
            # A run went on from the same yes, and failed behind this.
            return Outcome(before.output or _NOT_KNOWN, is_error=before.status != "done")
        try:
            outcome = await tool.call(arguments, self._run.numbers)
        except asyncio.CancelledError:
            await asyncio.to_thread(steps.finish, step, "cancelled", _NOT_KNOWN)
            raise
        except Exception:
            log.exception("%s of run %s failed", call.function, run_id)
            outcome = Outcome("The tool failed for a reason that the server's log has.", is_error=True)
        status: Status = "failed" if outcome.is_error else "done"
        await asyncio.to_thread(steps.finish, step, status, outcome.text)
        return outcome

    async def _asked_for(self, calls: Sequence[ToolCall]) -> list[Event]:
        """Ask for a person's yes to calls; kept before anybody is told of them."""
        waiting = [
            Approval(
                id=new_id("mcpr"),
                response_id=self._run.id,
                key_id=self._run.asked.caller.key_id,
                call_id=call.call_id,
                label=tool.label,
                name=tool.name,
                arguments=call.arguments,
                digest=tool.digest(call.arguments),
                status="pending",
                reason=None,
                created_at=now(),
                decided_at=None,
            )
            for call in calls
            if (tool := call.tool)
        ]
        await asyncio.to_thread(self._catalog.approvals.ask, waiting)
        return [event for one in waiting for event in self._writer.calls.approval_asked(one)]

    def _decided(self, decision: Approval) -> ToolCall:
        """A call that somebody said yes or no to, now to be made or not."""
        tool = self._run.toolbox.find(decision.label, decision.name)
        call = ToolCall(
            new_id("mcp"),
            decision.call_id,
            model_name(decision.label, decision.name),
            tool,
            decision.arguments,
            decision.id,
        )
        if decision.status == "denied":
            why = f": {decision.reason.rstrip('.')}" if decision.reason else ""
            call.refused = f"The user does not allow this call{why}. Do not make it again; go on without it."
        elif tool is None or tool.digest(decision.arguments) != decision.digest:
            call.refused = "The tool has changed since this call was allowed; it was not made. Ask again."
        return call


def _query(arguments: str) -> str:
    """Of a search, as far as its arguments are in order."""
    parsed = _parsed(arguments)
    query = parsed.get("query") if isinstance(parsed, dict) else None
    return query if isinstance(query, str) else ""


def _parsed(arguments: str) -> dict[str, Any] | str:
    """A call's arguments, or what the model is to be told of them."""
    try:
        parsed = strict_json(arguments or "{}")
    except ValueError as error:
        return f"The arguments are no JSON ({error}). Call again with a JSON object."
    if not isinstance(parsed, dict):
        return "The arguments are no JSON object. Call again with one."
    return parsed
