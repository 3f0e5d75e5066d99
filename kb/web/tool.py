"""The web as a tool of a model: what it is told of it, and what it reads of what was found."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from kb.content.fence import NOTICE, named, quoted, visible
from kb.web.research import Findings, WebPassage

NAME = "web_search"

BUDGETS = {"low": 2000, "medium": 6000, "high": 12_000}
"""Tokens of passages, by `search_context_size`."""

MAX_QUERY = 1000
"""Characters."""

FUNCTION: Mapping[str, Any] = {
    "type": "function",
    "name": NAME,
    "description": (
        "Search the web. Returns passages of pages that answer, numbered, each with its address. "
        "Ask for one thing at a time, in words that such a page would have."
    ),
    "parameters": {
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_QUERY,
                "description": "What to look for.",
            }
        },
        "required": ["query"],
        "additionalProperties": False,
    },
    "strict": False,
}
"""As a model is told of it."""


def shown(findings: Findings, numbers: Sequence[int]) -> str:
    """The passages as a model reads them, under the numbers that it can cite them by."""
    if not findings.passages:
        head = "No page was found that answers."
    else:
        head = f"{len(findings.passages)} passages of web pages, best first. {NOTICE}"
    parts = [_passage(number, one) for number, one in zip(numbers, findings.passages, strict=True)]
    unread = "\n".join(f"{named(one.url)} {visible(one.reason)}" for one in findings.unread)
    return "\n\n".join([head, *parts, *([f"Not read:\n{unread}"] if unread else [])])


def _passage(number: int, one: WebPassage) -> str:
    under = f", under {named(one.heading)}" if one.heading else ""
    published = f", published {visible(one.page.published)}" if one.page.published else ""
    read = time.strftime("%Y-%m-%d", time.gmtime(one.page.read_at))
    place = f"{named(one.page.title)} ({named(one.page.url)}){under}{published}, read {read}"
    return f"[{number}] {place}\n{quoted(one.text)}"
