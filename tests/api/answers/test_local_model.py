"""A run of a real model: it writes the call that it makes, and the answer, by what our own tool found.

Base weights cannot be told to call a tool, and their server refuses a grammar beside tools. So what stands in
front of it asks for the words of the first call under a grammar, and hands on all that follows as it is.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
from openai import OpenAI
from streams import whole
from upstream import Answer, Call, Head, Step, Then, Upstream, Used, replies
from upstream.server import Request

OWN = {"type": "mcp", "server_label": "kb", "connector_id": "kb", "require_approval": "never"}
GRAMMAR = r"""
root ::= "{\"query\": \"" word (" " word){1,2} "\", \"knowledge_base_id\": \"handbook\"}"
word ::= [a-z]{2,10}
"""
# Under either name, so that a call is not cut short.
_ALL_OF_IT = {"max_tokens": 64, "max_output_tokens": 64}


class FirstTurn:
    """Replies of the real model. used: tokens of each, as it counted them. arguments, text: what it wrote."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.asked: list[dict[str, Any]] = []
        self.arguments = ""
        self.text = ""
        self.used: list[Used] = []

    def __call__(self, request: Request) -> Iterator[Step]:
        """See `upstream.server.Reply`."""
        self.asked.append(request.body)
        if len(self.asked) == 1:
            yield from self._first(request)
            return
        yield Head()
        said = b""
        with httpx2.stream("POST", self._at(request), json=request.body, timeout=60) as answer:
            assert answer.status_code == 200, answer.read()
            for chunk in answer.iter_bytes():
                said += chunk
                yield chunk
        lines = said.decode().splitlines()
        self._read([json.loads(line[6:]) for line in lines if line.startswith("data: {")])
        yield Then.END

    def _read(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if event.get("type") == "response.output_text.delta":
                self.text += event["delta"]
            self.text += "".join(one["delta"].get("content") or "" for one in event.get("choices", ()))
        self._use(events[-1].get("response", events[-1])["usage"])

    def _use(self, usage: dict[str, Any]) -> None:
        given, written = ("prompt", "completion") if "prompt_tokens" in usage else ("input", "output")
        self.used.append(Used(usage[f"{given}_tokens"], usage[f"{written}_tokens"]))

    def _first(self, request: Request) -> Iterator[Step]:
        """Its own words, in the form of a call."""
        left_out = {"tools", "stream", "stream_options"}
        body = {name: value for name, value in request.body.items() if name not in left_out}
        answer = httpx2.post(
            self._at(request), json={**body, **_ALL_OF_IT, "grammar": GRAMMAR}, timeout=60
        ).json()
        self._use(answer["usage"])
        if request.chat:
            self.arguments = answer["choices"][0]["message"]["content"]
        else:
            self.arguments = answer["output"][0]["content"][0]["text"]
        call = Call("search_knowledge_base", (self.arguments,))
        yield from replies.says(Answer(deltas=(), calls=(call,), used=self.used[0]))(request)

    def _at(self, request: Request) -> str:
        return self._address + request.path.removeprefix("/v1")


def test_it_calls_our_tool_and_answers(
    client: OpenAI, upstream: Upstream, house: Any, model: str, local_model: str
) -> None:
    """The protocol holds; the call is made, its result read, both rounds are paid as the model counted."""
    real = FirstTurn(local_model)
    upstream.script(real)
    asked = {"model": model, "input": "How is the pump started?", "tools": [OWN], "temperature": 0}
    ended = whole(client.responses.create(**asked, max_output_tokens=24, stream=True))
    assert ended["status"] in ("completed", "incomplete")
    assert [item["type"] for item in ended["output"]] == ["mcp_list_tools", "mcp_call", "message"]
    _, call, message = ended["output"]
    # The words of the call are the model's, and what they found is ours.
    assert (call["name"], call["status"], call["arguments"]) == (
        "search_knowledge_base",
        "completed",
        real.arguments,
    )
    assert json.loads(real.arguments)["knowledge_base_id"] == "handbook"
    assert "Open the brine valve first" in call["output"]
    with_result = json.dumps(real.asked[1], ensure_ascii=False)
    assert json.dumps(call["output"], ensure_ascii=False)[1:-1] in with_result
    # What it said in the end is what its server sent, but for markers of citations.
    (part,) = message["content"]
    assert part["text"].partition("[")[0].rstrip() == real.text.partition("[")[0].rstrip() != ""
    rows = house.rows(ended["id"])
    assert [row["estimated"] for row in rows] == [False, False]
    assert [(row["input_tokens"], row["output_tokens"]) for row in rows] == [
        (one.input, one.output) for one in real.used
    ]
    assert real.used[1].input > real.used[0].input
    assert ended["usage"]["total_tokens"] == sum(one.input + one.output for one in real.used)
