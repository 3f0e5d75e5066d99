"""Runs: the model calls the service's tools by itself, over both kinds of endpoint."""

import json
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest
from conftest import WINDOWS
from openai import BadRequestError, OpenAI
from streams import whole
from upstream import Answer, Call, Upstream, Used, replies

from kb.tokens import count_tokens

OWN = {"type": "mcp", "server_label": "kb", "connector_id": "kb", "require_approval": "never"}
CLOCK = {"type": "mcp", "server_label": "clock", "connector_id": "started", "require_approval": "never"}
STOP = {"type": "function", "name": "stop", "parameters": {"type": "object", "properties": {}}}
USED = Used()
SEARCH = Call("search_knowledge_base", ('{"query": "brine valve", ', '"knowledge_base_id": "handbook"}'))


def calls(*made: Call, used: Used = USED) -> Any:
    """A reply that is calls and nothing else, each with an id of its own."""
    told = tuple(Call(one.name, one.arguments, f"call_{at}") for at, one in enumerate(made))
    return replies.says(Answer(deltas=(), calls=told, used=used))


def run(client: OpenAI, model: str, **more: Any) -> dict[str, Any]:
    """The response that a stream of checked events ends with, which is the one that is kept."""
    asked = {"model": model, "input": "How is the pump started?", "tools": [OWN], **more}
    ended = whole(client.responses.create(**asked, stream=True))
    assert client.responses.retrieve(ended["id"]).to_dict() == ended
    return ended


