"""What every LexicalIndex promises, judged by BM25 written out."""

import math
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies

from kb.index.lexical import TantivyIndex
from kb.types import Allowed

NONE = np.empty(0, np.int64)
K1, B = 1.2, 0.75
WORDS = ["pump", "valve", "engine", "oil", "filter", "stripe", "zebra", "river", "stone", "lamp"]


def ids(*numbers: int) -> np.ndarray:
    """Chunk ids."""
    return np.array(numbers, np.int64)


def quantised(length: int) -> int:
    """A document's length as tantivy and Lucene keep it in one byte: exact to 40, then four bits."""
    if length < 40:
        return length
    shift = (length - 24).bit_length() - 4
    return ((length - 24) >> shift << shift) + 24


def bm25(index: TantivyIndex, texts: dict[int, str], query: str) -> dict[int, float]:
    """BM25 (Robertson; idf as in Lucene) of every text that shares a term with the query."""
    terms = {chunk_id: Counter(index._analyzer.analyze(text)) for chunk_id, text in texts.items()}
    average = sum(sum(counts.values()) for counts in terms.values()) / max(1, len(terms))
    scores: dict[int, float] = {}
    for term in index._analyzer.analyze(query):
        holding = [chunk_id for chunk_id, counts in terms.items() if counts[term]]
        idf = math.log(1 + (len(terms) - len(holding) + 0.5) / (len(holding) + 0.5))
        for chunk_id in holding:
            often = terms[chunk_id][term]
            norm = K1 * (1 - B + B * quantised(sum(terms[chunk_id].values())) / average)
            scores[chunk_id] = scores.get(chunk_id, 0.0) + idf * often * (K1 + 1) / (often + norm)
    return scores


@pytest.fixture
def index(tmp_path: Path) -> TantivyIndex:
    """An empty index."""
    return TantivyIndex(tmp_path / "lexical")


def found(index: TantivyIndex, query: str, k: int = 100, allow: np.ndarray | None = None) -> list[int]:
    """Ids of an answer."""
    return index.search(query, k, allow=None if allow is None else Allowed.only(allow)).ids.tolist()


def test_an_empty_index_answers_with_nothing(index: TantivyIndex) -> None:
    """No texts: no neighbours, seq 0, every score 0."""
    answer = index.search("pump", 5)
    assert (answer.ids.tolist(), answer.scores.tolist(), index.seq) == ([], [], 0)
    assert index.score("pump", ids(1, 2)).tolist() == [0.0, 0.0]


def test_scores_are_bm25(index: TantivyIndex) -> None:
    """Ranks and scores are those of the formula with k1 1.2 and b 0.75, document lengths kept in one byte."""
    chance = np.random.default_rng(4)
    texts = {
        number: " ".join(chance.choice(WORDS, size=int(chance.integers(1, 90)), p=np.arange(1, 11) / 55))
        for number in range(1, 120)
    }
    index.apply(1, np.array(list(texts), np.int64), list(texts.values()), NONE)
    for query in ("pump", "pump valve", "zebra stripes and a river", "lamp lamp stone"):
        right = bm25(index, texts, query)
        answer = index.search(query, 1000)
        assert set(answer.ids.tolist()) == set(right)
        assert answer.ids.dtype == np.int64
        assert answer.scores.dtype == np.float32
        # float32 and the order of addition, no more.
        np.testing.assert_allclose(
            answer.scores, [right[chunk_id] for chunk_id in answer.ids.tolist()], rtol=1e-4
        )
        np.testing.assert_allclose(answer.scores, sorted(right.values(), reverse=True), rtol=1e-4)
        np.testing.assert_allclose(
            index.score(query, np.arange(0, 130, dtype=np.int64)),
            [right.get(n, 0.0) for n in range(130)],
            rtol=1e-4,
        )


def test_equal_scores_go_by_the_lower_id(index: TantivyIndex) -> None:
    """Chunks of one text come in the order of their ids."""
    index.apply(1, ids(9, 3, 5), ["an oil pump"] * 3, NONE)
    assert found(index, "pump") == [3, 5, 9]


def test_k_bounds_the_answer(index: TantivyIndex) -> None:
    """The k best, or as many as share a term."""
    index.apply(1, ids(1, 2, 3, 4), ["pump pump pump", "pump pump oil", "pump oil oil", "stone"], NONE)
    assert [found(index, "pump", k) for k in (1, 2, 50)] == [[1], [1, 2], [1, 2, 3]]


def test_removed_texts_never_return(index: TantivyIndex) -> None:
    """A removal hides a chunk at once and for good, also from score."""
    index.apply(1, ids(1, 2), ["pump one", "pump two"], NONE)
    index.apply(2, ids(3), ["pump three"], ids(1))
    assert sorted(found(index, "pump")) == [2, 3]
    assert index.score("one", ids(1, 2)).tolist() == [0.0, 0.0]
    index.apply(3, NONE, [], ids(2, 3, 77))
    assert found(index, "pump one two three") == []
    assert index.seq == 3


