"""What a model's endpoint learns of who asks, and what it answers at which tier."""

import json
import re
from typing import Any

import pytest
from openai import OpenAI
from upstream import Answer, Upstream, Used, replies

USER = "joe@example.org"


def _responses(client: OpenAI, **more: Any) -> Any:
    return client.responses.create(model="gpt-4.1-mini", input="How?", **more)


def _chat(client: OpenAI, **more: Any) -> Any:
    messages: list[Any] = [{"role": "user", "content": "How?"}]
    return client.chat.completions.create(model="gpt-4.1-mini", messages=messages, **more)


@pytest.mark.parametrize("ask", [_responses, _chat])
def test_who_asks_is_a_hash(client: OpenAI, other: OpenAI, upstream: Upstream, ask: Any) -> None:
    """64 hexadecimal digits, the same for the same, of which each key and each user has its own."""
    for one in (client, other):
        for more in ({}, {"user": USER}, {"safety_identifier": USER}, {"user": "ann"}):
            ask(one, **more)
    identifiers = [request.body["safety_identifier"] for request in upstream.requests]
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in identifiers)
    for mine in (identifiers[:4], identifiers[4:]):
        assert mine[1] == mine[2]
        assert len(set(mine)) == 3
    assert len(set(identifiers)) == 6
    for request in upstream.requests:
        assert USER not in json.dumps([request.body, request.headers])
        assert "user" not in request.body
        assert client.api_key not in json.dumps([request.body, request.headers])


@pytest.mark.parametrize("ask", [_responses, _chat])
def test_the_tier_that_answers_is_paid(client: OpenAI, upstream: Upstream, ask: Any) -> None:
    """Asked for by any of its names; auto is the standard one."""
    for named, sent, answered, told, credits in [
        (None, "default", "default", "default", "26.6"),
        ("auto", "default", "default", "default", "26.6"),
        ("priority", "priority", "priority", "priority", "46.55"),
        ("fast", "priority", "priority", "priority", "46.55"),
        ("priority", "priority", "default", "default", "26.6"),
    ]:
        upstream.script(replies.says(Answer(used=Used(1000, 1000), tier=answered)))
        made = ask(client, **({"service_tier": named} if named else {}))
        assert upstream.requests[-1].body["service_tier"] == sent
        assert (made.service_tier, made.usage.credits) == (told, credits)
