"""The numbered feed: from wherever an index stands, it reaches the state of the catalog."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from kb.catalog import feed as feed_module
from kb.types import IndexedText


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many chunks the feed reads at once."""
    monkeypatch.setattr(feed_module, "_STEP", feed_module._STEP)
    return lambda size: setattr(feed_module, "_STEP", size)


class Follower:
    """The simplest index: a dictionary."""

    def __init__(self, shelf: Any) -> None:
        self.shelf = shelf
        self.seq = 0
        self.held: dict[int, tuple[str, np.ndarray]] = {}

    def follow(self, steps: int | None = None) -> None:
        """Apply the next steps, or all."""
        shelf = self.shelf
        for number, step in enumerate(
            shelf.catalog.feed.after(shelf.kb.id, self.seq, "words-1", shelf.kb.dim)
        ):
            if number == steps:
                break
            assert step.seq > self.seq
            assert len(step.add) == len(step.vectors) == len(step.texts)
            assert step.add.dtype == step.remove.dtype == np.int64
            assert (np.diff(step.add) > 0).all()
            for chunk_id, text, vector in zip(step.add.tolist(), step.texts, step.vectors, strict=True):
                self.held[chunk_id] = (text, vector)
            for chunk_id in step.remove.tolist():
                self.held.pop(chunk_id, None)
            self.seq = step.seq

    def check(self) -> None:
        """What is held are the chunks of the catalog with their vectors, and nothing else."""
        expected = {
            number: context + text
            for number, kb_id, context, text in self.shelf.rows("chunks", "id, kb_id, context, text")
            if kb_id == self.shelf.kb.id
        }
        assert {number: text for number, (text, _) in self.held.items()} == expected
        if expected:
            vectors = self.shelf.embedder.bags([text for text, _ in self.held.values()])
            np.testing.assert_allclose([vector for _, vector in self.held.values()], vectors, atol=2e-3)
        assert self.seq == self.shelf.catalog.feed.head(self.shelf.kb.id)


def test_an_empty_feed_has_no_steps(shelf: Any) -> None:
    """Nothing happened: the head is 0."""
    assert shelf.catalog.feed.head(shelf.kb.id) == 0
    assert list(shelf.catalog.feed.after(shelf.kb.id, 0, "words-1", 48)) == []


def test_a_chunk_added_and_removed_within_one_step_is_only_removed(shelf: Any) -> None:
    """The step names it in `remove`, never in `add`."""
    shelf.put(shelf.version("a", "one\ntwo"), shelf.version("b", "three"))
    shelf.catalog.store.remove(shelf.kb.id, [shelf.content("a").id])
    (step,) = shelf.catalog.feed.after(shelf.kb.id, 0, "words-1", 48)
    assert (step.seq, step.add.tolist(), step.remove.tolist(), step.texts) == (3, [3], [1, 2], ["T\nthree"])


def test_passages_carry_context_and_language(shelf: Any) -> None:
    """What the lexical index reads: the text, what stands above it, the language of its version."""
    shelf.put(replace(shelf.version("a", "eins"), language="de"), shelf.version("b", "one"))
    (step,) = shelf.catalog.feed.after(shelf.kb.id, 0, "words-1", 48)
    assert step.passages == [IndexedText("eins", "T\n", "de"), IndexedText("one", "T\n", "en")]


def test_a_document_without_chunks_is_no_change(shelf: Any) -> None:
    """Nothing to index, nothing in the feed."""
    shelf.put(shelf.version("empty", ""))
    assert shelf.catalog.feed.head(shelf.kb.id) == 0


def test_each_knowledge_base_has_its_own_changes(shelf: Any) -> None:
    """Numbers are handed out over all of them; a feed holds only its own base's chunks."""
    other = shelf.make("other")
    there = shelf.catalog.store.source(other.id, "upload")
    for number in range(3):
        shelf.put(shelf.version(f"a{number}", f"here {number}"))
        shelf.put(shelf.version(f"a{number}", f"there {number}"), kb=other, source=there)
    assert (shelf.catalog.feed.head(shelf.kb.id), shelf.catalog.feed.head(other.id)) == (5, 6)
    (step,) = shelf.catalog.feed.after(other.id, 0, "words-1", 48)
    assert (step.add.tolist(), step.texts) == ([2, 4, 6], ["T\nthere 0", "T\nthere 1", "T\nthere 2"])


