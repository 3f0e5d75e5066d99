"""Each kind of refusal has its status and its exception in the official SDK, at every door."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from upstream import Upstream, replies

from kb.catalog.keys import Limits

SEARCH = [{"type": "file_search", "vector_store_ids": ["handbook"]}]
QUESTION = "How is the pump started?"

Ask = Callable[..., Any]


def _responses(client: OpenAI, model: str, text: str = QUESTION, **more: Any) -> Any:
    return client.responses.create(model=model, input=text, **more)


def _chat(client: OpenAI, model: str, text: str = QUESTION, **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)


@pytest.fixture(params=["responses", "chat", "responses streamed", "chat streamed"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Asks a model, at each door; the answer is not read."""
    door, _, stream = str(request.param).partition(" ")
    asking = _responses if door == "responses" else _chat
    return lambda *given, **more: asking(*given, **more, **({"stream": True} if stream else {}))


def told(error: pytest.ExceptionInfo[openai.APIStatusError]) -> tuple[int, str | None, str | None]:
    """Status, code and the field at fault."""
    return error.value.status_code, error.value.code, error.value.param


@pytest.fixture
def insistent(house: Any) -> Callable[[str], tuple[OpenAI, list[Any]]]:
    """The SDK as it is by default, trying twice more, and what it has sent."""

    def make(key: str) -> tuple[OpenAI, list[Any]]:
        sent: list[Any] = []
        counting = openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})
        return house.sdk(key, max_retries=2, http_client=counting), sent

    return make


def test_a_window_that_is_too_small(client: OpenAI, upstream: Upstream, ask: Ask) -> None:
    """400, by our count without asking anybody, or in the endpoint's own words."""
    with pytest.raises(openai.BadRequestError) as ours:
        ask(client, "narrow", "valve " * 3000)
    assert told(ours) == (400, "context_length_exceeded", "model")
    assert upstream.requests == []
    upstream.script(replies.refuses(400, "context_length_exceeded", "too long"))
    with pytest.raises(openai.BadRequestError) as theirs:
        ask(client, "gpt-4.1-mini")
    assert told(theirs)[:2] == (400, "context_length_exceeded")


def test_a_budget_that_is_spent(
    house: Any, upstream: Upstream, ask: Ask, insistent: Any, request: pytest.FixtureRequest
) -> None:
    """402, told in one request, and nobody is asked."""
    house.make_key(name := request.node.name, Limits(hard=Decimal("0.001")))
    client, sent = insistent(name)
    with pytest.raises(openai.APIStatusError) as error:
        ask(client, "gpt-4.1-mini")
    assert told(error)[:2] == (402, "insufficient_credits")
    assert error.value.response.headers["x-should-retry"] == "false"
    assert (len(sent), upstream.requests) == (1, [])
    assert [row for row in house.rows() if row["key_id"] == house.ids[name]] == []


def test_what_a_key_may_not(house: Any, upstream: Upstream, ask: Ask, request: pytest.FixtureRequest) -> None:
    """403: other models and tiers than its own."""
    client = house.make_key(
        request.node.name, Limits(models=frozenset({"gpt-4.1-mini"}), tiers=frozenset({"standard"}))
    )
    for model, tier in (("chat-mini", "default"), ("gpt-4.1-mini", "priority")):
        with pytest.raises(openai.PermissionDeniedError) as error:
            ask(client, model, service_tier=tier)
        assert told(error)[:2] == (403, "not_allowed")
    assert upstream.requests == []
    ask(client, "gpt-4.1-mini", service_tier="default")


