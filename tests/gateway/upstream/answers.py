"""What a model says, as each kind of endpoint tells it: the path of the request says which one is asked."""

import json
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from upstream.server import Request

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens as the endpoint counts them."""

    input: int = 100
    output: int = 7
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A function call; arguments: the pieces in which they come."""

    name: str
    arguments: tuple[str, ...]
    id: str = "call_1"


@dataclass(frozen=True, slots=True)
class Cited:
    """A page that the endpoint found, for text[start:end]."""

    url: str
    title: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says: pieces of text, then calls. cut_short: by the limit on output tokens. searched: what
    the endpoint looked for in the web before it said that, and cited: what it found.
    """

    deltas: tuple[str, ...] = ("Open the ", "valve first", ".")
    calls: tuple[Call, ...] = ()
    used: Used | None = Used()
    tier: str | None = "default"
    cut_short: bool = False
    searched: str | None = None
    cited: tuple[Cited, ...] = ()

    def events(self, request: Request) -> list[Event]:
        """All of a stream, in order."""
        return _chunks(self, request) if request.chat else _events(self, request)

    def whole(self, request: Request) -> Event:
        """The answer to a request that is not to be streamed."""
        return _completion(self, request) if request.chat else _response(self, request)


SENTENCE = Answer()


def _response(answer: Answer, request: Request, status: str = "") -> Event:
    ended = status or ("incomplete" if answer.cut_short else "completed")
    made: Event = {
        "id": "resp_upstream",
        "object": "response",
        "created_at": 1_750_000_000,
        "status": ended,
        "model": request.body["model"],
        "output": [] if ended == "in_progress" else _items(answer),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if ended == "incomplete" else None,
        "usage": None,
    }
    if answer.tier is not None:
        made["service_tier"] = answer.tier
    if answer.used is not None and ended != "in_progress":
        made["usage"] = {
            "input_tokens": answer.used.input,
            "input_tokens_details": {"cached_tokens": answer.used.cached},
            "output_tokens": answer.used.output,
            "output_tokens_details": {"reasoning_tokens": answer.used.reasoning},
            "total_tokens": answer.used.input + answer.used.output,
        }
    return made


def _part(text: str, cited: tuple[Cited, ...] = ()) -> Event:
    annotations = [_annotation(one) for one in cited]
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}


def _annotation(one: Cited) -> Event:
    place = {"url": one.url, "title": one.title, "start_index": one.start, "end_index": one.end}
    return {"type": "url_citation", **place}


def _search(query: str, status: str = "completed") -> Event:
    action = {"type": "search", "query": query}
    return {"type": "web_search_call", "id": "ws_1", "status": status, "action": action}


def _items(answer: Answer) -> list[Event]:
    made: list[Event] = [_search(answer.searched)] if answer.searched else []
    if answer.deltas:
        content = [_part("".join(answer.deltas), answer.cited)]
        made.append(
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": content}
        )
    return made + [_call(call, "".join(call.arguments), "completed") for call in answer.calls]


def _call(call: Call, arguments: str, status: str) -> Event:
    of_it = {"id": f"fc_{call.id}", "call_id": call.id, "name": call.name, "arguments": arguments}
    return {"type": "function_call", "status": status, **of_it}


def _events(answer: Answer, request: Request) -> list[Event]:
    running = _response(answer, request, "in_progress")
    made: list[Event] = [
        {"type": f"response.{name}", "response": running} for name in ("created", "in_progress")
    ]
    items = _items(answer)
    first = 0
    if answer.searched:
        first, at = 1, {"item_id": "ws_1", "output_index": 0}
        moments = ("in_progress", "searching", "completed")
        begun = _search(answer.searched, "in_progress")
        made += [
            {"type": "response.output_item.added", "output_index": 0, "item": begun},
            *({"type": f"response.web_search_call.{moment}", **at} for moment in moments),
            {"type": "response.output_item.done", "output_index": 0, "item": items[0]},
        ]
    if answer.deltas:
        at = {"item_id": "msg_1", "output_index": first, "content_index": 0}
        text = "".join(answer.deltas)
        begun = {**items[first], "status": "in_progress", "content": []}
        annotation = "response.output_text.annotation.added"
        made += [
            {"type": "response.output_item.added", "output_index": first, "item": begun},
            {"type": "response.content_part.added", **at, "part": _part("")},
            *(
                {"type": "response.output_text.delta", **at, "delta": delta, "logprobs": []}
                for delta in answer.deltas
            ),
            *(
                {"type": annotation, **at, "annotation_index": number, "annotation": _annotation(one)}
                for number, one in enumerate(answer.cited)
            ),
            {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
            {"type": "response.content_part.done", **at, "part": _part(text, answer.cited)},
            {"type": "response.output_item.done", "output_index": first, "item": items[first]},
        ]
    for index, call in enumerate(answer.calls, first + bool(answer.deltas)):
        at = {"item_id": f"fc_{call.id}", "output_index": index}
        arguments = "response.function_call_arguments"
        begun = _call(call, "", "in_progress")
        made += [
            {"type": "response.output_item.added", "output_index": index, "item": begun},
            *({"type": f"{arguments}.delta", **at, "delta": piece} for piece in call.arguments),
            {"type": f"{arguments}.done", **at, "name": call.name, "arguments": "".join(call.arguments)},
            {"type": "response.output_item.done", "output_index": index, "item": items[index]},
        ]
    ended = _response(answer, request)
    made.append({"type": f"response.{ended['status']}", "response": ended})
    return [{**event, "sequence_number": number} for number, event in enumerate(made)]


def _of_chat(answer: Answer, request: Request, kind: str) -> Event:
    made = {"id": "chatcmpl-1", "object": kind, "created": 1_750_000_000, "model": request.body["model"]}
    return made if answer.tier is None else {**made, "service_tier": answer.tier}


def _finish(answer: Answer) -> str:
    return "length" if answer.cut_short else "tool_calls" if answer.calls else "stop"


def _chat_usage(used: Used) -> Event:
    return {
        "prompt_tokens": used.input,
        "completion_tokens": used.output,
        "total_tokens": used.input + used.output,
        "prompt_tokens_details": {"cached_tokens": used.cached},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning},
    }


def _completion(answer: Answer, request: Request) -> Event:
    message: Event = {"role": "assistant", "content": "".join(answer.deltas) or None, "refusal": None}
    if answer.cited:
        message["annotations"] = _chat_annotations(answer)
    if answer.calls:
        message["tool_calls"] = [_chat_call(call, "".join(call.arguments)) for call in answer.calls]
    choice = {"index": 0, "message": message, "finish_reason": _finish(answer), "logprobs": None}
    made = {**_of_chat(answer, request, "chat.completion"), "choices": [choice]}
    return made if answer.used is None else {**made, "usage": _chat_usage(answer.used)}


def _chat_annotations(answer: Answer) -> list[Event]:
    told = [_annotation(one) for one in answer.cited]
    return [{"type": one.pop("type"), "url_citation": one} for one in told]


def _chat_call(call: Call, arguments: str) -> Event:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _chunks(answer: Answer, request: Request) -> list[Event]:
    deltas: list[Event] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": delta} for delta in answer.deltas]
    deltas += [{"annotations": _chat_annotations(answer)}] if answer.cited else []
    for index, call in enumerate(answer.calls):
        deltas.append({"tool_calls": [{"index": index, **_chat_call(call, "")}]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in call.arguments
        ]
    common = _of_chat(answer, request, "chat.completion.chunk")
    ends: list[str | None] = [*repeat(None, len(deltas)), _finish(answer)]
    made: list[Event] = [
        {**common, "choices": [{"index": 0, "delta": delta, "finish_reason": end, "logprobs": None}]}
        for delta, end in zip([*deltas, {}], ends, strict=True)
    ]
    if answer.used is not None and (request.body.get("stream_options") or {}).get("include_usage"):
        made.append({**common, "choices": [], "usage": _chat_usage(answer.used)})
    return made


def sse(event: Event) -> bytes:
    """One event of a stream, its name before it where it has a type; other letters than ASCII as they are."""
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def wire(answer: Answer, request: Request) -> list[bytes]:
    """Every event of the stream as it is sent."""
    done = [b"data: [DONE]\n\n"] if request.chat else []
    return [*map(sse, answer.events(request)), *done]
