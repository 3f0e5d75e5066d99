"""What every stream of answers has in common, checked event by event."""

from collections.abc import Iterable, Mapping
from typing import Any

ENDS = {"response.completed", "response.incomplete", "response.failed"}

# What an item goes through between its first event and its last. A call that breaks off just ends.
_MOMENTS = {
    "file_search_call": [["in_progress", "searching", "completed"]],
    "web_search_call": [
        ["in_progress", "searching"],
        ["in_progress", "searching", "completed"],
    ],
    "mcp_list_tools": [["in_progress", "completed"], ["in_progress", "failed"]],
    "mcp_call": [["in_progress"], ["in_progress", "completed"], ["in_progress", "failed"]],
}

Event = dict[str, Any]


def whole(events: Iterable[Any], *, killed: bool = False) -> Event:
    """The response that a stream of events, SDK objects or plain, ends with; AssertionError for any that
    breaks a rule: created is first, numbers have no gaps, ids stay, parts begin before their deltas and are
    done as what these add up to, one event ends it. killed: what was open when that ends stays so."""
    plain = [event if isinstance(event, Mapping) else event.to_dict() for event in events]
    kinds = [event["type"] for event in plain]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert [event["sequence_number"] for event in plain] == list(range(len(plain)))
    assert [kind for kind in kinds if kind in ENDS] == kinds[-1:]
    ended: Event = plain[-1]["response"]
    assert {event["response"]["id"] for event in plain if "response" in event} == {ended["id"]}
    assert plain[0]["response"]["status"] == plain[1]["response"]["status"] == "in_progress"
    assert plain[0]["response"]["output"] == []
    assert kinds[-1] == f"response.{ended['status']}" or ended["status"] == "cancelled"
    items: list[_Item] = []
    for event in plain[2:-1]:
        if event["output_index"] == len(items):
            items.append(_Item(len(items)))
        items[event["output_index"]].take(event)
    assert [item.done for item in items if item.done or not killed] == ended["output"]
    return ended


class _Item:
    """One item as its events make it."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._id = ""
        self._open: list[str] = []
        self._moments: list[str] = []
        self.done: Event | None = None

    def take(self, event: Event) -> None:
        kind = event["type"].removeprefix("response.")
        assert self.done is None, f"{kind} behind the end of item {self._at}"
        if kind == "output_item.added":
            assert not self._id
            self._item = event["item"]
            self._id = self._item["id"]
            # A text begins empty; what a message holds comes by events of its own.
            self._content: list[Event] = []
            self._arguments: str | None = None
            assert self._item.get("content", []) == []
            # A request for a yes is an item and nothing else, there at once.
            assert self._item.get("arguments", "") == "" or self._item["type"] == "mcp_approval_request"
            return
        assert self._id, f"{kind} before item {self._at} was added"
        if kind == "output_item.done":
            assert event["item"]["id"] == self._id
            assert not self._open
            assert self._moments in _MOMENTS.get(event["item"]["type"], [[]])
            if event["item"]["type"] == "message":
                assert event["item"]["content"] == self._content
            elif self._arguments is not None:
                assert event["item"]["arguments"] == self._arguments
            self.done = event["item"]
            return
        assert event["item_id"] == self._id
        if "content_index" in event:
            self._take_content(kind, event)
        elif kind in ("function_call_arguments.delta", "mcp_call_arguments.delta"):
            self._arguments = (self._arguments or "") + event["delta"]
        elif kind == "function_call_arguments.done":
            assert event["arguments"] == (self._arguments or "")
            assert event["name"] == self._item["name"]
        elif kind == "mcp_call_arguments.done":
            assert event["arguments"] == (self._arguments or "")
        else:
            name, moment = kind.split(".")
            assert name == self._item["type"], kind
            self._moments.append(moment)

    def _take_content(self, kind: str, event: Event) -> None:
        at = event["content_index"]
        if kind == "content_part.added":
            assert at == len(self._content)
            assert not self._open
            self._content.append(event["part"])
            self._field = "text" if event["part"]["type"] == "output_text" else "refusal"
            assert event["part"][self._field] == ""
            self._open = [f"{'output_text' if self._field == 'text' else 'refusal'}"]
            return
        assert at == len(self._content) - 1, kind
        part, field = self._content[at], self._field
        if kind == "content_part.done":
            assert self._open == ["done"]
            assert event["part"] == part
            self._open = []
            return
        (name,) = self._open
        if field == "text" and kind in ("output_text.delta", "output_text.done"):
            assert event["logprobs"] == []
        if kind == f"{name}.delta":
            assert event["delta"]
            part[field] += event["delta"]
        elif kind == f"{name}.done":
            assert event[field] == part[field]
            self._open = ["done"]
        else:
            assert kind == "output_text.annotation.added", kind
            assert event["annotation_index"] == len(part["annotations"])
            annotation = event["annotation"]
            at = annotation["start_index" if annotation["type"] == "url_citation" else "index"]
            marker = part["text"][at : annotation["end_index"]]
            # Behind the marker that it stands for, in the text so far; an endpoint's own stands for words.
            assert marker
            assert "number" not in annotation or marker == f"[{annotation['number']}]"
            part["annotations"].append(annotation)


def whole_chat(chunks: Iterable[Any], *, usage: bool = False) -> Event:
    """The message that chunks add up to, with `finish_reason`; AssertionError for any that break a rule: one
    id, the role first, calls in order, one end, and the usage, where it was asked for, behind it."""
    plain = [chunk if isinstance(chunk, Mapping) else chunk.to_dict() for chunk in chunks]
    assert {chunk["object"] for chunk in plain} == {"chat.completion.chunk"}
    for field in ("id", "model", "created"):
        assert len({chunk[field] for chunk in plain}) == 1
    if usage:
        assert all(chunk["usage"] is None for chunk in plain[:-1])
        assert (plain[-1]["choices"], set(plain[-1]["usage"]) >= {"prompt_tokens", "credits"}) == ([], True)
        plain.pop()
    choices = [choice for chunk in plain for choice in chunk["choices"]]
    assert len(choices) == len(plain)
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    message: Event = {"content": "", "refusal": "", "tool_calls": [], "annotations": []}
    for delta in (choice["delta"] for choice in choices[1:]):
        for name, value in delta.items():
            if name == "tool_calls":
                _add_call(message["tool_calls"], value)
            elif name == "annotations":
                message["annotations"] += [{**one, "index": None} for one in value]
            else:
                assert value
                message[name] += value
    return {**message, "finish_reason": choices[-1]["finish_reason"]}


def _add_call(calls: list[Event], pieces: list[Event]) -> None:
    for piece in pieces:
        if "id" in piece:
            assert piece["index"] == len(calls)
            calls.append({"id": piece["id"], **piece["function"]})
        else:
            calls[piece["index"]]["arguments"] += piece["function"]["arguments"]
