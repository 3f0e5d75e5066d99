"""A person's word, said again: by a second click, at another door, or since the first try failed."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from sqlalchemy import update
from streams import whole
from upstream import Answer, Call, Then, Upstream, Used, replies

from kb.catalog.schema import approvals

MODEL = "gpt-4.1-mini"
VALVE = {"type": "mcp", "server_label": "valve", "connector_id": "valve"}
DONE = replies.says()
HELD = replies.stream(lambda events: [*events[:5], Then.HOLD, *events[5:], Then.END])


def asks(*valves: str) -> Any:
    """The model wants to open them."""
    told = (Call("valve__open_valve", (json.dumps({"text": one}),), f"call_{one}") for one in valves)
    return replies.says(Answer(deltas=(), calls=tuple(told)))


def opened(house: Any, valve: str) -> int:
    """How often that was really done."""
    effects = house.folder / "effects"
    return effects.read_text().splitlines().count(f"open_valve {valve}") if effects.exists() else 0


def run(client: OpenAI, **more: Any) -> dict[str, Any]:
    """The response that a stream of checked events ends with."""
    asked = {"model": MODEL, "input": "Open it.", "tools": [VALVE], **more}
    return whole(client.responses.create(**asked, stream=True))


def requests_of(waiting: dict[str, Any]) -> list[str]:
    """The approvals that a response asks for."""
    return [item["id"] for item in waiting["output"] if item["type"] == "mcp_approval_request"]


def word(waiting: dict[str, Any], at: int = 0, *, approve: bool = True) -> dict[str, Any]:
    """What the next request has to have, to decide on one of them."""
    said = {"type": "mcp_approval_response", "approval_request_id": requests_of(waiting)[at]}
    return {"input": [{**said, "approve": approve}], "previous_response_id": waiting["id"]}


def click(house: Any, waiting: dict[str, Any], at: int = 0, *, approve: bool = True) -> httpx2.Response:
    """The same as a word to the run."""
    path = f"{house.url}/v1/runs/{waiting['id']}/approvals/{requests_of(waiting)[at]}"
    head = {"authorization": f"Bearer {house.keys['ann']}"}
    return httpx2.post(path, json={"approve": approve}, headers=head, timeout=30)


def made(response: dict[str, Any]) -> list[dict[str, Any]]:
    """Calls of tools that it shows."""
    return [item for item in response["output"] if item["type"] == "mcp_call"]


def steps_of(house: Any, response_id: str) -> list[Any]:
    """What was begun for it."""
    with closing(house.catalog()) as catalog:
        return list(catalog.steps.of(response_id))


def test_every_click_is_answered_with_the_run_that_goes_on(
    house: Any, client: OpenAI, upstream: Upstream
) -> None:
    """At the same moment and later: so a client that lost the first answer has the run all the same."""
    upstream.script(asks("clicked"), DONE)
    waiting = run(client)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: click(house, waiting), range(4)))
    assert [one.status_code for one in answers] == [200] * 4
    (name,) = {one.json()["id"] for one in answers}
    ended = whole(client.responses.retrieve(name, stream=True))
    assert (ended["status"], ended["previous_response_id"]) == ("completed", waiting["id"])
    assert ([step.status for step in steps_of(house, name)], opened(house, "clicked")) == (["done"], 1)
    assert click(house, waiting).json()["response"] == ended
    refused = click(house, waiting, approve=False)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "already_exists")
    assert f"it is approved, and {name} went on from there" in refused.json()["error"]["message"]
    with pytest.raises(openai.ConflictError):
        run(client, **word(waiting))
    assert len(upstream.requests) == 2


def test_two_calls_decided_at_two_doors(house: Any, client: OpenAI, upstream: Upstream) -> None:
    """Each is gone on from once."""
    upstream.script(asks("left", "right"), DONE)
    waiting = run(client)
    first = run(client, **word(waiting, 0))
    second = click(house, waiting, 1).json()
    ended = whole(client.responses.retrieve(second["id"], stream=True))
    assert [json.loads(one["arguments"])["text"] for one in (*made(first), *made(ended))] == ["left", "right"]
    assert (opened(house, "left"), opened(house, "right")) == (1, 1)
    for one, at in ((first, 0), (ended, 1)):
        assert [step.call_id for step in steps_of(house, one["id"])] == [requests_of(waiting)[at]]


def test_a_model_that_fails_behind_the_call(house: Any, client: OpenAI, upstream: Upstream) -> None:
    """What goes on next reads what the call gave, and does not make it again."""
    upstream.script(asks("again"), replies.refuses(400), DONE)
    waiting = run(client)
    failed = run(client, **word(waiting))
    assert (failed["status"], made(failed)[0]["status"]) == ("failed", "completed")
    after = run(client, **word(waiting))
    assert after["status"] == "completed"
    (before,), (call,) = made(failed), made(after)
    assert (call["status"], call["output"]) == ("completed", before["output"])
    assert json.dumps(call["output"])[1:-1] in json.dumps(upstream.requests[-1].body)
    assert (len(steps_of(house, failed["id"])), steps_of(house, after["id"])) == (1, [])
    assert opened(house, "again") == 1
    with pytest.raises(openai.ConflictError):
        run(client, **word(waiting))


def test_a_client_that_leaves_may_ask_again(
    house: Any, client: OpenAI, upstream: Upstream, until: Callable[..., Any]
) -> None:
    """While it is there, nobody else goes on; what it had allowed is not made twice."""
    upstream.script(asks("left alone"), HELD, DONE)
    waiting = run(client)
    stream = client.responses.create(model=MODEL, tools=[VALVE], stream=True, **word(waiting))
    begun = next(event for event in stream if event.type == "response.output_text.delta")
    assert begun.delta == "Open the "
    with pytest.raises(openai.ConflictError):
        run(client, **word(waiting))
    stream.close()
    assert upstream.request(1).hung_up.wait(5)

    def again() -> Any:
        try:
            return run(client, **word(waiting))
        except openai.ConflictError:
            # What it had begun is not cleared up yet.
            return None

    after = until(again)
    assert (after["status"], made(after)[0]["status"]) == ("completed", "completed")
    with closing(house.catalog()) as catalog:
        approval = catalog.approvals.get(requests_of(waiting)[0], house.ids["ann"])
        assert approval.continued_by == after["id"]
    assert opened(house, "left alone") == 1


def test_what_is_not_stored_is_used_up_as_well(house: Any, client: OpenAI, upstream: Upstream) -> None:
    """By one that came to its end, and leaves nothing behind but that."""
    upstream.script(asks("unseen"), replies.refuses(400), DONE)
    waiting = run(client)
    failed = run(client, store=False, instructions="Whisper.", **word(waiting))
    kept = client.responses.retrieve(failed["id"])
    assert (kept.status, kept.output, kept.instructions) == ("failed", [], None)
    assert list(client.responses.input_items.list(failed["id"])) == []
    after = run(client, store=False, **word(waiting))
    assert after["status"] == "completed"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(after["id"])
    with pytest.raises(openai.ConflictError):
        run(client, store=False, **word(waiting))
    assert opened(house, "unseen") == 1


def test_a_no_is_acted_on_once_as_well(house: Any, client: OpenAI, upstream: Upstream) -> None:
    """Said twice in one request it is one word."""
    upstream.script(asks("denied"), DONE)
    waiting = run(client)
    said = word(waiting, approve=False)
    after = run(client, **{**said, "input": said["input"] * 2})
    assert [one["status"] for one in made(after)] == ["failed"]
    assert click(house, waiting, approve=False).json()["id"] == after["id"]
    assert click(house, waiting).status_code == 409
    assert (steps_of(house, after["id"]), opened(house, "denied")) == ([], 0)


def test_a_yes_is_for_these_arguments(house: Any, client: OpenAI, upstream: Upstream) -> None:
    """Where others stand there by then, whoever wrote them, the call is not made."""
    upstream.script(asks("this"), DONE)
    waiting = run(client)
    with closing(house.catalog()) as catalog, catalog.database.write() as connection:
        this = update(approvals).where(approvals.c.id == requests_of(waiting)[0])
        connection.execute(this.values(arguments='{"text": "another"}'))
    after = run(client, **word(waiting))
    (call,) = made(after)
    assert (call["status"], call["output"]) == ("failed", None)
    assert "The tool has changed since this call was allowed" in call["error"]["content"][0]["text"]
    assert steps_of(house, after["id"]) == []
    assert (opened(house, "this"), opened(house, "another")) == (0, 0)


def test_what_goes_on_is_asked_what_the_run_was_asked(
    house: Any, client: OpenAI, upstream: Upstream, site: Any
) -> None:
    """All that decides an answer, passages too; of its calls and credits what is left of them."""
    own = {"type": "mcp", "server_label": "kb", "connector_id": "kb"}
    search = Call("list_knowledge_bases", ("{}",), "call_list")
    valve = Call("valve__open_valve", ('{"text": "warm"}',), "call_warm")
    used = Used(1000, 10)
    upstream.script(
        replies.says(Answer(deltas=(), calls=(search, valve), used=used)),
        replies.says(Answer(deltas=(), calls=(search,), used=used)),
        DONE,
    )
    waiting = run(
        client,
        tools=[own, VALVE, {"type": "web_search"}, {"type": "file_search", "vector_store_ids": ["handbook"]}],
        instructions="Be short.",
        temperature=0.25,
        max_output_tokens=77,
        max_tool_calls=3,
        metadata={"team": "pumps"},
        tool_choice="required",
        reasoning={"effort": "low"},
        extra_body={"max_credits": "20.5"},
    )
    name = click(house, waiting).json()["id"]
    ended = whole(client.responses.retrieve(name, stream=True))
    first, second, last = (request.body for request in upstream.requests)
    for field in ("instructions", "temperature", "max_output_tokens", "reasoning", "model"):
        assert first[field] == second[field] == last[field]
    assert {one["name"] for one in first["tools"]} == {one["name"] for one in second["tools"]}
    assert "web_search" in {one["name"] for one in second["tools"]}
    # One was made by the run, one was allowed; with the third it has to answer.
    assert (first["tool_choice"], "tool_choice" in second, "tools" in last) == ("required", False, False)
    assert (ended["max_tool_calls"], ended["max_credits"]) == (2, "14.9672")
    assert (ended["metadata"], ended["tools"]) == (waiting["metadata"], waiting["tools"])
    assert [one["type"] for one in ended["output"]].count("file_search_call") == 1
    assert ended["context"]["passages"]
