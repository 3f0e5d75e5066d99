"""A call that a person must allow: asked for, decided once, made by whichever process, or not at all."""

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from streams import whole
from upstream import Answer, Call, Upstream, replies

MODEL = "gpt-4.1-mini"
CLOCK = {"type": "mcp", "server_label": "clock", "connector_id": "clock", "require_approval": "always"}
ARGUMENTS = '{"timezone": "Europe/Berlin"}'
ASKS = replies.says(Answer(deltas=(), calls=(Call("clock__get_current_time", (ARGUMENTS,)),)))
DONE = replies.says()


def run(client: OpenAI, model: str = MODEL, **more: Any) -> dict[str, Any]:
    """The response that a stream of checked events ends with."""
    asked = {"model": model, "input": "What time is it?", "tools": [CLOCK], **more}
    return whole(client.responses.create(**asked, stream=True))


def decide(client: OpenAI, waiting: dict[str, Any], approve: bool = True, **more: Any) -> dict[str, Any]:
    """Go on from a response that asks, with a word on its first request."""
    word = {"type": "mcp_approval_response", "approval_request_id": asked_for(waiting)["id"]}
    given = {"input": [{**word, "approve": approve}], "previous_response_id": waiting["id"]}
    return run(client, **{"model": waiting["model"], **given, **more})


def asked_for(response: dict[str, Any]) -> dict[str, Any]:
    """The request that a response ends with."""
    item: dict[str, Any] = response["output"][-1]
    assert item["type"] == "mcp_approval_request"
    return item


def made_calls(response: dict[str, Any]) -> list[dict[str, Any]]:
    """Calls of tools."""
    return [item for item in response["output"] if item["type"] == "mcp_call"]


def steps_of(house: Any, *responses: dict[str, Any]) -> list[Any]:
    """What was begun for them."""
    with closing(house.catalog()) as catalog:
        return [step for one in responses for step in catalog.steps.of(one["id"])]


@pytest.fixture
def doomed(house: Any, started: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    """A further process over the same data folder, to be killed."""
    server = started(house.folder, tmp_path / "log", **house.environment)
    yield server
    server.end()


def test_nothing_is_made_before_the_yes(client: OpenAI, upstream: Upstream, house: Any, model: str) -> None:
    """The request ends the turn; the yes has exactly that call made, and the model reads what it gave."""
    upstream.script(ASKS, DONE)
    waiting = run(client, model)
    asked = asked_for(waiting)
    assert (waiting["status"], made_calls(waiting)) == ("completed", [])
    assert (asked["server_label"], asked["name"]) == ("clock", "get_current_time")
    assert asked["arguments"] == ARGUMENTS
    assert (steps_of(house, waiting), len(upstream.requests)) == ([], 1)
    after = decide(client, waiting)
    (call,) = made_calls(after)
    assert (call["status"], call["approval_request_id"]) == ("completed", asked["id"])
    assert (call["arguments"], "Europe/Berlin" in call["output"]) == (ARGUMENTS, True)
    (step,) = steps_of(house, after)
    assert (step.status, step.output) == ("done", call["output"])
    assert json.dumps(call["output"])[1:-1] in json.dumps(upstream.requests[-1].body)
    assert after["output"][-1]["content"][0]["text"] == "Open the valve first."


def test_another_process_goes_on(house: Any, doomed: Any, upstream: Upstream) -> None:
    """The one that asked is gone by then."""
    upstream.script(ASKS, DONE)
    waiting = run(house.sdk(url=doomed.client.base_url))
    doomed.kill()
    (call,) = made_calls(decide(house.sdk(), waiting))
    assert call["status"] == "completed"


def test_a_no_is_told_to_the_model(client: OpenAI, upstream: Upstream, house: Any, model: str) -> None:
    """With its reason; the call is not made."""
    upstream.script(ASKS, DONE)
    waiting = run(client, model)
    word = {"type": "mcp_approval_response", "approval_request_id": asked_for(waiting)["id"]}
    given = [{**word, "approve": False, "reason": "Look at the wall"}]
    after = run(client, model, input=given, previous_response_id=waiting["id"])
    (call,) = made_calls(after)
    told = "The user does not allow this call: Look at the wall. Do not make it again; go on without it."
    assert (call["status"], call["output"], call["error"]["content"][0]["text"]) == ("failed", None, told)
    assert told in json.dumps(upstream.requests[-1].body)
    assert steps_of(house, waiting, after) == []


@pytest.mark.parametrize(
    ("policy", "asks"),
    [
        ("never", False),
        ({"never": {"tool_names": ["get_current_time"]}}, False),
        ({"never": {"tool_names": ["convert_time"]}}, True),
        ({"always": {"tool_names": ["get_current_time"]}}, True),
    ],
)
def test_policies(client: OpenAI, upstream: Upstream, policy: Any, asks: bool) -> None:
    """By the caller's word, where the operator leaves it to them."""
    upstream.script(ASKS, DONE)
    ended = run(client, tools=[{**CLOCK, "require_approval": policy}])
    assert (ended["output"][-1]["type"] == "mcp_approval_request") == asks
    assert len(made_calls(ended)) == (not asks)


def test_two_clicks_run_once(house: Any, upstream: Upstream) -> None:
    """At the same moment and later: one goes on, the others are told that it was decided."""
    upstream.script(ASKS, DONE)
    waiting = run(house.sdk())

    def click(client: OpenAI) -> Any:
        try:
            return decide(client, waiting)
        except openai.ConflictError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(click, [house.sdk() for _ in range(4)]))
    after = [one for one in ended if isinstance(one, dict)]
    (winner,) = after
    assert made_calls(winner)[0]["status"] == "completed"
    assert len(steps_of(house, winner)) == 1
    late = click(house.sdk())
    assert isinstance(late, openai.ConflictError)
    assert "was decided already" in late.message
    assert len(upstream.requests) == 2


