"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

import re
from collections.abc import Iterator

from kb.gateway.faults import Broken

MOST_EVENT_BYTES = 8_000_000
"""Of one event. The last one of a call repeats its whole answer."""

# A carriage return that stands last is none yet: its line feed may follow.
_LINE_END = re.compile(rb"\r?\n|\r(?=[^\n])")


class EventDecoder:
    """Bytes, cut anywhere, become the data of events. Raises Broken for an event without end."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of every event that is whole now."""
        # Where the last search stopped; a carriage return that stood last may be a line's end now.
        at = max(0, len(self._rest) - 1)
        self._rest += chunk
        begin = 0
        while found := _LINE_END.search(self._rest, at):
            line = bytes(self._rest[begin : found.start()])
            begin = at = found.end()
            if not line and self._data:
                yield b"\n".join(self._data)
                self._data, self._size = [], 0
            elif line.startswith(b"data:"):
                value = line[5:].removeprefix(b" ")
                self._data.append(value)
                self._size += len(value)
        del self._rest[:begin]
        if len(self._rest) + self._size > MOST_EVENT_BYTES:
            raise Broken("too_large", f"an event of more than {MOST_EVENT_BYTES:,} bytes")
