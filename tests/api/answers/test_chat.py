"""`client.chat.completions` of the official SDK: created, streamed, parsed, with tools and citations."""

from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel
from streams import whole_chat
from upstream import Answer, Call, Then, Upstream, Used, replies

SENTENCE = "Open the valve first."
ASKED: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How?"}]
STOP: Any = {
    "type": "function",
    "function": {"name": "stop", "parameters": {"type": "object", "properties": {}}},
}
CALLS = Answer(
    deltas=("Both.",),
    calls=(Call("stop", ('{"pum', 'p": 1}'), "call_a"), Call("stop", ("{}",), "call_b")),
)
CITED = Answer(deltas=('First the valve [1: "Open the brine ', 'valve first"]. Then [1: "nothing"].'))


class Step(BaseModel):
    """What an answer in JSON holds."""

    part: str
    turns: int


def test_a_completion(client: OpenAI, upstream: Upstream, house: Any, model: str) -> None:
    """Whole, with its tokens and credits, and one row in the ledger."""
    upstream.script(replies.says(Answer(used=Used(input=1000, output=100, cached=600))))
    # What endpoints of the other kind do not have.
    more: Any = {"seed": 7, "stop": ["END"]} if model == "chat-mini" else {}
    made = client.chat.completions.create(model=model, messages=ASKED, max_tokens=50, **more)
    (choice,) = made.choices
    assert (made.object, made.model, made.service_tier) == ("chat.completion", model, "default")
    assert (choice.message.role, choice.message.content, choice.message.refusal) == (
        "assistant",
        SENTENCE,
        None,
    )
    assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
    usage = made.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (1000, 100, 1100)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 600
    assert usage.credits == "5.054"  # type: ignore[attr-defined]
    (row,) = house.rows(f"resp_{made.id.partition('_')[2]}")
    assert (row["status"], row["credits"]) == ("completed", "5.054")
    body = upstream.request().body
    if model == "chat-mini":
        assert body["messages"] == ASKED
        assert (body["seed"], body["stop"], body["max_tokens"]) == (7, ["END"], 50)
    else:
        assert [one["role"] for one in body["input"]] == ["system", "user"]
        assert body["max_output_tokens"] == 50


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream(client: OpenAI, upstream: Upstream, model: str, usage: bool) -> None:
    """Chunk by chunk as it came; the usage comes last, where it was asked for."""
    more: Any = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(client.chat.completions.create(model=model, messages=ASKED, stream=True, **more))
    said = whole_chat(chunks, usage=usage)
    assert (said["content"], said["finish_reason"]) == (SENTENCE, "stop")
    deltas = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert deltas == ["", "Open the ", "valve first", ".", None]
    if usage:
        assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (100, 7)


def test_the_sdk_s_own_accumulation(client: OpenAI, upstream: Upstream, model: str) -> None:
    """`chat.completions.stream` puts the chunks together to what comes at once otherwise."""
    upstream.script(replies.says(CALLS))
    with client.chat.completions.stream(model=model, messages=ASKED, tools=[STOP]) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion().choices[0]
    assert [(one.name, one.arguments, one.index) for one in done] == [
        ("stop", '{"pump": 1}', 0),
        ("stop", "{}", 1),
    ]
    (at_once,) = client.chat.completions.create(model=model, messages=ASKED, tools=[STOP]).choices
    assert (final.finish_reason, at_once.finish_reason) == ("tool_calls", "tool_calls")
    assert (final.message.content, at_once.message.content) == ("Both.", "Both.")
    assert [call.id for call in at_once.message.tool_calls or ()] == ["call_a", "call_b"]
    assert [call.function.arguments for call in final.message.tool_calls or ()] == [
        call.function.arguments  # type: ignore[union-attr]
        for call in at_once.message.tool_calls or ()
    ]


