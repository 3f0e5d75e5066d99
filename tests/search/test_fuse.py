"""Two scores into one."""

import numpy as np
from hypothesis import given, strategies

from kb.search.fuse import fuse, support


def array(*numbers: float) -> np.ndarray:
    """Scores."""
    return np.array(numbers, np.float32)


def test_standard_scores_are_added() -> None:
    """Worked by hand: means 2 and 4, deviations sqrt(2/3) and sqrt(32/3)."""
    fused = fuse(array(1, 2, 3), array(0, 8, 4))
    dense = np.array([-1, 0, 1]) * 1.5**0.5
    lexical = np.array([-1, 1, 0]) * 1.5**0.5
    np.testing.assert_allclose(fused, dense + lexical, atol=1e-6)
    assert fused.dtype == np.float32


def test_a_weight_shares_two_between_the_parts() -> None:
    """0.5 counts each once, 1 the dense part alone and twice, 0 the lexical part."""
    dense, lexical = array(1, 2, 3), array(0, 8, 4)
    nothing = array(0, 0, 0)
    np.testing.assert_allclose(fuse(dense, lexical, 1.0), 2 * fuse(dense, nothing), atol=1e-6)
    np.testing.assert_allclose(fuse(dense, lexical, 0.0), 2 * fuse(nothing, lexical), atol=1e-6)
    np.testing.assert_allclose(
        fuse(dense, lexical, 0.75), 1.5 * fuse(dense, nothing) + 0.5 * fuse(nothing, lexical), atol=1e-6
    )
    assert fuse(dense, lexical, 0.5).tolist() == fuse(dense, lexical).tolist()


def test_a_part_that_cannot_tell_candidates_apart_adds_nothing() -> None:
    """Constant scores, and those that differ by rounding alone, leave the other part as it is."""
    right = fuse(array(0.1, 0.2, 0.4), array(0, 0, 0))
    for flat in (array(5, 5, 5), array(1e6, 1e6, 1e6), array(0.3, 0.3, 0.3) + array(0, 3e-8, 0)):
        np.testing.assert_allclose(fuse(array(0.1, 0.2, 0.4), flat), right, atol=1e-6)
        np.testing.assert_allclose(fuse(flat, array(0.1, 0.2, 0.4)), right, atol=1e-6)
    assert right[2] > right[1] > right[0]


def test_no_candidates_and_one_candidate() -> None:
    """Nothing gives nothing; one candidate stands out from nobody."""
    assert fuse(array(), array()).shape == (0,)
    assert fuse(array(0.7), array(3.5)).tolist() == [0.0]


PAIRS = strategies.lists(
    strategies.tuples(strategies.floats(-1, 1, width=32), strategies.floats(0, 40, width=32)),
    min_size=1,
    max_size=30,
)


@given(pairs=PAIRS, random=strategies.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(
    pairs: list[tuple[float, float]], random: object
) -> None:
    """Permuting the candidates permutes their scores."""
    order = list(range(len(pairs)))
    random.shuffle(order)  # type: ignore[attr-defined]
    dense, lexical = (array(*part) for part in zip(*pairs, strict=True))
    np.testing.assert_allclose(fuse(dense[order], lexical[order]), fuse(dense, lexical)[order], atol=1e-4)


@given(pairs=PAIRS)
def test_better_in_both_is_better_fused(pairs: list[tuple[float, float]]) -> None:
    """Finite, centred on 0, and never against both parts."""
    dense, lexical = (array(*part) for part in zip(*pairs, strict=True))
    fused = fuse(dense, lexical)
    assert np.isfinite(fused).all()
    assert abs(float(fused.mean())) < 1e-3
    better = (dense[:, None] >= dense) & (lexical[:, None] >= lexical)
    assert (fused[:, None] - fused >= -1e-4)[better].all()


def test_a_documents_best_other_passage_supports_each() -> None:
    """A fifth of it is added where it is above the mean; a passage alone has nothing to add."""
    scores = array(3, 1, 2, -1, -2, 0.5)
    documents = np.array([7, 7, 7, 4, 4, 9], np.int64)
    np.testing.assert_allclose(support(scores, documents), [3.4, 1.6, 2.6, -1, -2, 0.5], atol=1e-6)
    np.testing.assert_allclose(support(array(2, 2), np.array([5, 5], np.int64)), [2.4, 2.4], atol=1e-6)
    assert support(array(), np.empty(0, np.int64)).shape == (0,)
    assert support(scores, documents).dtype == np.float32


@given(pairs=PAIRS)
def test_passages_of_different_documents_do_not_support_each_other(pairs: list[tuple[float, float]]) -> None:
    """Where every document has one candidate, as with whole documents, scores stay as they are."""
    scores = array(*(pair[0] for pair in pairs))
    assert support(scores, np.arange(len(pairs), dtype=np.int64)).tolist() == scores.tolist()
