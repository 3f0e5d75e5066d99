"""The scripted endpoint speaks as OpenAI's do, as the official SDK understands them."""

import socket
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from upstream import Answer, Call, Used, deaf, refusing, replies

ANSWER = Answer(
    ("Öffne ", "das Ventil 🚧"),
    (Call("look", ('{"page"', ": 7}")), Call("count", ("{}",), "call_2")),
    Used(100, 20, cached=64, reasoning=8),
    "priority",
)


@pytest.fixture
def client(upstream: Any) -> Iterator[openai.OpenAI]:
    """The SDK, without retries."""
    with openai.OpenAI(base_url=upstream.url, api_key="key", max_retries=0, timeout=5) as made:
        yield made


@pytest.mark.parametrize("reply", [replies.says, replies.byte_by_byte])
def test_a_response_is_streamed(upstream: Any, client: openai.OpenAI, reply: Any) -> None:
    """In order, text and calls, with usage and the tier that answered."""
    upstream.script(reply(ANSWER))
    with client.responses.stream(model="m", input="x") as stream:
        assert [event.sequence_number for event in stream] == list(range(19))
        made = stream.get_final_response()
    assert made.output_text == "Öffne das Ventil 🚧"
    assert [(one.name, one.arguments) for one in made.output[1:]] == [
        ("look", '{"page": 7}'),
        ("count", "{}"),
    ]
    assert (made.usage.input_tokens_details.cached_tokens, made.usage.total_tokens) == (64, 120)
    assert (made.status, made.service_tier) == ("completed", "priority")
    assert upstream.request().headers["authorization"] == "Bearer key"
    assert upstream.request().body["stream"] is True


@pytest.mark.parametrize("reply", [replies.says, replies.byte_by_byte])
def test_a_chat_is_streamed(upstream: Any, client: openai.OpenAI, reply: Any) -> None:
    """With usage where it was asked for."""
    upstream.script(reply(ANSWER))
    asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        list(stream)
        made = stream.get_final_completion()
    (choice,) = made.choices
    assert (choice.message.content, choice.finish_reason) == ("Öffne das Ventil 🚧", "tool_calls")
    assert [one.function.arguments for one in choice.message.tool_calls] == ['{"page": 7}', "{}"]
    assert (made.usage.completion_tokens_details.reasoning_tokens, made.service_tier) == (8, "priority")
    assert [chunk.usage for chunk in client.chat.completions.create(**asked, stream=True)] == [None] * 9


def test_an_answer_comes_whole_where_no_stream_was_asked_for(upstream: Any, client: openai.OpenAI) -> None:
    """Of both kinds; cut short by the limit on output tokens."""
    upstream.script(replies.says(Answer(("no end",), used=None, tier=None, cut_short=True)))
    response = client.responses.create(model="m", input="x")
    assert (response.output_text, response.status, response.usage) == ("no end", "incomplete", None)
    assert response.incomplete_details.reason == "max_output_tokens"
    (choice,) = client.chat.completions.create(model="m", messages=[]).choices
    assert (choice.message.content, choice.finish_reason) == ("no end", "length")


def test_it_is_seen_who_hangs_up(upstream: Any, client: openai.OpenAI) -> None:
    """While nothing comes, and in the middle of what never ends; afterwards no connection is left."""
    upstream.script(replies.breaks_off(3, [replies.Then.HOLD]), replies.endless(4))
    for number in range(2):
        with client.responses.create(model="m", input="x", stream=True) as stream:
            assert next(stream).type == "response.created"
            assert not upstream.request(number).hung_up.is_set()
        assert upstream.request(number).hung_up.wait(10)
    assert upstream.deserted()


def test_what_is_held_goes_on_when_told(upstream: Any, client: openai.OpenAI) -> None:
    """The rest of the stream."""
    upstream.script(
        replies.stream(lambda events: [*events[:1], replies.Then.HOLD, *events[1:], replies.Then.END])
    )
    with client.responses.create(model="m", input="x", stream=True) as stream:
        next(stream)
        upstream.request().go_on()
        assert [event.type for event in stream][-1] == "response.completed"


def test_addresses_that_do_not_answer() -> None:
    """One refuses, one lets connecting wait for ever."""
    for address, error in ((refusing(), ConnectionRefusedError), (deaf(), TimeoutError)):
        with address as url, socket.socket() as client:
            client.settimeout(0.2)
            with pytest.raises(error):
                client.connect(("127.0.0.1", int(url.split(":")[2].split("/")[0])))