def test_answers_are_parsed(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Into a class, whose schema the endpoint was given in its own form."""
    upstream.script(replies.says(Answer(deltas=('{"part":"val', 've","turns":3}'))))
    parsed = client.chat.completions.parse(model=model, messages=ASKED, response_format=Step)
    assert parsed.choices[0].message.parsed == Step(part="valve", turns=3)
    with client.chat.completions.stream(model=model, messages=ASKED, response_format=Step) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Step(part="valve", turns=3)
    body = upstream.request().body
    told = body["text"]["format"] if "text" in body else body["response_format"]["json_schema"]
    assert (told["name"], told["strict"], told["schema"]["required"]) == ("Step", True, ["part", "turns"])


def test_functions_there_and_back(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Two calls in one streamed answer; their outputs go to the model behind them."""
    upstream.script(replies.says(CALLS), replies.says())
    said = whole_chat(client.chat.completions.create(model=model, messages=ASKED, tools=[STOP], stream=True))
    assert said["finish_reason"] == "tool_calls"
    calls = said["tool_calls"]
    assert [(call["id"], call["arguments"]) for call in calls] == [
        ("call_a", '{"pump": 1}'),
        ("call_b", "{}"),
    ]
    functions = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": call["arguments"]},
        }
        for call in calls
    ]
    outputs = [
        {"role": "tool", "tool_call_id": call["id"], "content": f"stopped {number}"}
        for number, call in enumerate(calls)
    ]
    said_before = {"role": "assistant", "content": said["content"], "tool_calls": functions}
    again = client.chat.completions.create(
        model=model, messages=[*ASKED, said_before, *outputs], tools=[STOP]
    )
    assert again.choices[0].message.content == SENTENCE
    body = upstream.request(1).body
    if model == "chat-mini":
        assert body["messages"][2:] == [said_before, *outputs]
    else:
        assert [(one["type"], one["call_id"]) for one in body["input"][3:]] == [
            ("function_call", "call_a"),
            ("function_call", "call_b"),
            ("function_call_output", "call_a"),
            ("function_call_output", "call_b"),
        ]
        assert [one["output"] for one in body["input"][5:]] == ["stopped 0", "stopped 1"]


def test_a_grounded_answer(client: OpenAI, upstream: Upstream, model: str) -> None:
    """By the metadata alone; its citation has the exact place, and stands in the text where it says."""
    upstream.script(replies.says(CITED))
    asked: Any = {
        "model": model,
        "messages": [ASKED[0], {"role": "user", "content": "How is the pump started?"}],
        "metadata": {"knowledge_base_id": "handbook"},
    }
    made = client.chat.completions.create(**asked)
    message = made.choices[0].message
    assert message.content == "First the valve [1]. Then."
    (annotation,) = message.annotations or ()
    cited = annotation.url_citation.to_dict()
    assert (cited["quote"], cited["url"]) == ("Open the brine valve first", "startup.md")
    assert message.content[int(cited["start_index"]) : int(cited["end_index"])] == "[1]"  # type: ignore[call-overload]
    assert made.citations == {"verified": 1, "dropped": 1}  # type: ignore[attr-defined]
    assert made.context["passages"][0]["tokens"] > 0  # type: ignore[attr-defined]
    streamed = whole_chat(client.chat.completions.create(**asked, stream=True))
    assert streamed["content"] == message.content
    assert [one["url_citation"]["quote"] for one in streamed["annotations"]] == [cited["quote"]]
    # The passages go behind what the model is told to do, and in front of what is asked.
    body = upstream.request().body
    sent = body.get("messages") or body["input"]
    roles = [one["role"] for one in sent if one["role"] != "developer"]
    assert roles[-3:] == ["system", "user", "user"]


def test_an_upstream_that_breaks_off(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Is an error: Chat Completions has no other word for it. Streamed, behind what there was."""
    first = 4 if model == "gpt-4.1-mini" else 1
    upstream.script(replies.breaks_off(first + 1, [Then.RESET]))
    with pytest.raises(openai.InternalServerError) as whole:
        client.chat.completions.create(model=model, messages=ASKED)
    assert (whole.value.status_code, whole.value.response.headers["x-should-retry"]) == (502, "false")
    chunks = iter(client.chat.completions.create(model=model, messages=ASKED, stream=True))
    assert [next(chunks).choices[0].delta.content for _ in range(2)] == ["", "Open the "]
    with pytest.raises(openai.APIError) as broken:
        next(chunks)
    assert broken.value.code == whole.value.code
    assert str(broken.value.code).startswith("upstream_")


def test_the_longest_answer_allowed(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Ends with `length`."""
    upstream.script(replies.says(Answer(cut_short=True)))
    made = client.chat.completions.create(model=model, messages=ASKED, max_completion_tokens=7)
    assert (made.choices[0].finish_reason, made.choices[0].message.content) == ("length", SENTENCE)
