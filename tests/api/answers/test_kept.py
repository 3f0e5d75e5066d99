"""Answers that are kept: made in the background, followed and cancelled from any process."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from streams import whole
from upstream import Then, Upstream, replies

from kb.catalog.database import written
from kb.metering.ledger import Ledger
from kb.models.registry import ModelCatalog

MODEL = "gpt-4.1-mini"
SENTENCE = "Open the valve first."
# Holds behind the first delta of three.
HELD = replies.stream(lambda events: [*events[:5], Then.HOLD, *events[5:], Then.END])


@pytest.fixture(scope="module")
def beside(
    built: Any, started: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A further server process over the same data folder."""
    server = started(built.folder, tmp_path_factory.mktemp("beside") / "log", **built.environment)
    yield server
    server.end()


@pytest.fixture
def doomed(house: Any, started: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    """One more, to be killed."""
    server = started(house.folder, tmp_path / "log", **house.environment)
    yield server
    server.end()


def begin(client: OpenAI) -> str:
    """The id of an answer that is begun in the background."""
    begun = client.responses.create(model=MODEL, input="How?", background=True)
    assert (begun.status, begun.background, begun.output) == ("queued", True, [])
    return begun.id


def follow(client: OpenAI, response_id: str, **more: Any) -> Any:
    """Its events."""
    return client.responses.retrieve(response_id, stream=True, **more)


def up_to_first(stream: Any) -> list[Any]:
    """The events up to the first words."""
    events = []
    for event in stream:
        events.append(event)
        if event.type == "response.output_text.delta":
            return events
    raise AssertionError("no words came")


def test_every_process_knows_of_it(house: Any, upstream: Upstream) -> None:
    """Asked over new connections, which `kb serve --workers 2` spreads over its processes."""
    kept = begin(house.sdk())
    ended = whole(follow(house.sdk(), kept))
    assert (ended["status"], ended["output"][0]["content"][0]["text"]) == ("completed", SENTENCE)
    for _ in range(8):
        assert house.sdk().responses.retrieve(kept).to_dict() == ended
        assert whole(follow(house.sdk(), kept)) == ended
    (row,) = house.rows(kept)
    assert (row["status"], row["output_tokens"]) == ("completed", 7)


def test_another_process_follows_while_it_is_made(house: Any, beside: Any, upstream: Upstream) -> None:
    """Word by word; and from behind any event again, then and later."""
    upstream.script(HELD)
    maker, follower = house.sdk(url=beside.client.base_url), house.sdk()
    kept = begin(maker)
    stream = follow(follower, kept)
    events = up_to_first(stream)
    assert follower.responses.retrieve(kept).status == "in_progress"
    upstream.request().go_on()
    events += stream
    assert whole(events)["status"] == "completed"
    for after in (0, 3, len(events) - 2):
        rest = [event.to_dict() for event in follow(follower, kept, starting_after=after)]
        assert rest == [event.to_dict() for event in events[after + 1 :]]


def test_another_process_cancels(house: Any, beside: Any, upstream: Upstream) -> None:
    """Before its first word and behind it: the endpoint is hung up on, and what was written stays."""
    maker, other = house.sdk(url=beside.client.base_url), house.sdk()
    for number, (reply, text) in enumerate([(replies.holds(), None), (HELD, "Open the ")]):
        upstream.script(reply)
        kept = begin(maker)
        request = upstream.request(number)
        if text:
            up_to_first(follow(other, kept))
        cancelled = other.responses.cancel(kept)
        assert request.hung_up.wait(5)
        assert cancelled.status == "cancelled"
        assert other.responses.cancel(kept) == maker.responses.retrieve(kept) == cancelled
        assert whole(follow(maker, kept)) == cancelled.to_dict()
        (row,) = house.rows(kept)
        assert (row["status"], row["estimated"], row["output_tokens"]) == (
            "cancelled",
            True,
            3 if text else 0,
        )


def test_the_same_process_cancels_at_once(client: OpenAI, upstream: Upstream) -> None:
    """Nor does it matter who asks."""
    upstream.script(replies.holds())
    kept = begin(client)
    request = upstream.request()
    assert client.responses.cancel(kept).status == "cancelled"
    assert request.hung_up.wait(5)


def test_what_goes_on_without_its_client(client: OpenAI, upstream: Upstream) -> None:
    """A stream of the background is only looked at: left in the middle, it is taken up where it was."""
    upstream.script(HELD)
    stream = client.responses.create(model=MODEL, input="How?", background=True, stream=True)
    events = up_to_first(stream)
    stream.close()
    upstream.request().go_on()
    kept = events[0].response.id  # type: ignore[union-attr]
    events += follow(client, kept, starting_after=events[-1].sequence_number)
    assert whole(events)["status"] == "completed"
    assert not upstream.request().hung_up.is_set()


def test_what_fails_in_the_background(client: OpenAI, upstream: Upstream) -> None:
    """Says why, by the codes of errors, and is a stream like any other."""
    upstream.script(replies.refuses(400, "invalid_value", "no such voice"), replies.refuses(404))
    for code, message in [
        ("invalid_value", "first: no such voice"),
        ("upstream_failed", "first cannot be used as it is set up (404): no"),
    ]:
        kept = begin(client)
        ended = whole(follow(client, kept))
        assert (ended["status"], ended["error"]) == ("failed", {"code": code, "message": message})
        assert client.responses.retrieve(kept).to_dict() == ended


def test_a_process_is_killed(house: Any, doomed: Any, upstream: Upstream) -> None:
    """What it made fails, and its calls are paid for, by estimate and once, when their time is over."""
    upstream.script(HELD)
    maker, survivor = house.sdk(url=doomed.client.base_url), house.sdk()
    stream = maker.responses.create(model=MODEL, input="How?", stream=True)
    streamed = up_to_first(stream)[0].response.id  # type: ignore[union-attr]
    kept = begin(maker)
    events = up_to_first(follow(survivor, kept))
    doomed.kill()
    stream.close()
    for run in (streamed, kept):
        (row,) = house.rows(run)
        assert (row["status"], row["tier"]) == ("open", None)
    assert survivor.responses.retrieve(kept).status == "in_progress"

    with closing(house.catalog()) as catalog:
        # Nobody waits for it: a minute after its deadline of another minute.
        later = datetime.now(UTC) + timedelta(minutes=3)
        Ledger(catalog.calls, catalog.usage, ModelCatalog.read(), now=lambda: later).usage(None)
        catalog.responses.expire(written(later))
    for run in (streamed, kept):
        (row,) = house.rows(run)
        assert (row["status"], row["estimated"], row["output_tokens"]) == ("abandoned", True, 0)
        assert row["input_tokens"] > 0
    rest = follow(survivor, kept, starting_after=events[-1].sequence_number)
    ended = whole([*events, *rest], killed=True)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "server_error")
    assert survivor.responses.retrieve(kept).to_dict() == ended
    # What was only streamed was to be kept at its end.
    with pytest.raises(openai.NotFoundError):
        survivor.responses.retrieve(streamed)


