"""Steps: a call is begun once, by whichever response and process, and keeps what came of it."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

import kb.catalog.steps

ABOUT = ("clock", "stop", '{"now": true}')


@pytest.fixture
def steps(shelf: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Rows of steps, begun a second after each other."""
    clock = iter(range(100))
    monkeypatch.setattr(kb.catalog.steps, "now", lambda: f"2026-01-01T00:00:{next(clock):02}.000Z")
    return shelf.catalog.steps


def test_a_call_is_written_down_before_and_behind_it(steps: Any) -> None:
    """Its output is there with its end."""
    assert steps.begin("resp_a", "mcp_1", *ABOUT) is None
    (begun,) = steps.of("resp_a")
    assert (begun.status, begun.output, begun.finished_at) == ("started", None, None)
    assert (begun.label, begun.name, begun.arguments) == ABOUT
    steps.finish("mcp_1", "done", "It stands.")
    (done,) = steps.of("resp_a")
    assert (done.status, done.output) == ("done", "It stands.")
    assert (done.started_at, done.finished_at) == ("2026-01-01T00:00:00.000Z", "2026-01-01T00:00:01.000Z")


def test_no_response_begins_it_again(steps: Any) -> None:
    """It is told what is known: that somebody has begun it, and later how it ended."""
    assert steps.begin("resp_a", "mcpr_1", *ABOUT) is None
    known = steps.begin("resp_b", "mcpr_1", *ABOUT)
    assert (known.response_id, known.status) == ("resp_a", "started")
    steps.finish("mcpr_1", "failed", "It is stuck.")
    known = steps.begin("resp_a", "mcpr_1", *ABOUT)
    assert (known.response_id, known.status, known.output) == ("resp_a", "failed", "It is stuck.")
    assert steps.of("resp_b") == []
    assert steps.of("resp_a") == [known]


def test_in_the_order_in_which_they_began(steps: Any) -> None:
    """Whatever their ids, and whichever ends first; each response has its own."""
    for call in ("mcp_c", "mcp_a", "mcp_b"):
        steps.begin("resp_a", call, *ABOUT)
    steps.begin("resp_b", "mcp_d", *ABOUT)
    steps.finish("mcp_b", "done", "")
    assert [one.call_id for one in steps.of("resp_a")] == ["mcp_c", "mcp_a", "mcp_b"]
    assert [one.status for one in steps.of("resp_a")] == ["started", "started", "done"]
    assert [one.call_id for one in steps.of("resp_b")] == ["mcp_d"]


def test_of_many_at_once_one_begins_it(steps: Any) -> None:
    """In threads of a process; the database decides between processes in the same way."""
    together = Barrier(8)

    def begin(at: int) -> bool:
        together.wait()
        return steps.begin(f"resp_{at}", "mcpr_1", *ABOUT) is None

    with ThreadPoolExecutor(8) as at_once:
        assert sum(at_once.map(begin, range(8))) == 1
