"""Whatever an endpoint does the caller is told, every try is one row of the ledger, nothing is left open."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import pytest
from upstream import Answer, Call, Pause, Then, Upstream, Used, deaf, refusing, replies

from kb.errors import UpstreamBusy, UpstreamFailed, UpstreamRefused, UpstreamTimeout
from kb.gateway import core
from kb.gateway.events import ArgumentsDelta, CallAdded, TextDelta
from kb.tokens import count_tokens

Make = Callable[..., Any]

TEXT = "Open the valve first."
# Of the three deltas of the scripted answer, by the number of the event that brings it.
FIRST = {"responses": 4, "chat": 1}
# Nothing came of it, and it cost nothing; or it was sent, and may have been read.
LIVELY = (Pause(0.05), b": still there\n\n")
FREE, READ = (0, 0, False), (1000, 0, True)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries hardly any time passes, where no endpoint asks for some."""
    monkeypatch.setattr(core, "_FIRST_WAIT", 0.01)


# Before the first part of an answer.


def test_nobody_listens(desk: Any, at: Make) -> None:
    """It is tried again, and costs nothing."""
    with refusing() as url:
        came = desk.ask(at(url))
    assert isinstance(came.error, UpstreamFailed)
    assert "first cannot be reached" in str(came.error)
    assert came.ends == [("failed", "unreachable")] * 3
    assert came.tokens == [FREE] * 3


def test_connecting_never_ends(desk: Any, at: Make) -> None:
    """After the time for it that is over too."""
    with deaf() as url:
        began = time.monotonic()
        came = desk.ask(at(url, connect_seconds=0.2, retries=1))
    assert 0.4 <= time.monotonic() - began < 3
    assert isinstance(came.error, UpstreamFailed)
    assert came.ends == [("failed", "unreachable")] * 2
    assert came.tokens == [FREE] * 2


@pytest.mark.parametrize(
    "reply",
    [
        replies.holds(),
        replies.breaks_off(0, [Then.HOLD]),
        replies.breaks_off(1, [Then.HOLD]),
        replies.stream(lambda events: [step for _ in range(400) for step in (b": ping\n\n", Pause(0.01))]),
    ],
    ids=["not a byte", "a head", "an event without a part", "comments"],
)
def test_the_first_part_does_not_come(desk: Any, at: Make, upstream: Upstream, reply: Any) -> None:
    """The endpoint is hung up on, and not asked again: it may have read all, and would take as long."""
    upstream.script(reply)
    came = desk.ask(at(upstream.url, connect_seconds=0.1, first_token_seconds=0.2))
    assert isinstance(came.error, UpstreamTimeout)
    assert upstream.request().hung_up.wait(10)
    assert len(upstream.requests) == 1
    assert came.ends == [("failed", "timeout")]
    assert came.tokens == [READ]
    assert upstream.deserted()


@pytest.mark.parametrize("status", [408, 409, 500, 529])
def test_what_may_pass_is_tried_again(desk: Any, at: Make, upstream: Upstream, status: int) -> None:
    """And answered in the end; each refusal has a row that costs nothing."""
    upstream.script(*[replies.refuses(status)] * 2, replies.says())
    came = desk.ask(at(upstream.url))
    assert came.text == TEXT
    assert came.ends == [("failed", f"http_{status}")] * 2 + [("completed", None)]
    assert came.tokens == [FREE, FREE, (100, 7, False)]


@pytest.mark.parametrize(
    ("status", "error"), [(429, UpstreamBusy), (500, UpstreamFailed), (503, UpstreamFailed)]
)
def test_what_does_not_pass_is_told(
    desk: Any, at: Make, upstream: Upstream, status: int, error: type[Exception]
) -> None:
    """After the last try."""
    upstream.script(replies.refuses(status, message="come back later"))
    came = desk.ask(at(upstream.url, retries=1))
    assert type(came.error) is error
    assert "come back later" in str(came.error)
    assert len(upstream.requests) == 2
    assert came.ends == [("failed", f"http_{status}")] * 2


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_waited_for(desk: Any, at: Make, upstream: Upstream, as_date: bool) -> None:
    """Seconds, or a date, which knows no parts of a second."""
    wait = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if as_date else "1"
    upstream.script(replies.refuses(429, retry_after=wait), replies.says())
    assert desk.ask(at(upstream.url)).text == TEXT
    first, second = upstream.requests
    assert 0.9 <= second.began - first.began < 2.5


