"""Responses are kept: while they are made in the background, and once they are answered.

Any process can follow and cancel what another one makes: they meet in the catalog, twice a second. What goes
on after a person's word is kept from its start, wherever it is made: by its row everybody knows that the word
is acted on, and by how that ends whether it may be said again (`kb.catalog.approvals`).
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from kb.agent.asked import Run
from kb.agent.core import Agent
from kb.agent.event_log import EventLog
from kb.agent.output import Event
from kb.agent.writer import Writer
from kb.catalog.database import written
from kb.catalog.responses import Responses, StoredResponse
from kb.errors import InvalidInput, KbError

log = logging.getLogger(__name__)

# How often whoever makes a response in the background tells how far it is, and asks whether to stop.
_PULSE_SECONDS = 0.5
# After so long without that it is taken to be dead.
_BELIEVED = timedelta(seconds=30)
_FOLLOWED_SECONDS = 0.2
# What people asked and were told quotes documents that may be deleted meanwhile: it is not kept for ever.
KEPT = timedelta(days=30)
_LOOKED_FOR_OLD = timedelta(hours=1)
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_LEFT = "whoever waited for this response left before it was done; ask again"


class Keeping:
    """Answers that are kept where their request says so. Belongs to one event loop."""

    def __init__(self, agent: Agent, responses: Responses) -> None:
        self._agent = agent
        self._responses = responses
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._next_look = datetime.min.replace(tzinfo=UTC)

    async def close(self) -> None:
        """Stop what is made in the background; it is kept as failed, with what there was of it."""
        tasks = list(self._tasks.values())
        for task in tasks:
            _stop(task, "the server was stopped; ask again")
        if tasks:
            await asyncio.wait(tasks)

    async def answer(self, run: Run) -> AsyncGenerator[Event, None]:
        """`Agent.stream`; what its last event tells is kept before it is told.

        Raises AlreadyExists where another response goes on from what was decided.
        """
        events, writer = EventLog(), self._agent.writer(run)
        async with (
            self._claimed(run, writer, events),
            aclosing(self._agent.stream(run, writer)) as stream,
        ):
            async for event in stream:
                if run.asked.store or run.decided:
                    events.add(event)
                    if event["type"] in _ENDS:
                        await asyncio.to_thread(self._keep, run, event["response"], events)
                yield event

    async def respond(self, run: Run) -> dict[str, Any]:
        """The whole response at once."""
        response: dict[str, Any] = {}
        async with aclosing(self.answer(run)) as events:
            async for event in events:
                response = event.get("response", response)
        return response

    async def start(self, run: Run) -> dict[str, Any]:
        """Begin a response in the background, and return it as it is now.

        Raises AlreadyExists where another one goes on from what was decided.
        """
        begun, writer = self._agent.begun(run), self._agent.writer(run)
        # Kept before anything else, so that whoever follows it sees how it began, even if it never ends.
        began = list(writer.began())
        await asyncio.to_thread(self._responses.create, _stored(run, begun, _soon()), _after(run))
        await asyncio.to_thread(self._responses.append_events, run.id, began)
        self._tasks[run.id] = asyncio.create_task(self._make(run, writer, began))
        return begun

    async def follow(
        self, response_id: str, key_id: str | None, after: int = -1
    ) -> AsyncGenerator[Event, None]:
        """The events of a response from behind a sequence number, to its end. Raises NotFound."""
        while True:
            known = await asyncio.to_thread(self._current, response_id, key_id)
            for event in await asyncio.to_thread(self._responses.events, response_id, after):
                after = event["sequence_number"]
                yield event
            if not known.running:
                return
            await asyncio.sleep(_FOLLOWED_SECONDS)

    def show(self, response_id: str, key_id: str | None) -> dict[str, Any]:
        """A response as it is now. Raises NotFound."""
        return dict(self._current(response_id, key_id).body)

    async def cancel(self, response_id: str, key_id: str | None) -> dict[str, Any]:
        """Stop a response in the background, wherever it is made; what was written of it stays.

        Raises NotFound, and InvalidInput for one that was not begun in the background.
        """
        known = await asyncio.to_thread(self._current, response_id, key_id)
        if not known.body.get("background"):
            raise InvalidInput(
                "only what is answered in the background can be cancelled", param="response_id"
            )
        await asyncio.to_thread(self._responses.request_cancel, response_id)
        if task := self._tasks.get(response_id):
            _stop(task)
        while known.running:
            await asyncio.sleep(_FOLLOWED_SECONDS)
            known = await asyncio.to_thread(self._current, response_id, key_id)
        return dict(known.body)

    def _current(self, response_id: str, key_id: str | None) -> StoredResponse:
        self._responses.expire(written(datetime.now(UTC)))
        return self._responses.get(response_id, key_id)

    @asynccontextmanager
    async def _claimed(self, run: Run, writer: Writer, events: EventLog) -> AsyncIterator[None]:
        """While the block lasts, what was decided is this run's. One that is left before its end fails."""
        if not run.decided:
            yield
            return
        begun = _stored(run, self._agent.begun(run), _soon())
        if not run.asked.store:
            begun = replace(begun, input=(), body=_bare(begun.body))
        await asyncio.to_thread(self._responses.create, begun, _after(run))
        pulse = asyncio.create_task(self._alive(run.id))
        try:
            yield
        except BaseException as error:
            for event in (*writer.began(), *writer.broke_off(**_why(error))):
                events.add(event)
            await asyncio.to_thread(self._keep, run, events.last["response"], events)
            raise
        finally:
            pulse.cancel()
            await asyncio.wait((pulse,))

    def _keep(self, run: Run, response: dict[str, Any], events: EventLog) -> None:
        """Keep how an answer ended, once; of what is not to be stored only that it failed."""
        if not run.decided:
            self._responses.create(_stored(run, {**response, "status": "in_progress"}, _soon()))
        if run.asked.store:
            self._responses.finish(run.id, response, events, _places(run))
        elif response["status"] == "failed":
            self._responses.finish(run.id, _bare(response), ())
        else:
            self._responses.delete(run.id, run.asked.caller.key_id)
        self._forget_old()

    def _forget_old(self) -> None:
        now = datetime.now(UTC)
        if now >= self._next_look:
            self._next_look = now + _LOOKED_FOR_OLD
            self._responses.forget(written(now - KEPT))

    async def _make(self, run: Run, writer: Writer, began: list[Event]) -> None:
        """Make a response to its end, however it ends. began: the events that are kept already."""
        events = EventLog()
        for event in began:
            events.add(event)
        fresh: list[Event] = []
        broken: dict[str, Any] = {}
        making = asyncio.current_task()
        assert making is not None
        pulse = asyncio.create_task(self._pulse(run.id, fresh, making))
        try:
            async with aclosing(self._agent.stream(run, writer)) as stream:
                async for event in stream:
                    events.add(event)
                    fresh.append(event)
        except asyncio.CancelledError as stopped:
            broken = _failed("server_error", str(stopped)) if stopped.args else {"status": "cancelled"}
        except Exception as error:
            if not isinstance(error, KbError):
                log.exception("response %s failed", run.id)
            broken = _why(error)
        finally:
            pulse.cancel()
            await asyncio.wait((pulse,))
            self._tasks.pop(run.id, None)
        for event in writer.broke_off(**broken) if broken else ():
            events.add(event)
        await asyncio.to_thread(self._responses.finish, run.id, events.last["response"], events, _places(run))
        await asyncio.to_thread(self._forget_old)

    async def _pulse(self, response_id: str, fresh: list[Event], making: "asyncio.Task[None]") -> None:
        """Tell how far a response is, and stop it when somebody asks for that."""
        while True:
            await asyncio.sleep(_PULSE_SECONDS)
            told, fresh[:] = list(fresh), []
            await asyncio.to_thread(self._responses.append_events, response_id, told)
            if await asyncio.to_thread(self._responses.touch, response_id, _soon()):
                _stop(making)
                return

    async def _alive(self, response_id: str) -> None:
        """Tell that one is being made, for as long as somebody waits for it."""
        while True:
            await asyncio.sleep(_PULSE_SECONDS)
            await asyncio.to_thread(self._responses.touch, response_id, _soon())


