"""Answers of language models in the words of Chat Completions: made of the events of a response."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from api.errors import ApiError, error_body
from api.event_stream import chunk
from kb.agent.asked import Run
from kb.agent.output import Event

DONE = b"data: [DONE]\n\n"
# Several messages of a run are one here.
_BETWEEN = "\n\n"
_PLACE = ("number", "content_id", "content_version_id", "start", "end", "page", "quote")
_FINISHED = {"max_output_tokens": "length", "content_filter": "content_filter"}


class Completion:
    """One chat completion."""

    def __init__(self, run: Run, *, include_usage: bool) -> None:
        self._run = run
        self._include_usage = include_usage
        # Function calls by the id of their item, in the order they began.
        self._calls: list[str] = []
        self._cited = 0
        # Characters of content that went out, and where the text that is being written begins in them.
        self._sent = self._begin = 0

    async def chunks(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[bytes, None]:
        """The events as chunks of a stream."""
        async with aclosing(events):
            async for event in events:
                for one in self._of(event):
                    yield chunk(one)
                if event["type"] in ("response.completed", "response.incomplete", "response.failed"):
                    if broken := broken_off(event["response"]):
                        yield chunk(error_body(broken))
                        return
                    if self._include_usage:
                        yield chunk({**self._base(), "choices": [], "usage": usage_of(event["response"])})
                    yield DONE

    def whole(self, response: Mapping[str, Any]) -> dict[str, Any]:
        """The answer at once. Raises ApiError where it broke off."""
        if broken := broken_off(response):
            raise broken
        message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
        calls = []
        for item in response["output"]:
            if item["type"] == "function_call":
                function = {"name": item["name"], "arguments": item["arguments"]}
                calls.append({"id": item["call_id"], "type": "function", "function": function})
            for at, part in enumerate(item["content"] if item["type"] == "message" else ()):
                field = "content" if part["type"] == "output_text" else "refusal"
                before = message[field] or ""
                if before and at == 0 and field == "content":
                    before += _BETWEEN
                message[field] = before + part.get("text", part.get("refusal", ""))
                message["annotations"] += [_citation(one, len(before)) for one in part.get("annotations", ())]
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "finish_reason": _finish(response), "logprobs": None}
        made = {"object": "chat.completion", "choices": [choice], "usage": usage_of(response)}
        return {
            **self._base(),
            **made,
            "service_tier": response["service_tier"],
            **{field: response[field] for field in ("citations", "context", "sources") if field in response},
        }

    def _base(self) -> dict[str, Any]:
        run = self._run
        return {
            "id": f"chatcmpl_{run.id.partition('_')[2]}",
            "object": "chat.completion.chunk",
            "created": run.created_at,
            "model": run.model.id,
        }

    def _of(self, event: Event) -> list[dict[str, Any]]:
        match event["type"]:
            case "response.created":
                return [self._delta({"role": "assistant", "content": ""})]
            case "response.content_part.added" if event["part"]["type"] == "output_text":
                between = _BETWEEN if self._sent and event["content_index"] == 0 else ""
                self._sent = self._begin = self._sent + len(between)
                return [self._delta({"content": between})] if between else []
            case "response.output_text.delta":
                self._sent += len(event["delta"])
                return [self._delta({"content": event["delta"]})]
            case "response.refusal.delta":
                return [self._delta({"refusal": event["delta"]})]
            case "response.output_text.annotation.added":
                # As with all lists that come in pieces, the SDK puts them together by their index.
                self._cited += 1
                cited = {"index": self._cited - 1, **_citation(event["annotation"], self._begin)}
                return [self._delta({"annotations": [cited]})]
            case "response.output_item.added" if event["item"]["type"] == "function_call":
                item = event["item"]
                self._calls.append(item["id"])
                function = {"name": item["name"], "arguments": ""}
                return [self._call(item["id"], id=item["call_id"], type="function", function=function)]
            case "response.function_call_arguments.delta":
                return [self._call(event["item_id"], function={"arguments": event["delta"]})]
            case "response.completed" | "response.incomplete" if not broken_off(event["response"]):
                tier = {"service_tier": event["response"]["service_tier"]}
                return [{**self._delta({}, _finish(event["response"])), **tier}]
        return []

    def _call(self, item_id: str, **fields: Any) -> dict[str, Any]:
        return self._delta({"tool_calls": [{"index": self._calls.index(item_id), **fields}]})

    def _delta(self, delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        usage = {"usage": None} if self._include_usage else {}
        return {**self._base(), "choices": [choice], **usage}


def usage_of(response: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens and credits, under the names they have here."""
    usage = response["usage"]
    return {
        "prompt_tokens": usage["input_tokens"],
        "prompt_tokens_details": usage["input_tokens_details"],
        "completion_tokens": usage["output_tokens"],
        "completion_tokens_details": usage["output_tokens_details"],
        "total_tokens": usage["total_tokens"],
        **{field: usage[field] for field in ("credits", "estimated", "beyond_soft_budget")},
    }


def broken_off(response: Mapping[str, Any]) -> ApiError | None:
    """The error of an answer that did not come to an end: Chat Completions has no other way to tell."""
    if response["status"] == "failed":
        error = response["error"]
        return ApiError(502, error["code"], error["message"])
    reason = _reason(response)
    if response["status"] == "incomplete" and reason not in _FINISHED:
        return ApiError(502, reason, "the model's answer broke off", headers={"x-should-retry": "false"})
    return None


def _reason(response: Mapping[str, Any]) -> str:
    return str((response["incomplete_details"] or {}).get("reason"))


def _finish(response: Mapping[str, Any]) -> str:
    calls = any(item["type"] == "function_call" for item in response["output"])
    return _FINISHED.get(_reason(response)) or ("tool_calls" if calls else "stop")


def _citation(annotation: Mapping[str, Any], offset: int) -> dict[str, Any]:
    """A `url_citation`, the only kind there is here, with the exact place in the source beside it."""
    web = annotation["type"] == "url_citation"
    # What an endpoint cites by itself has an address and no place.
    place = {key: annotation[key] for key in _PLACE if key in annotation}
    cited = {
        "url": annotation["url" if web else "filename"],
        "title": annotation["title"],
        "start_index": annotation["start_index" if web else "index"] + offset,
        "end_index": annotation["end_index"] + offset,
    }
    return {"type": "url_citation", "url_citation": {**cited, **place}}
