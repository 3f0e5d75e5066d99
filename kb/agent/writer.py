"""The parts of a model's answer become items and events of the Responses API.

One response id, item ids that stay, and sequence numbers of our own, whoever answered. The order of events is
that of https://platform.openai.com/docs/api-reference/responses-streaming.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kb.agent.asked import Grounded
from kb.agent.cite import Citation, Citer
from kb.agent.toolbox import ServerTool
from kb.agent.web_tool import is_own_search
from kb.catalog.approvals import Approval
from kb.catalog.database import new_id
from kb.gateway.events import (
    ArgumentsDelta,
    CallAdded,
    ItemPassed,
    PageCited,
    Part,
    RefusalDelta,
    TextDelta,
)
from kb.web.page import is_web

Event = dict[str, Any]
"""One event as it is sent: `type`, `sequence_number` and what that type has."""

# For each kind of content: the field of its text, and the event that ends it.
_TEXT = ("output_text", "text", "response.output_text")
_REFUSAL = ("refusal", "refusal", "response.refusal")
# Of a search of the web, before it ends.
_MOMENTS = ("in_progress", "searching")

log = logging.getLogger(__name__)


class Writer:
    """Writes one response. citer: makes one for each text; None where nothing can be cited."""

    def __init__(self, response: Mapping[str, Any], citer: Callable[[], Citer] | None) -> None:
        self._response = dict(response)
        self._citer = citer
        self._sequence = 0
        self._output: list[dict[str, Any]] = []
        # Open items by the endpoint's counting, each with its place in the output.
        self._open: dict[int, int] = {}
        self._citers: dict[int, Citer] = {}
        # What endpoints cite by themselves, told of where their message ends.
        self._cited: dict[int, list[PageCited]] = {}
        # Calls of tools that have not been answered, by the id of their item; how far `said` has read.
        self._calls: dict[str, int] = {}
        self._read = 0
        self.verified = 0
        self.dropped = 0

    @property
    def has_begun(self) -> bool:
        """Whether any event was written."""
        return bool(self._sequence)

    @property
    def output(self) -> Sequence[Mapping[str, Any]]:
        """The items so far."""
        return self._output

    def response(self, **fields: Any) -> dict[str, Any]:
        """The response with what was written so far; fields: what else to set."""
        return {**self._response, "output": [dict(item) for item in self._output], **fields}

    def began(self) -> Iterator[Event]:
        """The first events of every response; none where they are written already."""
        if self._sequence:
            return
        for kind in ("created", "in_progress"):
            yield self._event(f"response.{kind}", response=self.response(status="in_progress"))

    def searched(self, grounded: Grounded, results: Sequence[Mapping[str, Any]] | None) -> Iterator[Event]:
        """The search that was done before the model was called."""
        item: dict[str, Any] = {
            "id": new_id("fs"),
            "type": "file_search_call",
            "status": "in_progress",
            "queries": list(grounded.queries),
            "results": None,
        }
        at = self._add(item)
        yield self._event("response.output_item.added", output_index=at, item=dict(item))
        for kind in ("in_progress", "searching", "completed"):
            yield self._event(f"response.file_search_call.{kind}", output_index=at, item_id=item["id"])
        item |= {"status": "completed", "results": results}
        yield self._event("response.output_item.done", output_index=at, item=dict(item))

    def write(self, part: Part) -> Iterator[Event]:
        """The events of one part."""
        match part:
            case TextDelta(index, text):
                yield from self._write_text(index, text)
            case RefusalDelta(index, text):
                yield from self._release(index)
                yield from self._delta(index, _REFUSAL, text)
            case CallAdded(index, call_id, name):
                yield from self._close_messages()
                item = {
                    "id": new_id("fc"),
                    "type": "function_call",
                    "status": "in_progress",
                    "call_id": call_id,
                    "name": name,
                    "arguments": "",
                }
                at = self._open[index] = self._add(item)
                yield self._event("response.output_item.added", output_index=at, item=dict(item))
            case ArgumentsDelta(index, text):
                at = self._open[index]
                self._output[at]["arguments"] += text
                yield self._event(
                    "response.function_call_arguments.delta",
                    output_index=at,
                    item_id=self._output[at]["id"],
                    delta=text,
                )
            case PageCited(index):
                self._cited.setdefault(index, []).append(part)
            case ItemPassed(_, passed):
                # Its id is the endpoint's, which knows it again by that.
                at = self._add(dict(passed))
                yield self._event("response.output_item.added", output_index=at, item=dict(passed))
                if passed["type"] == "web_search_call":
                    yield from self._searched_web(at, *_MOMENTS, "completed")
                yield self._event("response.output_item.done", output_index=at, item=dict(passed))

    def said(self) -> list[dict[str, Any]]:
        """What was written since this was last asked for, as the model is to read it again: its own words,
        reasoning and searches, but no calls of tools, whose results stand elsewhere."""
        new = [dict(item) for item in self._output[self._read :] if _is_of_model(item)]
        self._read = len(self._output)
        return new

    def listed(self, label: str, tools: Sequence[ServerTool]) -> Iterator[Event]:
        """The tools of a server, as they are when the run starts."""
        item: dict[str, Any] = {"id": new_id("mcpl"), "type": "mcp_list_tools", "server_label": label}
        at = self._add(item | {"tools": []})
        yield self._event("response.output_item.added", output_index=at, item=item | {"tools": []})
        yield self._event("response.mcp_list_tools.in_progress", output_index=at, item_id=item["id"])
        self._output[at]["tools"] = [
            {
                "name": tool.name,
                "description": tool.function.get("description"),
                "input_schema": tool.function["parameters"],
                "annotations": None,
            }
            for tool in tools
        ]
        yield self._event("response.mcp_list_tools.completed", output_index=at, item_id=item["id"])
        yield self._event("response.output_item.done", output_index=at, item=dict(self._output[at]))

    def not_listed(self, label: str, why: str) -> Iterator[Event]:
        """A server could not be asked for its tools."""
        item: dict[str, Any] = {"id": new_id("mcpl"), "type": "mcp_list_tools", "server_label": label}
        item |= {"tools": [], "error": why}
        at = self._add(item)
        yield self._event("response.output_item.added", output_index=at, item=item | {"error": None})
        for kind in ("in_progress", "failed"):
            yield self._event(f"response.mcp_list_tools.{kind}", output_index=at, item_id=item["id"])
        yield self._event("response.output_item.done", output_index=at, item=dict(item))

    def tool_called(
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
        at = self._calls[item_id] = self._add(item)
        where = {"output_index": at, "item_id": item_id}
        yield self._event("response.output_item.added", output_index=at, item=dict(item))
        yield self._event("response.mcp_call.in_progress", **where)
        item["arguments"] = arguments
        yield self._event("response.mcp_call_arguments.delta", **where, delta=arguments)
        yield self._event("response.mcp_call_arguments.done", **where, arguments=arguments)

    def tool_answered(self, item_id: str, text: str, *, is_error: bool) -> Iterator[Event]:
        """What came of it."""
        at = self._calls.pop(item_id)
        item = self._output[at]
        status = "failed" if is_error else "completed"
        item["status"] = status
        if is_error:
            content = [{"type": "text", "text": text}]
            item["error"] = {"type": "mcp_tool_execution_error", "content": content}
        else:
            item["output"] = text
        yield self._event(f"response.mcp_call.{status}", output_index=at, item_id=item_id)
        yield self._event("response.output_item.done", output_index=at, item=dict(item))

    def web_search_began(self, item_id: str, query: str) -> Iterator[Event]:
        """A search of the web begins."""
        action = {"type": "search", "query": query, "queries": [query]}
        item = {"id": item_id, "type": "web_search_call", "status": "in_progress", "action": action}
        at = self._calls[item_id] = self._add(item)
        yield self._event("response.output_item.added", output_index=at, item=dict(item))
        yield from self._searched_web(at, *_MOMENTS)

    def web_search_ended(
        self, item_id: str, error: str | None, pages: Sequence[str] | None
    ) -> Iterator[Event]:
        """What came of it. error: why it gave nothing. pages: where it found what, None to tell nothing."""
        at = self._calls.pop(item_id)
        item = self._output[at]
        if pages is not None:
            item["action"] = {**item["action"], "sources": [{"type": "url", "url": url} for url in pages]}
        if error is None:
            item["status"] = "completed"
            yield from self._searched_web(at, "completed")
        else:
            item |= {"status": "failed", "error": error}
        yield self._event("response.output_item.done", output_index=at, item=dict(item))

    def approval_asked(self, approval: Approval) -> Iterator[Event]:
        """A call that waits for a person's yes."""
        item = {
            "id": approval.id,
            "type": "mcp_approval_request",
            "server_label": approval.label,
            "name": approval.name,
            "arguments": approval.arguments,
        }
        at = self._add(item)
        for moment in ("added", "done"):
            yield self._event(f"response.output_item.{moment}", output_index=at, item=dict(item))

    def close(self, *, whole: bool) -> Iterator[Event]:
        """What is still open ends. whole: whether the model came to its end."""
        status = "completed" if whole else "incomplete"
        yield from self._close_messages(status)
        for index in list(self._open):
            at = self._open.pop(index)
            item = self._output[at]
            item["status"] = status
            if whole:
                yield self._event(
                    "response.function_call_arguments.done",
                    output_index=at,
                    item_id=item["id"],
                    name=item["name"],
                    arguments=item["arguments"],
                )
            yield self._event("response.output_item.done", output_index=at, item=dict(item))
        for at in self._calls.values():
            # Nobody knows what came of these, which only a run that breaks off leaves behind.
            self._output[at]["status"] = "incomplete"
            yield self._event("response.output_item.done", output_index=at, item=dict(self._output[at]))
        self._calls.clear()

    def ended(self, response: Mapping[str, Any]) -> Event:
        """The last event: completed, incomplete or failed, as the response's status says."""
        return self._event(f"response.{response['status']}", response=dict(response))

    def broke_off(self, **fields: Any) -> Iterator[Event]:
        """What is open ends as it is, and the response with it. fields: what to set of that."""
        # What a citer holds back may be what went wrong.
        self._citers.clear()
        yield from self.close(whole=False)
        # The API has no event for one that was cancelled.
        kind = "failed" if fields["status"] == "failed" else "incomplete"
        yield self._event(f"response.{kind}", response=self.response(**fields))

    def _write_text(self, index: int, text: str) -> Iterator[Event]:
        if self._citer is None:
            yield from self._delta(index, _TEXT, text)
            return
        if index not in self._citers:
            self._citers[index] = self._citer()
        yield from self._pieces(index, self._citers[index].feed(text))

    def _pieces(self, index: int, pieces: Sequence[str | Citation]) -> Iterator[Event]:
        for piece in pieces:
            if isinstance(piece, str):
                yield from self._delta(index, _TEXT, piece)
                continue
            yield from self._annotated(self._open[index], _annotation(piece))

    def _release(self, index: int) -> Iterator[Event]:
        """What a text's citer holds back."""
        if citer := self._citers.pop(index, None):
            yield from self._pieces(index, citer.end())
            self.verified += citer.verified
            self.dropped += citer.dropped
            yield from self._cite_pages(index, self._open[index], citer.moved)

    def _searched_web(self, at: int, *moments: str) -> Iterator[Event]:
        for moment in moments:
            yield self._event(
                f"response.web_search_call.{moment}", output_index=at, item_id=self._output[at]["id"]
            )

    def _cite_pages(self, index: int, at: int, moved: Callable[[int], int]) -> Iterator[Event]:
        """What the endpoint cites of its own search. moved: where what it wrote stands now."""
        for one in self._cited.pop(index, ()):
            start, end = moved(one.start), moved(one.end)
            content = self._output[at]["content"]
            if not content or not 0 <= start < end <= len(content[-1].get("text", "")):
                log.warning("an endpoint cites %s for characters %d to %d of none", one.url, start, end)
                continue
            place = {"url": one.url, "title": one.title, "start_index": start, "end_index": end}
            yield from self._annotated(at, {"type": "url_citation", **place})

    def _annotated(self, at: int, annotation: dict[str, Any]) -> Iterator[Event]:
        content = self._output[at]["content"]
        content[-1]["annotations"].append(annotation)
        yield self._event(
            "response.output_text.annotation.added",
            output_index=at,
            item_id=self._output[at]["id"],
            content_index=len(content) - 1,
            annotation_index=len(content[-1]["annotations"]) - 1,
            annotation=annotation,
        )

    def _delta(self, index: int, kind: tuple[str, str, str], text: str) -> Iterator[Event]:
        if not text:
            return
        name, field, event = kind
        if index not in self._open:
            item: dict[str, Any] = {
                "id": new_id("msg"),
                "type": "message",
                "status": "in_progress",
                "role": "assistant",
                "content": [],
            }
            self._open[index] = self._add(item)
            yield self._event(
                "response.output_item.added", output_index=self._open[index], item={**item, "content": []}
            )
        at = self._open[index]
        item = self._output[at]
        if not item["content"] or item["content"][-1]["type"] != name:
            yield from self._close_content(at)
            item["content"].append(_content(name))
            yield self._event(
                "response.content_part.added",
                output_index=at,
                item_id=item["id"],
                content_index=len(item["content"]) - 1,
                part=_content(name),
            )
        item["content"][-1][field] += text
        more: dict[str, Any] = {"logprobs": []} if kind is _TEXT else {}
        yield self._event(
            f"{event}.delta",
            output_index=at,
            item_id=item["id"],
            content_index=len(item["content"]) - 1,
            delta=text,
            **more,
        )

    def _close_messages(self, status: str = "completed") -> Iterator[Event]:
        for index in list(self._citers):
            yield from self._release(index)
        for index, at in list(self._open.items()):
            item = self._output[at]
            if item["type"] != "message":
                continue
            yield from self._cite_pages(index, at, lambda at: at)
            yield from self._close_content(at)
            item["status"] = status
            del self._open[index]
            yield self._event("response.output_item.done", output_index=at, item=dict(item))

    def _close_content(self, at: int) -> Iterator[Event]:
        item = self._output[at]
        if not item["content"]:
            return
        part, place = item["content"][-1], len(item["content"]) - 1
        _, field, event = _TEXT if part["type"] == "output_text" else _REFUSAL
        where = {"output_index": at, "item_id": item["id"], "content_index": place}
        more: dict[str, Any] = {"logprobs": []} if field == "text" else {}
        yield self._event(f"{event}.done", **where, **{field: part[field]}, **more)
        yield self._event("response.content_part.done", **where, part=dict(part))

    def _add(self, item: dict[str, Any]) -> int:
        self._output.append(item)
        return len(self._output) - 1

    def _event(self, kind: str, **fields: Any) -> Event:
        event = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return event


def _is_of_model(item: Mapping[str, Any]) -> bool:
    """Whether a model said or did it."""
    kind = item["type"]
    return kind in ("message", "reasoning") or (kind == "web_search_call" and not is_own_search(item))


def _content(name: str) -> dict[str, Any]:
    if name == "refusal":
        return {"type": "refusal", "refusal": ""}
    return {"type": "output_text", "text": "", "annotations": [], "logprobs": []}


def _annotation(citation: Citation) -> dict[str, Any]:
    """A `file_citation` or `url_citation` of the API; beside what that has, the exact place in the source."""
    if is_web(citation.content_version_id):
        kind: dict[str, Any] = {"type": "url_citation", "url": citation.uri, "start_index": citation.index}
    else:
        kind = {"type": "file_citation", "file_id": citation.content_id, "filename": citation.uri}
        kind["index"] = citation.index
    return {
        **kind,
        "end_index": citation.end_index,
        "number": citation.number,
        "title": citation.title,
        "content_id": citation.content_id,
        "content_version_id": citation.content_version_id,
        "start": citation.start,
        "end": citation.end,
        "page": citation.page,
        "quote": citation.quote,
    }
