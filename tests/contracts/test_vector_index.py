"""What every VectorIndex promises, judged by the exact oracle."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import kb.index.faiss_index as faiss_index
from kb.errors import DimensionMismatch, Interrupted, ModelMismatch
from kb.index import compact, policy, segment
from kb.index.exact import ExactIndex
from kb.index.faiss_index import FaissIndex
from kb.types import Allowed, Neighbours

DIM = 8
FLAT_UNTIL, ROW = segment.FLAT_UNTIL, policy._ROW
NONE = np.empty(0, np.int64)
NO_ROWS = np.empty((0, DIM), np.float16)


def exact(folder: Path) -> ExactIndex:
    """The oracle; it keeps nothing in the folder."""
    return ExactIndex(DIM)


def on_faiss(folder: Path) -> FaissIndex:
    """The index that is used."""
    return FaissIndex(folder, fingerprint="f", dim=DIM)


def ids(*numbers: int) -> np.ndarray:
    """Chunk ids."""
    return np.array(numbers, np.int64)


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Vectors as the catalog keeps them: float16, of any length."""
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float16)


def unit(vectors: np.ndarray) -> np.ndarray:
    """One or several as questions: float32, unit length."""
    wide = vectors.astype(np.float32)
    return wide / np.linalg.norm(wide, axis=-1, keepdims=True)


def assert_agree(found: Neighbours, right: Neighbours, all_scores: dict[int, float]) -> None:
    """Equal scores, and equal ids but for the order of what scores within rounding of each other."""
    assert found.ids.dtype == np.int64
    assert found.scores.dtype == np.float32
    assert len(set(found.ids.tolist())) == len(found.ids) == len(right.ids)
    np.testing.assert_allclose(found.scores, right.scores, atol=1e-5)
    for chunk_id, score, expected_id in zip(
        found.ids.tolist(), found.scores.tolist(), right.ids.tolist(), strict=True
    ):
        assert all_scores[chunk_id] == pytest.approx(score, abs=1e-5)
        assert chunk_id == expected_id or all_scores[chunk_id] == pytest.approx(
            all_scores[expected_id], abs=1e-5
        )


@pytest.fixture(params=[exact, on_faiss])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Any]:
    """Opens the index under test, again over the same folder."""
    return lambda: request.param(tmp_path / "index")


@pytest.fixture
def index(opener: Callable[[], Any]) -> Any:
    """The index under test, empty."""
    return opener()


def test_an_empty_index_answers_with_nothing(index: Any) -> None:
    """No vectors: no neighbours, length and seq 0, nan for every id."""
    found = index.search(unit(rows(1)[0]), 10)
    assert (found.ids.shape, found.scores.shape) == ((0,), (0,))
    assert (len(index), index.seq) == (0, 0)
    assert np.isnan(index.score(unit(rows(1)[0]), ids(1, 2))).all()
    assert index.score(unit(rows(1)[0]), NONE).shape == (0,)


def test_the_best_come_first_with_their_inner_products(index: Any) -> None:
    """Neighbours are in order of the inner product, which is returned."""
    vectors = np.eye(DIM, dtype=np.float16)[:4]
    index.apply(1, ids(10, 11, 12, 13), vectors, NONE)
    question = np.array([0.5, 0.1, 0.7, -0.5] + [0.0] * 4, np.float32)
    found = index.search(question, 3)
    assert found.ids.tolist() == [12, 10, 11]
    np.testing.assert_allclose(found.scores, [0.7, 0.5, 0.1], atol=1e-6)


@pytest.mark.parametrize(("k", "expected"), [(0, 0), (1, 1), (3, 3), (5, 5), (6, 5), (1000, 5)])
def test_k_bounds_the_answer_and_may_exceed_what_is_live(index: Any, k: int, expected: int) -> None:
    """Fewer than k come back only when fewer are live."""
    index.apply(1, ids(1, 2, 3, 4, 5), rows(5), NONE)
    assert len(index.search(unit(rows(1, 9)[0]), k).ids) == expected


def test_a_removed_chunk_never_returns_and_leaves_its_place_to_others(index: Any) -> None:
    """Removal hides a chunk at once, in the base as in the tail, without costing top-k places."""
    vectors = rows(6)
    index.apply(1, ids(1, 2, 3), vectors[:3], NONE)
    index.checkpoint()
    index.apply(2, ids(4, 5, 6), vectors[3:], NONE)
    index.apply(3, NONE, NO_ROWS, ids(1, 5))
    for position in (0, 4):
        assert sorted(index.search(unit(vectors[position]), 4).ids.tolist()) == [2, 3, 4, 6]
    assert len(index) == 4
    assert np.isnan(index.score(unit(vectors[0]), ids(1, 5, 2))).tolist() == [True, True, False]