@pytest.mark.parametrize("after", ["soon", "-3", "Thu, 99 Foo 2026"])
def test_a_retry_after_that_tells_nothing_is_none(
    desk: Any, at: Make, upstream: Upstream, after: str
) -> None:
    """The usual pace then."""
    upstream.script(replies.refuses(503, retry_after=after), replies.says())
    began = time.monotonic()
    assert desk.ask(at(upstream.url)).text == TEXT
    assert time.monotonic() - began < 2


def test_who_asks_for_a_day_of_rest_is_left_alone(desk: Any, at: Make, upstream: Upstream) -> None:
    """And the caller learns how long."""
    upstream.script(replies.refuses(429, retry_after="86400"))
    came = desk.ask(at(upstream.url))
    assert isinstance(came.error, UpstreamBusy)
    assert came.error.after == 86400
    assert len(upstream.requests) == 1


def test_should_retry_is_heeded(desk: Any, at: Make, upstream: Upstream) -> None:
    """An endpoint that is out of credit says so."""
    upstream.script(replies.refuses(429, "insufficient_quota", x_should_retry="false"))
    assert isinstance(desk.ask(at(upstream.url)).error, UpstreamBusy)
    assert len(upstream.requests) == 1


def test_a_refusal_is_final(desk: Any, at: Make, upstream: Upstream) -> None:
    """What the caller sent will not do here or elsewhere; a window is told by a code."""
    upstream.script(replies.refuses(400, "invalid_value", "no such voice"))
    came = desk.ask(at(upstream.url), at(upstream.url, "second"))
    assert isinstance(came.error, UpstreamRefused)
    assert (came.error.code, str(came.error)) == ("invalid_value", "first: no such voice")
    assert len(upstream.requests) == 1
    assert came.tokens == [FREE]
    upstream.script(replies.refuses(400, "context_length_exceeded"))
    assert desk.ask(at(upstream.url)).error.code == "context_length_exceeded"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_endpoint_that_is_set_up_wrongly_is_passed_over(
    desk: Any, at: Make, upstream: Upstream, status: int
) -> None:
    """Without another try; the next one is asked."""
    upstream.script(replies.refuses(status), replies.says())
    came = desk.ask(at(upstream.url), at(upstream.url, "second"))
    assert came.text == TEXT
    assert [(row.endpoint, row.status) for row in came.rows] == [("first", "failed"), ("second", "completed")]


def test_a_redirect_is_not_followed(desk: Any, at: Make, upstream: Upstream) -> None:
    """The key goes nowhere else."""
    upstream.script(replies.whole(b"", 307, location=f"{upstream.url}/elsewhere"))
    came = desk.ask(at(upstream.url))
    assert "cannot be used as it is set up (307)" in str(came.error)
    assert [request.path.endswith("elsewhere") for request in upstream.requests] == [False]


def test_a_page_of_html_is_no_message(desk: Any, at: Make, upstream: Upstream) -> None:
    """Of a proxy in between, with an error status."""
    upstream.script(replies.whole(b"<html><h1>Bad Gateway</h1>", 502, content_type="text/html"))
    came = desk.ask(at(upstream.url, retries=0))
    assert isinstance(came.error, UpstreamFailed)
    assert "<" not in str(came.error)
    assert came.ends == [("failed", "http_502")]


@pytest.mark.parametrize("media_type", ["text/html", "text/event-stream"])
def test_what_is_no_answer_at_all(desk: Any, at: Make, upstream: Upstream, media_type: str) -> None:
    """With a status that says that all is well."""
    upstream.script(replies.whole(b"<html>Sign in to the network", content_type=media_type))
    came = desk.ask(at(upstream.url, retries=1))
    assert isinstance(came.error, UpstreamFailed)
    assert [status for status, _ in came.ends] == ["failed"] * 2
    assert came.tokens == [READ] * 2


