"""Kill -9 right before and right behind every commit of a run: no tool runs twice, no credit is lost.

A process serves, and asks itself for a run: two rounds of calls side by side, of our own tools and of an MCP
server whose every call leaves a line in a file, then one that needs a yes, then the answer. What it writes
down it writes in transactions, and is killed at one of them. Another process looks an hour later, says the
same yes twice, and then a no.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from harness.judge import Broken
from harness.run_bugs import BUGS
from harness.runs import Asking, Folder, Kill, killed
from upstream import Upstream

PLACES = ("before", "behind")


@pytest.fixture(scope="module")
def asking(fakes: ModuleType) -> Iterator[Asking]:
    """Forks processes that serve."""
    with Asking(Path(str(fakes.__file__))) as running:
        yield running


class Runs:
    """A folder for each run."""

    def __init__(self, scratch: Path, blank: Path, asking: Asking, upstream: Upstream) -> None:
        self._given = (blank, asking, upstream)
        self._scratch = scratch
        self._number = 0

    def folder(self) -> Folder:
        """A new one."""
        self._number += 1
        return Folder(self._scratch / str(self._number), *self._given)

    def points(self, door: str, bug: str | None = None) -> list[Kill]:
        """All of a run that nobody disturbs."""
        ended = self.folder().ask(door, bug=bug)
        ((status, body),) = ended.answers
        assert (status, body["status"]) == (200, "completed")
        return [(number, place) for number in range(1, ended.commits + 1) for place in PLACES]

    def killed(self, door: str, kill: Kill | None, **more: object) -> str:
        """See `harness.runs.killed`; names the point."""
        try:
            return killed(self.folder(), door, kill, **more)  # type: ignore[arg-type]
        except Broken as error:
            raise Broken(f"{door}, {kill}: {error}") from error


@pytest.fixture
def runs(scratch: Path, blank_catalog: Path, asking: Asking, upstream: Upstream) -> Runs:
    """Over the scripted model."""
    return Runs(scratch, blank_catalog, asking, upstream)


@pytest.mark.parametrize("door", ["run", "response"])
def test_nobody_is_killed(runs: Runs, door: str) -> None:
    """What the judge says of a run as it should be."""
    assert runs.killed(door, None) == "approved, done"


@pytest.mark.parametrize("door", ["run", "response"])
def test_some_kills(runs: Runs, door: str) -> None:
    """A slice of the long test below."""
    everywhere(runs, door, 0.08)


@pytest.mark.slow
@pytest.mark.parametrize("door", ["run", "response"])
def test_a_kill_anywhere(runs: Runs, door: str, record_property: Callable[..., None]) -> None:
    """Every point."""
    seen = everywhere(runs, door, 1)
    record_property("points", dict(seen))
    assert {"before it asked", "pending, not begun", "approved, not begun"} < seen.keys()
    assert {"approved, started", "approved, done"} < seen.keys()


def everywhere(runs: Runs, door: str, share: float) -> Counter[str]:
    """Kill at a share of all points; returns how far the runs had come."""
    every = runs.points(door)
    some = random.Random(door).sample(every, round(len(every) * share))
    return Counter(runs.killed(door, kill) for kill in some)


@pytest.mark.slow
@pytest.mark.parametrize("door", ["run", "response"])
def test_a_kill_between_two_beats(runs: Runs, door: str) -> None:
    """The same while the process tells a hundred times a second how far it is: where, is left to chance."""
    chance = random.Random(door)
    for _ in range(20):
        runs.killed(door, (chance.randrange(1, 80), chance.choice(PLACES)), pulse=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_the_harness_sees_a_planted_bug(runs: Runs, bug: str) -> None:
    """Each would harm somebody; its reason stands beside it in `harness/run_bugs.py`."""
    door = BUGS[bug].door
    # From the end on: there lies what goes on after the yes.
    kills = runs.points(door, bug)[::-1]
    with pytest.raises(Broken):
        deque((runs.killed(door, kill, bug=bug) for kill in kills), maxlen=0)