def test_removing_the_unknown_changes_nothing(index: Any) -> None:
    """An unknown id may be removed; only seq moves."""
    index.apply(1, ids(1), rows(1), NONE)
    index.apply(2, NONE, NO_ROWS, ids(7, 8))
    assert (len(index), index.seq) == (1, 2)


@pytest.mark.parametrize("checkpoints", [False, True])
def test_adding_again_changes_nothing(index: Any, checkpoints: bool) -> None:
    """A known id keeps its first vector and counts once, wherever it is held."""
    index.apply(1, ids(1, 2), rows(2), NONE)
    if checkpoints:
        index.checkpoint()
    index.apply(2, ids(2, 3), rows(2, seed=5), NONE)
    assert len(index) == 3
    np.testing.assert_allclose(index.score(unit(rows(2)[1]), ids(2)), [1.0], atol=1e-6)
    assert index.search(unit(rows(2)[1]), 10).ids.tolist().count(2) == 1


def test_a_replayed_history_ends_in_the_same_state(index: Any) -> None:
    """The same changes twice over give what they gave once."""
    history = [(ids(1, 2, 3), rows(3), NONE), (ids(4), rows(1, 1), ids(2)), (NONE, NO_ROWS, ids(3))]
    for _ in range(2):
        for seq, (add, vectors, remove) in enumerate(history, 1):
            # What a feed sends for a chunk that is gone by now is only its removal.
            keep = ~np.isin(add, ids(2, 3))
            index.apply(seq, add[keep], vectors[keep], remove)
        assert sorted(index.search(unit(rows(1)[0]), 10).ids.tolist()) == [1, 4]
        assert (len(index), index.seq) == (2, 3)


def test_what_is_added_and_removed_in_one_step_is_gone(index: Any) -> None:
    """Removal wins over addition in the same change."""
    index.apply(1, ids(1, 2), rows(2), ids(2))
    assert index.search(unit(rows(2)[1]), 10).ids.tolist() == [1]


def test_allow_limits_the_answer_without_shortening_it(index: Any) -> None:
    """None allows all; otherwise only the given ids return, and as many of them as k asks for."""
    vectors = rows(40)
    index.apply(1, np.arange(30, dtype=np.int64), vectors[:30], NONE)
    index.checkpoint()
    index.apply(2, np.arange(30, 40, dtype=np.int64), vectors[30:], ids(3, 33))
    oracle = ExactIndex(DIM)
    oracle.apply(2, np.arange(40, dtype=np.int64), vectors, ids(3, 33))
    question = unit(rows(1, 77)[0])
    scores = dict(enumerate((unit(vectors) @ question).tolist()))
    for allow in (
        None,
        NONE,
        ids(3, 33),
        ids(500, 600),
        ids(2, 3, 4, 31, 33, 39, 777),
        np.arange(40, dtype=np.int64),
        np.arange(0, 40, 2, dtype=np.int64),
        np.arange(-5, 100, dtype=np.int64),
        ids(7),
        ids(35),
    ):
        for k in (1, 5, 100):
            kept = None if allow is None else Allowed.only(allow)
            assert_agree(
                index.search(question, k, allow=kept), oracle.search(question, k, allow=kept), scores
            )
    assert index.search(question, 10, allow=Allowed.only(NONE)).ids.tolist() == []
    assert set(index.search(question, 99, allow=Allowed.only(ids(2, 3, 4, 777))).ids.tolist()) == {2, 4}


@pytest.mark.parametrize("checkpoints", [False, True])
def test_equal_vectors_are_told_apart_by_id(index: Any, checkpoints: bool) -> None:
    """Of duplicates the lower id comes first, also where k cuts through them."""
    one = rows(1)
    numbers = np.array([90, 3, 41, 7, 22, 5, 63, 80, 1, 12], np.int64)
    index.apply(1, numbers, np.repeat(one, 10, axis=0), NONE)
    if checkpoints:
        index.checkpoint()
    for k in (1, 4, 10):
        assert index.search(unit(one[0]), k).ids.tolist() == sorted(numbers.tolist())[:k]
    assert index.search(unit(one[0]), 2, allow=Allowed.only(ids(7, 12, 22))).ids.tolist() == [7, 12]