def test_the_connection_is_reset_before_the_answer(desk: Any, at: Make, upstream: Upstream) -> None:
    """Nothing was answered, so nothing is paid, and it is asked again."""
    upstream.script(replies.resets(), replies.says())
    came = desk.ask(at(upstream.url))
    assert came.text == TEXT
    assert came.ends == [("failed", "reset"), ("completed", None)]
    assert came.tokens == [FREE, (100, 7, False)]


@pytest.mark.parametrize("at_event", [0, 1])
@pytest.mark.parametrize("then", [[], [Then.END], [Then.RESET]], ids=["closed", "ended", "reset"])
def test_a_stream_that_breaks_off_before_its_first_part_is_tried_again(
    desk: Any, at: Make, upstream: Upstream, at_event: int, then: list[Any]
) -> None:
    """Nobody has seen any of it."""
    upstream.script(replies.breaks_off(at_event, then), replies.says())
    came = desk.ask(at(upstream.url))
    assert came.text == TEXT
    assert [status for status, _ in came.ends] == ["failed", "completed"]
    assert came.tokens == [READ, (100, 7, False)]


def test_an_answer_that_fails_before_it_begins_is_tried_again(
    desk: Any, at: Make, upstream: Upstream, kind: str
) -> None:
    """By an event of the stream."""
    upstream.script(replies.instead(failure(kind), 1), replies.says())
    came = desk.ask(at(upstream.url))
    assert came.text == TEXT
    assert [status for status, _ in came.ends] == ["failed", "completed"]


def test_endpoints_are_asked_in_their_order(desk: Any, at: Make, upstream: Upstream) -> None:
    """Each so often as it says, then the next."""
    upstream.script(*[replies.refuses(500)] * 3, replies.says())
    with refusing() as url:
        came = desk.ask(
            at(url, "away", retries=0), at(upstream.url, "ill", retries=2), at(upstream.url, "well")
        )
    assert came.text == TEXT
    assert [row.endpoint for row in came.rows] == ["away", "ill", "ill", "ill", "well"]
    assert came.ended.endpoint == "well"


# After it.


def test_the_answer_comes_in_parts(desk: Any, at: Make, upstream: Upstream, kind: str) -> None:
    """Text, then calls; paid by what the endpoint counted, at the tier that answered."""
    calls = (Call("look", ('{"page"', ": 7}")), Call("count", ("{}",), "call_2"))
    answer = Answer(("Ölventil ", "zuerst 🚧"), calls, Used(1100, 40, cached=600, reasoning=8), "priority")
    for reply in (replies.says(answer), replies.byte_by_byte(answer)):
        upstream.script(reply)
        came = desk.ask(at(upstream.url))
        first = 0
        assert came.parts == [
            TextDelta(first, "Ölventil "),
            TextDelta(first, "zuerst 🚧"),
            CallAdded(1, "call_1", "look"),
            ArgumentsDelta(1, '{"page"'),
            ArgumentsDelta(1, ": 7}"),
            CallAdded(2, "call_2", "count"),
            ArgumentsDelta(2, "{}"),
        ]
        # (500 * 9.31 + 600 * 1.33 + 40 * 37.24) / 1000
        assert came.ended.credits == Decimal("6.9426")
        (row,) = came.rows
        assert (row.credits, row.tier_asked, row.tier) == (Decimal("6.9426"), "standard", "priority")
        assert (row.input, row.cached, row.output, row.reasoning) == (1100, 600, 40, 8)
        assert not row.estimated
    assert upstream.request().body["stream"] is True


def test_an_endpoint_that_does_not_stream(desk: Any, at: Make, upstream: Upstream) -> None:
    """Although it was asked to."""
    upstream.script(lambda request: replies.json_body(Answer().whole(request))(request))
    came = desk.ask(at(upstream.url))
    assert came.text == TEXT
    assert came.tokens == [(100, 7, False)]


