"""Each kind of endpoint: a call becomes a request, and what comes back parts, exactly."""

from typing import Any

import pytest

from kb.gateway import chat, responses
from kb.gateway.events import (
    ArgumentsDelta,
    CallAdded,
    Finished,
    ItemPassed,
    ModelCall,
    PageCited,
    RefusalDelta,
    TextDelta,
)
from kb.metering.rates import Usage
from kb.models.registry import ModelCatalog

SCHEMA = {"type": "json_schema", "name": "step", "schema": {"type": "object"}, "strict": True}
STOP = {"type": "function", "name": "stop", "description": None, "parameters": {"type": "object"}}
CONVERSATION: list[dict[str, Any]] = [
    {"id": "msg_1", "type": "message", "role": "developer", "content": "Be short."},
    {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": "What is this?"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA"},
        ],
    },
    {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": ["x"]},
    {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "abc"},
    {
        "id": "msg_2",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "A pump."}, {"type": "refusal", "refusal": " No more."}],
    },
    {"id": "fc_1", "type": "function_call", "call_id": "c1", "name": "stop", "arguments": "{}", "status": ""},
    {"type": "function_call", "call_id": "c2", "name": "stop", "arguments": '{"at":2}'},
    {"id": "fco_1", "type": "function_call_output", "call_id": "c1", "output": "stopped"},
    {
        "type": "function_call_output",
        "call_id": "c2",
        "output": [{"type": "input_text", "text": "at "}, {"type": "input_text", "text": "2"}],
    },
]  # fmt: skip


def call(items: list[dict[str, Any]], **more: Any) -> ModelCall:
    """A call of those items."""
    model = ModelCatalog.read().get("gpt-4.1-mini")
    return ModelCall(**{"model": model, "items": items, "input_tokens": 10, "max_output_tokens": 20, **more})


def test_a_conversation_for_responses() -> None:
    """Ids and states of ours stay here, and so do searches; reasoning goes back as it came."""
    body = responses.body_of(
        call(CONVERSATION, instructions="Cite.", tools=[STOP], parameters={"text": {"format": SCHEMA}}), "m"
    )
    assert body == {
        "model": "m",
        "input": [
            {"role": "developer", "content": "Be short."},
            {"role": "user", "content": CONVERSATION[1]["content"]},
            CONVERSATION[3],
            {"role": "assistant", "content": "A pump. No more."},
            {"type": "function_call", "call_id": "c1", "name": "stop", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "stop", "arguments": '{"at":2}'},
            {"type": "function_call_output", "call_id": "c1", "output": "stopped"},
            CONVERSATION[8],
        ],
        "max_output_tokens": 20,
        "store": False,
        "stream": True,
        "text": {"format": SCHEMA},
        "instructions": "Cite.",
        "tools": [STOP],
    }


def test_a_conversation_for_chat() -> None:
    """One system message, first; calls in the message that made them; no reasoning and no searches."""
    body = chat.body_of(call(CONVERSATION, instructions="Cite.", tools=[STOP]), "m")
    assert body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Cite.\n\nBe short."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "auto"}},
                ],
            },
            {
                "role": "assistant",
                "content": "A pump. No more.",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "stop", "arguments": "{}"}},
                    {"id": "c2", "type": "function", "function": {"name": "stop", "arguments": '{"at":2}'}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "stopped"},
            {"role": "tool", "tool_call_id": "c2", "content": "at 2"},
        ],
        "max_tokens": 20,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": {"name": "stop", "parameters": {"type": "object"}}}],
    }


@pytest.mark.parametrize(
    ("parameters", "sent"),
    [
        ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        (
            {"text": {"format": SCHEMA}},
            {"response_format": {"type": "json_schema", "json_schema": {
                "name": "step", "schema": {"type": "object"}, "strict": True,
            }}},
        ),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ({"tool_choice": "required"}, {"tool_choice": "required"}),
        (
            {"tool_choice": {"type": "function", "name": "stop"}},
            {"tool_choice": {"type": "function", "function": {"name": "stop"}}},
        ),
        ({"temperature": 0, "seed": 7, "min_p": 0.1}, {"temperature": 0, "seed": 7, "min_p": 0.1}),
    ],
)  # fmt: skip
def test_parameters_that_chat_knows_by_other_names(parameters: dict[str, Any], sent: dict[str, Any]) -> None:
    """Others go on as they are."""
    asked = [{"role": "user", "content": "Hello"}]
    plain = chat.body_of(call(asked, tools=[STOP]), "m")
    assert chat.body_of(call(asked, tools=[STOP], parameters=parameters), "m") == {**plain, **sent}


