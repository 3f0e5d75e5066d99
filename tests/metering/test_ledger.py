"""The ledger: one row a call, exact credits, and budgets that hold, whoever races and whatever is killed."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb.catalog import Catalog
from kb.catalog.keys import Limits
from kb.catalog.paging import Page
from kb.errors import InsufficientCredits, InvalidInput, NotAllowed, NotFound
from kb.metering.ledger import Intent, Ledger, Reservation
from kb.metering.rates import Usage, credits_of
from kb.models.registry import ModelCatalog

MINI = ModelCatalog.read().get("gpt-4.1-mini")
# 1,000 tokens in and 1,000 out: 26.6 credits.
THOUSAND = Usage(1000, 1000)
SPENDER = Path(__file__).with_name("spender.py")
MONDAY = datetime(2026, 11, 30, 12, tzinfo=UTC)


def priced(rate: str, **more: Any) -> Any:
    """A model at one rate for input and output, cache hits at none."""
    credits = {"cache_hit": "0", "standard": {"input": rate, "output": rate}, **more}
    return type(MINI).model_validate({**MINI.model_dump(), "id": f"at {rate}", "credits": credits})


@dataclass
class Desk:
    """A ledger over a catalog of its own, whose time of day is what it is told."""

    catalog: Catalog
    url: str
    at: datetime = MONDAY
    models: dict[str, Any] = field(default_factory=lambda: {MINI.id: MINI})

    @property
    def ledger(self) -> Ledger:
        """At this desk's time."""
        catalog = self.catalog
        return Ledger(catalog.calls, catalog.usage, ModelCatalog(self.models), now=lambda: self.at)

    def key(self, name: str = "key", **limits: Any) -> str:
        """The id of a new key with limits."""
        made, _ = self.catalog.keys.create(name)
        self.catalog.keys.limit(made.id, Limits(**limits))
        return made.id

    def reserve(self, most: Usage = THOUSAND, **more: Any) -> Reservation:
        """A call of gpt-4.1-mini that may last a minute."""
        given = {"model": MINI, "tier": "standard", "endpoint": "here", "seconds": 60.0, **more}
        return self.ledger.reserve(Intent(most=most, **given))

    def settle(self, made: Reservation, usage: Usage = THOUSAND, **more: Any) -> Decimal:
        """It was answered."""
        given = {"status": "completed", "tier": "standard", **more}
        return self.ledger.settle(made.call_id, usage=usage, **given)

    def call(self, **more: Any) -> Reservation:
        """One that is reserved and answered."""
        made = self.reserve(**more)
        self.settle(made)
        return made

    def row(self, made: Reservation) -> Any:
        """As it is in the catalog."""
        return self.catalog.calls.get(made.call_id)


@pytest.fixture
def desk(tmp_path: Path, blank_catalog: Path) -> Iterator[Desk]:
    """A fresh one."""
    shutil.copy(blank_catalog, tmp_path / "catalog.db")
    url = f"sqlite:///{tmp_path}/catalog.db"
    catalog = Catalog(url)
    yield Desk(catalog, url)
    catalog.close()


def test_a_call_is_one_row_from_before_it_until_after_it(desk: Desk) -> None:
    """Open with what it may cost at the most; then with what it did cost, at the tier that answered."""
    made = desk.reserve(key_id=desk.key(), run_id="resp_1", knowledge_base_ids=("kb_b", "kb_a", "kb_b"))
    assert made.credits == Decimal("26.6")
    row = desk.row(made)
    assert (row.status, row.tier_asked, row.tier, row.reserved) == ("open", "standard", None, Decimal("26.6"))
    assert (row.run_id, row.knowledge_base_ids, row.endpoint) == ("resp_1", ("kb_a", "kb_b"), "here")
    assert (row.started_at, row.expires_at) == ("2026-11-30T12:00:00.000Z", "2026-11-30T12:01:30.000Z")
    desk.at += timedelta(seconds=2.5)
    # 200 x 5.32 + 800 x 1.33 + 50 x 21.28
    assert desk.settle(made, Usage(1000, 50, cached=800, reasoning=20)) == Decimal("3.192")
    row = desk.row(made)
    assert (row.status, row.tier, row.error, row.estimated) == ("completed", "standard", None, False)
    assert (row.input, row.cached, row.output, row.reasoning) == (1000, 800, 50, 20)
    assert (row.credits, row.finished_at) == (Decimal("3.192"), "2026-11-30T12:00:02.500Z")
    assert desk.ledger.calls(Page(10)).items == [row]


