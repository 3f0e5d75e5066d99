"""What a response has streamed, held compressed until it is kept."""

import json
import zlib
from collections.abc import Iterator

from kb.agent.output import Event

# Events are compressed in portions of so many: a long answer has thousands that hardly differ.
_PORTION = 64


class EventLog:
    """The events of one response, compressed: iterate over them again and again."""

    def __init__(self) -> None:
        self._portions: list[bytes] = []
        self._newest: list[Event] = []
        self.last: Event = {}

    def add(self, event: Event) -> None:
        """The next one."""
        self.last = event
        self._newest.append(event)
        if len(self._newest) == _PORTION:
            self._portions.append(zlib.compress("\n".join(map(_line, self._newest)).encode(), level=1))
            self._newest = []

    def __iter__(self) -> Iterator[Event]:
        for portion in self._portions:
            yield from map(json.loads, zlib.decompress(portion).decode().split("\n"))
        yield from self._newest


def _line(event: Event) -> str:
    return json.dumps(event, separators=(",", ":"))