def test_chunks_of_chat_become_parts() -> None:
    """The text and the refusal are of one item, each call is of its own; the end needs a reason."""
    reader = chat.Reader()
    chunks = [
        {"choices": [{"delta": {"role": "assistant", "content": ""}}], "service_tier": "priority"},
        {"choices": [{"delta": {"content": "A "}}]},
        {"choices": [{"delta": {"refusal": "No"}}]},
        {"choices": [{"delta": {"tool_calls": [
            {"index": 0, "id": "c1", "function": {"name": "stop", "arguments": ""}},
            {"index": 1, "id": "c2", "function": {"name": "go", "arguments": "{"}},
        ]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]}}]},
    ]  # fmt: skip
    assert [part for chunk in chunks for part in reader.read(chunk)] == [
        TextDelta(0, "A "),
        RefusalDelta(0, "No"),
        CallAdded(1, "c1", "stop"),
        CallAdded(2, "c2", "go"),
        ArgumentsDelta(2, "{"),
        ArgumentsDelta(2, "}"),
    ]
    assert reader.end() == Finished("incomplete", "upstream_ended", None, "priority")
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": None,
    }
    assert list(reader.read({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})) == []
    assert list(reader.read({"choices": [], "usage": usage})) == []
    assert reader.end() == Finished("completed", None, Usage(9, 4, cached=5), "priority")


@pytest.mark.parametrize(
    ("reason", "status"), [("stop", "completed"), ("length", "incomplete"), ("content_filter", "incomplete")]
)
def test_how_chat_ends(reason: str, status: str) -> None:
    """In the words of the Responses API."""
    told = {"stop": None, "length": "max_output_tokens", "content_filter": "content_filter"}[reason]
    answer = {"choices": [{"message": {"content": "A"}, "finish_reason": reason}]}
    assert list(chat.Reader().whole(answer)) == [TextDelta(0, "A"), Finished(status, told)]


def test_events_of_responses_become_parts() -> None:
    """What was streamed does not come again with the item, or with the whole; what was not does."""
    said = {"type": "message", "id": "m1", "content": [{"type": "output_text", "text": "A pump"}]}
    thought = {"type": "reasoning", "id": "r1", "summary": []}
    called = {"type": "function_call", "id": "f1", "call_id": "c1", "name": "stop", "arguments": "{}"}
    refused = {"type": "message", "id": "m2", "content": [{"type": "refusal", "refusal": "No"}]}
    usage = {"input_tokens": 9, "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 2}}
    events = [
        {"type": "response.created", "response": {"status": "in_progress"}},
        {"type": "response.output_item.done", "output_index": 0, "item": thought},
        {"type": "response.output_text.delta", "output_index": 1, "item_id": "m1", "delta": "A "},
        {"type": "response.output_text.delta", "output_index": 1, "item_id": "m1", "delta": "pump"},
        {"type": "response.output_item.done", "output_index": 1, "item": said},
        {"type": "response.output_item.added", "output_index": 2, "item": called},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "item_id": "f1", "delta": "{}"},
        {"type": "response.output_item.done", "output_index": 2, "item": called},
        {"type": "response.completed", "response": {
            "status": "completed", "output": [thought, said, called, refused], "usage": usage,
            "service_tier": "flex",
        }},
    ]  # fmt: skip
    reader = responses.Reader()
    assert [part for event in events for part in reader.read(event)] == [
        ItemPassed(0, thought),
        TextDelta(1, "A "),
        TextDelta(1, "pump"),
        CallAdded(2, "c1", "stop"),
        ArgumentsDelta(2, "{}"),
        RefusalDelta(3, "No"),
        Finished("completed", None, Usage(9, 4, reasoning=2), "flex"),
    ]


