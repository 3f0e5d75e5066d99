"""The parts of a model's answer become items and events of the Responses API.

One response id, item ids that stay, and sequence numbers of our own, whoever answered. The order of events is
that of https://platform.openai.com/docs/api-reference/responses-streaming.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kb.agent.call_writer import CallWriter
from kb.agent.cite import Citation, Citer
from kb.agent.output import Event, Output
from kb.agent.web_tool import is_own_search
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

# For each kind of content: the field of its text, and the event that ends it.
_TEXT = ("output_text", "text", "response.output_text")
_REFUSAL = ("refusal", "refusal", "response.refusal")

log = logging.getLogger(__name__)


class Writer:
    """Writes one response. citer: makes one for each text; None where nothing can be cited.

    calls: writes what the service does beside the model.
    """

    def __init__(self, response: Mapping[str, Any], citer: Callable[[], Citer] | None) -> None:
        self._output = Output(response)
        self._citer = citer
        self.calls = CallWriter(self._output)
        # Open items by the endpoint's counting, each with its place in the output.
        self._open: dict[int, int] = {}
        self._citers: dict[int, Citer] = {}
        # What endpoints cite by themselves, told of where their message ends.
        self._cited: dict[int, list[PageCited]] = {}
        # How far `said` has read.
        self._read = 0
        self.verified = 0
        self.dropped = 0

    @property
    def has_begun(self) -> bool:
        """Whether any event was written."""
        return self._output.has_begun

    @property
    def output(self) -> Sequence[Mapping[str, Any]]:
        """The items so far."""
        return self._output.items

    def response(self, **fields: Any) -> dict[str, Any]:
        """The response with what was written so far; fields: what else to set."""
        return self._output.response(**fields)

    def began(self) -> Iterator[Event]:
        """The first events of every response; none where they are written already."""
        if self.has_begun:
            return
        for kind in ("created", "in_progress"):
            yield self._output.event(f"response.{kind}", response=self.response(status="in_progress"))

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
                at = self._open[index] = self._output.add(item)
                yield self._output.event("response.output_item.added", output_index=at, item=dict(item))
            case ArgumentsDelta(index, text):
                at = self._open[index]
                self._output.items[at]["arguments"] += text
                yield self._output.event(
                    "response.function_call_arguments.delta",
                    output_index=at,
                    item_id=self._output.items[at]["id"],
                    delta=text,
                )
            case PageCited(index):
                self._cited.setdefault(index, []).append(part)
            case ItemPassed(_, passed):
                # Its id is the endpoint's, which knows it again by that.
                at = self._output.add(dict(passed))
                yield self._output.event("response.output_item.added", output_index=at, item=dict(passed))
                if passed["type"] == "web_search_call":
                    yield from self._output.searched_web(at, "in_progress", "searching", "completed")
                yield self._output.event("response.output_item.done", output_index=at, item=dict(passed))

    def said(self) -> list[dict[str, Any]]:
        """What was written since this was last asked for, as the model is to read it again: its own words,
        reasoning and searches, but no calls of tools, whose results stand elsewhere."""
        new = [dict(item) for item in self._output.items[self._read :] if _is_of_model(item)]
        self._read = len(self._output.items)
        return new

    def close(self, *, whole: bool) -> Iterator[Event]:
        """What is still open ends. whole: whether the model came to its end."""
        status = "completed" if whole else "incomplete"
        yield from self._close_messages(status)
        for index in list(self._open):
            at = self._open.pop(index)
            item = self._output.items[at]
            item["status"] = status
            if whole:
                yield self._output.event(
                    "response.function_call_arguments.done",
                    output_index=at,
                    item_id=item["id"],
                    name=item["name"],
                    arguments=item["arguments"],
                )
            yield self._output.event("response.output_item.done", output_index=at, item=dict(item))
        yield from self.calls.close()

    def ended(self, response: Mapping[str, Any]) -> Event:
        """The last event: completed, incomplete or failed, as the response's status says."""
        return self._output.event(f"response.{response['status']}", response=dict(response))

    def broke_off(self, **fields: Any) -> Iterator[Event]:
        """What is open ends as it is, and the response with it. fields: what to set of that."""
        # What a citer holds back may be what went wrong.
        self._citers.clear()
        yield from self.close(whole=False)
        # The API has no event for one that was cancelled.
        kind = "failed" if fields["status"] == "failed" else "incomplete"
        yield self._output.event(f"response.{kind}", response=self.response(**fields))

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

    def _cite_pages(self, index: int, at: int, moved: Callable[[int], int]) -> Iterator[Event]:
        """What the endpoint cites of its own search. moved: where what it wrote stands now."""
        for one in self._cited.pop(index, ()):
            start, end = moved(one.start), moved(one.end)
            content = self._output.items[at]["content"]
            if not content or not 0 <= start < end <= len(content[-1].get("text", "")):
                log.warning("an endpoint cites %s for characters %d to %d of none", one.url, start, end)
                continue
            place = {"url": one.url, "title": one.title, "start_index": start, "end_index": end}
            yield from self._annotated(at, {"type": "url_citation", **place})

    def _annotated(self, at: int, annotation: dict[str, Any]) -> Iterator[Event]:
        content = self._output.items[at]["content"]
        content[-1]["annotations"].append(annotation)
        yield self._output.event(
            "response.output_text.annotation.added",
            output_index=at,
            item_id=self._output.items[at]["id"],
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
            self._open[index] = self._output.add(item)
            yield self._output.event(
                "response.output_item.added", output_index=self._open[index], item={**item, "content": []}
            )
        at = self._open[index]
        item = self._output.items[at]
        if not item["content"] or item["content"][-1]["type"] != name:
            yield from self._close_content(at)
            item["content"].append(_content(name))
            yield self._output.event(
                "response.content_part.added",
                output_index=at,
                item_id=item["id"],
                content_index=len(item["content"]) - 1,
                part=_content(name),
            )
        item["content"][-1][field] += text
        more: dict[str, Any] = {"logprobs": []} if kind is _TEXT else {}
        yield self._output.event(
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
            item = self._output.items[at]
            if item["type"] != "message":
                continue
            yield from self._cite_pages(index, at, lambda at: at)
            yield from self._close_content(at)
            item["status"] = status
            del self._open[index]
            yield self._output.event("response.output_item.done", output_index=at, item=dict(item))

    def _close_content(self, at: int) -> Iterator[Event]:
        item = self._output.items[at]
        if not item["content"]:
            return
        part, place = item["content"][-1], len(item["content"]) - 1
        _, field, event = _TEXT if part["type"] == "output_text" else _REFUSAL
        where = {"output_index": at, "item_id": item["id"], "content_index": place}
        more: dict[str, Any] = {"logprobs": []} if field == "text" else {}
        yield self._output.event(f"{event}.done", **where, **{field: part[field]}, **more)
        yield self._output.event("response.content_part.done", **where, part=dict(part))


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