def test_what_is_added_and_removed_in_one_step_is_gone(index: TantivyIndex) -> None:
    """Removal wins over addition in the same change."""
    index.apply(1, ids(1, 2), ["pump", "pump"], ids(2))
    assert found(index, "pump") == [1]


def test_a_change_at_or_before_seq_is_not_applied_again(index: TantivyIndex) -> None:
    """Replays change nothing: neither an old number nor the same one."""
    index.apply(5, ids(1, 2), ["pump", "valve"], NONE)
    index.apply(5, ids(1, 2), ["pump", "valve"], NONE)
    index.apply(3, ids(9), ["pump"], ids(1))
    assert (found(index, "pump valve"), index.seq) == ([1, 2], 5)


def test_allow_limits_the_answer_without_shortening_it(index: TantivyIndex) -> None:
    """Only the given ids return, with the scores they have without the filter."""
    index.apply(1, np.arange(60, dtype=np.int64), [f"pump {'oil ' * (n % 7)}" for n in range(60)], ids(10))
    everything = index.search("pump", 100)
    scores = dict(zip(everything.ids.tolist(), everything.scores.tolist(), strict=True))
    allowed = np.array([4, 10, 11, 50, 59, 1000], np.int64)
    answer = index.search("pump", 100, allow=Allowed.only(allowed))
    assert sorted(answer.ids.tolist()) == [4, 11, 50, 59]
    np.testing.assert_allclose(answer.scores, [scores[n] for n in answer.ids.tolist()], rtol=1e-6)
    assert len(found(index, "pump", 2, allowed)) == 2
    assert found(index, "pump", 5, NONE) == []
    assert found(index, "pump", 5, ids(700)) == []
    assert found(index, "pump", 100, np.arange(2000, dtype=np.int64)) == everything.ids.tolist()
    assert found(index, "stone", 5, allowed) == []


def test_score_is_given_for_each_id_in_place(index: TantivyIndex) -> None:
    """Unknown ids and texts without a shared term score 0; order and repetition of the ids are kept."""
    index.apply(1, ids(1, 2, 3), ["pump oil", "valve oil", "pump pump"], NONE)
    scores = index.score("pump", ids(3, 99, 2, 1, 3))
    by_search = dict(zip(found(index, "pump"), index.search("pump", 9).scores.tolist(), strict=True))
    np.testing.assert_allclose(scores, [by_search[3], 0, 0, by_search[1], by_search[3]], rtol=1e-6)
    assert (scores.dtype, index.score("pump", NONE).shape) == (np.float32, (0,))
    assert index.score("?!", ids(1)).tolist() == [0.0]


@pytest.mark.parametrize(
    "query",
    [
        "pump AND valve",
        "pump NOT oil",
        '"pump',
        "(pump",
        "pump)))",
        "text:pump",
        "+pump -oil",
        "pump^9",
        "pump~2 [a TO b]",
        "pump*",
        "{pump} \\ /",
        "id:1 pump",
        "pump\0",
        "\n\tpump\r",
        "pump' OR 1=1 --",
    ],
)
def test_nothing_people_type_is_an_operator(index: TantivyIndex, query: str) -> None:
    """Punctuation is no word, and AND, NOT and field names are only words."""
    index.apply(1, ids(1, 2), ["the pump", "a lamp of oil"], NONE)
    assert 1 in found(index, query)
    assert index.score(query, ids(1))[0] > 0


@pytest.mark.parametrize("query", ["", " ", "?!", "\n", "---", "🙂", "…"])
def test_a_query_without_words_finds_nothing(index: TantivyIndex, query: str) -> None:
    """What leaves no term after the analysis has no answer, and that is no error."""
    index.apply(1, ids(1), ["the pump"], NONE)
    assert found(index, query) == []


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Über den Wolken", "uber"),
        ("CAFÉ", "café"),
        ("naïve running", "NAIVE runs"),
        ("Привет мир", "привет"),
        ("東京 タワー", "東京"),
        ("e\u0301t\u00e9", "e\u0301t\u00e9"),
        ("straße", "strasse"),
    ],
)
def test_words_of_any_script_are_found(index: TantivyIndex, text: str, query: str) -> None:
    """Case and accents do not matter; English endings neither."""
    index.apply(1, ids(1, 2), [text, "something else"], NONE)
    assert found(index, query) == [1]


@given(query=strategies.text(strategies.characters(codec="utf-8"), max_size=60))
def test_any_text_is_a_query(tmp_path_factory: pytest.TempPathFactory, query: str) -> None:
    """No query raises, and only what shares a term with it comes back."""
    index = TantivyIndex(tmp_path_factory.getbasetemp() / "lexical-any")
    index.apply(1, ids(1, 2), ["the pump in the engine 7", "été à la rivière"], NONE)
    shared = [
        number
        for number, text in ((1, "the pump in the engine 7"), (2, "été à la rivière"))
        if set(index._analyzer.analyze(text)) & set(index._analyzer.analyze(query))
    ]
    assert sorted(found(index, query)) == shared