def test_the_tier_that_answered_decides_the_price(desk: Desk) -> None:
    """One that has no rate costs as the one asked for, and is marked; none told is the one asked for."""
    cheaper = desk.reserve(tier="priority")
    assert cheaper.credits == Decimal("46.55")
    assert desk.settle(cheaper, tier="standard") == Decimal("26.6")
    assert (desk.row(cheaper).tier, desk.row(cheaper).estimated) == ("standard", False)
    unknown = desk.reserve(tier="priority")
    assert desk.settle(unknown, tier="flex") == Decimal("46.55")
    assert (desk.row(unknown).tier, desk.row(unknown).estimated) == ("flex", True)
    untold = desk.reserve(tier="priority")
    assert desk.settle(untold, tier=None) == Decimal("46.55")
    assert (desk.row(untold).tier, desk.row(untold).estimated) == ("priority", False)
    with pytest.raises(InvalidInput, match="no published rate at the tier 'flex'"):
        desk.reserve(tier="flex")
    assert len(desk.ledger.calls(Page(10)).items) == 3


def test_a_dear_cache_hit_is_reserved_for(desk: Desk) -> None:
    """Where an operator's rate is higher for what is at hand than for what is not."""
    model = priced("1", cache_hit="3")
    assert desk.reserve(Usage(1000, 1000), model=model).credits == Decimal(4)


def test_only_the_first_settlement_counts(desk: Desk) -> None:
    """A second one changes nothing, neither the row nor the budget, and tells the credits of the first."""
    key = desk.key(hard=Decimal(100))
    made = desk.reserve(key_id=key)
    assert desk.settle(made, Usage(1000, 0)) == Decimal("5.32")
    row = desk.row(made)
    assert desk.settle(made, status="failed", error="timeout") == Decimal("5.32")
    assert desk.row(made) == row
    account = desk.ledger.spent(key)
    assert (account.spent, account.reserved) == (Decimal("5.32"), Decimal(0))
    with pytest.raises(NotFound):
        desk.ledger.settle("call_1", status="failed", usage=Usage(0, 0), tier=None)


def test_what_nobody_settles_is_abandoned_when_its_time_is_over(desk: Desk) -> None:
    """Not a moment before; taken to have read all and written nothing, and so estimated."""
    key = desk.key(hard=Decimal(100))
    made = desk.reserve(key_id=key)
    desk.at += timedelta(seconds=89.999)
    assert (desk.ledger.spent(key).reserved, desk.ledger.spent(key).spent) == (Decimal("26.6"), Decimal(0))
    assert desk.row(made).status == "open"
    desk.at += timedelta(seconds=0.001)
    (total,) = desk.ledger.usage()
    assert (total.calls, total.failed, total.open, total.estimated) == (1, 1, 0, 1)
    row = desk.row(made)
    assert (row.status, row.tier, row.estimated) == ("abandoned", "standard", True)
    assert (row.input, row.output, row.credits) == (1000, 0, Decimal("5.32"))
    assert row.finished_at == row.expires_at
    account = desk.ledger.spent(key)
    assert (account.spent, account.reserved) == (Decimal("5.32"), Decimal(0))


def test_the_next_call_has_what_an_abandoned_one_had_reserved(desk: Desk) -> None:
    """Though nobody looked in between."""
    key = desk.key(hard=Decimal("31.92"))
    desk.reserve(key_id=key)
    with pytest.raises(InsufficientCredits):
        desk.reserve(key_id=key)
    desk.at += timedelta(seconds=90)
    # 5.32 are spent, of what it read.
    assert desk.reserve(key_id=key).credits == Decimal("26.6")
    with pytest.raises(InsufficientCredits):
        desk.reserve(Usage(1, 0), key_id=key, seconds=1.0)


