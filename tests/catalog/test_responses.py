"""Responses that are kept: whose they are, how they end, and what of them other processes see."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kb.catalog.responses import LONGEST_CHAIN, StoredResponse
from kb.errors import InvalidInput, NotFound

ANSWERER = Path(__file__).with_name("answerer.py")
SOON, LATER = "2026-01-01T00:01:00.000Z", "2026-01-01T00:02:00.000Z"


def response(name: str, **more: Any) -> StoredResponse:
    """One that is being made."""
    body = {"id": f"resp_{name}", "status": more.pop("status", "in_progress"), "output": []}
    values = {"key_id": None, "previous_id": None, "created_at": "2026-01-01T00:00:00.000Z"} | more
    return StoredResponse(f"resp_{name}", body=body, input=[{"role": "user", "content": name}], **values)


def events(first: int, last: int) -> list[dict[str, Any]]:
    """Numbered, both included."""
    return [{"type": "x", "sequence_number": at, "delta": f"é\n\u2028 {at}"} for at in range(first, last + 1)]


@pytest.fixture
def kept(shelf: Any) -> Any:
    """Rows of responses."""
    return shelf.catalog.responses


def test_what_is_kept_comes_back(kept: Any) -> None:
    """As it was given, then as it ended."""
    made = response("a", status="queued", places=(("ver_1", 0, 9),), expires_at=SOON)
    kept.create(made)
    assert kept.get("resp_a", None) == made
    assert kept.touch("resp_a", LATER) is False
    alive = kept.get("resp_a", None)
    assert (alive.body["status"], alive.running, alive.expires_at) == ("in_progress", True, LATER)
    body = {"id": "resp_a", "status": "completed", "output": [{"type": "message", "content": "ü\ud800"}]}
    assert kept.finish("resp_a", body, events(0, 3), (("ver_2", 1, 5), ("ver_1", 0, 9))) is True
    done = kept.get("resp_a", None)
    assert (done.body, done.running, done.input) == (body, False, made.input)
    assert done.places == (("ver_2", 1, 5), ("ver_1", 0, 9))
    assert kept.events("resp_a") == events(0, 3)


def test_an_end_is_the_end(kept: Any) -> None:
    """What comes behind it changes nothing, and whoever makes one that has ended is told to stop."""
    kept.create(response("a"))
    ended = {"id": "resp_a", "status": "incomplete", "output": []}
    assert kept.finish("resp_a", ended, events(0, 1))
    assert not kept.finish("resp_a", {**ended, "status": "completed"}, events(0, 5), (("ver_1", 0, 1),))
    kept.append_events("resp_a", events(2, 3))
    kept.request_cancel("resp_a")
    assert kept.touch("resp_a", LATER) is True
    assert kept.expire("9999") == []
    found = kept.get("resp_a", None)
    assert (found.body, found.places, found.cancel_requested) == (ended, (), False)
    assert kept.events("resp_a") == events(0, 1)


def test_events_are_replayed_from_anywhere_before_and_after_the_end(kept: Any, shelf: Any) -> None:
    """Behind a number, also one within a piece; the pieces of one that runs become one when it ends."""
    kept.create(response("a"))
    assert kept.events("resp_a") == []
    for first, last in ((0, 2), (3, 3), (4, 40)):
        kept.append_events("resp_a", events(first, last))
    kept.append_events("resp_a", [])
    for ended in (False, True):
        if ended:
            kept.finish("resp_a", {"status": "completed"}, events(0, 41))
        last = 41 if ended else 40
        for after in (-1, 0, 1, 2, 3, 17, 40, 41, 99):
            assert kept.events("resp_a", after) == events(after + 1, last)
    assert shelf.rows("response_events") == []


def test_a_cancel_is_told_to_whoever_makes_the_response(kept: Any) -> None:
    """At its next touch; it then ends as cancelled by its own hand."""
    kept.create(response("a"))
    assert kept.touch("resp_a", SOON) is False
    kept.request_cancel("resp_a")
    assert kept.get("resp_a", None).cancel_requested
    assert kept.touch("resp_a", SOON) is True
    assert kept.finish("resp_a", {"id": "resp_a", "status": "cancelled", "output": []}, [])
    assert kept.get("resp_a", None).body["status"] == "cancelled"


def test_what_is_believed_alive_no_more_fails(kept: Any) -> None:
    """At its time and not before; its events end with one that says so; the others go on."""
    kept.create(response("a", status="queued", expires_at=SOON))
    kept.create(response("b", expires_at=LATER))
    kept.create(response("c"))
    kept.append_events("resp_a", events(0, 1))
    assert kept.expire("2026-01-01T00:00:59.999Z") == []
    assert kept.expire(SOON) == ["resp_a"]
    assert kept.expire(SOON) == []
    body = kept.get("resp_a", None).body
    assert (body["status"], body["error"]["code"], body["id"]) == ("failed", "server_error", "resp_a")
    last = {"type": "response.failed", "sequence_number": 2, "response": body}
    assert kept.events("resp_a") == [*events(0, 1), last]
    assert kept.touch("resp_a", LATER) is True
    assert [kept.get(f"resp_{name}", None).running for name in "bc"] == [True, True]


def test_old_ones_are_forgotten_unless_they_run(kept: Any) -> None:
    """With their events; whoever goes on from one is told that it is gone."""
    kept.create(response("old"))
    assert kept.finish("resp_old", {"id": "resp_old", "status": "completed", "output": []}, events(0, 1))
    kept.create(response("running"))
    kept.create(response("new", created_at="2026-02-01T00:00:00.000Z", previous_id="resp_old"))
    assert kept.forget("2026-01-01T00:00:00.000Z") == 0
    assert kept.forget("2026-01-31T00:00:00.000Z") == 1
    with pytest.raises(NotFound, match="resp_old"):
        kept.get("resp_old", None)
    with pytest.raises(NotFound, match="resp_old"):
        kept.chain("resp_new", None)
    assert kept.get("resp_running", None).running


def test_a_key_sees_its_own_and_what_was_made_without_one(kept: Any) -> None:
    """Another's is as one that is not there, in every way that it can be asked for."""
    kept.create(response("mine", key_id="key_1"))
    kept.create(response("open"))
    assert kept.get("resp_mine", "key_1").key_id == "key_1"
    assert [kept.get("resp_open", key).id for key in (None, "key_1", "key_2")] == ["resp_open"] * 3
    for key in (None, "key_2"):
        for ask in (kept.get, kept.delete, kept.chain):
            told = []
            for name in ("resp_mine", "resp_none"):
                with pytest.raises(NotFound) as error:
                    ask(name, key)
                told.append((str(error.value).replace(name, "…"), error.value.param))
            assert told[0] == told[1]
    assert kept.get("resp_mine", "key_1").id == "resp_mine"