def test_two_objects_over_one_folder_share_every_change(tmp_path: Path) -> None:
    """What one applies the other sees at its next search, and applies no second time."""
    first, second = TantivyIndex(tmp_path / "lexical"), TantivyIndex(tmp_path / "lexical")
    first.apply(1, ids(1), ["pump"], NONE)
    assert found(second, "pump") == [1]
    second.apply(2, ids(2), ["pump"], ids(1))
    first.apply(2, ids(2), ["pump"], ids(1))
    assert (found(first, "pump"), found(second, "pump")) == ([2], [2])
    assert (first.seq, second.seq) == (2, 2)


_WRITER = """
import sys
from pathlib import Path
import numpy as np
from kb.index.lexical import TantivyIndex
from kb.types import Allowed
index = TantivyIndex(Path(sys.argv[1]))
for seq in range(1, 9):
    index.apply(seq, np.array([seq]), [f"pump number{seq}"], np.empty(0, np.int64))
"""


def test_two_processes_apply_a_history_once(tmp_path: Path) -> None:
    """Two processes that follow the same changes at the same time leave each chunk there once."""
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "lexical")]
    for running in [subprocess.Popen(command) for _ in range(2)]:
        assert running.wait(timeout=60) == 0
    index = TantivyIndex(tmp_path / "lexical")
    assert (sorted(found(index, "pump")), index.seq) == (list(range(1, 9)), 8)


def test_a_lost_seq_means_a_replay_without_duplicates(tmp_path: Path) -> None:
    """Without SEQ the index starts at 0, and following from there leaves every chunk once."""
    index = TantivyIndex(tmp_path / "lexical")
    index.apply(1, ids(1, 2), ["pump one", "pump two"], NONE)
    index.apply(2, ids(3), ["pump three"], ids(1))
    (tmp_path / "lexical" / "SEQ").unlink()
    again = TantivyIndex(tmp_path / "lexical")
    assert again.seq == 0
    again.apply(2, ids(2, 3), ["pump two", "pump three"], ids(1))
    assert (sorted(found(again, "pump")), again.seq) == ([2, 3], 2)


@pytest.mark.parametrize("text", ["", "7", "other-analysis 7", "words seven", "\x00\xff", "a b c"])
def test_a_seq_of_another_analysis_or_none_starts_at_0(
    index: TantivyIndex, tmp_path: Path, text: str
) -> None:
    """What cannot be trusted is followed from the beginning."""
    index.apply(1, ids(1), ["pump"], NONE)
    (tmp_path / "lexical" / "SEQ").write_bytes(text.encode("latin-1"))
    assert TantivyIndex(tmp_path / "lexical").seq == 0


def test_a_crash_between_commit_and_seq_loses_and_doubles_nothing(
    index: TantivyIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the two steps shows in the checksums: the index follows anew, nothing comes twice."""
    index.apply(1, ids(1), ["pump one"], NONE)
    with monkeypatch.context() as patched:

        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            index.apply(2, ids(2), ["pump two"], ids(1))
    again = TantivyIndex(tmp_path / "lexical")
    assert (again.seq, found(again, "pump")) == (0, [])
    again.apply(2, ids(2), ["pump two"], ids(1))
    assert (found(again, "pump"), again.seq) == ([2], 2)


def filled(folder: Path) -> TantivyIndex:
    """An index that holds 1 and 3 at seq 3."""
    index = TantivyIndex(folder)
    index.apply(3, ids(1, 2, 3), ["the pump", "a valve", "pump and oil"], ids(2))
    return index


SEGMENT = [".fast", ".fieldnorm", ".idx", ".store", ".term", ".pos"]


@pytest.mark.parametrize("how", ["gone", "empty", "cut", "flipped"])
@pytest.mark.parametrize("kind", ["meta.json", ".managed.json", *SEGMENT])
def test_a_damaged_folder_is_rebuilt(tmp_path: Path, kind: str, how: str) -> None:
    """Whatever file is lost, cut or altered: the index is as it was, or empty at seq 0."""
    filled(tmp_path / "lexical")
    (path,) = (
        path
        for path in (tmp_path / "lexical").iterdir()
        if kind in (path.name, path.suffix) and path.stat().st_size
    )
    good = path.read_bytes()
    for at in range(0, len(good), 43) if how == "flipped" else [len(good) // 2]:
        folder = tmp_path / f"damaged-{at}"
        shutil.copytree(tmp_path / "lexical", folder)
        if how == "gone":
            (folder / path.name).unlink()
        else:
            flipped = good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :]
            (folder / path.name).write_bytes({"empty": b"", "cut": good[:at], "flipped": flipped}[how])
        index = TantivyIndex(folder)
        if (index.seq, found(index, "pump")) != (3, [1, 3]):
            assert (index.seq, found(index, "pump")) == (0, [])
            index.apply(3, ids(1, 3), ["the pump", "pump and oil"], ids(2))
            assert found(index, "pump") == [1, 3]


def test_a_folder_that_is_dropped_under_another_object_is_made_again(tmp_path: Path) -> None:
    """Deleting the folder costs a rebuild, no more."""
    filled(tmp_path / "lexical")
    shutil.rmtree(tmp_path / "lexical")
    again = TantivyIndex(tmp_path / "lexical")
    assert (again.seq, found(again, "pump")) == (0, [])