def test_score_keeps_the_order_of_the_ids_asked_for(index: Any) -> None:
    """Unsorted and repeated ids are each scored in place; what is not live is nan."""
    vectors = rows(4)
    index.apply(1, ids(9, 2), vectors[:2], NONE)
    index.checkpoint()
    index.apply(2, ids(30, 5), vectors[2:], NONE)
    question = unit(rows(1, 3)[0])
    asked = ids(5, 9, 1, 9, 30, 2, 100)
    right = [vectors[3], vectors[0], None, vectors[0], vectors[2], vectors[1], None]
    expected = [np.nan if row is None else float(unit(row) @ question) for row in right]
    np.testing.assert_allclose(index.score(question, asked), expected, atol=1e-6)


def test_another_length_is_refused(index: Any) -> None:
    """DimensionMismatch, which is a ModelMismatch, and nothing has changed."""
    with pytest.raises(DimensionMismatch):
        index.apply(1, ids(1), np.ones((1, DIM + 1), np.float32), NONE)
    with pytest.raises(DimensionMismatch):
        index.apply(1, ids(1, 2), rows(1), NONE)
    with pytest.raises(ModelMismatch):
        index.search(np.ones(DIM - 1, np.float32), 1)
    with pytest.raises(DimensionMismatch):
        index.score(np.ones((1, DIM), np.float32), ids(1))
    assert (len(index), index.seq) == (0, 0)


def test_a_checkpoint_is_where_the_next_open_starts(tmp_path: Path) -> None:
    """What was checkpointed is there again, without what came after it."""
    first = on_faiss(tmp_path)
    first.apply(5, ids(1, 2, 3), rows(3), ids(2))
    first.checkpoint()
    first.apply(6, ids(4), rows(1, 4), ids(1))
    again = on_faiss(tmp_path)
    assert (again.seq, len(again)) == (5, 2)
    assert sorted(again.search(unit(rows(1)[0]), 9).ids.tolist()) == [1, 3]
    again.apply(6, ids(4), rows(1, 4), ids(1))
    assert sorted(again.search(unit(rows(1)[0]), 9).ids.tolist()) == [3, 4]


def test_nothing_is_kept_without_a_checkpoint(tmp_path: Path) -> None:
    """An index that was never checkpointed opens empty at seq 0."""
    on_faiss(tmp_path).apply(3, ids(1), rows(1), NONE)
    assert (on_faiss(tmp_path).seq, len(on_faiss(tmp_path))) == (0, 0)


def test_a_checkpoint_of_nothing_but_a_number_is_kept(tmp_path: Path) -> None:
    """An empty index remembers how far it has followed."""
    first = on_faiss(tmp_path)
    first.apply(1, ids(1), rows(1), NONE)
    first.apply(2, NONE, NO_ROWS, ids(1))
    first.checkpoint()
    again = on_faiss(tmp_path)
    assert (again.seq, len(again)) == (2, 0)
    assert again.search(unit(rows(1)[0]), 3).ids.tolist() == []


def test_two_objects_over_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    """A checkpoint by one leaves the other's answers as they were, files gone or not."""
    first, second = on_faiss(tmp_path), on_faiss(tmp_path)
    first.apply(1, ids(1, 2), rows(2), NONE)
    first.checkpoint()
    reader = on_faiss(tmp_path)
    second.apply(2, ids(1, 2, 3), rows(3), NONE)
    second.checkpoint()
    first.apply(2, ids(3), rows(3)[2:], ids(1))
    assert sorted(reader.search(unit(rows(1)[0]), 9).ids.tolist()) == [1, 2]
    assert sorted(first.search(unit(rows(1)[0]), 9).ids.tolist()) == [2, 3]
    assert sorted(on_faiss(tmp_path).search(unit(rows(1)[0]), 9).ids.tolist()) == [1, 2, 3]
    np.testing.assert_allclose(reader.score(unit(rows(2)[1]), ids(2)), [1.0], atol=1e-6)


def test_a_checkpoint_is_skipped_while_another_process_makes_one(tmp_path: Path) -> None:
    """The lock is tried once; the skipped checkpoint loses nothing of what is in memory."""
    from filelock import FileLock

    index = on_faiss(tmp_path)
    index.apply(1, ids(1), rows(1), NONE)
    with FileLock(tmp_path / "checkpoint.lock"):
        index.checkpoint()
    assert not (tmp_path / "MANIFEST.json").exists()
    assert index.search(unit(rows(1)[0]), 1).ids.tolist() == [1]
    index.checkpoint()
    assert on_faiss(tmp_path).seq == 1