def test_a_late_settlement_replaces_an_abandoned_one(desk: Desk) -> None:
    """Once; the budget is then as if it had come in time."""
    key = desk.key(hard=Decimal(100))
    made = desk.reserve(key_id=key)
    desk.at += timedelta(hours=1)
    assert desk.ledger.spent(key).spent == Decimal("5.32")
    assert desk.settle(made, Usage(900, 100)) == Decimal("6.916")
    assert desk.settle(made, Usage(0, 0)) == Decimal("6.916")
    assert (desk.row(made).status, desk.row(made).estimated) == ("completed", False)
    account = desk.ledger.spent(key)
    assert (account.spent, account.reserved) == (Decimal("6.916"), Decimal(0))


def test_every_attempt_is_a_row(desk: Desk) -> None:
    """Two that failed and one that was answered, in one run; what was refused cost nothing."""
    key = desk.key()
    for status, usage, error in [
        ("failed", Usage(0, 0), "http_503"),
        ("failed", Usage(1000, 7, estimated=True), "timeout"),
        ("completed", Usage(1000, 100), None),
    ]:
        desk.settle(desk.reserve(key_id=key, run_id="r"), usage, status=status, error=error)
    rows = desk.ledger.calls(Page(10)).items
    assert [(row.run_id, row.error, row.credits) for row in rows] == [
        ("r", None, Decimal("7.448")),
        ("r", "timeout", Decimal("5.46896")),
        ("r", "http_503", Decimal(0)),
    ]
    (total,) = desk.ledger.usage("key")
    assert (total.group, total.name, total.calls, total.failed, total.estimated) == (key, "key", 3, 2, 1)
    assert (total.input, total.output, total.credits) == (2000, 107, Decimal("12.91696"))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["0.000001", "999999.999999", "5.32", "0.333333", "37.24"]),
            st.integers(0, 1_048_576),
            st.integers(0, 100_000),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_a_long_sum_is_exact(tmp_path_factory: Any, blank_catalog: Path, calls: list[Any]) -> None:
    """To the last decimal that there can be, also beyond what 64 bits of nano-credits hold."""
    folder = tmp_path_factory.mktemp("sum")
    shutil.copy(blank_catalog, folder / "catalog.db")
    catalog = Catalog(f"sqlite:///{folder}/catalog.db")
    models = {model.id: model for model in (priced(rate) for rate in {rate for rate, *_ in calls})}
    desk = Desk(catalog, "", models=models)
    wanted = Decimal()
    for rate, read, written in calls:
        usage = Usage(read, written)
        made = desk.reserve(usage, model=models[f"at {rate}"])
        wanted += Decimal(rate) * (read + written) / 1000
        assert desk.settle(made, usage) == credits_of(models[f"at {rate}"], "standard", usage)
    (total,) = desk.ledger.usage()
    assert total.credits == wanted
    assert sum(one.credits for one in desk.ledger.usage("model")) == wanted
    catalog.close()


def test_a_sum_may_pass_64_bits(desk: Desk) -> None:
    """Ten calls of a billion credits are ten billion, and a nano-credit is not lost beside them."""
    desk.models = {model.id: model for model in (priced("999999.999999"), priced("0.000001"))}
    for _ in range(10):
        made = desk.reserve(Usage(1_000_000, 0), model=desk.models["at 999999.999999"])
        desk.settle(made, Usage(1_000_000, 0))
    made = desk.reserve(Usage(1, 0), model=desk.models["at 0.000001"])
    desk.settle(made, Usage(1, 0))
    (total,) = desk.ledger.usage()
    assert total.credits == Decimal("9999999999.990000001")


def test_what_no_row_can_hold_is_refused(desk: Desk) -> None:
    """An endpoint may tell anything of what it used; the row stays open then, and its reservation stands."""
    with pytest.raises(InvalidInput, match="no call has so many tokens"):
        Usage(2**40 + 1, 0)
    made = desk.reserve()
    with pytest.raises(InvalidInput, match=r"credits are from 0 to 9,223,372,036, not "):
        desk.settle(made, Usage(2**40, 2**40))
    assert desk.row(made).status == "open"


