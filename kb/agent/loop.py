"""The run: rounds of a model and of the tools that it calls, until it has answered.

Every round is a call of the gateway, metered by itself. Every tool call is written down before it is made and
after, and is never made twice. What needs a person's yes ends the response; another one goes on from there.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from kb.agent import history
from kb.agent.asked import Decision, Run
from kb.agent.toolbox import Outcome, ServerTool, model_name
from kb.agent.writer import Event, Writer
from kb.catalog import Catalog
from kb.catalog.approvals import Approval
from kb.catalog.database import new_id, now
from kb.errors import KbError
from kb.gateway.core import Gateway
from kb.gateway.events import ArgumentsDelta, CallAdded, Ended, Item, ModelCall, Part
from kb.metering.rates import Usage

log = logging.getLogger(__name__)

MOST_ROUNDS = 24
"""Of one run; the last of them has to answer."""

_AT_ONCE = 4
_ANSWER_NOW = (
    "No more tools can be called in this run. Answer now from what you have; say what you could not find out."
)
_LEFT_OUT = "(This result was left out for want of room. Call the tool again, and ask for less, if you need it.)"


@dataclass(slots=True)
class ToolCall:
    """A call of one of the service's tools, as the model makes it. item_id: of the item that shows it."""

    item_id: str
    call_id: str
    function: str
    arguments: str = ""
    approval: str | None = None


class Loop:
    """One run. Iterate over `events` once."""

    def __init__(self, run: Run, writer: Writer, gateway: Gateway, catalog: Catalog) -> None:
        self._run = run
        self._writer = writer
        self._gateway = gateway
        self._catalog = catalog
        self._items: list[Item] = list(run.call.items)
        self._made = 0
        self.usage = Usage(0, 0)
        self.credits = Decimal()
        self.last: Ended | None = None

    async def events(self) -> AsyncGenerator[Event, None]:
        """The events of every round; when they end, `last` tells how the last round did."""
        for decision in self._run.decisions:
            async with aclosing(self._decided(decision)) as events:
                async for event in events:
                    yield event
        for number in range(1, MOST_ROUNDS + 1):
            calls: list[ToolCall] = []
            async with aclosing(self._round(calls, final=number == MOST_ROUNDS or self._is_spent())) as events:
                async for event in events:
                    yield event
            assert self.last is not None
            if not calls or self.last.status != "completed":
                return
            waiting = [call for call in calls if self._tool(call).needs_approval]
            async with aclosing(self._executed([call for call in calls if call not in waiting])) as events:
                async for event in events:
                    yield event
            if waiting:
                for event in await self._asked(waiting):
                    yield event
                return
            if any(item["type"] == "function_call" for item in self._writer.output):
                # The client's own functions are its to call.
                return

    def _is_spent(self) -> bool:
        """Whether the run has used up what it may."""
        asked = self._run.asked
        tools = asked.max_tool_calls is not None and self._made >= asked.max_tool_calls
        return tools or (asked.max_credits is not None and self.credits >= asked.max_credits)

    async def _round(self, calls: list[ToolCall], *, final: bool) -> AsyncGenerator[Event, None]:
        """One call of the model; what it calls of the service's tools goes into `calls`."""
        by_index: dict[int, ToolCall] = {}
        async with self._gateway.call(self._call(final=final)) as answer:
            if not self._writer.has_begun:
                for event in self._writer.began():
                    yield event
                for event in self._writer.prologue():
                    yield event
            async for part in answer:
                if isinstance(part, Ended):
                    self._end(part)
                    for event in self._writer.close(whole=part.status == "completed"):
                        yield event
                elif not self._is_ours(part, by_index, calls):
                    for event in self._writer.write(part):
                        yield event

    def _is_ours(self, part: Part, by_index: dict[int, ToolCall], calls: list[ToolCall]) -> bool:
        """Take what belongs to a call of the service's tools."""
        if isinstance(part, CallAdded) and part.name in self._run.toolbox.tools:
            call = by_index[part.index] = ToolCall(new_id("mcp"), part.call_id, part.name)
            calls.append(call)
            return True
        if isinstance(part, ArgumentsDelta) and part.index in by_index:
            by_index[part.index].arguments += part.text
            return True
        return False

    def _call(self, *, final: bool) -> ModelCall:
        call, box = self._run.call, self._run.toolbox
        items = list(self._items)
        parameters = dict(call.parameters)
        functions = [*call.tools, *box.functions]
        if self._made:
            # What was required has been called; to require it again would have no end.
            parameters.pop("tool_choice", None)
        if final and box:
            functions = list(call.tools)
            parameters.pop("tool_choice", None)
            items.append({"type": "message", "role": "developer", "content": _ANSWER_NOW})
        items, tokens = self._fitting(items)
        return replace(call, items=items, tools=functions, parameters=parameters, input_tokens=tokens)

    def _fitting(self, items: list[Item]) -> tuple[list[Item], int]:
        """Items that the window has room for: of tools' results the oldest are left out where need be."""
        window = self._run.window
        room = window.size - window.output - window.instructions - window.tools - window.margin
        fixed = window.instructions + window.tools
        tokens = history.tokens_of(items)
        for at, item in enumerate(items):
            if tokens <= room:
                break
            if item.get("type") == "function_call_output" and item["output"] != _LEFT_OUT:
                items[at] = {**item, "output": _LEFT_OUT}
                tokens = history.tokens_of(items)
        return items, tokens + fixed

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

    def _tool(self, call: ToolCall) -> ServerTool:
        return self._run.toolbox.tools[call.function]

    async def _executed(self, calls: Sequence[ToolCall]) -> AsyncGenerator[Event, None]:
        """Run calls side by side, and tell of them in their order."""
        limit = asyncio.Semaphore(_AT_ONCE)
        first = self._writer.next_number

        async def run(call: ToolCall) -> Outcome:
            async with limit:
                return await self._made_once(call)

        for call in calls:
            tool = self._tool(call)
            for event in self._writer.tool_called(
                call.item_id, tool.label, tool.name, call.arguments, call.approval
            ):
                yield event
        running = [asyncio.ensure_future(run(call)) for call in calls]
        try:
            for call, task in zip(calls, running, strict=True):
                outcome = await task
                outcome = self._numbered(outcome, first)
                self._made += 1
                self._remember(call, outcome.text)
                for event in self._writer.tool_answered(call.item_id, outcome.text, is_error=outcome.is_error):
                    yield event
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)