def test_a_checkpoint_is_wanted_once_enough_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the small tail and a sixteenth of the base, counting removals too; `apply` never writes."""
    monkeypatch.setattr(faiss_index, "_SMALL_TAIL", 4)
    index = on_faiss(tmp_path)
    index.apply(1, np.arange(4, dtype=np.int64), rows(4), NONE)
    assert not index.wants_checkpoint
    index.apply(2, ids(4), rows(5)[4:], NONE)
    assert index.wants_checkpoint
    assert not (tmp_path / "MANIFEST.json").exists()
    index.checkpoint()
    assert not index.wants_checkpoint
    index.apply(3, NONE, NO_ROWS, ids(0, 1, 2, 3))
    assert not index.wants_checkpoint
    index.apply(4, ids(9), rows(1, 9), NONE)
    assert index.wants_checkpoint
    index.checkpoint()
    assert (on_faiss(tmp_path).seq, len(on_faiss(tmp_path))) == (4, 2)


def test_a_newer_checkpoint_of_another_process_is_adopted(tmp_path: Path) -> None:
    """What was applied since stays applied; where the other was ahead, its state is taken whole."""
    first, second = on_faiss(tmp_path), on_faiss(tmp_path)
    for index in (first, second):
        index.apply(1, ids(1, 2, 3), rows(3), NONE)
    first.checkpoint()
    second.apply(2, ids(4), rows(4)[3:], ids(1))
    second.adopt()
    assert (second.seq, second.ids().tolist()) == (2, [2, 3, 4])
    assert second.search(unit(rows(1)[0]), 9).ids.tolist() != []
    assert 1 not in second.search(unit(rows(1)[0]), 9).ids.tolist()
    first.apply(2, ids(4), rows(4)[3:], ids(1))
    first.apply(3, ids(5), rows(1, 5), ids(2))
    first.checkpoint()
    second.adopt()
    assert (second.seq, second.ids().tolist()) == (3, [3, 4, 5])
    second.adopt()
    assert (second.seq, second.ids().tolist()) == (3, [3, 4, 5])


def test_a_search_sees_all_of_a_change_or_none_of_it(
    opener: Callable[[], Any], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one thread applies, every answer of the others is the state before or after."""
    if request.node.callspec.params["opener"] is exact:
        pytest.skip("the oracle is for one thread")
    monkeypatch.setattr(faiss_index, "_SMALL_TAIL", 8)
    interval = sys.getswitchinterval()
    # Threads take turns as often as they can: what is not atomic shows.
    sys.setswitchinterval(1e-6)
    index = opener()
    vectors, question = rows(120), unit(rows(1, 1)[0])
    # Step n holds exactly the ten chunks 10n … 10n + 9.
    valid = {tuple(range(10 * step, 10 * step + 10)) for step in range(12)} | {()}
    wrong: list[list[int]] = []
    answers = 0
    done = threading.Event()

    def search() -> None:
        nonlocal answers
        while not done.is_set():
            found = sorted(index.search(question, 50).ids.tolist())
            answers += 1
            if tuple(found) not in valid:
                wrong.append(found)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for step in range(12):
            numbers = np.arange(10 * step, 10 * step + 10, dtype=np.int64)
            gone = np.arange(120, dtype=np.int64)
            index.apply(step + 1, numbers, vectors[numbers], gone[~np.isin(gone, numbers)])
    finally:
        sys.setswitchinterval(interval)
        done.set()
        for thread in threads:
            thread.join()
    assert answers > 0
    assert wrong == []