@pytest.mark.parametrize(("tokens", "affordable"), [(1000, 100), (700, 142), (3000, 33)])
def test_those_that_race_for_a_budget_get_no_more_than_it_holds(
    desk: Desk, tokens: int, affordable: int
) -> None:
    """200 threads at once, each for a call of tokens / 1,000 credits, against a budget of 100."""
    model = priced("1")
    desk.models = {model.id: model}
    key = desk.key(hard=Decimal(100))
    ledger, together = desk.ledger, Barrier(200)

    def call(_: int) -> Reservation | None:
        together.wait()
        try:
            return ledger.reserve(Intent(model, "standard", "here", Usage(tokens, 0), 60.0, key_id=key))
        except InsufficientCredits:
            return None

    with ThreadPoolExecutor(200) as at_once:
        made = [one for one in at_once.map(call, range(200)) if one]
    assert len(made) == affordable
    account = ledger.spent(key)
    assert (account.spent, account.reserved) == (Decimal(0), Decimal(tokens) / 1000 * affordable)
    # What a call did not need is there for the next.
    ledger.settle(made[0].call_id, status="cancelled", usage=Usage(0, 0), tier=None)
    desk.reserve(Usage(tokens, 0), model=model, key_id=key)
    with pytest.raises(InsufficientCredits):
        desk.reserve(Usage(tokens, 0), model=model, key_id=key)


def started(desk: Desk, key: str, threads: int, *more: str) -> subprocess.Popen[str]:
    """A process that waits for a line to call."""
    command = [sys.executable, str(SPENDER), desk.url, key, str(threads), *more]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def told(child: subprocess.Popen[str]) -> list[str]:
    """The calls that it was let in with."""
    assert child.stdout is not None
    return list(iter(lambda: child.stdout.readline().strip(), "done"))  # type: ignore[union-attr]