def test_what_is_not_there(client: OpenAI, upstream: Upstream, ask: Ask) -> None:
    """404: a model, a knowledge base."""
    with pytest.raises(openai.NotFoundError) as error:
        ask(client, "gpt-4.1-mino")
    assert told(error) == (404, "not_found", "model")
    assert "gpt-4.1-mini" in str(error.value)
    with pytest.raises(openai.NotFoundError) as error:
        ask(client, "gpt-4.1-mini", metadata={"knowledge_base_id": "nowhere"})
    assert told(error)[0] == 404
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"service_tier": "flex"}, "service_tier"),
        ({"extra_body": {"top_k": 3}}, "top_k"),
        ({"temperature": 3}, "temperature"),
        ({"tools": SEARCH * 2}, "tools"),
        ({"service_tier": "cheap"}, "service_tier"),
    ],
)
def test_what_cannot_be(
    client: OpenAI, upstream: Upstream, ask: Ask, more: dict[str, Any], param: str
) -> None:
    """422, naming the field; nobody is asked."""
    with pytest.raises(openai.UnprocessableEntityError) as error:
        ask(client, "gpt-4.1-mini", **more)
    assert told(error) == (422, "invalid_input", param)
    assert upstream.requests == []


def test_an_endpoint_that_is_asked_too_much(client: OpenAI, upstream: Upstream, ask: Ask) -> None:
    """429, with the time that it wants to be left alone for."""
    upstream.script(replies.refuses(429, retry_after="86400"))
    with pytest.raises(openai.RateLimitError) as error:
        ask(client, "gpt-4.1-mini")
    assert told(error)[:2] == (429, "upstream_busy")
    assert error.value.response.headers["retry-after"] == "86400"
    assert len(upstream.requests) == 1


def test_an_endpoint_that_is_not_there(insistent: Any, ask: Ask) -> None:
    """502, told in one request: it was tried again already."""
    client, sent = insistent("ann")
    with pytest.raises(openai.InternalServerError) as error:
        ask(client, "absent")
    assert told(error)[:2] == (502, "upstream_failed")
    assert len(sent) == 1


def test_no_endpoint(insistent: Any, ask: Ask) -> None:
    """503 says how to set one; what was found is beside it, packed, with its receipt."""
    client, sent = insistent("ann")
    with pytest.raises(openai.InternalServerError) as error:
        ask(client, "homeless", tools=SEARCH)
    assert told(error)[:2] == (503, "no_endpoint")
    assert "KB_ENDPOINTS" in str(error.value)
    assert len(sent) == 1
    context = error.value.response.json()["context"]
    assert "Open the brine valve first" in context["text"]
    assert context["passages"][0]["uri"] == "startup.md"
    assert Decimal(context["credits"]["standard"]["input"]) > 0


def test_no_endpoint_for_the_background(client: OpenAI) -> None:
    """Is told at once, and nothing is begun."""
    with pytest.raises(openai.InternalServerError) as error:
        client.responses.create(model="homeless", input=QUESTION, tools=SEARCH, background=True)  # type: ignore[arg-type]
    assert told(error)[:2] == (503, "no_endpoint")
    assert error.value.response.json()["context"]["passages"]


def test_an_endpoint_that_is_too_slow(insistent: Any, upstream: Upstream, ask: Ask) -> None:
    """504, told in one request, and the endpoint is hung up on."""
    upstream.script(replies.holds())
    client, sent = insistent("ann")
    with pytest.raises(openai.InternalServerError) as error:
        ask(client, "hasty")
    assert told(error)[:2] == (504, "upstream_timeout")
    assert (len(sent), len(upstream.requests)) == (1, 1)
    assert upstream.request().hung_up.wait(5)


def test_a_key_that_is_not_known(house: Any, ask: Ask) -> None:
    """401."""
    house.keys["nobody"] = "kb_nothing"
    with pytest.raises(openai.AuthenticationError) as error:
        ask(house.sdk("nobody"), "gpt-4.1-mini")
    assert told(error)[:2] == (401, "invalid_api_key")


def test_a_body_that_is_no_json(house: Any) -> None:
    """422 in the one form that all errors have."""
    head = {"authorization": f"Bearer {house.keys['ann']}", "content-type": "application/json"}
    for path in ("responses", "responses/input_tokens", "chat/completions"):
        answer = httpx2.post(f"{house.url}/v1/{path}", content=b"{", headers=head)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_json")