def test_other_models_vectors_are_not_mixed_in(shelf: Any) -> None:
    """A text embedded by two models comes with the vector of the one that is asked for."""
    other = shelf.make("other", fingerprint="words-2")
    there = shelf.catalog.store.source(other.id, "upload")
    shelf.put(shelf.version("a", "same"))
    version = shelf.version("a", "same")
    zeros = {name: np.eye(1, 48, dtype="<f2").tobytes() for name in shelf.vectors(version)}
    shelf.catalog.store.commit(other.id, there, "words-2", [version], zeros)
    (ours,) = shelf.catalog.feed.after(shelf.kb.id, 0, "words-1", 48)
    (theirs,) = shelf.catalog.feed.after(other.id, 0, "words-2", 48)
    assert (len(ours.add), len(theirs.add)) == (1, 1)
    assert theirs.vectors[0].tolist() == [1.0] + [0.0] * 47
    np.testing.assert_allclose(ours.vectors[0], shelf.embedder.bags(["T\nsame"])[0], atol=2e-3)


def test_a_step_is_bounded_but_takes_one_document_whole(shelf: Any, step: Callable[[int], None]) -> None:
    """Documents are gathered up to the size of a step; one larger than that comes in one piece."""
    step(4)
    shelf.put(*(shelf.version(f"small{number}", "x\ny") for number in range(3)))
    shelf.put(shelf.version("large", "\n".join("abcdefghi")))
    sizes = [len(one.add) for one in shelf.catalog.feed.after(shelf.kb.id, 0, "words-1", 48)]
    assert sizes == [4, 11]


LINES = strategies.lists(strategies.sampled_from("abcdef"), max_size=4).map("\n".join)
OPERATIONS = strategies.lists(
    strategies.tuples(
        strategies.just("put"),
        strategies.lists(strategies.tuples(strategies.integers(0, 4), LINES), min_size=1, max_size=3),
    )
    | strategies.tuples(
        strategies.just("remove"), strategies.lists(strategies.integers(0, 4), max_size=2, unique=True)
    )
    | strategies.tuples(strategies.just("elsewhere"), LINES)
    | strategies.tuples(strategies.just("follow"), strategies.integers(0, 3)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=30)
@given(operations=OPERATIONS, sizes=strategies.tuples(strategies.integers(1, 6), strategies.integers(1, 6)))
def test_any_split_into_steps_brings_an_index_to_the_same_state(
    operations: list[Any],
    sizes: tuple[int, int],
    make_shelf: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    step: Callable[[int], None],
) -> None:
    """Followers that start late, stop halfway and read in steps of any size all end alike."""
    shelf = make_shelf(tmp_path_factory.mktemp("feed"))
    other = shelf.make("other")
    there = shelf.catalog.store.source(other.id, "upload")
    early = Follower(shelf)
    step(sizes[0])
    for name, given_ in operations:
        if name == "put":
            for number, text in given_:
                shelf.put(shelf.version(f"uri{number}", text))
        elif name == "elsewhere":
            shelf.put(shelf.version("uri", given_), kb=other, source=there)
        elif name == "remove":
            held = {content.uri: content.id for content in shelf.catalog.documents.page(shelf.kb.id)}
            shelf.catalog.store.remove(shelf.kb.id, [held[f"uri{n}"] for n in given_ if f"uri{n}" in held])
        else:
            early.follow(given_)
    late = Follower(shelf)
    for follower in (early, late):
        step(sizes[1])
        follower.follow()
        follower.check()
    shelf.catalog.close()


def test_heads_name_each_knowledge_base_with_its_newest_change(shelf: Any) -> None:
    """0 where nothing happened yet; a commit, a new name and a deletion show at once."""
    other = shelf.make("other")

    def heads() -> dict[str, int]:
        return {name: seq for _, name, seq in shelf.catalog.feed.heads()}

    assert heads() == {"shelf": 0, "other": 0}
    shelf.put(shelf.version("a.txt", "one"))
    assert heads() == {"shelf": shelf.catalog.feed.head(shelf.kb.id), "other": 0}
    assert shelf.catalog.feed.head(shelf.kb.id) > 0
    shelf.catalog.knowledge_bases.change(other.id, name="another")
    assert set(heads()) == {"shelf", "another"}
    shelf.catalog.knowledge_bases.delete(other.id)
    assert set(heads()) == {"shelf"}
