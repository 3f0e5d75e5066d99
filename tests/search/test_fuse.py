"""Two scores into one."""

import numpy as np
from hypothesis import given, strategies

from kb.search.fuse import behind, fuse, support


def array(*numbers: float) -> np.ndarray:
    """Scores."""
    return np.array(numbers, np.float32)


def every(scores: np.ndarray) -> np.ndarray:
    """All of them found by the first look."""
    return np.ones(len(scores), bool)


FIRST = np.ones(3, bool)


def test_standard_scores_are_added() -> None:
    """Worked by hand: means 2 and 4, deviations sqrt(2/3) and sqrt(32/3)."""
    fused = fuse(array(1, 2, 3), array(0, 8, 4), FIRST)
    dense = np.array([-1, 0, 1]) * 1.5**0.5
    lexical = np.array([-1, 1, 0]) * 1.5**0.5
    np.testing.assert_allclose(fused, dense + lexical, atol=1e-6)
    assert fused.dtype == np.float32


def test_a_weight_shares_two_between_the_parts() -> None:
    """0.5 counts each once, 1 the dense part alone and twice, 0 the lexical part."""
    dense, lexical = array(1, 2, 3), array(0, 8, 4)
    nothing = array(0, 0, 0)
    np.testing.assert_allclose(fuse(dense, lexical, FIRST, 1.0), 2 * fuse(dense, nothing, FIRST), atol=1e-6)
    np.testing.assert_allclose(fuse(dense, lexical, FIRST, 0.0), 2 * fuse(nothing, lexical, FIRST), atol=1e-6)
    np.testing.assert_allclose(
        fuse(dense, lexical, FIRST, 0.75),
        1.5 * fuse(dense, nothing, FIRST) + 0.5 * fuse(nothing, lexical, FIRST),
        atol=1e-6,
    )
    assert fuse(dense, lexical, FIRST, 0.5).tolist() == fuse(dense, lexical, FIRST).tolist()


def test_a_part_that_cannot_tell_candidates_apart_adds_nothing() -> None:
    """Constant scores, and those that differ by rounding alone, leave the other part as it is."""
    right = fuse(array(0.1, 0.2, 0.4), array(0, 0, 0), FIRST)
    for flat in (array(5, 5, 5), array(1e6, 1e6, 1e6), array(0.3, 0.3, 0.3) + array(0, 3e-8, 0)):
        np.testing.assert_allclose(fuse(array(0.1, 0.2, 0.4), flat, FIRST), right, atol=1e-6)
        np.testing.assert_allclose(fuse(flat, array(0.1, 0.2, 0.4), FIRST), right, atol=1e-6)
    assert right[2] > right[1] > right[0]


def test_no_candidates_and_one_candidate() -> None:
    """Nothing gives nothing; one candidate stands out from nobody."""
    assert fuse(array(), array(), FIRST[:0]).shape == (0,)
    assert fuse(array(0.7), array(3.5), FIRST[:1]).tolist() == [0.0]


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
    first = np.arange(len(pairs)) % 3 > 0
    np.testing.assert_allclose(
        fuse(dense[order], lexical[order], first[order]), fuse(dense, lexical, first)[order], atol=1e-4
    )


@given(pairs=PAIRS)
def test_better_in_both_is_better_fused(pairs: list[tuple[float, float]]) -> None:
    """Finite, centred on 0, and never against both parts."""
    dense, lexical = (array(*part) for part in zip(*pairs, strict=True))
    fused = fuse(dense, lexical, every(dense))
    assert np.isfinite(fused).all()
    assert abs(float(fused.mean())) < 1e-3
    better = (dense[:, None] >= dense) & (lexical[:, None] >= lexical)
    assert (fused[:, None] - fused >= -1e-4)[better].all()


def test_a_documents_best_other_passage_supports_each() -> None:
    """A fifth of it is added where it is above the mean; a passage alone has nothing to add."""
    scores = array(3, 1, 2, -1, -2, 0.5)
    documents = np.array([7, 7, 7, 4, 4, 9], np.int64)
    np.testing.assert_allclose(
        support(scores, documents, every(scores)), [3.4, 1.6, 2.6, -1, -2, 0.5], atol=1e-6
    )
    np.testing.assert_allclose(
        support(array(2, 2), np.array([5, 5], np.int64), FIRST[:2]), [2.4, 2.4], atol=1e-6
    )
    assert support(array(), np.empty(0, np.int64), FIRST[:0]).shape == (0,)
    assert support(scores, documents, every(scores)).dtype == np.float32


@given(pairs=PAIRS)
def test_passages_of_different_documents_do_not_support_each_other(pairs: list[tuple[float, float]]) -> None:
    """Where every document has one candidate, as with whole documents, scores stay as they are."""
    scores = array(*(pair[0] for pair in pairs))
    assert support(scores, np.arange(len(pairs), dtype=np.int64), every(scores)).tolist() == scores.tolist()


def test_what_a_deeper_look_finds_changes_no_score() -> None:
    """Mean, deviation and support are of the first look; a later candidate is supported by it as well."""
    first = np.array([True, True, True, False, False])
    dense, lexical = array(1, 2, 3, 9, -9), array(0, 8, 4, 40, 0)
    fused = fuse(dense, lexical, first)
    np.testing.assert_allclose(fused[:3], fuse(dense[:3], lexical[:3], FIRST), atol=1e-6)
    np.testing.assert_allclose(fused[3], 7 * 1.5**0.5 + 36 / (32 / 3) ** 0.5, rtol=1e-6)
    scores, documents = array(2, 1, -1, 4, 0), np.array([7, 8, 9, 8, 9], np.int64)
    np.testing.assert_allclose(support(scores, documents, first), [2, 1, -1, 4.2, 0], atol=1e-6)


def test_a_deeper_look_comes_behind_the_one_before() -> None:
    """Lowered together and in their order; untouched where they are behind already."""
    look = np.array([0, 1, 0, 1, 2], np.int64)
    np.testing.assert_allclose(behind(array(5, 9, 3, 8, 1), look), [5, 2.999, 3, 1.999, 1], atol=1e-6)
    np.testing.assert_allclose(behind(array(5, 2, 3, 1, 7), look), [5, 2, 3, 1, 0.999], atol=1e-6)
    assert behind(array(), np.empty(0, np.int64)).shape == (0,)