def test_a_chain_is_read_oldest_first(kept: Any) -> None:
    """With all that the next turn needs."""
    kept.create(response("a", key_id="key_1"))
    kept.finish("resp_a", {"id": "resp_a", "status": "completed", "output": [{"n": 1}]}, [], (("v", 1, 2),))
    kept.create(response("b", key_id="key_1", previous_id="resp_a"))
    kept.create(response("beside", key_id="key_1", previous_id="resp_a"))
    kept.create(response("c", key_id="key_1", previous_id="resp_b"))
    chain = kept.chain("resp_c", "key_1")
    assert [one.id for one in chain] == ["resp_a", "resp_b", "resp_c"]
    assert (chain[0].body["output"], chain[0].places) == ([{"n": 1}], (("v", 1, 2),))
    assert [one.input[0]["content"] for one in chain] == ["a", "b", "c"]


def test_what_goes_on_from_a_deleted_response_cannot_be_gone_on_from(kept: Any, shelf: Any) -> None:
    """It is there still; the error names the one that is not. Its events are gone with it."""
    kept.create(response("a"))
    kept.append_events("resp_a", events(0, 1))
    kept.create(response("b", previous_id="resp_a"))
    kept.create(response("c", previous_id="resp_b"))
    kept.delete("resp_a", None)
    assert kept.get("resp_b", None).previous_id == "resp_a"
    for name in ("resp_b", "resp_c"):
        with pytest.raises(NotFound, match="'resp_a'") as error:
            kept.chain(name, None)
        assert error.value.param == "previous_response_id"
    assert shelf.rows("response_events") == []
    assert kept.touch("resp_a", SOON) is True
    kept.append_events("resp_a", events(2, 3))
    assert not kept.finish("resp_a", {"status": "completed"}, [])
    for ask in (kept.events, lambda name: kept.delete(name, None)):
        with pytest.raises(NotFound, match="'resp_a'"):
            ask("resp_a")


