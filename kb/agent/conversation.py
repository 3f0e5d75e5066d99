"""What a model reads in a run, as it grows from round to round, within its window."""

import asyncio
from collections.abc import Sequence

from kb.agent import history
from kb.context.window import Window
from kb.gateway.events import Item

_LEFT_OUT = (
    "(This result was left out for want of room. Call the tool again, and ask for less, if you need it.)"
)
# Characters that are counted where they are: another thread takes longer.
_SHORT = 2_000


class Conversation:
    """Items and the tokens of all that goes into a call with them."""

    def __init__(self, items: Sequence[Item], tokens: int, window: Window) -> None:
        self._items = list(items)
        self._room = window.size - window.output - window.margin
        self.tokens = tokens

    def has_room(self, tokens: int) -> bool:
        """Whether so many more fit into the input of a call."""
        return self.tokens + tokens <= self._room

    async def add(self, items: Sequence[Item]) -> None:
        """Items for the next round. A long result takes some time to be counted."""
        self._items += items
        if sum(len(str(item)) for item in items) < _SHORT:
            self.tokens += history.tokens_of(items)
        else:
            self.tokens += await asyncio.to_thread(history.tokens_of, items)

    def fitted(self) -> list[Item]:
        """Items that the window has room for: of tools' results the oldest are left out where need be."""
        for at, item in enumerate(self._items):
            if self.has_room(0):
                break
            if item.get("type") == "function_call_output" and item["output"] != _LEFT_OUT:
                self._items[at] = {**item, "output": _LEFT_OUT}
                self.tokens -= history.tokens_of([item]) - history.tokens_of([self._items[at]])
        return list(self._items)
