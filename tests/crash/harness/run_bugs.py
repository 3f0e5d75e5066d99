"""Mistakes by which a tool would run twice or money be lost, planted to see that the harness notices."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from sqlalchemy import insert, update

import kb.catalog.calls
import kb.catalog.responses
from kb.catalog.approvals import Approvals, claim
from kb.catalog.calls import Call, Calls
from kb.catalog.database import now
from kb.catalog.responses import Responses, StoredResponse
from kb.catalog.schema import approvals, calls, steps
from kb.catalog.steps import Steps


@dataclass(frozen=True, slots=True)
class RunBug:
    """A mistake, the door at which it shows, and why it would harm somebody."""

    door: str
    reason: str
    plant: Callable[[ExitStack], None]


def step_behind_the_call(held: ExitStack) -> None:
    """Written down once it is known what came of it."""
    about: dict[str, Any] = {}

    def begin(
        self: Steps, response_id: str, call_id: str, label: str, name: str, arguments: str, *, synced: bool
    ) -> None:
        row = {"response_id": response_id, "label": label, "name": name, "arguments": arguments}
        about[call_id] = {**row, "started_at": now()}

    def finish(self: Steps, call_id: str, status: str, output: str) -> None:
        end = {"call_id": call_id, "status": status, "output": output, "finished_at": now()}
        with self._database.write() as connection:
            connection.execute(insert(steps).values(**about[call_id], **end))

    held.enter_context(patch.multiple(Steps, begin=begin, finish=finish))


def step_of_the_response(held: ExitStack) -> None:
    """Known by the response that makes the call, and not by its approval."""
    begin, finish = Steps.begin, Steps.finish
    made: dict[str, str] = {}

    def begin_own(self: Steps, response_id: str, call_id: str, *more: Any, synced: bool) -> Any:
        made[call_id] = f"{response_id[-24:]}{call_id[-24:]}"
        return begin(self, response_id, made[call_id], *more, synced=synced)

    def finish_own(self: Steps, call_id: str, *more: Any) -> None:
        finish(self, made[call_id], *more)

    held.enter_context(patch.multiple(Steps, begin=begin_own, finish=finish_own))


def claim_apart(held: ExitStack) -> None:
    """A word is used up in one transaction, and acted on in the next."""
    create = Responses.create

    def apart(self: Responses, response: StoredResponse, after: Any = ()) -> None:
        with self._database.write() as connection:
            claim(connection, after, response.id)
        create(self, response)

    held.enter_context(patch.object(Responses, "create", apart))


def word_used_up(held: ExitStack) -> None:
    """As `claim_apart`, at the moment at which it is said."""
    decide = Approvals.decide

    def final(self: Approvals, approval_id: str, *more: Any, **word: Any) -> Any:
        done = decide(self, approval_id, *more, **word)
        with self._database.write() as connection:
            this = update(approvals).where(approvals.c.id == approval_id, approvals.c.continued_by.is_(None))
            connection.execute(this.values(continued_by="soon"))
        return done

    def free(connection: Any, approval_ids: Any, response_id: str) -> None:
        connection.execute(
            update(approvals).where(approvals.c.id.in_(approval_ids)).values(continued_by=response_id)
        )

    held.enter_context(patch.object(Approvals, "decide", final))
    held.enter_context(patch.object(kb.catalog.responses, "claim", free))


def settled_in_two(held: ExitStack) -> None:
    """What a call cost, and what its key has spent, one after the other."""
    close, spend = kb.catalog.calls._close, kb.catalog.calls._spend

    def settle(self: Calls, call: Call) -> Call:
        late: list[Any] = []
        with self._database.write() as connection:
            known = kb.catalog.calls._read(connection, call.id)
            with patch.object(
                kb.catalog.calls, "_spend", lambda _, *given, **more: late.append((given, more))
            ):
                close(connection, known, call)
        with self._database.write() as connection:
            for given, more in late:
                spend(connection, *given, **more)
        return call

    held.enter_context(patch.object(Calls, "settle", settle))


def reservation_kept(held: ExitStack) -> None:
    """A call that nobody settled is paid, and its reservation stays."""
    spend = kb.catalog.calls._spend

    def kept(connection: Any, key_id: str, began_at: str, **more: Any) -> None:
        if more.get("reserved", 0) < 0 and not held_open:
            more.pop("reserved")
        spend(connection, key_id, began_at, **more)

    held_open: list[int] = []
    settle = Calls.settle

    def settled(self: Calls, call: Call) -> Call:
        held_open.append(1)
        try:
            return settle(self, call)
        finally:
            held_open.pop()

    held.enter_context(patch.object(kb.catalog.calls, "_spend", kept))
    held.enter_context(patch.object(Calls, "settle", settled))


def row_behind_the_call(held: ExitStack) -> None:
    """A call of a model is written down when it has ended."""
    opened: dict[str, Call] = {}
    settle = Calls.settle

    def open_later(self: Calls, call: Call, admit: Any) -> Any:
        opened[call.id] = call
        return self.account(call.key_id, call.started_at) if call.key_id else None

    def settled(self: Calls, call: Call) -> Call:
        with self._database.write() as connection:
            first = replace(opened[call.id], status="open")
            connection.execute(insert(calls), kb.catalog.calls._values(first))
            kb.catalog.calls._spend(connection, str(call.key_id), call.started_at, reserved=first.reserved)
        return settle(self, call)

    held.enter_context(patch.multiple(Calls, open=open_later, settle=settled))
    held.enter_context(patch.object(Calls, "get", lambda self, call_id: opened[call_id]))


BUGS = {
    bug.plant.__name__: bug
    for bug in (
        RunBug("run", "a call that was made is not known of, and would be made again", step_behind_the_call),
        RunBug("run", "who goes on after a killed process would make its call again", step_of_the_response),
        RunBug("run", "a word would be used up, and nobody could act on it", claim_apart),
        RunBug("response", "a word would be used up, and nobody could act on it", word_used_up),
        RunBug("run", "a key would have spent less than its calls cost", settled_in_two),
        RunBug("run", "a key could never spend again what a killed process had reserved", reservation_kept),
        RunBug("run", "a call that was made and never paid would not be known of", row_behind_the_call),
    )
}
