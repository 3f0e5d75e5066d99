"""Endpoints of kind `responses`: https://platform.openai.com/docs/api-reference/responses."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kb.errors import InvalidInput
from kb.gateway.events import (
    ArgumentsDelta,
    CallAdded,
    Finished,
    Item,
    ItemPassed,
    ModelCall,
    PageCited,
    Part,
    RefusalDelta,
    TextDelta,
    as_text,
)
from kb.metering.rates import Usage

PATH = "/responses"

PARAMETERS = frozenset(
    {
        "include",
        "parallel_tool_calls",
        "prompt_cache_key",
        "reasoning",
        "temperature",
        "text",
        "tool_choice",
        "top_logprobs",
        "top_p",
    }
)
"""Those of a call that go on as they are."""

_SENT = frozenset({"message", "function_call", "function_call_output", "reasoning", "web_search_call"})


def body_of(call: ModelCall, model: str) -> dict[str, Any]:
    """What is sent, but for what the gateway itself sets. model: as it is called there."""
    sent: dict[str, Any] = {
        "model": model,
        "input": [_sent(item) for item in _known(call.items)],
        "max_output_tokens": call.max_output_tokens,
        # What is kept is kept here.
        "store": False,
        "stream": True,
        **call.parameters,
    }
    if call.instructions:
        sent["instructions"] = call.instructions
    if tools := [*call.tools, *([call.web_search] if call.web_search else [])]:
        sent["tools"] = tools
    return sent


class Reader:
    """Events of an endpoint become ours."""

    def __init__(self) -> None:
        # Items of which deltas came, calls that began, items that are done: the last event repeats them all.
        self._streamed: set[int] = set()
        self._calls: set[int] = set()
        self._whole: set[int] = set()
        # Characters of each content of an item so far: here they become one text.
        self._lengths: dict[int, Counter[int]] = defaultdict(Counter)
        # Some servers number no items; theirs are told apart by their ids.
        self._ids: list[str] = []

    def read(self, event: Mapping[str, Any]) -> Iterator[Part | Finished]:
        """Of one event. Raises KeyError, TypeError or ValueError for one that is not as documented."""
        match event.get("type"):
            case "response.output_text.delta":
                index, text = self._streams(event), as_text(event["delta"])
                self._lengths[index][int(event.get("content_index", 0))] += len(text)
                yield TextDelta(index, text)
            case "response.output_text.annotation.added":
                index = self._index(event, event["item_id"])
                yield from self._cited(index, int(event.get("content_index", 0)), [event["annotation"]])
            case "response.refusal.delta":
                yield RefusalDelta(self._streams(event), as_text(event["delta"]))
            case "response.function_call_arguments.delta":
                yield ArgumentsDelta(self._streams(event), as_text(event["delta"]))
            case "response.output_item.added" if event["item"].get("type") == "function_call":
                yield self._call(self._index(event, event["item"]["id"]), event["item"])
            case "response.output_item.done":
                yield from self._done(self._index(event, event["item"]["id"]), event["item"])
            case "response.completed" | "response.incomplete" | "response.failed":
                yield from self.whole(event["response"])
            case "error":
                yield Finished("failed", str(event.get("message") or event.get("code") or "upstream_error"))

    def whole(self, response: Mapping[str, Any]) -> Iterator[Part | Finished]:
        """Of an answer in one piece: what of it was not streamed, and how it ended."""
        for index, item in enumerate(response.get("output") or ()):
            known = item.get("id") in self._ids
            yield from self._done(self._ids.index(item["id"]) if known else index, item)
        reason = (response.get("incomplete_details") or {}).get("reason")
        if error := response.get("error"):
            reason = str(error.get("message") or error.get("code"))
        usage, tier = usage_of(response.get("usage")), response.get("service_tier")
        match response.get("status"):
            case "completed" | "failed" as status:
                yield Finished(status, reason, usage, tier)
            case _:
                yield Finished("incomplete", reason or "upstream_ended", usage, tier)

    def end(self) -> Finished:
        """What the end of the stream means: an event tells when an answer is complete, and none came."""
        return Finished("incomplete", "upstream_ended")

    def _streams(self, event: Mapping[str, Any]) -> int:
        index = self._index(event, event["item_id"])
        self._streamed.add(index)
        return index

    def _index(self, event: Mapping[str, Any], item_id: str) -> int:
        if "output_index" in event:
            return int(event["output_index"])
        if item_id not in self._ids:
            self._ids.append(item_id)
        return self._ids.index(item_id)

    def _call(self, index: int, item: Item) -> CallAdded:
        self._calls.add(index)
        return CallAdded(index, as_text(item["call_id"]), as_text(item["name"]))

    def _done(self, index: int, item: Item) -> Iterator[Part]:
        if index in self._whole:
            return
        self._whole.add(index)
        unstreamed = index not in self._streamed
        match item.get("type"):
            case "function_call":
                if index not in self._calls:
                    yield self._call(index, item)
                if unstreamed:
                    yield ArgumentsDelta(index, as_text(item["arguments"]))
            case "message":
                for at, part in enumerate(item["content"] if unstreamed else ()):
                    if part["type"] == "output_text":
                        self._lengths[index][at] += len(as_text(part["text"]))
                        yield TextDelta(index, part["text"])
                        yield from self._cited(index, at, part.get("annotations") or ())
                    elif part["type"] == "refusal":
                        yield RefusalDelta(index, as_text(part["refusal"]))
            case "reasoning" | "web_search_call":
                yield ItemPassed(index, item)

    def _cited(self, index: int, content: int, annotations: Iterable[Mapping[str, Any]]) -> Iterator[Part]:
        """Pages that a part of a message rests on; other annotations are of what is not asked for."""
        before = sum(size for at, size in self._lengths[index].items() if at < content)
        for one in annotations:
            if one["type"] == "url_citation":
                yield page_cited(index, one, before)


def page_cited(index: int, told: Mapping[str, Any], before: int = 0) -> PageCited:
    """A `url_citation` as endpoints tell it. before: characters of the message in front of its text."""
    start, end = before + int(told["start_index"]), before + int(told["end_index"])
    return PageCited(index, as_text(told["url"]), as_text(told.get("title") or ""), start, end)


def usage_of(given: Mapping[str, Any] | None) -> Usage | None:
    """None where the endpoint told none, or what cannot be."""
    if not given:
        return None
    try:
        return Usage(
            int(given["input_tokens"]),
            int(given["output_tokens"]),
            cached=int((given.get("input_tokens_details") or {}).get("cached_tokens") or 0),
            reasoning=int((given.get("output_tokens_details") or {}).get("reasoning_tokens") or 0),
        )
    except (KeyError, TypeError, ValueError, InvalidInput):
        return None


def _known(items: Iterable[Item]) -> Iterator[Item]:
    """Those that an endpoint knows: what only this server did is in the context in other words.

    Of reasoning that came without its content an id is left, which is kept nowhere: endpoints refuse it, and
    a search that it led to.
    """
    nameless = False
    for item in items:
        kind = item.get("type", "message")
        if kind == "reasoning":
            nameless = not (item.get("encrypted_content") or item.get("content"))
        if kind in _SENT and not (nameless and kind in ("reasoning", "web_search_call")):
            yield item


def _sent(item: Item) -> Item:
    """As an endpoint takes it: ids and states of ours mean nothing there."""
    if item.get("type", "message") == "message":
        content = item["content"]
        if item["role"] == "assistant" and not isinstance(content, str):
            content = "".join(part.get("text") or part.get("refusal") or "" for part in content)
        return {"role": item["role"], "content": content}
    if item["type"] in ("reasoning", "web_search_call"):
        return item
    return {key: value for key, value in item.items() if key not in ("id", "status")}
