"""A model's window: what of it is spoken for, and what a call of that size costs at most."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from kb.context.pack import LEAST_BUDGET
from kb.errors import InvalidInput, WindowExceeded
from kb.metering.rates import Usage, credits_of
from kb.models.registry import Model, Tier
from kb.tokens import count_tokens

# What an endpoint adds to each message: its role and the marks around it.
_MESSAGE = 8
# Kept free, since an endpoint's own count differs a little: it writes tool schemas anew.
_MARGIN_SHARE, _LEAST_MARGIN = 0.005, 64


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens of a model's window, and who has them. context: what is left for passages."""

    size: int
    output: int
    instructions: int
    history: int
    tools: int
    margin: int
    context: int


@dataclass(frozen=True, slots=True)
class Quote:
    """Credits of a call at one tier: of what goes in, and with the longest answer."""

    input: Decimal
    most: Decimal


def tokens_of(messages: Sequence[Mapping[str, str]]) -> int:
    """Of messages with `role` and `content`."""
    return sum(count_tokens(one["content"]) + _MESSAGE for one in messages)


def window_of(
    model: Model,
    *,
    instructions: str = "",
    history: int = 0,
    tools: Sequence[Mapping[str, Any]] = (),
    max_output_tokens: int | None = None,
    most: int | None = None,
    least: int = LEAST_BUDGET,
) -> Window:
    """What a call leaves for passages: window - output - instructions - history - tools - margin.

    history: tokens of what was said before. most: tokens of context at most. least: tokens that must be left.
    Raises WindowExceeded where less is.
    """
    output = max_output_tokens or model.max_output_tokens
    if output > model.max_output_tokens:
        raise InvalidInput(
            f"{model.id} writes at most {model.max_output_tokens} tokens, not {output}",
            param="max_output_tokens",
        )
    spoken_for = {
        "output": output,
        "instructions": count_tokens(instructions) + _MESSAGE if instructions else 0,
        "history": history,
        "tools": count_tokens(json.dumps(list(tools), ensure_ascii=False)) if tools else 0,
        "margin": max(_LEAST_MARGIN, round(model.context_window * _MARGIN_SHARE)),
    }
    left = model.context_window - sum(spoken_for.values())
    if left < least:
        parts = ", ".join(f"{name} {tokens:,}" for name, tokens in spoken_for.items())
        size = f"{model.context_window:,} tokens of {model.id}"
        raise WindowExceeded(f"the {size} leave no room for {least} more: {parts}", param="model")
    return Window(model.context_window, **spoken_for, context=left if most is None else min(left, most))


def quotes(model: Model, window: Window, packed: int, prefix: int) -> dict[Tier, Quote]:
    """What a call with so many packed tokens costs at each tier that has a rate.

    prefix: of the packed ones, those at their beginning that the call before had; instructions and tools,
    which stand before them, are then at hand as well.
    """
    given = window.instructions + window.history + window.tools + packed
    cached = prefix + window.instructions + window.tools if prefix else 0

    def credits(tier: Tier, output: int) -> Decimal:
        return credits_of(model, tier, Usage(given, output, cached=cached))

    return {tier: Quote(credits(tier, 0), credits(tier, window.output)) for tier in model.credits.tiers()}
