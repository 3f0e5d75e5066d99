"""Endpoints of kind `chat`: https://platform.openai.com/docs/api-reference/chat."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kb.catalog.database import new_id
from kb.errors import InvalidInput
from kb.gateway.events import (
    ArgumentsDelta,
    CallAdded,
    Finished,
    Item,
    ModelCall,
    Part,
    RefusalDelta,
    TextDelta,
    as_text,
)
from kb.gateway.responses import page_cited
from kb.metering.rates import Usage

PATH = "/chat/completions"

PARAMETERS = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning",
        "seed",
        "stop",
        "temperature",
        "text",
        "tool_choice",
        "top_p",
    }
)
"""Those of a call that it knows, some by another name."""

# A text and a refusal of one answer are two contents of one message: the first place is theirs.
_MESSAGE = 0


def body_of(call: ModelCall, model: str) -> dict[str, Any]:
    """What is sent, but for what the gateway itself sets. model: as it is called there."""
    parameters = dict(call.parameters)
    sent: dict[str, Any] = {
        "model": model,
        "messages": messages_of(call.items, call.instructions),
        # The older name: every server knows it, and models that refuse it are called as `responses`.
        "max_tokens": call.max_output_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if call.tools:
        sent["tools"] = [_tool(tool) for tool in call.tools]
    choice = parameters.pop("tool_choice", None)
    if choice is not None and call.tools:
        if not isinstance(choice, Mapping):
            sent["tool_choice"] = choice
        elif choice["type"] == "function":
            sent["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    sent |= _format(parameters.pop("text", None) or {})
    if call.web_search is not None:
        sent["web_search_options"] = _search_options(call.web_search)
    effort = (parameters.pop("reasoning", None) or {}).get("effort")
    if effort:
        sent["reasoning_effort"] = effort
    return sent | parameters


def messages_of(items: Sequence[Item], instructions: str | None) -> list[dict[str, Any]]:
    """Items of the Responses API as messages; calls that follow each other are those of one message."""
    messages: list[dict[str, Any]] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    for item in items:
        match item.get("type", "message"):
            case "message":
                # Templates of open models know no developer.
                role = "system" if item["role"] == "developer" else item["role"]
                content = _content(item["content"], role)
                if role == "system" and messages and messages[-1]["role"] == role:
                    # Many of them want one, and that first.
                    messages[-1]["content"] += f"\n\n{content}"
                else:
                    messages.append({"role": role, "content": content})
            case "function_call":
                call = {
                    "id": item["call_id"],
                    "type": "function",
                    "function": {"name": item["name"], "arguments": item["arguments"]},
                }
                if messages and messages[-1]["role"] == "assistant":
                    messages[-1].setdefault("tool_calls", []).append(call)
                else:
                    messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            case "function_call_output":
                output = item["output"]
                text = output if isinstance(output, str) else _content(output, "assistant")
                messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": text})
    return messages


class Reader:
    """Chunks of an endpoint become our events."""

    def __init__(self) -> None:
        self._calls: set[int] = set()
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._tier: str | None = None

    def read(self, chunk: Mapping[str, Any]) -> Iterator[Part | Finished]:
        """Of one chunk. Raises KeyError, TypeError or ValueError for one that is not as documented."""
        if error := chunk.get("error"):
            said = error.get("message") if isinstance(error, Mapping) else error
            yield Finished("failed", str(said or "upstream_error"), self._usage, self._tier)
            return
        self._usage = usage_of(chunk.get("usage")) or self._usage
        self._tier = chunk.get("service_tier") or self._tier
        for choice in chunk.get("choices") or ():
            yield from self._parts(choice.get("delta") or choice.get("message") or {})
            self._finish = choice.get("finish_reason") or self._finish

    def whole(self, completion: Mapping[str, Any]) -> Iterator[Part | Finished]:
        """Of an answer that came in one piece."""
        yield from self.read(completion)
        yield self.end()

    def end(self) -> Finished:
        """What the end of the stream means: that it is complete only where a chunk said why it ended."""
        match self._finish:
            case None:
                return Finished("incomplete", "upstream_ended", self._usage, self._tier)
            case "length":
                return Finished("incomplete", "max_output_tokens", self._usage, self._tier)
            case "content_filter":
                return Finished("incomplete", "content_filter", self._usage, self._tier)
        return Finished("completed", None, self._usage, self._tier)

    def _parts(self, delta: Mapping[str, Any]) -> Iterator[Part]:
        if text := delta.get("content"):
            yield TextDelta(_MESSAGE, as_text(text))
        if text := delta.get("refusal"):
            yield RefusalDelta(_MESSAGE, as_text(text))
        for cited in delta.get("annotations") or ():
            if cited["type"] == "url_citation":
                yield page_cited(_MESSAGE, cited["url_citation"])
        for at, call in enumerate(delta.get("tool_calls") or ()):
            index = int(call.get("index", at)) + 1
            function = call.get("function") or {}
            if index not in self._calls:
                self._calls.add(index)
                yield CallAdded(index, call.get("id") or new_id("call"), as_text(function["name"]))
            if arguments := function.get("arguments"):
                yield ArgumentsDelta(index, as_text(arguments))


def usage_of(given: Mapping[str, Any] | None) -> Usage | None:
    """None where the endpoint told none, or what cannot be."""
    if not given:
        return None
    try:
        return Usage(
            int(given["prompt_tokens"]),
            int(given["completion_tokens"]),
            cached=int((given.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
            reasoning=int((given.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0),
        )
    except (KeyError, TypeError, ValueError, InvalidInput):
        return None


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = {key: value for key, value in tool.items() if key != "type" and value is not None}
    return {"type": "function", "function": function}


def _search_options(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The tool of the Responses API, which is nested otherwise here."""
    options: dict[str, Any] = {"search_context_size": tool["search_context_size"]}
    if place := dict(tool.get("user_location") or {}):
        options["user_location"] = {"type": place.pop("type"), "approximate": place}
    return options


def _format(text: Mapping[str, Any]) -> dict[str, Any]:
    """The form of the answer, which is nested otherwise here."""
    sent: dict[str, Any] = {}
    form = text.get("format") or {"type": "text"}
    if form["type"] == "json_schema":
        schema = {key: value for key, value in form.items() if key != "type"}
        sent["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif form["type"] != "text":
        sent["response_format"] = dict(form)
    if verbosity := text.get("verbosity"):
        sent["verbosity"] = verbosity
    return sent


def _content(content: str | Sequence[Mapping[str, Any]], role: str) -> Any:
    if isinstance(content, str):
        return content
    texts = [part for part in content if part["type"] != "input_image"]
    if role in ("assistant", "system") or len(texts) == len(content) == 1:
        return "".join(part.get("text") or part.get("refusal") or "" for part in content)
    return [_part(part) for part in content]


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["type"] == "input_image":
        image = {"url": part["image_url"], "detail": part.get("detail") or "auto"}
        return {"type": "image_url", "image_url": image}
    return {"type": "text", "text": part.get("text") or part.get("refusal") or ""}
