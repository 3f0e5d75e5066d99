"""The receipt of a context: what was packed, in what order, what was left out, and what the call costs."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from kb.context.core import PackedContext
from kb.context.pack import Place
from kb.context.window import Window, quotes
from kb.metering.rates import plain
from kb.models.registry import Model


def receipt_of(model: Model, window: Window, made: PackedContext) -> dict[str, Any]:
    """As every door shows it; all but the text. credits: decimals as strings, by tier."""
    packed = made.packed
    found = quotes(model, window, packed.tokens, packed.prefix)
    return {
        "tokens": packed.tokens,
        "cached_tokens": packed.prefix,
        "window": asdict(window),
        "passages": [
            {"number": one.number, **_place(made, one.place), "tokens": one.tokens} for one in packed.passages
        ],
        "left_out": [
            {**_place(made, place), "reason": "it does not fit into what the window leaves"}
            for place in packed.left_out
        ],
        "model": model.id,
        "credits": {
            tier: {"input": plain(one.input), "most": plain(one.most)} for tier, one in found.items()
        },
    }


def _place(made: PackedContext, place: Place) -> Mapping[str, Any]:
    version = made.versions[place.version_id]
    return {
        "content_version_id": place.version_id,
        "start": place.start,
        "end": place.end,
        "content_id": version.content_id,
        "title": version.title,
        "uri": version.uri,
    }