def test_what_another_key_made(client: OpenAI, other: OpenAI, upstream: Upstream) -> None:
    """Is as what is not there."""
    kept = client.responses.create(model=MODEL, input="How?").id
    asks: list[Callable[[], Any]] = [
        lambda: other.responses.retrieve(kept),
        lambda: other.responses.retrieve(kept, stream=True),
        lambda: other.responses.cancel(kept),
        lambda: other.responses.delete(kept),
        lambda: other.responses.input_items.list(kept),
        lambda: other.responses.create(model=MODEL, input="And?", previous_response_id=kept),
        lambda: other.responses.input_tokens.count(model=MODEL, input="And?", previous_response_id=kept),
    ]
    for ask in asks:
        with pytest.raises(openai.NotFoundError) as error:
            ask()
        assert error.value.code == "not_found"
    assert len(upstream.requests) == 1
    assert client.responses.retrieve(kept).id == kept


def test_what_cannot_be_kept_or_cancelled(client: OpenAI, upstream: Upstream) -> None:
    """422, with the field."""
    with pytest.raises(openai.UnprocessableEntityError) as error:
        client.responses.create(model=MODEL, input="How?", background=True, store=False)
    assert error.value.param == "store"
    kept = client.responses.create(model=MODEL, input="How?").id
    with pytest.raises(openai.UnprocessableEntityError) as error:
        client.responses.cancel(kept)
    assert error.value.param == "response_id"