def test_a_chain_that_passes_into_anothers_hands_ends_there(kept: Any) -> None:
    """Whatever made it so."""
    kept.create(response("a", key_id="key_2"))
    kept.create(response("b", previous_id="resp_a"))
    with pytest.raises(NotFound, match="'resp_a'"):
        kept.chain("resp_b", "key_1")
    assert len(kept.chain("resp_b", "key_2")) == 2


def test_a_chain_has_an_end(kept: Any, shelf: Any) -> None:
    """A thousand are read; one more is refused, and so is one that bites its tail."""
    from sqlalchemy import insert

    from kb.catalog.schema import responses

    rows = [
        {
            "id": f"resp_{at}",
            "previous_id": f"resp_{at - 1}" if at else None,
            "created_at": "now",
            "status": "completed",
            "body": {"output": []},
            "input": [],
            "places": [],
            "cancel_requested": False,
        }
        for at in range(LONGEST_CHAIN + 1)
    ]
    with shelf.catalog.database.write() as connection:
        connection.execute(insert(responses), [*rows, rows[0] | {"id": "resp_x", "previous_id": "resp_x"}])
    chain = kept.chain(f"resp_{LONGEST_CHAIN - 1}", None)
    assert [one.id for one in chain] == [f"resp_{at}" for at in range(LONGEST_CHAIN)]
    for name in (f"resp_{LONGEST_CHAIN}", "resp_x"):
        with pytest.raises(InvalidInput) as error:
            kept.chain(name, None)
        assert error.value.param == "previous_response_id"


@pytest.fixture
def answerer(kept: Any, url: str) -> Iterator[Callable[[str], Callable[[str], str]]]:
    """Starts another process that makes a response; told a line, it answers with one. "" kills it."""
    running: list[subprocess.Popen[str]] = []

    def start(name: str) -> Callable[[str], str]:
        command = [sys.executable, str(ANSWERER), url, f"resp_{name}"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(child)
        assert child.stdin is not None
        assert child.stdout is not None
        stdin, stdout = child.stdin, child.stdout

        def tell(line: str) -> str:
            if not line:
                child.kill()
                child.wait()
                return ""
            stdin.write(line + "\n")
            stdin.flush()
            return stdout.readline().strip()

        assert stdout.readline() == "made\n"
        return tell

    yield start
    for child in running:
        child.kill()
        child.communicate()


def test_another_process_follows_and_cancels(kept: Any, answerer: Any) -> None:
    """What is streamed there is read here while it runs; what is asked here arrives there."""
    tell = answerer("far")
    for at, word in enumerate(("one", "two")):
        assert tell(word) == "False"
        (event,) = kept.events("resp_far", at - 1)
        assert (event["sequence_number"], event["delta"]) == (at, f"{word}\n")
    assert kept.get("resp_far", None).running
    kept.request_cancel("resp_far")
    assert tell("three") == "True"
    assert tell("end") == "True"
    assert kept.get("resp_far", None).body["status"] == "completed"
    assert [event["delta"] for event in kept.events("resp_far")] == ["one\n", "two\n", "three\n", "end\n"]


def test_a_killed_process_leaves_a_response_that_fails(kept: Any, answerer: Any) -> None:
    """SIGKILL while it runs: what it streamed is there, and when its time is over an end is as well."""
    tell = answerer("far")
    tell("one")
    tell("")
    assert kept.get("resp_far", None).running
    assert kept.expire(SOON) == ["resp_far"]
    assert not kept.get("resp_far", None).running
    assert [event["type"] for event in kept.events("resp_far")] == [
        "response.output_text.delta",
        "response.failed",
    ]
