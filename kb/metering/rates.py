"""Tokens of a call become credits: exactly, in decimals.

credits = ((input - cached) * input rate + cached * cache-hit rate + output * output rate) / 1,000
"""

from dataclasses import dataclass
from decimal import Context, Decimal

from kb.errors import InvalidInput
from kb.models.registry import Model, Tier

NAMES_OF_TIERS: dict[str, Tier] = {
    "standard": "standard",
    "default": "standard",
    "priority": "priority",
    "fast": "priority",
    "flex": "flex",
    "scale": "scale",
}
"""As the Responses API names them, in a request or an answer."""

# Tokens of a call: what an endpoint tells of it may be anything.
_MOST = 2**40
# Sums of calls of billions of tokens at nine decimals are exact in it.
_EXACT = Context(prec=60)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. cached: of `input`, those that the provider had at hand. reasoning: of `output`.

    estimated: counted here, because the answer told none.
    """

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0
    estimated: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.cached <= self.input and 0 <= self.reasoning <= self.output):
            raise InvalidInput(f"cached and reasoning tokens are parts of the others: {self}", param="usage")
        if max(self.input, self.output) > _MOST:
            raise InvalidInput(f"no call has so many tokens: {self}", param="usage")


def tier_of(name: str) -> Tier:
    """The tier that a request or an answer names. Raises InvalidInput."""
    if name not in NAMES_OF_TIERS:
        raise InvalidInput(
            f"no service tier {name!r}; there are: {', '.join(NAMES_OF_TIERS)}", param="service_tier"
        )
    return NAMES_OF_TIERS[name]


def credits_of(model: Model, tier: Tier, usage: Usage) -> Decimal:
    """What a call costs at the tier that answered it. Raises InvalidInput for a tier without a rate."""
    rates = model.credits.tiers()
    if tier not in rates:
        raise InvalidInput(
            f"{model.id} has no published rate at the tier {tier!r}, only at: {', '.join(rates)}; "
            "an operator can set one in the file of KB_MODEL_CATALOG",
            param="service_tier",
        )
    rate, exact = rates[tier], _EXACT
    fresh = exact.multiply(usage.input - usage.cached, rate.input)
    cached = exact.multiply(usage.cached, model.credits.cache_hit)
    written = exact.multiply(usage.output, rate.output)
    return exact.scaleb(exact.add(exact.add(fresh, cached), written), -3)


def plain(credits: Decimal) -> str:
    """Credits in digits, without an exponent and without zeros at their end."""
    return format(credits.normalize(_EXACT), "f")