def test_the_limit_on_output_ends_it(desk: Any, at: Make, upstream: Upstream) -> None:
    """As incomplete, with the reason."""
    upstream.script(replies.says(Answer(cut_short=True)))
    came = desk.ask(at(upstream.url))
    assert (came.text, came.ended.status, came.ended.reason) == (TEXT, "incomplete", "max_output_tokens")
    assert came.ends == [("incomplete", "max_output_tokens")]
    assert came.tokens == [(100, 7, False)]


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ([], "upstream_reset"),
        ([Then.RESET], "upstream_reset"),
        ([Then.END], "upstream_ended"),
        ([Then.HOLD], "upstream_stalled"),
        ([b'data: {"type": "response.outp\n\n', Then.END], "upstream_malformed"),
        ([b"data: [1, 2]\n\n", Then.END], "upstream_malformed"),
        ([b"data: \xff\xfe{}\n\n", Then.END], "upstream_malformed"),
        ([b'data: {"type": "response.output_text.delta", "choices": [7]}\n\n'], "upstream_malformed"),
        ([b"data: ", *[b"x" * 65536] * 130, Then.END], "too_large"),
    ],
    ids=["closed", "reset", "ended", "stalled", "half", "list", "not UTF-8", "other", "long"],
)
def test_a_stream_that_breaks_off_is_incomplete(
    desk: Any, at: Make, upstream: Upstream, kind: str, then: list[Any], reason: str
) -> None:
    """Never a silence: what came is kept, paid as it was counted here, and not asked for again."""
    upstream.script(replies.breaks_off(FIRST[kind] + 2, then))
    came = desk.ask(at(upstream.url, silence_seconds=0.3))
    assert came.text == "Open the valve first"
    assert (came.ended.status, came.ended.reason) == ("incomplete", reason)
    assert came.ends == [("incomplete", reason)]
    assert came.tokens == [(1000, count_tokens("Open the valve first"), True)]
    assert came.ended.credits == came.rows[0].credits == Decimal("5.40512")
    assert len(upstream.requests) == 1
    assert upstream.deserted()


def failure(kind: str) -> bytes:
    """The event that says that it failed."""
    return {
        "responses": b'data: {"type": "error", "code": "server_error", "message": "overheated"}\n\n',
        "chat": b'data: {"error": {"code": 500, "message": "overheated"}}\n\n',
    }[kind]


def test_an_answer_that_fails_in_the_middle(desk: Any, at: Make, upstream: Upstream, kind: str) -> None:
    """Ends as failed, with the endpoint's words."""
    upstream.script(replies.breaks_off(FIRST[kind] + 1, [failure(kind), Then.END]))
    came = desk.ask(at(upstream.url))
    assert (came.text, came.ended.status, came.ended.reason) == ("Open the ", "failed", "overheated")
    assert [row.status for row in came.rows] == ["failed"]
    assert came.tokens == [(1000, count_tokens("Open the "), True)]


def test_no_usage_is_told(desk: Any, at: Make, upstream: Upstream) -> None:
    """It is counted here, and marked so."""
    upstream.script(replies.says(Answer(used=None)))
    came = desk.ask(at(upstream.url))
    assert came.ends == [("completed", None)]
    assert came.tokens == [(1000, count_tokens(TEXT), True)]


def test_no_more_output_is_estimated_than_was_asked_for(desk: Any, at: Make, upstream: Upstream) -> None:
    """However much an endpoint writes: so a reservation covers it."""
    upstream.script(replies.says(Answer(("valve ",) * 1000, used=None)))
    came = desk.ask(at(upstream.url))
    assert came.text == "valve " * 1000
    assert came.tokens == [(1000, 100, True)]


@pytest.mark.parametrize(
    ("told", "tier", "credits", "estimated"),
    [
        ("default", "standard", "0.68096", False),
        ("priority", "priority", "1.19168", False),
        (None, "priority", "1.19168", False),
        ("warp", "priority", "1.19168", False),
        ("flex", "flex", "1.19168", True),
    ],
)
def test_the_tier_that_answered_is_paid(
    desk: Any, at: Make, upstream: Upstream, told: str | None, tier: str, credits: str, estimated: bool
) -> None:
    """Not the one that was asked for, unless nothing is told, or it has no rate."""
    upstream.script(replies.says(Answer(tier=told)))
    came = desk.ask(at(upstream.url), call=desk.call(tier="priority"))
    assert upstream.request().body["service_tier"] == "priority"
    (row,) = came.rows
    assert (row.tier_asked, row.tier, row.credits) == ("priority", tier, Decimal(credits))
    assert row.estimated is estimated


