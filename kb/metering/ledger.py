"""The ledger: what a call may cost is reserved before it is made, and what it did cost is written down after.

A call is one row, whatever dies when: written as `open` before the call, settled once after it. If the
process is killed meanwhile, the row expires some time after the call's deadline: whoever looks next takes the
call to have been as it was expected, all of its input, no output, estimated. A settlement that still comes
replaces that.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from kb.catalog.calls import PREFIX, Account, Call, Calls, Ending
from kb.catalog.credits import checked
from kb.catalog.database import new_id, written
from kb.catalog.paging import Listed, Page
from kb.catalog.usage import CallUsage, GroupBy, Total
from kb.errors import InsufficientCredits, NotAllowed
from kb.metering.rates import Usage, credits_of, plain
from kb.models.registry import Model, ModelCatalog, Tier

# After its deadline a call has so long to be settled by whoever made it.
_GRACE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Intent:
    """A call that is about to be made. most: its tokens at the most, and of input what was counted.
    seconds: until its deadline.
    """

    model: Model
    tier: Tier
    endpoint: str
    most: Usage
    seconds: float
    key_id: str | None = None
    run_id: str | None = None
    knowledge_base_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reservation:
    """Credits that are set aside for a call. soft_passed: with it the key is beyond its soft budget."""

    call_id: str
    credits: Decimal
    soft_passed: bool


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Ledger:
    """What calls cost, and what keys may still spend. Thread-safe, and several processes may share it."""

    def __init__(
        self, calls: Calls, usage: CallUsage, models: ModelCatalog, *, now: Callable[[], datetime] = _utc_now
    ) -> None:
        self._calls = calls
        self._usage = usage
        self._models = models
        self._now = now

    def reserve(self, intent: Intent) -> Reservation:
        """Write a call down before it is made, with what it may cost at the most.

        Raises InvalidInput for a tier without a rate; NotAllowed, and InsufficientCredits where another
        call has taken what was left: then nothing is written.
        """
        at = self._now()
        most = checked(_most(intent.model, intent.tier, intent.most), param="max_output_tokens")
        expected = Usage(intent.most.input, 0)
        call = Call(
            id=new_id(PREFIX.rstrip("_")),
            run_id=intent.run_id,
            key_id=intent.key_id,
            knowledge_base_ids=tuple(sorted(set(intent.knowledge_base_ids))),
            endpoint=intent.endpoint,
            model=intent.model.id,
            tier_asked=intent.tier,
            tier=None,
            status="open",
            error=None,
            input=expected.input,
            cached=0,
            output=0,
            reasoning=0,
            estimated=True,
            credits=credits_of(intent.model, intent.tier, expected),
            reserved=most,
            started_at=written(at),
            finished_at=None,
            expires_at=written(at + timedelta(seconds=intent.seconds + _GRACE_SECONDS)),
        )
        account = self._calls.open(call, lambda one: _admit(one, intent.model.id, intent.tier, most))
        soft = account.limits.soft if account else None
        passed = account is not None and soft is not None and account.spent + account.reserved + most > soft
        return Reservation(call.id, most, passed)

    def check(self, key_id: str | None, model_id: str, tier: Tier, credits: Decimal) -> None:
        """Refuse a call that `reserve` would refuse now, before work is done for it; reserves nothing.

        credits: what it is to cost at least. Raises NotAllowed, InsufficientCredits.
        """
        if key_id is not None:
            _admit(self.spent(key_id), model_id, tier, credits)

    def settle(
        self, call_id: str, *, status: Ending, usage: Usage, tier: Tier | None, error: str | None = None
    ) -> Decimal:
        """Write down how a call went, at the price of the tier that answered it; returns its credits.

        Only the first settlement counts; another changes nothing and returns the same. tier: None where the
        answer told none. A tier without a rate costs what the one that was asked for does, and that is
        marked as estimated. Raises NotFound.
        """
        known = self._calls.get(call_id)
        model = self._models.get(known.model)
        answered = tier or known.tier_asked
        priced = answered if answered in model.credits.tiers() else known.tier_asked
        credits = credits_of(model, priced, usage)  # type: ignore[arg-type]
        done = replace(
            known,
            tier=answered,
            status=status,
            error=error,
            input=usage.input,
            cached=usage.cached,
            output=usage.output,
            reasoning=usage.reasoning,
            estimated=usage.estimated or priced != answered,
            credits=checked(credits, param="usage"),
            finished_at=written(self._now()),
        )
        return self._calls.settle(done).credits

    def usage(
        self, group_by: GroupBy | None = None, since: datetime | None = None, until: datetime | None = None
    ) -> list[Total]:
        """What the calls that began in a time came to, since <= time < until: by group, or as one sum."""
        self._calls.abandon(written(self._now()))
        return self._usage.of(group_by, *_between(since, until))

    def calls(self, page: Page, since: datetime | None = None, until: datetime | None = None) -> Listed:
        """A page of those calls, each a `kb.catalog.calls.Call`."""
        self._calls.abandon(written(self._now()))
        return self._calls.page(page, *_between(since, until))

    def spent(self, key_id: str) -> Account:
        """What a key may, and has spent in its current period. Raises NotAllowed for one that was revoked."""
        at = written(self._now())
        self._calls.abandon(at)
        return self._calls.account(key_id, at)


def _most(model: Model, tier: Tier, most: Usage) -> Decimal:
    # Where an operator's rate says so, a cache hit may cost more than what it saves.
    fresh, cached = replace(most, cached=0), replace(most, cached=most.input)
    return max(credits_of(model, tier, one) for one in (fresh, cached))


def _admit(account: Account, model_id: str, tier: Tier, credits: Decimal) -> None:
    limits = account.limits
    for what, one, known in (("model", model_id, limits.models), ("service_tier", tier, limits.tiers)):
        if known is not None and one not in known:
            may = f"only {', '.join(sorted(known))}" if known else "none"
            raise NotAllowed(f"this key may not use the {what} {one!r}, but {may}", param=what)
    if account.left is not None and credits > account.left:
        held = f" ({plain(account.reserved)} more are reserved by calls at work)" if account.reserved else ""
        hard, period = limits.hard or Decimal(), f" a {limits.per}" if limits.per else ""
        raise InsufficientCredits(
            f"this call may cost {plain(credits)} credits, and of the {plain(hard)}{period} of its key "
            f"{plain(account.left)} are left{held}: ask for fewer max_output_tokens, use another key, or "
            "have the operator raise it (kb keys limit)"
        )


def _between(since: datetime | None, until: datetime | None) -> tuple[str, str | None]:
    return written(since) if since else "", written(until) if until else None