def test_whose_it_is(client: OpenAI, other: OpenAI, upstream: Upstream, house: Any) -> None:
    """Another key is told what it is told of one that is not there; and it is decided where it was asked."""
    upstream.script(ASKS, ASKS, DONE)
    waiting, another = run(client), run(client)
    for key, approval in ((other, asked_for(waiting)["id"]), (client, "mcpr_none")):
        word = {"type": "mcp_approval_response", "approval_request_id": approval, "approve": True}
        with pytest.raises(openai.NotFoundError):
            run(key, input=[word])
    word = {"type": "mcp_approval_response", "approval_request_id": asked_for(waiting)["id"], "approve": True}
    for more in ({}, {"previous_response_id": another["id"]}):
        with pytest.raises(openai.UnprocessableEntityError):
            run(client, input=[word], **more)
    with closing(house.catalog()) as catalog:
        assert [one.status for one in catalog.approvals.of(waiting["id"])] == ["pending"]
    assert made_calls(decide(client, waiting))[0]["status"] == "completed"


def test_a_yes_is_for_the_tool_as_it_was(
    house: Any, started: Callable[..., Any], upstream: Upstream, tmp_path: Path
) -> None:
    """Where the server is another one by then, the call is not made."""
    upstream.script(ASKS, DONE)
    waiting = run(house.sdk())
    changed = tmp_path / "connectors.toml"
    args = '["-m", "mcp_server_time", "--local-timezone", "Asia/Tokyo"]'
    changed.write_text(f'[[connector]]\nid = "clock"\ncommand = "{sys.executable}"\nargs = {args}\n')
    environment = {**house.environment, "KB_CONNECTORS": str(changed)}
    server = started(house.folder, tmp_path / "log", **environment)
    try:
        after = decide(house.sdk(url=server.client.base_url), waiting)
    finally:
        server.end()
    (call,) = made_calls(after)
    assert call["status"] == "failed"
    assert "The tool has changed since" in call["error"]["content"][0]["text"]
    assert steps_of(house, after) == []


def test_nor_without_its_server(client: OpenAI, upstream: Upstream, house: Any) -> None:
    """A request that names no server any more cannot have its tool called."""
    upstream.script(ASKS, DONE)
    after = decide(client, run(client), tools=[])
    assert made_calls(after)[0]["status"] == "failed"
    assert steps_of(house, after) == []


def test_an_item_of_an_answer_is_no_yes(client: OpenAI, upstream: Upstream, house: Any) -> None:
    """A client that sends the request back, with whatever in it, has allowed nothing."""
    upstream.script(ASKS, ASKS)
    waiting = run(client)
    said = {"role": "user", "content": "Well?"}
    again = run(client, input=[said, {**asked_for(waiting), "approve": True}])
    assert asked_for(again)["id"] != asked_for(waiting)["id"]
    assert steps_of(house, waiting, again) == []
