"""The run: rounds of a model and of the tools that it calls, until it has answered.

Every round is a call of the gateway, metered by itself. Every tool call is written down before it is made and
after, and is never made twice. What needs a person's yes ends the response; another one goes on from there.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from decimal import Decimal
from importlib import import_module

from kb.agent import history
from kb.agent.asked import Run
from kb.agent.conversation import Conversation
from kb.agent.output import Event
from kb.agent.remote_tools import ConnectedTool
from kb.agent.tool_calls import ToolCall, ToolCalls
from kb.agent.toolbox import LEAST_ROUND, OWN, Outcome
from kb.agent.web_tool import ITEM, WebTool
from kb.agent.writer import Writer
from kb.catalog import Catalog
from kb.catalog.database import new_id
from kb.errors import KbError
from kb.gateway.core import Gateway
from kb.gateway.events import ArgumentsDelta, CallAdded, Ended, ModelCall, Part
from kb.metering.rates import Usage
from kb.remote.server import RemoteServer
from kb.tokens import count_tokens

MOST_ROUNDS = 24
"""Of one run; the last of them has to answer."""

_AT_ONCE = 4
_ANSWER_NOW = (
    "No more tools can be called in this run. Answer now from what you have; say what you could not find out."
)
_NO_MORE = "This call was not made: no more tools can be called in this run."


class Loop:
    """One run. Iterate over `events` once."""

    def __init__(self, run: Run, writer: Writer, gateway: Gateway, catalog: Catalog) -> None:
        self._run = run
        self._writer = writer
        self._gateway = gateway
        self._calls = ToolCalls(run, catalog)
        self._said = Conversation(run.call.items, run.call.input_tokens, run.window)
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
                decided = [self._calls.decided(one) for one in self._run.decided]
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
                for approval in await self._calls.ask(waiting):
                    for event in self._writer.calls.approval_asked(approval):
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
        if not self._said.has_room(tokens + LEAST_ROUND):
            why = (
                f"its tools take {tokens:,} tokens, for which the window has no room; "
                "name those that are needed in allowed_tools"
            )
            return list(self._writer.calls.not_listed(server.label, why))
        self._said.tokens += tokens
        return list(self._writer.calls.listed(server.label, self._run.toolbox.add(tools)))

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
        await self._said.add(self._writer.said())

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
        items = self._said.fitted()
        tokens = self._said.tokens
        if self._made or final:
            # What was required has been called; to require it again would have no end.
            parameters.pop("tool_choice", None)
        if final and box:
            functions = list(call.tools)
            items.append({"type": "message", "role": "developer", "content": _ANSWER_NOW})
            tokens += history.tokens_of(items[-1:])
        return replace(call, items=items, tools=functions, parameters=parameters, input_tokens=tokens)

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
        limit, show_pages = asyncio.Semaphore(_AT_ONCE), self._run.asked.show_pages

        async def made(call: ToolCall) -> Outcome:
            async with limit:
                return await self._calls.make_once(call)

        for call in calls:
            for event in self._writer.calls.began(call):
                yield event
        running = [asyncio.ensure_future(made(call)) for call in calls]
        try:
            for call, task in zip(calls, running, strict=True):
                outcome = await task
                self._made += 1
                about = {"call_id": call.call_id, "name": call.function, "arguments": call.arguments}
                output = {"call_id": call.call_id, "output": outcome.text}
                await self._said.add(
                    [{"type": "function_call", **about}, {"type": "function_call_output", **output}]
                )
                for event in self._writer.calls.answered(call, outcome, pages=show_pages):
                    yield event
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)
