"""`client.responses` of the official SDK: created, streamed, parsed, gone on from, with tools."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from streams import whole
from upstream import Answer, Then, Upstream, Used, replies

SENTENCE = "Open the valve first."


class Step(BaseModel):
    """What an answer in JSON holds."""

    part: str
    turns: int


def test_an_answer(client: OpenAI, upstream: Upstream, house: Any, model: str) -> None:
    """Whole, with its tokens and credits to the last decimal, and one row in the ledger."""
    upstream.script(replies.says(Answer(used=Used(input=1000, output=100, cached=600, reasoning=40))))
    answer = client.responses.create(model=model, input="How?", metadata={"case": "7"}, temperature=0.5)
    assert (answer.object, answer.status, answer.model) == ("response", "completed", model)
    assert (answer.output_text, answer.metadata, answer.temperature) == (SENTENCE, {"case": "7"}, 0.5)
    assert (answer.error, answer.incomplete_details, answer.service_tier) == (None, None, "default")
    usage = answer.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (1000, 100, 1100)
    assert usage.input_tokens_details.cached_tokens == 600
    assert usage.output_tokens_details.reasoning_tokens == 40
    # 400 x 5.32 + 600 x 1.33 + 100 x 21.28, for 1,000 tokens.
    assert (usage.credits, usage.estimated) == ("5.054", False)  # type: ignore[attr-defined]
    (row,) = house.rows(answer.id)
    assert (row["status"], row["credits"], row["model"]) == ("completed", "5.054", model)
    sent = upstream.request().body
    assert (sent["model"], sent["temperature"], sent["stream"]) == (
        "their-mini" if model == "gpt-4.1-mini" else model,
        0.5,
        True,
    )
    assert client.responses.retrieve(answer.id) == answer


def test_a_stream(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Delta by delta as it came; what is kept is what it ended with."""
    with client.responses.create(model=model, input="How?", stream=True) as stream:
        events = list(stream)
    assert [event.delta for event in events if event.type == "response.output_text.delta"] == [
        "Open the ",
        "valve first",
        ".",
    ]
    ended = whole(events)
    assert ended == client.responses.retrieve(ended["id"]).to_dict()
    assert ended == whole(client.responses.retrieve(ended["id"], stream=True))
    assert [one["content"][0]["text"] for one in ended["output"]] == [SENTENCE]


def test_the_first_words_come_before_the_last(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Nothing is held back: the endpoint goes on only once the client has read what there was."""
    upstream.script(held_behind_first(model))
    with client.responses.create(model=model, input="How?", stream=True) as stream:
        events = []
        for event in stream:
            events.append(event)
            if event.type == "response.output_text.delta" and event.delta == "Open the ":
                upstream.request().go_on()
    assert whole(events)["status"] == "completed"


def test_the_sdk_s_own_accumulation(client: OpenAI, upstream: Upstream, model: str) -> None:
    """`responses.stream` snapshots the same text, and its final response is the kept one."""
    with client.responses.stream(model=model, input="How?") as stream:
        said = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert said == ["Open the ", "Open the valve first", SENTENCE]
    assert final.output_text == SENTENCE
    assert client.responses.retrieve(final.id).usage == final.usage


def test_answers_are_parsed(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Whole and streamed, into a class, whose schema the endpoint was given in its own form."""
    upstream.script(replies.says(Answer(deltas=('{"part":"val', 've","turns":3}'))))
    parsed = client.responses.parse(model=model, input="How?", text_format=Step)
    assert parsed.output_parsed == Step(part="valve", turns=3)
    with client.responses.stream(model=model, input="How?", text_format=Step) as stream:
        assert stream.get_final_response().output_parsed == Step(part="valve", turns=3)
    body = upstream.request().body
    told = body["text"]["format"] if "text" in body else body["response_format"]["json_schema"]
    assert (told["name"], told["strict"]) == ("Step", True)
    assert told["schema"]["required"] == ["part", "turns"]


def test_the_longest_answer_allowed(client: OpenAI, upstream: Upstream, model: str) -> None:
    """What the limit cuts off is incomplete, and says so."""
    upstream.script(replies.says(Answer(cut_short=True)))
    ended = whole(client.responses.create(model=model, input="How?", max_output_tokens=7, stream=True))
    assert (ended["status"], ended["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert ended["output"][0]["status"] == "incomplete"
    body = upstream.request().body
    assert body.get("max_output_tokens", body.get("max_tokens")) == 7


@pytest.mark.parametrize("streams", [False, True])
def test_an_upstream_that_breaks_off(
    client: OpenAI, upstream: Upstream, house: Any, model: str, streams: bool
) -> None:
    """Ends as incomplete with what there was, and its reason; estimated in the ledger."""
    first = 4 if model == "gpt-4.1-mini" else 1
    upstream.script(replies.breaks_off(first + 1, [Then.RESET]))
    if streams:
        ended = whole(client.responses.create(model=model, input="How?", stream=True))
    else:
        ended = client.responses.create(model=model, input="How?").to_dict()
    assert (ended["status"], ended["output"][0]["content"][0]["text"]) == ("incomplete", "Open the ")
    assert ended["incomplete_details"]["reason"].startswith("upstream_")
    (row,) = house.rows(ended["id"])
    assert (row["status"], row["output_tokens"], row["estimated"]) == ("incomplete", 3, True)


def test_the_asynchronous_client(house: Any, upstream: Upstream, model: str) -> None:
    """Streams side by side, each whole."""

    async def main() -> list[dict[str, Any]]:
        async with AsyncOpenAI(
            base_url=f"{house.url}/v1", api_key=house.keys["ann"], max_retries=0
        ) as client:

            async def one() -> dict[str, Any]:
                async with aclosing(
                    await client.responses.create(model=model, input="How?", stream=True)
                ) as stream:
                    return whole([event async for event in stream])

            return list(await asyncio.gather(*(one() for _ in range(8))))

    ended = asyncio.run(main())
    assert [one["output"][0]["content"][0]["text"] for one in ended] == [SENTENCE] * 8
    assert len({one["id"] for one in ended}) == 8


def held_behind_first(model: str) -> Any:
    """A sentence whose endpoint waits behind the first of its deltas."""
    at = 5 if model == "gpt-4.1-mini" else 2
    return replies.stream(lambda events: [*events[:at], Then.HOLD, *events[at:], Then.END])
