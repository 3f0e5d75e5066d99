"""Replies by name: answers, and everything that can go wrong with one."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Any

from upstream.answers import SENTENCE, Answer, Call, Used, wire
from upstream.server import Head, Pause, Reply, Request, Step, Then


def says(answer: Answer = SENTENCE) -> Reply:
    """The answer, streamed where that was asked for."""

    def reply(request: Request) -> Iterable[Step]:
        if request.body.get("stream"):
            return [Head(), *wire(answer, request), Then.END]
        return json_body(answer.whole(request))(request)

    return reply


def closes_behind(answer: Answer = SENTENCE) -> Reply:
    """The answer, and then the connection is closed that was to be kept."""
    return stream(lambda events: [*events, Then.CLOSE], answer)


def stream(change: Callable[[list[bytes]], Iterable[Step]], answer: Answer = SENTENCE) -> Reply:
    """A stream of which something else is made: `change` gets its events as bytes and gives the steps."""
    return lambda request: [Head(), *change(wire(answer, request))]


def breaks_off(at: int, then: Iterable[Step] = (), answer: Answer = SENTENCE) -> Reply:
    """The first events, then something else: END, HOLD, RESET, bytes, or the bare end of the connection."""
    return stream(lambda events: [*events[:at], *then], answer)


def byte_by_byte(answer: Answer = SENTENCE) -> Reply:
    """The stream, each byte a chunk of its own: every character and line is cut everywhere."""
    return stream(lambda events: [*(bytes([one]) for one in b"".join(events)), Then.END], answer)


def instead(step: bytes, at: int, answer: Answer = SENTENCE) -> Reply:
    """The stream with other bytes in the place of one event."""
    return stream(lambda events: [*events[:at], step, *events[at + 1 :], Then.END], answer)


def endless(at: int, answer: Answer = SENTENCE) -> Reply:
    """The stream up to an event, which then comes again for ever."""

    def steps(events: list[bytes]) -> Iterator[Step]:
        yield from events[:at]
        yield from repeat(events[at])

    return lambda request: _headed(Head(), steps(wire(answer, request)))


def holds() -> Reply:
    """Not one byte."""
    return lambda request: [Then.HOLD]


def resets() -> Reply:
    """The request is read, and the connection reset."""
    return lambda request: [Then.RESET]


def json_body(body: Any, status: int = 200, **headers: str) -> Reply:
    """Whole JSON; headers are written with underscores."""
    return whole(json.dumps(body).encode(), status, content_type="application/json", **headers)


def whole(body: bytes, status: int = 200, **headers: str) -> Reply:
    """A body of any type."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return lambda request: [Head(status, named), *([body] if body else []), Then.END]


def refuses(status: int, code: str | None = None, message: str = "no", **headers: str) -> Reply:
    """An error as OpenAI's servers tell it."""
    error = {"message": message, "type": "error", "param": None, "code": code}
    return json_body({"error": error}, status, **headers)


def floods(
    size: int, status: int = 200, content_type: str = "text/event-stream", start: bytes = b""
) -> Reply:
    """A body of so many bytes without a line end."""
    block = b"x" * 65536
    blocks = size // len(block)
    head = Head(status, (("content-type", content_type),))
    return lambda request: _headed(head, [*([start] if start else []), *repeat(block, blocks), Then.END])


def _headed(head: Head, steps: Iterable[Step]) -> Iterator[Step]:
    yield head
    yield from steps


def paced(answer: Answer, first_seconds: float, between_seconds: float = 0.0) -> Reply:
    """A stream whose first delta comes after some time, and the others at a pace; made once, not for each."""
    made: list[bytes] = []

    def steps() -> Iterator[Step]:
        yield Head()
        first = next(at for at, event in enumerate(made) if answer.deltas[0].encode() in event)
        yield from made[:first]
        yield Pause(first_seconds)
        for event in made[first:]:
            yield event
            if between_seconds:
                yield Pause(between_seconds)
        yield Then.END

    def reply(request: Request) -> Iterator[Step]:
        made[:] = made or wire(answer, request)
        return steps()

    return reply


def obeys(first_seconds: float, between_seconds: float = 0.0) -> Reply:
    """What the question says, which is a JSON object: so many `calls`, one an answer, of its `tool` with its
    `arguments`, and then its `answer` word by word; at the pace of `paced`, whoever asks meanwhile."""

    def reply(request: Request) -> Iterator[Step]:
        items = request.body["input"]
        said = next(item["content"] for item in items if item.get("role") == "user")
        asked = json.loads(said if isinstance(said, str) else said[0]["text"])
        made = sum(item.get("type") == "function_call_output" for item in items)
        if made < asked["calls"]:
            call = Call(asked["tool"], (json.dumps(asked["arguments"]),), f"call_{made}")
            answer = Answer((), (call,), Used(100, 10))
        else:
            answer = Answer(tuple(f"{word} " for word in asked["answer"].split()), used=Used(100, 20))
        created, in_progress, *events = wire(answer, request)
        yield from (Head(), created, in_progress, Pause(first_seconds))
        for event in events:
            yield event
            if between_seconds and b"output_text.delta" in event:
                yield Pause(between_seconds)
        yield Then.END

    return reply
