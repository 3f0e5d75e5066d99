"""What a model's window leaves for passages, and what the call costs."""

from decimal import Decimal

import pytest

from kb.context.window import quotes, tokens_of, window_of
from kb.errors import InvalidInput, WindowExceeded
from kb.models.registry import ModelCatalog
from kb.tokens import count_tokens

MINI = ModelCatalog.read().get("gpt-4.1-mini")


def test_what_is_spoken_for_is_not_for_passages() -> None:
    """window - output - instructions - history - tools - margin, to the token."""
    bare = window_of(MINI)
    assert (bare.size, bare.output, bare.margin) == (1_047_576, 8_192, 5_238)
    assert bare.context == 1_047_576 - 8_192 - 5_238
    tools = [{"type": "function", "name": "x"}]
    full = window_of(
        MINI,
        instructions="Be brief.",
        history=tokens_of(
            [{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "Hi"}]
        ),
        tools=tools,
        max_output_tokens=1000,
    )
    assert full.instructions == count_tokens("Be brief.") + 8
    assert full.history == count_tokens("Hello there") + count_tokens("Hi") + 16
    assert full.tools == count_tokens('[{"type": "function", "name": "x"}]')
    assert full.context == bare.context + 7192 - full.instructions - full.history - full.tools
    assert window_of(MINI, most=2000).context == 2000


def test_a_call_without_room_is_refused_with_who_has_it() -> None:
    """So that whoever asks knows what to shorten."""
    with pytest.raises(InvalidInput, match="writes at most 8192 tokens, not 8193"):
        window_of(MINI, max_output_tokens=8193)
    told = r"the 1,047,576 tokens of gpt-4.1-mini leave no room for 200 more: .*history 1,040,000"
    with pytest.raises(WindowExceeded, match=told):
        window_of(MINI, history=1_040_000)


def test_a_call_is_quoted_at_every_tier_before_it_is_made() -> None:
    """By hand: 1,000 in at 5.32 and 9.31; of them 400 + 12 at hand at 1.33; 100 out at 21.28 and 37.24."""
    window = window_of(MINI, instructions="Be brief.", max_output_tokens=100)
    given = 1000 - window.instructions
    fresh = quotes(MINI, window, given, 0)
    assert {tier: one.input for tier, one in fresh.items()} == {
        "standard": Decimal("5.32"),
        "priority": Decimal("9.31"),
    }
    assert fresh["standard"].most == Decimal("7.448")
    cached = 400 + window.instructions
    again = quotes(MINI, window, given, 400)["priority"]
    assert again.input == (Decimal(1000 - cached) * Decimal("9.31") + cached * Decimal("1.33")) / 1000
