"""What a response is written into: its items in order, and its events, numbered here."""

from collections.abc import Iterator, Mapping
from typing import Any

Event = dict[str, Any]
"""One event as it is sent: `type`, `sequence_number` and what that type has."""


class Output:
    """The output of one response. items: as they are by now."""

    def __init__(self, response: Mapping[str, Any]) -> None:
        self._response = dict(response)
        self._sequence = 0
        self.items: list[dict[str, Any]] = []

    @property
    def has_begun(self) -> bool:
        """Whether any event was written."""
        return bool(self._sequence)

    def response(self, **fields: Any) -> dict[str, Any]:
        """The response with what was written so far; fields: what else to set."""
        return {**self._response, "output": [dict(item) for item in self.items], **fields}

    def add(self, item: dict[str, Any]) -> int:
        """One more item; returns its place."""
        self.items.append(item)
        return len(self.items) - 1

    def event(self, kind: str, **fields: Any) -> Event:
        """The next event."""
        event = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return event

    def searched_web(self, at: int, *moments: str) -> Iterator[Event]:
        """How far the search of the web at a place is."""
        for moment in moments:
            kind = f"response.web_search_call.{moment}"
            yield self.event(kind, output_index=at, item_id=self.items[at]["id"])