def test_processes_share_a_budget(desk: Desk) -> None:
    """Two of 60 threads each race for the credits of 100 calls."""
    key = desk.key(hard=Decimal(100))
    children = [started(desk, key, 60) for _ in range(2)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    made = [call for child in children for call in told(child)]
    for child in children:
        child.communicate(timeout=30)
        assert child.returncode == 0
    assert len(made) == len(set(made)) == 100
    assert desk.catalog.calls.account(key, "2026-11-30").spent == Decimal(100)


def test_a_killed_process_leaves_its_call_once_and_reserved_until_its_time_is_over(desk: Desk) -> None:
    """SIGKILL between reservation and settlement."""
    key = desk.key(hard=Decimal("1.5"))
    with started(desk, key, 1, "stay") as child:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
        (made,) = told(child)
        child.kill()
    assert child.returncode == -9
    row = desk.catalog.calls.get(made)
    assert (row.status, row.reserved) == ("open", Decimal(1))
    expiry = datetime.fromisoformat(row.expires_at)
    desk.at = expiry - timedelta(milliseconds=1)
    with pytest.raises(InsufficientCredits, match=r"0\.5 are left"):
        desk.ledger.check(key, "one", "standard", Decimal(1))
    desk.at = expiry
    # 600 tokens in were counted: 0.6 credits; 0.9 are left.
    desk.ledger.check(key, "one", "standard", Decimal("0.9"))
    (row,) = desk.ledger.calls(Page(10)).items
    assert (row.id, row.status, row.estimated, row.credits) == (made, "abandoned", True, Decimal("0.6"))


@pytest.mark.parametrize(
    ("per", "later", "left"),
    [
        ("day", timedelta(hours=11, minutes=59), "73.4"),
        ("day", timedelta(hours=12), "100"),
        ("month", timedelta(hours=12), "100"),
        (None, timedelta(days=400), "73.4"),
    ],
)
def test_a_budget_begins_anew_with_its_period(desk: Desk, per: Any, later: timedelta, left: str) -> None:
    """At midnight UTC, of a day or of the first of a month; one for all time never does."""
    key = desk.key(hard=Decimal(100), per=per)
    desk.call(key_id=key)
    desk.at += later
    assert desk.ledger.spent(key).left == Decimal(left)


def test_a_month_is_all_of_its_days(desk: Desk) -> None:
    """And a call counts on the day on which it began."""
    key = desk.key(hard=Decimal(60), per="month")
    desk.at = datetime(2026, 12, 1, tzinfo=UTC)
    desk.call(key_id=key)
    desk.at = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    last = desk.reserve(key_id=key)
    with pytest.raises(InsufficientCredits, match=r"26\.6 credits, and of the 60 a month .* 6\.8 are left"):
        desk.reserve(key_id=key)
    desk.at += timedelta(seconds=30)
    desk.settle(last)
    assert desk.ledger.spent(key).spent == Decimal(0)
    assert [(one.group, one.credits) for one in desk.ledger.usage("day")] == [
        ("2026-12-01", Decimal("26.6")),
        ("2026-12-31", Decimal("26.6")),
    ]


def test_days_are_those_of_utc(desk: Desk) -> None:
    """Whatever zone a time is told in; since is in, until is not."""
    east = datetime.fromisoformat("2026-12-01T00:30:00+02:00")
    desk.at = east
    desk.call()
    (total,) = desk.ledger.usage("day")
    assert total.group == "2026-11-30"
    assert desk.ledger.usage("day", since=east, until=east + timedelta(milliseconds=1)) == [total]
    assert desk.ledger.usage("day", since=east + timedelta(milliseconds=1)) == []
    assert desk.ledger.usage("day", until=east) == []
    assert desk.ledger.calls(Page(10), until=east).items == []
    (none,) = desk.ledger.usage(until=east)
    assert (none.group, none.calls, none.credits) == ("", 0, Decimal(0))


def test_groups_add_up_to_all_calls(desk: Desk) -> None:
    """A call over two knowledge bases is of a group of its own; calls without a key are one group."""
    key = desk.key("laptop")
    desk.call(key_id=key, knowledge_base_ids=("kb_1",))
    desk.call(knowledge_base_ids=("kb_2", "kb_1"))
    desk.call(tier="priority")
    desk.reserve(key_id=key)
    groups = {
        by: [(one.group, one.name, one.calls) for one in desk.ledger.usage(by)]  # type: ignore[arg-type]
        for by in ("key", "model", "tier", "knowledge_base", "day")
    }
    assert groups == {
        "key": [("", "", 2), (key, "laptop", 1)],
        "model": [("gpt-4.1-mini", "", 3)],
        "tier": [("standard", "", 3)],
        "knowledge_base": [("", "", 1), ("kb_1", "", 1), ("kb_1,kb_2", "", 1)],
        "day": [("2026-11-30", "", 3)],
    }
    for by in groups:
        each = desk.ledger.usage(by)  # type: ignore[arg-type]
        assert sum(one.credits for one in each) == Decimal("79.8")
        assert sum(one.reserved for one in each) == Decimal("26.6")
        assert sum(one.open for one in each) == 1


def test_models_and_tiers_of_a_key(desk: Desk) -> None:
    """What is not among them is refused, whatever it costs; it is told what is."""
    key = desk.key(models=["other", "another"], tiers=["standard"])
    with pytest.raises(NotAllowed, match=r"may not use the model 'gpt-4\.1-mini', but only another, other"):
        desk.reserve(key_id=key)
    desk.catalog.keys.limit(key, Limits(models=["gpt-4.1-mini"], tiers=["standard"]))
    with pytest.raises(NotAllowed, match="may not use the service_tier 'priority', but only standard") as no:
        desk.reserve(key_id=key, tier="priority")
    assert no.value.param == "service_tier"
    desk.catalog.keys.limit(key, Limits(models=[]))
    with pytest.raises(NotAllowed, match="but none"):
        desk.ledger.check(key, "gpt-4.1-mini", "standard", Decimal(0))
    assert desk.ledger.calls(Page(10)).items == []
    desk.catalog.keys.limit(key, Limits())
    desk.call(key_id=key, tier="priority")


def test_a_soft_budget_is_told_and_refuses_nothing(desk: Desk) -> None:
    """From the call on with which it is passed."""
    key = desk.key(soft=Decimal("53.2"))
    assert [desk.call(key_id=key).soft_passed for _ in range(4)] == [False, False, True, True]
    assert desk.ledger.spent(key).left is None


def test_a_refusal_says_what_to_do(desk: Desk) -> None:
    """What the call may cost, what is left, and what others have reserved."""
    key = desk.key(hard=Decimal(50))
    desk.reserve(key_id=key)
    with pytest.raises(InsufficientCredits) as refused:
        desk.reserve(key_id=key)
    assert str(refused.value) == (
        "this call may cost 26.6 credits, and of the 50 of its key 23.4 are left (26.6 more are reserved by "
        "calls at work): ask for fewer max_output_tokens, use another key, or have the operator raise it "
        "(kb keys limit)"
    )
    with pytest.raises(InsufficientCredits):
        desk.ledger.check(key, "gpt-4.1-mini", "standard", Decimal("23.5"))
    desk.ledger.check(key, "gpt-4.1-mini", "standard", Decimal("23.4"))
    assert len(desk.ledger.calls(Page(10)).items) == 1


def test_the_rows_of_a_revoked_key_stay(desk: Desk) -> None:
    """It can make no further call; what is at work is settled as ever."""
    key = desk.key(hard=Decimal(100))
    made = desk.reserve(key_id=key)
    desk.catalog.keys.delete(key)
    with pytest.raises(NotAllowed, match="revoked"):
        desk.reserve(key_id=key)
    assert desk.settle(made) == Decimal("26.6")
    (total,) = desk.ledger.usage("key")
    assert (total.group, total.name, total.credits) == (key, "", Decimal("26.6"))


def test_calls_come_in_pages(desk: Desk) -> None:
    """The newest first; the next page goes on behind the last id."""
    made = [desk.call().call_id for _ in range(5)]
    first = desk.ledger.calls(Page(2))
    assert ([one.id for one in first.items], first.more) == ([made[4], made[3]], True)
    rest = desk.ledger.calls(Page(10, after=made[3]))
    assert ([one.id for one in rest.items], rest.more) == (made[2::-1], False)


@pytest.mark.parametrize(
    "limits",
    [
        {"hard": Decimal("-1")},
        {"soft": Decimal("NaN")},
        {"hard": Decimal("0.0000000001")},
        {"hard": Decimal(10**10)},
    ],
)
def test_what_is_no_budget_is_refused(desk: Desk, limits: dict[str, Decimal]) -> None:
    """InvalidInput names it."""
    with pytest.raises(InvalidInput) as refused:
        desk.key(**limits)
    assert refused.value.param in limits


def test_limits_are_kept_as_they_were_set(desk: Desk) -> None:
    """To the last decimal; of a key that is not there NotFound is told."""
    limits = Limits(("a",), ("standard", "flex"), Decimal("12.000000001"), Decimal("0.5"), "day")
    key = desk.key()
    assert desk.catalog.keys.limits(key) == Limits()
    desk.catalog.keys.limit(key, limits)
    assert desk.catalog.keys.limits(key) == limits
    for attempt in (
        lambda: desk.catalog.keys.limits("key_1"),
        lambda: desk.catalog.keys.limit("key_1", limits),
    ):
        with pytest.raises(NotFound):
            attempt()


def test_a_secret_is_made_once(desk: Desk) -> None:
    """32 bytes, the same for all who ask at once, another for another name."""
    others = [Catalog(desk.url) for _ in range(4)]
    together = Barrier(len(others))

    def ask(catalog: Catalog) -> bytes:
        together.wait()
        return catalog.secrets.get("users")

    with ThreadPoolExecutor(len(others)) as at_once:
        (made,) = set(at_once.map(ask, others))
    assert len(made) == 32
    assert desk.catalog.secrets.get("users") == made
    assert desk.catalog.secrets.get("other") != made
    for catalog in others:
        catalog.close()