def test_no_state_between_two_changes_is_ever_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a search can pick up, at any instant, is the state after some change."""
    monkeypatch.setattr(faiss_index, "_SMALL_TAIL", 1)
    published: list[set[int]] = []

    class Watched(FaissIndex):
        """Remembers what each published state holds."""

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "_state":
                published.append({*value.live_ids().tolist()})

    index = Watched(tmp_path, fingerprint="f", dim=DIM)
    index.apply(1, ids(1, 2), rows(2), NONE)
    index.apply(2, ids(3, 4), rows(2, 1), ids(1))
    index.apply(3, ids(5, 6), rows(2, 2), ids(2, 3))
    index.apply(4, NONE, NO_ROWS, ids(4))
    seen = [held for at, held in enumerate(published) if held != published[at - 1]]
    assert seen == [set(), {1, 2}, {2, 3, 4}, {4, 5, 6}, {5, 6}]


class Histories(RuleBasedStateMachine):
    """Any history of one folder: FaissIndex answers as the oracle does."""

    folder: Path
    chunk_ids = strategies.lists(strategies.integers(0, 40), max_size=6, unique=True)

    @initialize(small_tail=strategies.sampled_from([1, 5, 1000]), codes=strategies.booleans())
    def open(self, small_tail: int, codes: bool) -> None:
        """An empty index in a fresh folder, a tail of some size, and a base of either kind."""
        segment.FLAT_UNTIL = 0 if codes else FLAT_UNTIL
        # As if to score a row were dear: the codes are scanned, and as many refined as there are.
        policy._ROW = 1e6 if codes else ROW
        faiss_index._SMALL_TAIL = small_tail
        self.at = self.folder / str(len(list(self.folder.iterdir())))
        self.at.mkdir()
        self.vectors = rows(41, seed=3)
        # Duplicates, as copies of a document give.
        self.vectors[20:] = self.vectors[:21]
        self.index = on_faiss(self.at)
        self.history: list[tuple[np.ndarray, np.ndarray]] = []
        self.used: set[int] = set()

    def oracle(self, seq: int) -> ExactIndex:
        """The truth after `seq` changes."""
        made = ExactIndex(DIM)
        for number, (add, remove) in enumerate(self.history[:seq], 1):
            made.apply(number, add, self.vectors[add], remove)
        return made

    @rule(add=chunk_ids, remove=chunk_ids)
    def change(self, add: list[int], remove: list[int]) -> None:
        """A change: ids are new when added, as the catalog hands them out; any may be removed."""
        fresh = np.array([number for number in add if number not in self.used], np.int64)
        self.used.update(fresh.tolist())
        gone = np.array([number for number in remove if number in self.used], np.int64)
        self.history.append((fresh, gone))
        self.index.apply(len(self.history), fresh, self.vectors[fresh], gone)

    @rule(back=strategies.integers(1, 5))
    def replay(self, back: int) -> None:
        """The last changes come again, as one: what they added and is still there, what they removed."""
        last = self.history[-back:]
        gone = np.concatenate([NONE, *(remove for _, remove in last)])
        add = np.concatenate([NONE, *(add for add, _ in last)])
        add = add[~np.isin(add, gone)]
        self.index.apply(len(self.history), add, self.vectors[add], gone)

    @rule()
    def checkpoint(self) -> None:
        """Keep what was applied; a reopened index starts there."""
        self.index.checkpoint()
        assert on_faiss(self.at).seq == len(self.history)

    @rule()
    def reopen(self) -> None:
        """Start from the last checkpoint and follow the rest of the history."""
        self.index = on_faiss(self.at)
        assert len(self.index) == len(self.oracle(self.index.seq))
        for number in range(self.index.seq + 1, len(self.history) + 1):
            add, remove = self.history[number - 1]
            self.index.apply(number, add, self.vectors[add], remove)

    @rule(
        seed=strategies.integers(0, 5),
        k=strategies.integers(0, 45),
        allow=strategies.none() | strategies.sets(strategies.integers(-1, 45)),
    )
    def search(self, seed: int, k: int, allow: set[int] | None) -> None:
        """Any question, filtered or not."""
        question = unit(self.vectors[seed] if seed < 3 else rows(1, seed)[0])
        allowed = None if allow is None else Allowed.only(np.array(sorted(allow), np.int64))
        right = self.oracle(len(self.history)).search(question, k, allow=allowed)
        scores = dict(enumerate((unit(self.vectors) @ question).tolist()))
        assert_agree(self.index.search(question, k, allow=allowed), right, scores)
        asked = np.arange(-1, 45, dtype=np.int64)
        np.testing.assert_allclose(
            self.index.score(question, asked),
            self.oracle(len(self.history)).score(question, asked),
            atol=1e-5,
        )

    @invariant()
    def counts(self) -> None:
        """Length and seq are the oracle's."""
        if hasattr(self, "index"):
            assert (len(self.index), self.index.seq) == (
                len(self.oracle(len(self.history))),
                len(self.history),
            )


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`Histories` over a folder; what they change of the policy is put back."""
    monkeypatch.setattr(faiss_index, "_SMALL_TAIL", faiss_index._SMALL_TAIL)
    monkeypatch.setattr(segment, "FLAT_UNTIL", FLAT_UNTIL)
    monkeypatch.setattr(policy, "_ROW", ROW)
    return type("Histories", (Histories,), {"folder": tmp_path})


def test_any_history_gives_the_oracles_answers(machine: Any) -> None:
    """Adds, removals, replays, checkpoints and reopens in any order."""
    run_state_machine_as_test(machine, settings=settings(max_examples=30, stateful_step_count=25))


@pytest.mark.slow
def test_many_long_histories_give_the_oracles_answers(machine: Any) -> None:
    """500 of 50 steps each."""
    run_state_machine_as_test(machine, settings=settings(max_examples=500, stateful_step_count=50))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """3,000 vectors in 30 clusters, in a base with codes and a graph; 400 removed, 100 in the tail."""
    chance = np.random.default_rng(4)
    centres = chance.standard_normal((30, 32))
    vectors = (np.repeat(centres, 100, axis=0) + 0.6 * chance.standard_normal((3000, 32))).astype(np.float16)
    numbers = np.arange(3000, dtype=np.int64)
    gone = chance.choice(2900, 400, replace=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(segment, "FLAT_UNTIL", 0)
        for module in (segment, compact):
            patched.setattr(module, "GRAPH_FROM", 0)
        folder = tmp_path_factory.mktemp("large")
        index, oracle = FaissIndex(folder, fingerprint="f", dim=32), ExactIndex(32)
        index.apply(1, numbers[:2000], vectors[:2000], NONE)
        index.checkpoint()
        # Added to, not built anew.
        index.apply(2, numbers[2000:2900], vectors[2000:2900], gone[:200])
        index.checkpoint()
        index.apply(3, numbers[2900:], vectors[2900:], gone[200:])
    oracle.apply(3, numbers, vectors, gone)
    questions = unit((vectors[chance.integers(3000, size=60)] + 0.5 * vectors[:60]).astype(np.float16))
    return index, oracle, questions


@pytest.mark.parametrize("dear", ["nothing", "rows", "rows and codes"])
@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize(
    "kept", ["all", "half", "tenth", "hundredth", "five", "one cluster", "all clusters but one"]
)
def test_a_large_base_finds_nearly_all_that_a_filter_keeps(
    large: Any, monkeypatch: pytest.MonkeyPatch, dear: str, k: int, kept: str
) -> None:
    """Whichever way is taken: never fewer than match, none that is removed or left out, and of the best 99 %,
    less what sixty questions stray from that mean."""
    index, oracle, questions = large
    if dear != "nothing":
        monkeypatch.setattr(policy, "_ROW", 1e3)
    if dear == "rows and codes":
        monkeypatch.setattr(policy, "_CODE", 1e6)
        monkeypatch.setattr(policy, "_CODE_PICKED", 1e6)
    chance, numbers = np.random.default_rng(5), np.arange(3000, dtype=np.int64)
    masks = {
        "all": np.ones(3000, bool),
        "half": chance.random(3000) < 0.5,
        "tenth": chance.random(3000) < 0.1,
        "hundredth": chance.random(3000) < 0.01,
        "five": np.isin(numbers, [3, 700, 1500, 2800, 2950]),
        "one cluster": numbers // 100 == 7,
        "all clusters but one": numbers // 100 != 7,
    }
    allow = None if kept == "all" else Allowed(numbers, masks[kept])
    live = set(oracle.ids().tolist()) & set(numbers[masks[kept]].tolist())
    hit = best = 0
    for question in questions:
        found, right = index.search(question, k, allow=allow), oracle.search(question, k, allow=allow)
        assert len(set(found.ids.tolist())) == len(found.ids) == len(right.ids) == min(k, len(live))
        assert set(found.ids.tolist()) <= live
        np.testing.assert_allclose(found.scores, oracle.score(question, found.ids), atol=1e-5)
        if found.exact:
            np.testing.assert_allclose(found.scores, right.scores, atol=1e-5)
        hit += int((found.scores >= right.scores[-1] - 1e-6).sum())
        best += len(right.ids)
    assert hit >= 0.98 * best


def test_a_checkpoint_is_given_up_when_the_index_is_closed(tmp_path: Path) -> None:
    """It raises Interrupted, nothing is switched, and the next process starts from what was there."""
    index = on_faiss(tmp_path)
    index.apply(1, ids(1), rows(1), NONE)
    index.checkpoint()
    index.apply(2, ids(2), rows(1, 2), NONE)
    index.close()
    with pytest.raises(Interrupted):
        index.checkpoint()
    assert (index.seq, index.ids().tolist()) == (2, [1, 2])
    assert (on_faiss(tmp_path).seq, on_faiss(tmp_path).ids().tolist()) == (1, [1])