# The caller leaves.


def test_a_caller_that_leaves_hangs_up(desk: Any, at: Make, upstream: Upstream, kind: str) -> None:
    """On an answer without end too; what was read until then is paid."""
    upstream.script(replies.endless(FIRST[kind]))
    came = desk.ask(at(upstream.url), leave_after=3)
    assert upstream.request().hung_up.wait(10)
    assert came.ends == [("cancelled", None)]
    assert came.tokens == [(1000, count_tokens("Open the " * 3), True)]
    assert upstream.deserted()


@pytest.mark.parametrize("reply", [replies.holds(), replies.breaks_off(1, [Then.HOLD])], ids=["head", "part"])
def test_a_caller_that_is_cancelled_hangs_up(desk: Any, at: Make, upstream: Upstream, reply: Any) -> None:
    """While it waits for the first part; its input may have been read by then, and is paid."""
    upstream.script(reply)
    came = desk.ask(at(upstream.url), cancel_when=upstream.request)
    assert upstream.request().hung_up.wait(10)
    assert came.ends == [("cancelled", None)]
    assert came.tokens == [READ]
    assert upstream.deserted()


def test_a_caller_that_is_cancelled_between_two_tries(desk: Any, at: Make, upstream: Upstream) -> None:
    """Asks no more."""
    upstream.script(replies.refuses(429, retry_after="30"))
    came = desk.ask(
        at(upstream.url), cancel_when=lambda: upstream.request().over.wait(10) and upstream.deserted(0.2)
    )
    assert came.ends == [("failed", "http_429")]
    assert len(upstream.requests) == 1


def say(desk: Any, times: int, endpoint: Any) -> list[str]:
    """What comes of several calls through one gateway."""
    said: list[str] = []

    async def main(gateway: Any) -> None:
        for _ in range(times):
            async with gateway.call(desk.call()) as answer:
                said.append("".join([part.text async for part in answer if isinstance(part, TextDelta)]))

    desk.run(main, endpoint)
    return said


def test_a_connection_serves_call_after_call(desk: Any, at: Make, upstream: Upstream) -> None:
    """Where the answer ended as it should."""
    upstream.script(replies.says())
    assert say(desk, 5, at(upstream.url)) == [TEXT] * 5
    assert upstream.connections == 1


def test_a_connection_that_was_to_be_kept_is_not(desk: Any, at: Make, upstream: Upstream) -> None:
    """The endpoint closes it behind an answer without a word; the next call does not suffer."""
    upstream.script(replies.closes_behind())
    assert say(desk, 20, at(upstream.url)) == [TEXT] * 20


def test_an_endpoint_that_lingers_behind_its_answer(
    desk: Any, at: Make, upstream: Upstream, kind: str
) -> None:
    """Keeps nobody: the answer is whole."""
    upstream.script(replies.stream(lambda events: [*events, Then.HOLD]))
    began = time.monotonic()
    assert say(desk, 2, at(upstream.url)) == [TEXT] * 2
    assert time.monotonic() - began < 2
    assert upstream.request(0).hung_up.wait(10)


def test_only_the_first_part_may_take_long(desk: Any, at: Make, upstream: Upstream) -> None:
    """A model that thinks is not silent yet."""
    upstream.script(replies.paced(Answer(), 0.5))
    came = desk.ask(at(upstream.url, first_token_seconds=10, silence_seconds=0.2))
    assert (came.text, came.ends) == (TEXT, [("completed", None)])


def test_a_call_has_a_deadline(desk: Any, at: Make, upstream: Upstream, kind: str) -> None:
    """However lively the answer is, and with all tries together."""
    upstream.script(replies.breaks_off(FIRST[kind] + 1, [step for _ in range(100) for step in LIVELY]))
    came = desk.ask(at(upstream.url, total_seconds=0.5))
    assert came.ends == [("incomplete", "deadline")]
    upstream.script(replies.refuses(429, retry_after="2"))
    began = time.monotonic()
    assert isinstance(desk.ask(at(upstream.url, total_seconds=1)).error, UpstreamBusy)
    assert time.monotonic() - began < 1
