"""Kills and power cuts at every system call that changes the disk: nothing promised is lost or half there.

A trip is recorded once. Its calls are replayed into a disk that knows what was synced, and states in which
that disk may be found after each of them are laid out, opened and judged: with all that was written (what a
kill leaves), with only what was synced, with names whose bytes are missing, bytes whose names are, torn
writes, and random choices of all these.
"""

import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from harness.bugs import BUGS
from harness.disk import Disk, State, key, materialise
from harness.judge import Broken, Expected, judge
from harness.trace import Call, Nursery, promise_of
from harness.trips import TRIPS


def states(
    disk: Disk, calls: Sequence[Call], expected: Expected, log: Path, *, seed: int, every: int = 1
) -> Iterator[tuple[str, State, Expected]]:
    """Every different state of a recorded trip, with what must hold in it.

    every: look only at so many-th calls, and at those around which most goes wrong: promises and renames.
    """
    chance, seen, number = random.Random(seed), set[bytes](), 0
    for at, call in enumerate(calls):
        promise = promise_of(call, log)
        if promise is not None:
            expected = expected.after([promise])
        elif not disk.follow(call):
            continue
        number += 1
        if number % every and promise is None and not call.name.startswith("rename"):
            continue
        for what, state in disk.crashes(chance):
            name = key(state, sorted((uri, sorted(map(str, may))) for uri, may in expected.allowed.items()))
            if name not in seen:
                seen.add(name)
                yield f"call {at}, {call.name}: {what}", state, expected


def survive(places: Iterator[tuple[str, State, Expected]], texts: Mapping[str, str], scratch: Path) -> int:
    """Judge states; returns how many there were. Raises Broken, naming the state."""
    count = 0
    for count, (what, state, expected) in enumerate(places, 1):
        root = scratch / f"state-{count}"
        root.mkdir()
        materialise(state, root)
        try:
            judge(root, expected, texts)
        except Exception as error:
            # Whatever stands between a person and the documents, a refusal to open them included.
            raise Broken(f"{what}: {error}") from error
        shutil.rmtree(root)
    return count


@pytest.mark.parametrize("trip", ["delete", "compact", "backup"])
def test_some_power_cuts(trip: str, starts: Mapping, nursery: Nursery, scratch: Path) -> None:
    """A slice of the long test below."""
    everywhere(trip, starts, nursery, scratch, every=40)


@pytest.mark.slow
@pytest.mark.parametrize("trip", TRIPS)
def test_a_power_cut_anywhere(
    trip: str, starts: Mapping, nursery: Nursery, scratch: Path, record_property: pytest.FixtureRequest
) -> None:
    """Hundreds of places a trip, up to eight states each."""
    record_property("states", everywhere(trip, starts, nursery, scratch, every=1))


def everywhere(trip: str, starts: Mapping, nursery: Nursery, scratch: Path, *, every: int) -> int:
    """Record and judge; returns the number of states."""
    start = starts[trip]
    root = start.copied(scratch / "root")
    disk = Disk(root)
    ended, calls = nursery.record(trip, root, start.documents)
    assert ended.code == 0, ended.said
    return survive(
        states(disk, calls, start.expected, nursery.log, seed=1, every=every), start.texts, scratch
    )


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_the_harness_sees_a_planted_bug(bug: str, starts: Mapping, nursery: Nursery, scratch: Path) -> None:
    """Each would cost data; its reason stands beside it in `harness/bugs.py`."""
    trip = BUGS[bug].trip
    start = starts[trip]
    root = start.copied(scratch / "root")
    disk = Disk(root)
    ended, calls = nursery.record(trip, root, start.documents, bug=bug)
    assert ended.code == 0, ended.said
    # Long trips are full of calls that make no difference here.
    every = 1 if trip == "compact" else 10
    with pytest.raises(Broken):
        survive(states(disk, calls, start.expected, nursery.log, seed=1, every=every), start.texts, scratch)
