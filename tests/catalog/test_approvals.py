"""Approvals: whose they are, the one word that counts, and the one response that goes on after it."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kb.catalog.approvals import Approval
from kb.catalog.responses import StoredResponse
from kb.errors import AlreadyExists, NotFound

DECIDER = Path(__file__).with_name("decider.py")
THEN = "2026-01-01T00:01:00.000Z"


def approval(name: str, **more: Any) -> Approval:
    """One that waits, of the response `resp_asks`."""
    given: dict[str, Any] = {
        "id": f"mcpr_{name}",
        "response_id": "resp_asks",
        "key_id": None,
        "call_id": f"call_{name}",
        "label": "clock",
        "name": "stop",
        "arguments": "{}",
        "digest": "0" * 64,
        "status": "pending",
        "reason": None,
        "created_at": "2026-01-01T00:00:00.000Z",
        "decided_at": None,
    }
    return Approval(**given | more)


def going_on(name: str, until: str | None = None) -> StoredResponse:
    """A response that goes on from it."""
    body = {"id": f"resp_{name}", "status": "in_progress", "output": []}
    return StoredResponse(f"resp_{name}", None, "resp_asks", "now", body, [], expires_at=until)


@pytest.fixture
def catalog(shelf: Any) -> Any:
    """Two calls wait, asked for in this order."""
    shelf.catalog.approvals.ask([approval("b"), approval("a")])
    return shelf.catalog


def yes(catalog: Any, name: str) -> int:
    """Say it; returns how many wait still."""
    waiting: int = catalog.approvals.decide(f"mcpr_{name}", None, approve=True, reason=None)[1]
    return waiting


def ended(catalog: Any, name: str, status: str) -> None:
    """A response comes to its end."""
    body = {"id": f"resp_{name}", "status": status, "output": []}
    assert catalog.responses.finish(f"resp_{name}", body, [])


def test_in_order_and_told_how_many_wait(catalog: Any) -> None:
    """By their ids, which ascend with time; with the last word none waits."""
    assert [one.id for one in catalog.approvals.of("resp_asks")] == ["mcpr_a", "mcpr_b"]
    assert catalog.approvals.of("resp_other") == []
    assert (yes(catalog, "a"), yes(catalog, "b")) == (1, 0)
    assert [one.status for one in catalog.approvals.of("resp_asks")] == ["approved"] * 2


def test_another_key_s_is_not_there(catalog: Any) -> None:
    """Neither to be read nor to be decided; one that was asked for without a key is everybody's."""
    catalog.approvals.ask([approval("hers", key_id="key_ann")])
    assert catalog.approvals.get("mcpr_hers", "key_ann").status == "pending"
    for key in (None, "key_ben"):
        for act in (
            lambda key=key: catalog.approvals.get("mcpr_hers", key),
            lambda key=key: catalog.approvals.decide("mcpr_hers", key, approve=True, reason=None),
        ):
            with pytest.raises(NotFound, match="no approval 'mcpr_hers' is asked for"):
                act()
    assert catalog.approvals.get("mcpr_hers", "key_ann").status == "pending"
    assert catalog.approvals.get("mcpr_a", "key_ben").status == "pending"


def test_the_first_word_counts(catalog: Any) -> None:
    """The same again changes nothing, not even its reason; the other one is refused."""
    said, waiting = catalog.approvals.decide("mcpr_a", None, approve=False, reason="not now")
    assert (said.status, said.reason, waiting) == ("denied", "not now", 1)
    assert catalog.approvals.decide("mcpr_a", None, approve=False, reason="never") == (said, 1)
    with pytest.raises(AlreadyExists, match=r"mcpr_a was decided already: it is denied$"):
        yes(catalog, "a")
    assert catalog.approvals.get("mcpr_a", None) == said


def test_one_response_goes_on(catalog: Any) -> None:
    """Then the word is used up, and whoever comes later keeps nothing."""
    yes(catalog, "a")
    catalog.responses.create(going_on("first"), ["mcpr_a"])
    assert catalog.approvals.get("mcpr_a", None).continued_by == "resp_first"
    with pytest.raises(AlreadyExists, match="it is approved, and resp_first went on from there"):
        yes(catalog, "a")
    yes(catalog, "b")
    assert [one.id for one in catalog.approvals.decided("resp_asks")] == ["mcpr_b"]
    with pytest.raises(AlreadyExists, match="resp_first went on"):
        catalog.responses.create(going_on("second"), ["mcpr_b", "mcpr_a"])
    with pytest.raises(NotFound):
        catalog.responses.get("resp_second", None)
    # What it had taken of the others is free again.
    assert catalog.approvals.get("mcpr_b", None).continued_by is None
    ended(catalog, "first", "completed")
    with pytest.raises(AlreadyExists):
        catalog.responses.create(going_on("third"), ["mcpr_a"])


def test_nothing_goes_on_before_the_word(catalog: Any) -> None:
    """Not even one that says so."""
    with pytest.raises(AlreadyExists):
        catalog.responses.create(going_on("hasty"), ["mcpr_a"])
    assert catalog.approvals.get("mcpr_a", None) == approval("a")


def test_what_failed_is_gone_on_from_again(catalog: Any) -> None:
    """By the same word; also what was made by a process that is no more, once that is known."""
    yes(catalog, "a")
    catalog.responses.create(going_on("killed", until=THEN), ["mcpr_a"])
    with pytest.raises(AlreadyExists):
        yes(catalog, "a")
    assert catalog.responses.expire(THEN) == ["resp_killed"]
    yes(catalog, "a")
    with pytest.raises(AlreadyExists, match="it is approved, and resp_killed went on"):
        catalog.approvals.decide("mcpr_a", None, approve=False, reason=None)
    assert [one.id for one in catalog.approvals.decided("resp_asks")] == ["mcpr_a"]
    catalog.responses.create(going_on("next"), ["mcpr_a"])
    assert catalog.approvals.get("mcpr_a", None).continued_by == "resp_next"


def test_what_was_cancelled_is_not(catalog: Any) -> None:
    """A person stopped it."""
    yes(catalog, "a")
    catalog.responses.create(going_on("stopped"), ["mcpr_a"])
    ended(catalog, "stopped", "cancelled")
    with pytest.raises(AlreadyExists):
        yes(catalog, "a")


@pytest.mark.parametrize("words", [("yes", "yes", "yes"), ("yes", "no")])
def test_processes_race_for_one_decision(catalog: Any, url: str, words: tuple[str, ...]) -> None:
    """One goes on; what it goes on with is what was said first."""
    running = [
        subprocess.Popen(
            [sys.executable, str(DECIDER), url, "mcpr_a", word, f"resp_{at}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for at, word in enumerate(words)
    ]
    for child in running:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in running:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    told = [child.communicate()[0].split("\n")[:-1] for child in running]
    ends = Counter(one[-1] for one in told)
    assert ends["goes on"] == 1
    assert ends.total() == len(words)
    winner = next(at for at, one in enumerate(told) if one[-1] == "goes on")
    kept = catalog.approvals.get("mcpr_a", None)
    assert kept.continued_by == f"resp_{winner}"
    assert kept.status == {"yes": "approved", "no": "denied"}[words[winner]]
    assert catalog.responses.get(kept.continued_by, None).running
    if "no" in words:
        assert told[1 - winner] == ["refused"]
