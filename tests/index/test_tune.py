"""A dense index under another recall target: a new effort for the same files."""

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from kb.errors import Interrupted
from kb.index import calibrate, checkpoint, compact, faiss_index, segment
from kb.index.exact import ExactIndex
from kb.index.faiss_index import FaissIndex
from kb.index.manifest import read_manifest, write_manifest
from kb.index.policy import Effort, least_beam, least_refine
from kb.types import RECALL

DIM = 32
COUNT = 3000
NONE = np.empty(0, np.int64)
NUMBERS = np.arange(COUNT, dtype=np.int64)
CHANCE = np.random.default_rng(4)
CENTRES = CHANCE.standard_normal((30, DIM))
STORED = (np.repeat(CENTRES, 100, axis=0) + 0.6 * CHANCE.standard_normal((COUNT, DIM))).astype(np.float16)


class Target:
    """What the catalog's row says."""

    def __init__(self, recall: float) -> None:
        self.recall = recall


def as_if_large(patched: pytest.MonkeyPatch) -> None:
    """COUNT vectors get codes and a graph; the efforts are what fewer trials say, however little that is."""
    patched.setattr(segment, "FLAT_UNTIL", 0)
    for module in (segment, compact):
        patched.setattr(module, "GRAPH_FROM", 0)
    patched.setattr(calibrate, "_QUESTIONS", {10: 128, 100: 32})
    patched.setattr(calibrate, "least_refine", lambda k, recall: 0)
    patched.setattr(calibrate, "least_beam", lambda k, rows, recall: 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with codes and a graph, its effort found for 0.99."""
    folder = tmp_path_factory.mktemp("made") / "index"
    with pytest.MonkeyPatch.context() as patched:
        as_if_large(patched)
        index = FaissIndex(folder, fingerprint="f", dim=DIM)
        index.apply(1, NUMBERS, STORED, NONE)
        index.checkpoint()
    return folder


@pytest.fixture
def large(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to which more can be added."""
    as_if_large(monkeypatch)
    return Path(shutil.copytree(made, tmp_path / "index"))


def opened(folder: Path, target: Target) -> FaissIndex:
    """The index over a folder."""
    return FaissIndex(folder, fingerprint="f", dim=DIM, recall=lambda: target.recall)


def kept(folder: Path) -> Effort:
    """The effort in the manifest."""
    return Effort.read(read_manifest(folder / "MANIFEST.json")["effort"])


def used(index: FaissIndex) -> Effort:
    """The effort of an index's searches."""
    base = index._state.base
    assert base is not None
    assert base.effort is not None
    return base.effort


def files(folder: Path) -> dict[str, int]:
    """The base's files and when they were written."""
    return {
        path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix in segment.SUFFIXES
    }


def missed(index: FaissIndex) -> float:
    """The share of the ten best that the graph does not find, of 300 questions."""
    oracle = ExactIndex(DIM)
    oracle.apply(1, NUMBERS, STORED, NONE)
    asked = STORED[np.random.default_rng(1).integers(COUNT, size=300)] + STORED[:300] * np.float16(0.4)
    wide = asked.astype(np.float32)
    base, hit = index._state.base, 0
    assert base is not None
    for question in wide / np.linalg.norm(wide, axis=1, keepdims=True):
        tenth = oracle.search(question, 10).scores[-1]
        rows = base.walk(question, used(index).beam(10))[:20]
        hit += min(10, int((base.score(question, rows) >= tenth - 1e-6).sum()))
    return 1 - hit / 3000


@pytest.mark.parametrize(
    ("recall", "refine", "beam"),
    [(0.9, 0.631, 0.251), (0.95, 0.725, 0.381), (0.99, 1, 1), (0.999, 1.585, 3.981), (0.9999, 2.512, 15.85)],
)
def test_the_least_effort_follows_the_target(recall: float, refine: float, beam: float) -> None:
    """A lower target may take less than the default's least, a higher one takes more; at every size."""
    for k in (10, 100):
        assert least_refine(k, recall) == pytest.approx(refine * least_refine(k, RECALL), abs=0.51)
        for rows in (50_000, 100_000, 1_000_000):
            assert least_beam(k, rows, recall) == pytest.approx(
                beam * least_beam(k, rows, RECALL), abs=1.01 + beam
            )


def test_another_target_takes_another_effort_and_the_same_files(large: Path) -> None:
    """More for a higher target, less for a lower one; what is found follows."""
    before, target = files(large), Target(0.99)
    index = opened(large, target)
    efforts, misses = [used(index)], [missed(index)]
    for target.recall in (0.9, 0.999):
        index.tune()
        efforts.append(used(index))
        misses.append(missed(index))
        assert kept(large) == used(index) == used(opened(large, target))
        assert (index.recall, used(index).rows) == (target.recall, COUNT)
    middle, low, high = efforts
    assert low.beam_10 < middle.beam_10 < high.beam_10
    assert low.refine_10 < middle.refine_10 < high.refine_10
    assert low.refine_100 < middle.refine_100 < high.refine_100
    assert misses[1] > misses[0] > misses[2]
    assert files(large) == before
    assert opened(large, target).ids().tolist() == NUMBERS.tolist()


def test_the_present_target_changes_nothing(large: Path) -> None:
    """Not even the manifest's time."""
    before = (large / "MANIFEST.json").stat().st_mtime_ns
    index = opened(large, Target(0.99))
    index.tune()
    index.checkpoint()
    assert (large / "MANIFEST.json").stat().st_mtime_ns == before


def test_what_is_open_elsewhere_takes_the_effort_over(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without trials of its own, and with what was applied since."""
    target = Target(0.99)
    mine, other = opened(large, target), opened(large, target)
    other.apply(2, NONE, np.empty((0, DIM), np.float16), NUMBERS[:5])
    target.recall = 0.999
    mine.tune()
    monkeypatch.setattr(faiss_index, "calibrated", None)
    for follow in (other.tune, other.adopt):
        follow()
        assert used(other) == used(mine) == kept(large)
        assert (other.seq, other.ids().tolist()) == (2, NUMBERS[5:].tolist())


def test_a_checkpoint_is_for_the_target_of_its_moment(large: Path) -> None:
    """Whoever opened the index under the old target does not bring it back, whatever it does."""
    target = Target(0.99)
    server = opened(large, target)
    target.recall = 0.999
    opened(large, target).tune()
    assert used(server).recall == 0.99
    server.apply(2, NONE, np.empty((0, DIM), np.float16), NUMBERS[:5])
    server.checkpoint()
    assert (kept(large).recall, used(server).recall, server.seq) == (0.999, 0.999, 2)
    # Also where nothing is to be written but the effort.
    target.recall = 0.95
    server.checkpoint()
    assert (kept(large).recall, used(server).recall) == (0.95, 0.95)


def test_an_effort_for_another_target_is_not_taken_over(large: Path) -> None:
    """A process whose checkpoint began before the change leaves the old one; the next mends it."""
    target = Target(0.99)
    index = opened(large, target)
    target.recall = 0.999
    index._search_with(Effort(0.999, COUNT, 500, 900, 500, 900))
    index.adopt()
    assert (used(index).beam_10, kept(large).recall) == (500, 0.99)


def test_another_process_at_work_is_not_waited_for(large: Path) -> None:
    """A server's thread goes on; the next search tries again."""
    target = Target(0.999)
    index = opened(large, target)
    with FileLock(large / "checkpoint.lock"):
        index.tune()
    assert used(index).recall == kept(large).recall == 0.99
    index.tune()
    assert used(index).recall == kept(large).recall == 0.999


def test_whoever_waits_comes_to_it_when_the_other_is_done(large: Path) -> None:
    """As a person does who asked for it."""
    index = opened(large, Target(0.999))
    waiting = threading.Thread(target=index.tune, kwargs={"wait": True})
    with FileLock(large / "checkpoint.lock"):
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join()
    assert used(index).recall == kept(large).recall == 0.999


def test_a_closed_index_gives_its_trials_up(large: Path) -> None:
    """A server that stops does not wait for them."""
    index = opened(large, Target(0.999))
    index.close()
    with pytest.raises(Interrupted):
        index.tune()
    assert used(index).recall == kept(large).recall == 0.99


def test_a_small_base_is_exact_at_any_target(tmp_path: Path) -> None:
    """There is no effort to find; also where nothing is written yet."""
    target = Target(0.99)
    index = opened(tmp_path / "index", target)
    assert (index.recall, index.cost()) == (None, None)
    index.tune(wait=True)
    assert not (tmp_path / "index").exists()
    index.apply(1, NUMBERS, STORED, NONE)
    index.checkpoint()
    target.recall = 0.9999
    index.tune(wait=True)
    cost = index.cost()
    assert cost is not None
    assert (index.recall, cost.kind, cost.rows, cost.effort) == (None, "flat", COUNT, None)


def test_an_index_emptied_costs_nothing(tmp_path: Path) -> None:
    """A base without a vector has no questions to be timed with."""
    index = opened(tmp_path / "index", Target(0.99))
    index.apply(1, NUMBERS, STORED, NONE)
    index.apply(2, NONE, np.empty((0, DIM), np.float16), NUMBERS)
    index.checkpoint()
    assert index.cost() is None


def test_the_cost_is_that_of_the_effort(large: Path) -> None:
    """Kind, rows, effort; more time for more effort."""
    index = opened(large, Target(0.99))
    before = index.cost()
    # A walk over everything, and as many scored again, is slower by far on any machine.
    index._search_with(Effort(0.99, COUNT, COUNT, COUNT, COUNT, COUNT))
    after = index.cost()
    assert before is not None
    assert after is not None
    assert (before.kind, before.rows, before.effort) == ("graph", COUNT, kept(large))
    assert 0 < before.ms_10 < after.ms_10


def test_a_discarded_or_damaged_manifest_stays_as_it_is(large: Path) -> None:
    """The next opening starts anew; an effort alone makes no checkpoint."""
    target = Target(0.99)
    index = opened(large, target)
    target.recall = 0.999
    (large / "MANIFEST.json").write_text("{}")
    index.tune()
    assert (used(index).recall, (large / "MANIFEST.json").read_text()) == (0.999, "{}")
    target.recall = 0.9
    (large / "MANIFEST.json").unlink()
    index.tune()
    assert (used(index).recall, (large / "MANIFEST.json").exists()) == (0.9, False)


def test_the_manifest_of_another_base_stays_as_it_is(large: Path) -> None:
    """Where it cannot be opened, its effort is none of this base's."""
    target = Target(0.99)
    index = opened(large, target)
    other = {**read_manifest(large / "MANIFEST.json"), "name": "other", "files": {"other.ids": ""}}
    write_manifest(large / "MANIFEST.json", other)
    target.recall = 0.999
    index.tune()
    assert (used(index).recall, read_manifest(large / "MANIFEST.json")) == (0.999, other)


class Crash(BaseException):
    """Stands for the end of the process at this point."""


@pytest.mark.parametrize("step", ["write_text", "replace"])
def test_a_crash_leaves_the_old_effort_or_the_new(
    large: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Vectors are whole in either case, and the next process comes to the target."""
    target = Target(0.99)
    index = opened(large, target)
    target.recall = 0.999

    def crash(*given: Any, **named: Any) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(Path, step, crash)
        with pytest.raises(Crash):
            index.tune()
    again = opened(large, target)
    assert (again.recall, again.ids().tolist()) == (0.99, NUMBERS.tolist())
    again.tune()
    assert (again.recall, kept(large).recall) == (0.999, 0.999)


def test_a_refusing_disk_costs_one_trial(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is told; this process searches at the target, and need not find the effort again."""
    target = Target(0.99)
    index = opened(large, target)
    target.recall = 0.999

    def refuse(*given: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_manifest", refuse)
        with pytest.raises(OSError, match="No space"):
            index.tune()
        index.tune()
    assert (index.recall, kept(large).recall) == (0.999, 0.99)
