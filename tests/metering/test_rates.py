"""Credits, to the last decimal."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb.errors import InvalidInput
from kb.metering.rates import Usage, credits_of, tier_of
from kb.models.registry import ModelCatalog

MINI = ModelCatalog.read().get("gpt-4.1-mini")


@pytest.mark.parametrize(
    ("tier", "usage", "credits"),
    [
        ("standard", Usage(0, 0), "0"),
        ("standard", Usage(1000, 0), "5.32"),
        ("standard", Usage(0, 1000), "21.28"),
        ("standard", Usage(1000, 1000), "26.60"),
        ("standard", Usage(1, 0), "0.00532"),
        ("standard", Usage(0, 1), "0.02128"),
        ("standard", Usage(1000, 0, cached=1000), "1.33"),
        ("standard", Usage(1, 0, cached=1), "0.00133"),
        # 200 x 5.32 + 800 x 1.33 + 50 x 21.28 = 1,064 + 1,064 + 1,064
        ("standard", Usage(1000, 50, cached=800), "3.192"),
        ("priority", Usage(1000, 1000), "46.55"),
        # 1,234 x 9.31 + 4,333 x 1.33 + 321 x 37.24 = 11,488.54 + 5,762.89 + 11,954.04
        ("priority", Usage(5567, 321, cached=4333), "29.20547"),
        # The whole window, the longest answer: 1,039,384 x 5.32 + 8,192 x 21.28 = 5,529,522.88 + 174,325.76
        ("standard", Usage(1_039_384, 8_192, reasoning=100), "5703.84864"),
        ("priority", Usage(1_047_576, 0, cached=1_047_576), "1393.27608"),
        # 123,456,789 x 5.32 + 987,654,321 x 21.28
        ("standard", Usage(123_456_789, 987_654_321), "21674074.06836"),
    ],
)
def test_hand_computed_cases(tier: str, usage: Usage, credits: str) -> None:
    """Input, output, cache hits and tiers."""
    assert credits_of(MINI, tier_of(tier), usage) == Decimal(credits)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=50))
def test_a_long_sum_loses_nothing(calls: list[tuple[int, int]]) -> None:
    """The credits of calls add up to those of one call with all their tokens."""
    each = sum((credits_of(MINI, "priority", Usage(*call)) for call in calls), Decimal())
    assert each == credits_of(MINI, "priority", Usage(sum(i for i, _ in calls), sum(o for _, o in calls)))


@pytest.mark.parametrize("tier", ["flex", "scale"])
def test_a_tier_without_a_rate_is_refused(tier: str) -> None:
    """Nothing is invented; it is said who can set one."""
    with pytest.raises(
        InvalidInput, match=f"no published rate at the tier '{tier}', only at: standard, priority"
    ):
        credits_of(MINI, tier_of(tier), Usage(1, 1))


def test_tiers_have_the_names_of_the_interface() -> None:
    """`default` is the standard tier, `fast` is priority."""
    assert (tier_of("default"), tier_of("fast")) == ("standard", "priority")
    with pytest.raises(InvalidInput, match="no service tier 'cheap'"):
        tier_of("cheap")


@pytest.mark.parametrize("usage", [(1, 0, 2, 0), (1, 1, 0, 2), (-1, 0, 0, 0)])
def test_parts_are_not_more_than_the_whole(usage: tuple[int, int, int, int]) -> None:
    """Cached tokens are input, reasoning tokens are output."""
    with pytest.raises(InvalidInput):
        Usage(*usage)
