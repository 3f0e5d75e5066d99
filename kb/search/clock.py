"""Where the time of a search goes."""

import time


class Clock:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._spent: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """What passed since the last lap was this stage."""
        now = time.perf_counter()
        self._spent[stage] = self._spent.get(stage, 0.0) + (now - self._last) * 1000
        self._last = now

    def read(self) -> dict[str, float]:
        """By stage, and the total."""
        total = (time.perf_counter() - self._start) * 1000
        return {stage: round(spent, 3) for stage, spent in [*self._spent.items(), ("total", total)]}
