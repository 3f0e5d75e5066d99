"""Calls of the service's tools: written down before and after, allowed by a person where they must be, never
made twice.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kb.agent.asked import Run
from kb.agent.toolbox import Outcome, ServerTool, model_name, strict_json
from kb.catalog import Catalog
from kb.catalog.approvals import Approval
from kb.catalog.database import new_id, now
from kb.catalog.steps import Status

log = logging.getLogger(__name__)

_NOT_KNOWN = (
    "This call was begun before, and its run ended before it was known what came of it; it is not made again."
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


class ToolCalls:
    """Those of one run."""

    def __init__(self, run: Run, catalog: Catalog) -> None:
        self._run = run
        self._catalog = catalog

    async def make_once(self, call: ToolCall) -> Outcome:
        """Make a call that was never made before, and write down what came of it."""
        tool, steps, run_id = call.tool, self._catalog.steps, self._run.id
        if call.refused or tool is None:
            return Outcome(call.refused or "", is_error=True)
        arguments = parsed(call.arguments)
        if isinstance(arguments, str):
            return Outcome(arguments, is_error=True)
        step = call.approval or call.item_id
        about = (run_id, step, tool.label, tool.name, call.arguments)
        if before := await asyncio.to_thread(steps.begin, *about, synced=not tool.only_reads):
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

    async def ask(self, calls: Sequence[ToolCall]) -> list[Approval]:
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
        return waiting

    def decided(self, decision: Approval) -> ToolCall:
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


def parsed(arguments: str) -> dict[str, Any] | str:
    """A call's arguments, or what the model is to be told of them."""
    try:
        parsed = strict_json(arguments or "{}")
    except ValueError as error:
        return f"The arguments are no JSON ({error}). Call again with a JSON object."
    if not isinstance(parsed, dict):
        return "The arguments are no JSON object. Call again with one."
    return parsed