def _stored(run: Run, body: dict[str, Any], expires_at: str) -> StoredResponse:
    asked = run.asked
    return StoredResponse(
        id=run.id,
        key_id=asked.caller.key_id,
        previous_id=asked.previous_response_id,
        created_at=written(datetime.fromtimestamp(run.created_at, UTC)),
        body=body,
        input=asked.items,
        expires_at=expires_at,
    )


def _places(run: Run) -> list[tuple[str, int, int]]:
    """What was packed, for the next turn to begin with."""
    if run.grounded is None:
        return []
    packed = run.grounded.made.packed.passages
    return [(one.place.version_id, one.place.start, one.place.end) for one in packed]


def _bare(body: Mapping[str, Any]) -> dict[str, Any]:
    """A response of which nothing is to be stored but that it is, or was, at work."""
    return {**body, "instructions": None, "metadata": {}, "output": []}


def _after(run: Run) -> list[str]:
    """The approvals that it goes on from."""
    return [one.id for one in run.decided]


def _stop(making: "asyncio.Task[None]", *why: str) -> None:
    """Once: a second time would interrupt what it has to clear up."""
    if not making.cancelling():
        making.cancel(*why)


def _soon() -> str:
    return written(datetime.now(UTC) + _BELIEVED)


def _code(error: KbError) -> str:
    """A short word: the endpoint's own, or the error's name."""
    return getattr(error, "code", "") or re.sub(r"\B(?=[A-Z])", "_", type(error).__name__).lower()


def _why(error: BaseException) -> dict[str, Any]:
    """A response that ends by an error, or since nobody waits for it any more."""
    match error:
        case KbError():
            return _failed(_code(error), str(error))
        case Exception():
            return _failed("server_error", "internal error; the server's log has it under the response's id")
    return _failed("server_error", _LEFT)


def _failed(code: str, message: str) -> dict[str, Any]:
    return {"status": "failed", "error": {"code": code, "message": message}}