@pytest.mark.parametrize(
    ("response", "finished"),
    [
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            Finished("incomplete", "max_output_tokens"),
        ),
        ({"status": "failed", "error": {"code": "x", "message": "out"}}, Finished("failed", "out")),
        ({"status": "in_progress"}, Finished("incomplete", "upstream_ended")),
        ({"status": "completed", "usage": {"input_tokens": -1, "output_tokens": 1}}, Finished("completed")),
    ],
)
def test_how_responses_end(response: dict[str, Any], finished: Finished) -> None:
    """By what the last event says; usage that cannot be is none."""
    assert list(responses.Reader().whole(response)) == [finished]
    assert responses.Reader().end() == Finished("incomplete", "upstream_ended")


SEEKS = {
    "type": "web_search",
    "search_context_size": "low",
    "user_location": {"type": "approximate", "city": "Berlin"},
}


def test_an_endpoint_is_asked_to_search_the_web() -> None:
    """Beside functions, as each kind says it; a choice of the search is none of a function."""
    asked = call([], tools=[STOP], web_search=SEEKS, parameters={"tool_choice": {"type": "web_search"}})
    assert responses.body_of(asked, "m")["tools"] == [STOP, SEEKS]
    body = chat.body_of(asked, "m")
    assert [one["type"] for one in body["tools"]] == ["function"]
    place = {"type": "approximate", "approximate": {"city": "Berlin"}}
    assert body["web_search_options"] == {"search_context_size": "low", "user_location": place}
    assert "tool_choice" not in body


def _annotation(start: int, end: int, **more: Any) -> dict[str, Any]:
    return {"type": "url_citation", "url": "u", "title": "t", "start_index": start, "end_index": end, **more}


def test_what_is_cited_of_several_contents_has_places_in_all_their_text() -> None:
    """Streamed or told in one piece: here the contents of a message are one text."""
    delta = {"type": "response.output_text.delta", "item_id": "m", "output_index": 0}
    added = {"type": "response.output_text.annotation.added", "item_id": "m", "output_index": 0}
    events = [
        {**delta, "content_index": 0, "delta": "Four"},
        {**delta, "content_index": 1, "delta": "and"},
        {**delta, "content_index": 1, "delta": " more"},
        {**added, "content_index": 1, "annotation": _annotation(0, 3)},
        {**added, "content_index": 0, "annotation": {"type": "file_citation", "file_id": "f"}},
    ]
    reader = responses.Reader()
    streamed = [part for event in events for part in reader.read(event)]
    assert streamed[-1] == PageCited(0, "u", "t", 4, 7)
    content = [
        {"type": "output_text", "text": "Four", "annotations": [_annotation(0, 4)]},
        {"type": "output_text", "text": "and more", "annotations": [_annotation(0, 3, title=None)]},
    ]
    item = {"type": "message", "id": "m", "content": content}
    whole = list(responses.Reader().whole({"status": "completed", "output": [item]}))
    assert whole[:-1] == [
        TextDelta(0, "Four"),
        PageCited(0, "u", "t", 0, 4),
        TextDelta(0, "and more"),
        PageCited(0, "u", "", 4, 7),
    ]


def test_what_chat_cites() -> None:
    """In a delta behind the text; other kinds of annotations are passed over."""
    told = _annotation(0, 4)
    cited = {"type": told.pop("type"), "url_citation": told}
    chunk = {"choices": [{"delta": {"annotations": [cited, {"type": "other"}]}}]}
    assert list(chat.Reader().read(chunk)) == [PageCited(0, "u", "t", 0, 4)]


def test_a_citation_without_a_place_is_not_as_documented() -> None:
    """It is a fault of the stream."""
    chunk = {
        "choices": [{"delta": {"annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}]}}]
    }
    with pytest.raises(KeyError):
        list(chat.Reader().read(chunk))


def test_reasoning_without_its_content_stays_here() -> None:
    """Nothing is kept there, so its id is refused, and with it a search that it led to."""
    search = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {}}
    said = {"role": "assistant", "content": "At nine."}
    bare = {"id": "rs_1", "type": "reasoning", "summary": []}
    whole = {**bare, "encrypted_content": "abc"}
    told = {**bare, "content": [{"type": "reasoning_text", "text": "Hm."}]}

    def sent(*items: dict[str, Any]) -> list[dict[str, Any]]:
        return list(responses.body_of(call(list(items)), "m")["input"])

    assert sent(search, said) == [search, said]
    assert sent(whole, search, told, said) == [whole, search, told, said]
    assert sent(bare, search, search, said) == [said]
    assert sent(bare, whole, search, said) == [whole, search, said]
