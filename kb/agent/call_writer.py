"""What the service does for a model becomes items and events: its searches, its tools and their calls.

The order of events is that of https://platform.openai.com/docs/api-reference/responses-streaming.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kb.agent.asked import Grounded
from kb.agent.output import Event, Output
from kb.agent.tool_calls import ToolCall, parsed
from kb.agent.toolbox import OWN, Outcome, ServerTool
from kb.agent.web_tool import WebTool
from kb.catalog.approvals import Approval
from kb.catalog.database import new_id


class CallWriter:
    """Writes them into the output of one response."""

    def __init__(self, output: Output) -> None:
        self._output = output
        # Calls that have not been answered, by the id of their item.
        self._open: dict[str, int] = {}

    def searched(self, grounded: Grounded, results: Sequence[Mapping[str, Any]] | None) -> Iterator[Event]:
        """The search that was done before the model was called."""
        item: dict[str, Any] = {
            "id": new_id("fs"),
            "type": "file_search_call",
            "status": "in_progress",
            "queries": list(grounded.queries),
            "results": None,
        }
        at = self._output.add(item)
        yield self._output.event("response.output_item.added", output_index=at, item=dict(item))
        for kind in ("in_progress", "searching", "completed"):
            yield self._output.event(f"response.file_search_call.{kind}", output_index=at, item_id=item["id"])
        item |= {"status": "completed", "results": results}
        yield self._output.event("response.output_item.done", output_index=at, item=dict(item))

    def listed(self, label: str, tools: Sequence[ServerTool]) -> Iterator[Event]:
        """The tools of a server, as they are when the run starts."""
        item: dict[str, Any] = {"id": new_id("mcpl"), "type": "mcp_list_tools", "server_label": label}
        at = self._output.add(item | {"tools": []})
        yield self._output.event("response.output_item.added", output_index=at, item=item | {"tools": []})
        yield self._output.event("response.mcp_list_tools.in_progress", output_index=at, item_id=item["id"])
        self._output.items[at]["tools"] = [
            {
                "name": tool.name,
                "description": tool.function.get("description"),
                "input_schema": tool.function["parameters"],
                "annotations": None,
            }
            for tool in tools
        ]
        yield self._output.event("response.mcp_list_tools.completed", output_index=at, item_id=item["id"])
        yield self._output.event(
            "response.output_item.done", output_index=at, item=dict(self._output.items[at])
        )

    def not_listed(self, label: str, why: str) -> Iterator[Event]:
        """A server could not be asked for its tools."""
        item: dict[str, Any] = {"id": new_id("mcpl"), "type": "mcp_list_tools", "server_label": label}
        item |= {"tools": [], "error": why}
        at = self._output.add(item)
        yield self._output.event("response.output_item.added", output_index=at, item=item | {"error": None})
        for kind in ("in_progress", "failed"):
            yield self._output.event(f"response.mcp_list_tools.{kind}", output_index=at, item_id=item["id"])
        yield self._output.event("response.output_item.done", output_index=at, item=dict(item))

    def began(self, call: ToolCall) -> Iterator[Event]:
        """A call of a tool begins."""
        if isinstance(call.tool, WebTool):
            return self._web_search_began(call.item_id, _query(call.arguments))
        label, name = (call.tool.label, call.tool.name) if call.tool else (OWN, call.function)
        return self._tool_called(call.item_id, label, name, call.arguments, call.approval)

    def answered(self, call: ToolCall, outcome: Outcome, *, pages: bool) -> Iterator[Event]:
        """What came of it. pages: whether a search of the web tells where it found what."""
        if not isinstance(call.tool, WebTool):
            return self._tool_answered(call.item_id, outcome.text, is_error=outcome.is_error)
        error = outcome.text if outcome.is_error else None
        return self._web_search_ended(call.item_id, error, outcome.pages if pages else None)

    def _tool_called(
        self, item_id: str, label: str, name: str, arguments: str, approval: str | None
    ) -> Iterator[Event]:
        """A call of a server's tool begins."""
        item = {
            "id": item_id,
            "type": "mcp_call",
            "status": "in_progress",
            "server_label": label,
            "name": name,
            "arguments": "",
            "approval_request_id": approval,
            "output": None,
            "error": None,
        }
        at = self._open[item_id] = self._output.add(item)
        where = {"output_index": at, "item_id": item_id}
        yield self._output.event("response.output_item.added", output_index=at, item=dict(item))
        yield self._output.event("response.mcp_call.in_progress", **where)
        item["arguments"] = arguments
        yield self._output.event("response.mcp_call_arguments.delta", **where, delta=arguments)
        yield self._output.event("response.mcp_call_arguments.done", **where, arguments=arguments)

    def _tool_answered(self, item_id: str, text: str, *, is_error: bool) -> Iterator[Event]:
        """What came of it."""
        at = self._open.pop(item_id)
        item = self._output.items[at]
        status = "failed" if is_error else "completed"
        item["status"] = status
        if is_error:
            content = [{"type": "text", "text": text}]
            item["error"] = {"type": "mcp_tool_execution_error", "content": content}
        else:
            item["output"] = text
        yield self._output.event(f"response.mcp_call.{status}", output_index=at, item_id=item_id)
        yield self._output.event("response.output_item.done", output_index=at, item=dict(item))

    def _web_search_began(self, item_id: str, query: str) -> Iterator[Event]:
        """A search of the web begins."""
        action = {"type": "search", "query": query, "queries": [query]}
        item = {"id": item_id, "type": "web_search_call", "status": "in_progress", "action": action}
        at = self._open[item_id] = self._output.add(item)
        yield self._output.event("response.output_item.added", output_index=at, item=dict(item))
        yield from self._output.searched_web(at, "in_progress", "searching")

    def _web_search_ended(
        self, item_id: str, error: str | None, pages: Sequence[str] | None
    ) -> Iterator[Event]:
        """What came of it. error: why it gave nothing. pages: where it found what, None to tell nothing."""
        at = self._open.pop(item_id)
        item = self._output.items[at]
        if pages is not None:
            item["action"] = {**item["action"], "sources": [{"type": "url", "url": url} for url in pages]}
        if error is None:
            item["status"] = "completed"
            yield from self._output.searched_web(at, "completed")
        else:
            item |= {"status": "failed", "error": error}
        yield self._output.event("response.output_item.done", output_index=at, item=dict(item))

    def approval_asked(self, approval: Approval) -> Iterator[Event]:
        """A call that waits for a person's yes."""
        item = {
            "id": approval.id,
            "type": "mcp_approval_request",
            "server_label": approval.label,
            "name": approval.name,
            "arguments": approval.arguments,
        }
        at = self._output.add(item)
        for moment in ("added", "done"):
            yield self._output.event(f"response.output_item.{moment}", output_index=at, item=dict(item))

    def close(self) -> Iterator[Event]:
        """Calls that nobody knows the end of, which only a run that breaks off leaves behind."""
        for at in self._open.values():
            item = self._output.items[at]
            item["status"] = "incomplete"
            yield self._output.event("response.output_item.done", output_index=at, item=dict(item))
        self._open.clear()


def _query(arguments: str) -> str:
    """Of a search, as far as its arguments are in order."""
    given = parsed(arguments)
    query = given.get("query") if isinstance(given, dict) else None
    return query if isinstance(query, str) else ""
