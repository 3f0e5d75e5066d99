"""Conversations: functions there and back, turn after turn, what they rest on, what is kept of them."""

from typing import Any

import openai
import pytest
from openai import OpenAI
from streams import whole
from upstream import Answer, Call, Then, Upstream, replies

SENTENCE = "Open the valve first."
SEARCH = {"type": "file_search", "vector_store_ids": ["handbook"]}
STOP = {
    "type": "function",
    "name": "stop",
    "description": None,
    "parameters": {"type": "object", "properties": {"pump": {"type": "integer"}}},
    "strict": None,
}
CALLS = Answer(
    deltas=("Both.",),
    calls=(
        Call("stop", ('{"pum', 'p": 1}'), "call_a"),
        Call("stop", ("{}",), "call_b"),
    ),
)


def given(upstream: Upstream, number: int = 0) -> list[dict[str, Any]]:
    """What the endpoint was told, message by message, whatever its kind."""
    body = upstream.request(number).body
    return list(body["messages"] if "messages" in body else body["input"])


def test_functions_there_and_back(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Two calls in one answer; their outputs go to the model behind them, each once."""
    upstream.script(replies.says(CALLS), replies.says())
    ended = whole(client.responses.create(model=model, input="Stop them", tools=[STOP], stream=True))  # type: ignore[list-item]
    calls = [item for item in ended["output"] if item["type"] == "function_call"]
    assert [(call["call_id"], call["name"], call["arguments"]) for call in calls] == [
        ("call_a", "stop", '{"pump": 1}'),
        ("call_b", "stop", "{}"),
    ]
    outputs = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": f"stopped {number}"}
        for number, call in enumerate(calls)
    ]
    answer = client.responses.create(
        model=model,
        input=outputs,
        previous_response_id=ended["id"],
        tools=[STOP],
        parallel_tool_calls=False,
    )
    assert answer.output_text == SENTENCE
    sent = given(upstream, 1)
    if model == "gpt-4.1-mini":
        assert [one.get("role") for one in sent[:2]] == ["user", "assistant"]
        assert [(one["type"], one["call_id"]) for one in sent[2:]] == [
            ("function_call", "call_a"),
            ("function_call", "call_b"),
            ("function_call_output", "call_a"),
            ("function_call_output", "call_b"),
        ]
        assert [one["output"] for one in sent[4:]] == ["stopped 0", "stopped 1"]
    else:
        assert [one["role"] for one in sent] == ["user", "assistant", "tool", "tool"]
        assert [call["id"] for call in sent[1]["tool_calls"]] == ["call_a", "call_b"]
        assert [(one["tool_call_id"], one["content"]) for one in sent[2:]] == [
            ("call_a", "stopped 0"),
            ("call_b", "stopped 1"),
        ]
    assert upstream.request(1).body["parallel_tool_calls"] is False


def test_a_refusal(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Is no text, and is told as what it is; streamed and whole."""
    upstream.script(replies.stream(lambda events: [*map(refused, events), Then.END]))
    ended = whole(client.responses.create(model=model, input="How?", stream=True))
    assert ended["output"][0]["content"] == [{"type": "refusal", "refusal": SENTENCE}]
    again = client.responses.create(model=model, input="How?")
    assert (again.output_text, again.status) == ("", "completed")
    # And it is told to the model when the conversation goes on.
    upstream.script(replies.says())
    client.responses.create(model=model, input="Why?", previous_response_id=ended["id"])
    assert SENTENCE in str(given(upstream, 2)[1])


def test_three_turns(client: OpenAI, upstream: Upstream, model: str) -> None:
    """The passages stay the beginning of what the endpoint is told, word for word, as is foretold."""
    answer = client.responses.create(model=model, input="How is the pump started?", tools=[SEARCH])
    ids = [answer.id]
    assert answer.context["cached_tokens"] == 0  # type: ignore[attr-defined]
    for question in ("And in frost?", "Which part is the scraper blade?"):
        answer = client.responses.create(
            model=model, input=question, tools=[SEARCH], previous_response_id=ids[-1]
        )
        assert answer.context["cached_tokens"] > 0  # type: ignore[attr-defined]
        ids.append(answer.id)
    turns = [given(upstream, number) for number in range(3)]
    instructions = [[one for one in turn if one["role"] in ("system", "developer")] for turn in turns]
    assert instructions[0] == instructions[1] == instructions[2]
    passages = [text_of(next(one for one in turn if one["role"] == "user")) for turn in turns]
    assert "Open the brine valve first" in passages[0]
    assert passages[1].startswith(passages[0])
    assert passages[2].startswith(passages[1])
    said = [text_of(one) for one in turns[2] if one["role"] in ("user", "assistant")][1:]
    assert said == [
        "How is the pump started?",
        SENTENCE,
        "And in frost?",
        SENTENCE,
        "Which part is the scraper blade?",
    ]
    assert answer.output[0].queries == [  # type: ignore[union-attr]
        "Which part is the scraper blade?",
        "And in frost?\nWhich part is the scraper blade?",
    ]


def test_how_a_search_is_asked_for(client: OpenAI, upstream: Upstream) -> None:
    """By attributes, by how many, and by how near: what is left out reaches no model."""
    for options, found in [
        ({"max_num_results": 1}, 1),
        ({"ranking_options": {"score_threshold": 0.99}}, 0),
        ({"ranking_options": {"score_threshold": 0.5}}, 3),
        ({"filters": {"type": "eq", "key": "team", "value": "none"}}, 0),
    ]:
        answer = client.responses.create(
            model="gpt-4.1-mini",
            input="How is the pump started?",
            tools=[{**SEARCH, **options}],  # type: ignore[list-item]
            include=["file_search_call.results"],
        )
        results = answer.output[0].results  # type: ignore[union-attr]
        assert len(results or ()) == found
        passages = text_of(given(upstream, len(upstream.requests) - 1)[0])
        assert ("No passage was found" in passages) == (found == 0)


def test_meaning_alone_ranks_by_nearness(client: OpenAI, upstream: Upstream) -> None:
    """Weights of a search are heeded: with none on words the order is that of the scores."""
    weights = {"hybrid_search": {"embedding_weight": 1, "text_weight": 0}}
    orders = []
    for options in ({"ranking_options": weights}, {}):
        answer = client.responses.create(
            model="gpt-4.1-mini",
            input="4711 pump start brine",
            tools=[{**SEARCH, **options}],  # type: ignore[list-item]
            include=["file_search_call.results"],
        )
        orders.append([one.score for one in answer.output[0].results])  # type: ignore[union-attr]
    by_meaning, by_both = orders
    assert by_meaning == sorted(by_meaning, reverse=True)
    assert by_both != sorted(by_both, reverse=True)


def test_what_is_not_to_be_kept(client: OpenAI, upstream: Upstream) -> None:
    """Is answered, and not there afterwards, and cannot be gone on from."""
    answer = client.responses.create(model="gpt-4.1-mini", input="How?", store=False)
    assert (answer.output_text, answer.store) == (SENTENCE, False)  # type: ignore[attr-defined]
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)
    with pytest.raises(openai.NotFoundError) as error:
        client.responses.create(model="gpt-4.1-mini", input="And?", previous_response_id=answer.id)
    assert (error.value.code, error.value.param) == ("not_found", "previous_response_id")