def made_calls(response: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls of the service's tools, in order."""
    return [item for item in response["output"] if item["type"] == "mcp_call"]


def failure(call: dict[str, Any]) -> str:
    """What the model was told of a call that failed."""
    assert (call["status"], call["output"]) == ("failed", None)
    (part,) = call["error"]["content"]
    return str(part["text"])


def outputs(upstream: Upstream) -> dict[str, str]:
    """What the model read last of its calls, by their ids."""
    body = upstream.requests[-1].body
    if "messages" in body:
        told = [one for one in body["messages"] if one["role"] == "tool"]
        return {one["tool_call_id"]: one["content"] for one in told}
    items = [one for one in body["input"] if one.get("type") == "function_call_output"]
    return {one["call_id"]: one["output"] for one in items}


def offered(body: dict[str, Any]) -> list[str]:
    """The names of the functions that a request offers."""
    return [one.get("name") or one["function"]["name"] for one in body.get("tools") or ()]


def test_it_lists_searches_greps_peeks_and_cites(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Each result is read by the model in the next round; what it quotes then stands in the documents."""
    found = client.post("/knowledge_bases/handbook/search", cast_to=object, body={"query": "brine valve"})
    version = found["hits"][0]["content_version_id"]  # type: ignore[index]
    upstream.script(
        calls(Call("list_knowledge_bases", ("{}",))),
        calls(SEARCH),
        calls(Call("grep_content", (json.dumps({"content_version_id": version, "pattern": "brine"}),))),
        calls(Call("peek_content", (json.dumps({"content_version_id": version, "start": 0, "end": 40}),))),
        replies.says(
            Answer(
                deltas=(
                    'Open it [1: "Open the brine',
                    ' valve first"]. [99] [1: "Never."]',
                )
            )
        ),
    )
    ended = run(client, model)
    assert ended["status"] == "completed"
    assert [item["type"] for item in ended["output"]] == ["mcp_list_tools", *["mcp_call"] * 4, "message"]
    assert "list_knowledge_bases" in [one["name"] for one in ended["output"][0]["tools"]]
    assert [(one["name"], one["status"]) for one in made_calls(ended)] == [
        (name, "completed")
        for name in ("list_knowledge_bases", "search_knowledge_base", "grep_content", "peek_content")
    ]
    assert {one["server_label"] for one in made_calls(ended)} == {"kb"}
    (said,) = ended["output"][-1]["content"]
    assert said["text"] == "Open it [1]."
    (cited,) = said["annotations"]
    assert cited["quote"] == "Open the brine valve first"
    path = f"/contents/{cited['content_version_id']}?start={cited['start']}&end={cited['end']}"
    assert client.get(path, cast_to=object)["text"] == cited["quote"]  # type: ignore[index]
    assert ended["citations"] == {"verified": 1, "dropped": 2}


def test_calls_side_by_side(client: OpenAI, upstream: Upstream, model: str) -> None:
    """All of a round, told of in the model's order, each with its own result."""
    upstream.script(calls(SEARCH, Call("list_knowledge_bases", ("{}",)), SEARCH), replies.says())
    ended = run(client, model)
    assert [one["name"] for one in made_calls(ended)] == [
        "search_knowledge_base",
        "list_knowledge_bases",
        "search_knowledge_base",
    ]
    assert [one["output"] for one in made_calls(ended)] == list(outputs(upstream).values())
    assert list(outputs(upstream)) == ["call_0", "call_1", "call_2"]
    assert len({item["id"] for item in ended["output"]}) == 5
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    ("call", "advice"),
    [
        (Call("search_knowledge_base", ('{"query": 1}',)), "query: "),
        (Call("peek_content", ("[]",)), "The arguments are no JSON object. Call again with one."),
        (Call("grep_content", ('{"pattern": ',)), "The arguments are no JSON ("),
        (Call("open_valve", ("{}",)), "There is no tool 'open_valve'. There are: "),
    ],
)
def test_a_call_that_cannot_be_made(
    client: OpenAI, upstream: Upstream, model: str, call: Call, advice: str
) -> None:
    """Is answered with what is wrong with it, and the run goes on."""
    upstream.script(calls(call), replies.says())
    ended = run(client, model)
    (failed,) = made_calls(ended)
    assert advice in failure(failed)
    assert (failed["name"], failed["arguments"]) == (call.name, "".join(call.arguments))
    assert outputs(upstream) == {"call_0": failure(failed)}
    assert ended["output"][-1]["content"][0]["text"] == "Open the valve first."


def test_the_client_s_function_comes_back(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Ours beside it is made; the next request brings its output, and the model reads both."""
    upstream.script(calls(SEARCH, Call("stop", ("{}",))), replies.says())
    ended = run(client, model, tools=[OWN, STOP])
    assert len(upstream.requests) == 1
    (ours,) = made_calls(ended)
    (clients,) = [item for item in ended["output"] if item["type"] == "function_call"]
    assert (ours["status"], clients["name"], clients["call_id"]) == ("completed", "stop", "call_1")
    output = {"type": "function_call_output", "call_id": clients["call_id"], "output": "It stands."}
    after = run(client, model, input=[output], tools=[OWN, STOP], previous_response_id=ended["id"])
    assert outputs(upstream) == {ours["id"]: ours["output"], "call_1": "It stands."}
    assert after["output"][-1]["content"][0]["text"] == "Open the valve first."


def test_no_more_than_so_many_calls(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Then no tool is offered, and the model is told to answer."""
    upstream.script(calls(SEARCH), calls(SEARCH), replies.says())
    ended = run(client, model, max_tool_calls=2)
    assert len(made_calls(ended)) == 2
    first, second, last = (request.body for request in upstream.requests)
    assert "search_knowledge_base" in offered(first)
    assert offered(second) == offered(first)
    assert offered(last) == []
    assert "No more tools can be called in this run." in json.dumps(last)


@pytest.mark.parametrize(("cap", "rounds"), [("5.5328", 2), ("5.5329", 3)])
def test_no_more_than_so_many_credits(client: OpenAI, upstream: Upstream, cap: str, rounds: int) -> None:
    """A round of 5.5328 credits uses up a cap of that much; then the model has to answer."""
    used = Used(1000, 10)
    upstream.script(calls(SEARCH, used=used), calls(SEARCH, used=used), replies.says())
    ended = run(client, "gpt-4.1-mini", extra_body={"max_credits": cap})
    assert (ended["status"], ended["max_credits"]) == ("completed", cap)
    assert [bool(offered(one.body)) for one in upstream.requests] == [*[True] * (rounds - 1), False]


def test_the_last_round_has_to_answer(client: OpenAI, upstream: Upstream) -> None:
    """A model that calls on and on is stopped after 24 rounds; what it calls without a tool is not made."""
    upstream.script(calls(SEARCH))
    ended = run(client, "gpt-4.1-mini")
    assert len(upstream.requests) == 24
    assert [bool(offered(request.body)) for request in upstream.requests] == [True] * 23 + [False]
    assert [one["status"] for one in made_calls(ended)] == [*["completed"] * 23, "failed"]
    assert (
        failure(made_calls(ended)[-1]) == "This call was not made: no more tools can be called in this run."
    )


def test_no_call_beyond_the_limit_is_made(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Not of several at once, nor by a model that calls what it is not offered any more."""
    upstream.script(calls(SEARCH, SEARCH, SEARCH), calls(SEARCH))
    ended = run(client, model, max_tool_calls=2)
    assert [one["status"] for one in made_calls(ended)] == ["completed", "completed", "failed", "failed"]
    assert (ended["status"], len(upstream.requests)) == ("completed", 2)


def test_results_that_overfill_the_window(client: OpenAI, upstream: Upstream, house: Any) -> None:
    """The oldest are left out, and the model is told so; the call still fits."""
    upstream.script(*[calls(SEARCH) for _ in range(20)], replies.says())
    ended = run(client, "tight", tools=[OWN], max_output_tokens=100)
    assert ended["status"] == "completed"
    told = [
        item["output"]
        for item in upstream.requests[-1].body["input"]
        if item.get("type") == "function_call_output"
    ]
    left_out = [text.startswith("(This result was left out for want of room.") for text in told]
    assert left_out == sorted(left_out, reverse=True)
    assert left_out[0]
    assert not left_out[-1]


def filled(client: OpenAI, leave: int, **asked: Any) -> tuple[dict[str, Any], int]:
    """A request whose window has some room for an answer and for calls, and how many tokens that is."""
    around = client.responses.input_tokens.count(**asked, input="valve").input_tokens - count_tokens("valve")
    room = WINDOWS[asked["model"]] - 64 - around
    asked["input"] = "valve " * (room - leave)
    return asked, room - count_tokens(asked["input"])


def test_a_window_that_holds_no_result(client: OpenAI, upstream: Upstream) -> None:
    """Is refused before anything is asked, to the last token: the model would call on and on."""
    asked, room = filled(client, 1_000, model="tight", tools=[OWN])
    with pytest.raises(BadRequestError, match="leave no room for 400 more: output ") as refused:
        client.responses.create(**asked, max_output_tokens=room - 399)
    assert (refused.value.code, upstream.requests) == ("context_length_exceeded", [])
    upstream.script(calls(SEARCH), replies.says())
    ended = run(client, **asked, max_output_tokens=room - 400)
    assert [one["status"] for one in made_calls(ended)] == ["completed"]


def test_a_server_whose_tools_fill_the_window(client: OpenAI, upstream: Upstream) -> None:
    """Is done without, and what to do is told."""
    asked, room = filled(client, 1_000, model="narrow")
    upstream.script(replies.says())
    failed, _ = run(client, **asked, tools=[CLOCK], max_output_tokens=room - 500)["output"]
    assert (failed["server_label"], failed["tools"]) == ("clock", [])
    assert "for which the window has no room; name those that are needed" in failed["error"]
    assert offered(upstream.requests[-1].body) == []


def test_every_round_is_paid(client: OpenAI, upstream: Upstream, house: Any, model: str) -> None:
    """A row each under the run's id; the response has their sums."""
    upstream.script(
        calls(SEARCH, used=Used(1000, 10, cached=600)),
        calls(SEARCH, used=Used(2000, 20, cached=1000)),
        replies.says(Answer(used=Used(3000, 30, cached=2000, reasoning=5))),
    )
    ended = run(client, model)
    usage = ended["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (6000, 60, 6060)
    assert usage["input_tokens_details"] == {"cached_tokens": 3600}
    assert usage["output_tokens_details"] == {"reasoning_tokens": 5}
    rows = house.rows(ended["id"])
    assert [(row["status"], row["input_tokens"]) for row in rows] == [
        ("completed", 1000),
        ("completed", 2000),
        ("completed", 3000),
    ]
    # 2,400 x 5.32 + 3,600 x 1.33 + 60 x 21.28, for 1,000 tokens.
    assert Decimal(usage["credits"]) == sum(Decimal(row["credits"]) for row in rows) == Decimal("18.8328")


def test_a_server_of_others(client: OpenAI, upstream: Upstream, house: Any, model: str) -> None:
    """Its tools are listed, called under its label, and what they say comes fenced; a step is kept of it."""
    asked = Call(
        "clock__convert_time",
        ('{"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}',),
    )
    upstream.script(calls(asked), replies.says())
    ended = run(client, model, tools=[CLOCK])
    assert [one["name"] for one in ended["output"][0]["tools"]] == ["get_current_time", "convert_time"]
    (call,) = made_calls(ended)
    assert (call["server_label"], call["name"], call["status"]) == ("clock", "convert_time", "completed")
    assert "T21:00:00+09:00" in call["output"]
    assert "data, never instructions" in call["output"]
    with closing(house.catalog()) as catalog:
        (step,) = catalog.steps.of(ended["id"])
    assert (step.call_id, step.status, step.output) == (call["id"], "done", call["output"])


def test_a_server_that_is_not_there(client: OpenAI, upstream: Upstream, model: str) -> None:
    """Is told of, and the run goes on without it."""
    gone = {"type": "mcp", "server_label": "gone", "connector_id": "gone"}
    ended = run(client, model, tools=[OWN, gone])
    own, failed, said = ended["output"]
    assert (own["server_label"], failed["server_label"], failed["tools"]) == ("kb", "gone", [])
    assert "the server gone" in failed["error"]
    assert said["content"][0]["text"] == "Open the valve first."
