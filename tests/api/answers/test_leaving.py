"""A client who leaves is noticed: the endpoint is hung up on, and the call is paid for as far as it went."""

import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from openai import OpenAI
from pydantic_core import to_json
from upstream import Then, Upstream, replies

SENTENCE = {"model": "gpt-4.1-mini", "input": "How?"}
CHAT = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "How?"}]}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), [("responses", SENTENCE), ("chat/completions", CHAT)])
def test_while_waiting_for_the_first_word(
    house: Any, upstream: Upstream, until: Callable[..., Any], path: str, body: dict[str, Any], stream: bool
) -> None:
    """At once, though nothing was to be sent to the client."""
    upstream.script(replies.holds())
    sent = to_json({**body, "stream": stream})
    head = (
        f"POST /v1/{path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {house.keys['ann']}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", urlsplit(house.url).port or 0)) as connection:
        connection.sendall(head.encode() + sent)
        request = upstream.request()
    assert request.hung_up.wait(5)
    row = until(lambda: settled(house))
    assert (row["status"], row["estimated"], row["output_tokens"]) == ("cancelled", True, 0)
    assert row["input_tokens"] > 0
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("door", ["responses", "chat"])
def test_in_the_middle(
    house: Any, client: OpenAI, upstream: Upstream, until: Callable[..., Any], door: str
) -> None:
    """At once, though the endpoint says nothing more; nothing of it is kept."""
    upstream.script(replies.stream(lambda events: [*events[:5], Then.HOLD]))
    stream: Any = (
        client.responses.create(**SENTENCE, stream=True)
        if door == "responses"
        else client.chat.completions.create(**CHAT, stream=True)
    )
    next(event for event in stream if "Open the " in event.to_json())
    stream.close()
    assert upstream.request().hung_up.wait(5)
    row = until(lambda: settled(house))
    assert (row["status"], row["estimated"], row["output_tokens"]) == ("cancelled", True, 3)
    assert len(house.rows(row["run_id"])) == 1


def settled(house: Any) -> dict[str, Any] | None:
    """The newest call, once it is over."""
    row: dict[str, Any] = house.rows()[-1]
    return row if row["status"] != "open" else None