def test_what_an_answer_was_given(client: OpenAI, upstream: Upstream) -> None:
    """Its own items, each with an id, a page at a time, in either order."""
    said = [{"role": "user", "content": word} for word in ("one", "two", "three")]
    answer = client.responses.create(model="gpt-4.1-mini", input=said)  # type: ignore[arg-type]
    for order, words in (("asc", ["one", "two", "three"]), ("desc", ["three", "two", "one"])):
        items = list(client.responses.input_items.list(answer.id, order=order, limit=2))  # type: ignore[arg-type]
        assert [item.content[0].text for item in items] == words  # type: ignore[union-attr]
        assert len({item.id for item in items}) == 3


def test_tokens_are_counted_without_asking_a_model(client: OpenAI, upstream: Upstream, house: Any) -> None:
    """As many as the call then reserves, passages and all; nothing is asked or paid."""
    request: dict[str, Any] = {
        "model": "gpt-4.1-mini",
        "input": "How is the pump started?",
        "tools": [SEARCH, STOP],
        "instructions": "Be brief.",
    }
    counted = client.responses.input_tokens.count(**request).input_tokens
    assert upstream.requests == []
    upstream.script(replies.says(Answer(used=None)))
    answer = client.responses.create(**request)
    (row,) = house.rows(answer.id)
    assert (row["input_tokens"], row["estimated"]) == (counted, True)


def test_forgotten_answers(client: OpenAI, upstream: Upstream) -> None:
    """Are not there, once and for all."""
    answer = client.responses.create(model="gpt-4.1-mini", input="How?")
    client.responses.delete(answer.id)
    for ask in (
        client.responses.retrieve,
        client.responses.delete,
        client.responses.cancel,
        client.responses.input_items.list,
    ):
        with pytest.raises(openai.NotFoundError) as error:
            ask(answer.id)
        assert (error.value.code, error.value.param) == ("not_found", "response_id")


def text_of(message: dict[str, Any]) -> str:
    """The text of one message of either kind."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def refused(event: bytes) -> bytes:
    """The same event of a refusal, of either kind of endpoint."""
    return (
        event.replace(b"response.output_text", b"response.refusal")
        .replace(b'"type": "output_text", "text"', b'"type": "refusal", "refusal"')
        .replace(b'"content": "', b'"refusal": "')
    )
