"""A real model through the gateway: the protocol as a server in use speaks it, not what the model says."""

import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from kb.errors import UpstreamRefused
from kb.gateway.events import Ended, TextDelta
from kb.tokens import count_tokens

PASSAGES = "\n".join(
    f"[{number}] Valve {number} opens at {number + 2} bar and closes at {number} bar."
    for number in range(1, 15)
)


@pytest.fixture
def served(at: Callable[..., Any], local_model: str) -> Any:
    """The model, as an endpoint of each kind."""
    return at(local_model, "local", models={"gpt-4.1-mini": "gemma-3-270m"})


def ask(desk: Any, question: str, most: int = 12) -> Any:
    """A call about the passages that gives the same answer each time."""
    text = f"{PASSAGES}\n{question}"
    asked = {"input_tokens": count_tokens(text), "max_output_tokens": most, "parameters": {"temperature": 0}}
    return desk.call(text, instructions="Answer by the passages.", **asked)


def test_an_answer_is_streamed_and_paid_by_what_the_model_counted(desk: Any, served: Any, kind: str) -> None:
    """Word by word, to a limit that only Chat tells of; the second time the passages are cached."""
    first, second = (desk.ask(served, call=ask(desk, f"When does valve {n} open?")) for n in (3, 4))
    for came in (first, second):
        assert came.error is None
        assert len([part for part in came.parts if isinstance(part, TextDelta)]) > 5
        row = came.rows[-1]
        assert came.ends == [
            ("completed", None) if kind == "responses" else ("incomplete", "max_output_tokens")
        ]
        assert not row.estimated
        assert (row.output, row.endpoint, row.model) == (12, "local", "gpt-4.1-mini")
        assert row.tier == "standard"
        assert came.ended.credits == row.credits > 0
    assert first.rows[-1].input == second.rows[-1].input > 300
    assert second.rows[-1].cached > 200


def test_a_caller_that_leaves_frees_the_slot(desk: Any, served: Any, local_model: str) -> None:
    """In the middle of an answer that would take a quarter of a minute."""
    came = desk.ask(served, call=ask(desk, "Count to a thousand: one, two,", most=1000), leave_after=3)
    left = time.monotonic()
    while any(slot["is_processing"] for slot in httpx2.get(local_model.replace("/v1", "/slots")).json()):
        # Far less than the answer would take, on a machine that has other things to do.
        assert time.monotonic() - left < 12
    assert came.ends == [("cancelled", None)]
    assert came.tokens == [(ask(desk, "Count to a thousand: one, two,").input_tokens, 3, True)]


def test_what_its_window_does_not_hold_is_refused(desk: Any, served: Any) -> None:
    """At once, once, by a code, and free; the model's window is smaller than the catalogue says."""
    came = desk.ask(served, call=desk.call(PASSAGES * 10))
    assert isinstance(came.error, UpstreamRefused)
    assert came.error.code == "context_length_exceeded"
    assert came.ends == [("failed", "http_400")]
    assert came.tokens == [(0, 0, False)]


def test_call_follows_call(desk: Any, served: Any) -> None:
    """Although this server closes connections that it says it keeps."""
    ends: list[Any] = []

    async def main(gateway: Any) -> None:
        for number in range(10):
            async with gateway.call(ask(desk, f"Valve {number}:", most=2)) as answer:
                ends.extend([event async for event in answer if isinstance(event, Ended)])

    desk.run(main, served)
    assert [(end.usage.output, end.usage.estimated) for end in ends] == [(2, False)] * 10
