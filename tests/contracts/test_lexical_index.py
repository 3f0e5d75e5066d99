"""What every LexicalIndex promises, judged by BM25 written out."""

import math
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from kb.index.analysis import WORDS, alternatives, quoted, stemmer_of, terms
from kb.index.lexical import TantivyIndex
from kb.protocols import LexicalIndex
from kb.types import Allowed, IndexedText, Neighbours

NONE = np.empty(0, np.int64)
K1, B = 1.2, 0.75
WORDS_IN_USE = [
    "pumps",
    "Pumpen",
    "motores",
    "oils",
    "filtering",
    "stripe",
    "Straßen",
    "river",
    "canción",
    "lamp",
]
ZIPF = np.arange(1, 11) / 55
LANGUAGES = ["en", "de", "es", "", "ja"]
QUERIES = [
    "pump",
    "pumping valve",
    "stripes and a river",
    "lamp lamp motor",
    "Pumpe Straße filter",
    'river "oils lamp"',
    '"Pumpen" "river lamp" lamps',
]


def ids(*numbers: int) -> np.ndarray:
    """Chunk ids."""
    return np.array(numbers, np.int64)


def quantised(length: int) -> int:
    """A document's length as tantivy and Lucene keep it in one byte: exact to 40, then four bits."""
    if length < 40:
        return length
    shift = (length - 24).bit_length() - 4
    return ((length - 24) >> shift << shift) + 24


class Oracle:
    """A `LexicalIndex` written out: BM25 (Robertson; idf as in Lucene) of every chunk, one by one."""

    def __init__(self) -> None:
        self.seq = 0
        self.held: dict[int, tuple[str, list[list[str]]]] = {}

    def apply(self, seq: int, add: np.ndarray, passages: Sequence[IndexedText], remove: np.ndarray) -> None:
        """As the protocol says."""
        if seq <= self.seq:
            return
        self.seq = seq
        for number, one in zip(add.tolist(), passages, strict=True):
            stemmer = stemmer_of(one.language)
            self.held[number] = (stemmer, [terms(one.context, stemmer), terms(one.text, stemmer)])
        for number in remove.tolist():
            self.held.pop(number, None)

    def search(self, query: str, k: int, *, allow: Allowed | None = None) -> Neighbours:
        """As the protocol says."""
        scores = self.scores(query)
        found = np.array(sorted(scores, key=lambda number: (-scores[number], number)), np.int64)
        found = (found if allow is None else found[allow.hold(found)])[:k]
        return Neighbours(found, np.array([scores[number] for number in found.tolist()], np.float32))

    def score(self, query: str, ids: np.ndarray) -> np.ndarray:
        """As the protocol says."""
        scores = self.scores(query)
        return np.array([scores.get(number, 0.0) for number in ids.tolist()], np.float32)

    def narrow(self, query: str, allow: Allowed | None) -> Allowed | None:
        """As the protocol says."""
        if not any(terms(phrase, WORDS) for phrase in quoted(query)):
            return allow
        holding = np.array([number for number in sorted(self.held) if self.holds(number, query)], np.int64)
        return Allowed.only(holding if allow is None else holding[allow.hold(holding)])

    def ids(self) -> np.ndarray:
        """As the protocol says."""
        return np.array(sorted(self.held), np.int64)

    def scores(self, query: str) -> dict[int, float]:
        """BM25 of every chunk that shares a term with the query and holds what it quotes."""
        counts = {number: Counter(chain(*parts)) for number, (_, parts) in self.held.items()}
        lengths = {number: sum(one.values()) for number, one in counts.items()}
        average = sum(lengths.values()) / max(1, len(lengths))
        scores: dict[int, float] = {}
        for word in alternatives(query, self.stemmers()):
            holding = {term: sum(1 for one in counts.values() if one[term]) for term in word}
            for number, count in counts.items():
                norm = K1 * (1 - B + B * quantised(lengths[number]) / max(1, average))
                best = max(
                    math.log(1 + (len(counts) - holding[term] + 0.5) / (holding[term] + 0.5))
                    * count[term] * (K1 + 1) / (count[term] + norm)
                    for term in word
                )  # fmt: skip
                if best:
                    scores[number] = scores.get(number, 0.0) + best
        return {number: score for number, score in scores.items() if self.holds(number, query)}

    def holds(self, number: int, query: str) -> bool:
        """Whether every quoted phrase stands in the text or in the context, as some language stems it."""
        for phrase in quoted(query):
            forms = [terms(phrase, stemmer) for stemmer in self.stemmers()]
            if any(forms) and not any(
                part[at : at + len(form)] == form
                for part in self.held[number][1]
                for form in forms
                for at in range(len(part))
            ):
                return False
        return True

    def stemmers(self) -> list[str]:
        """Of every language that is held."""
        return sorted({stemmer for stemmer, _ in self.held.values()})


@pytest.fixture(params=["tantivy", "oracle"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> LexicalIndex:
    """An empty index of every kind; the oracle keeps the contract that it judges by."""
    return TantivyIndex(tmp_path / "lexical") if request.param == "tantivy" else Oracle()


def english(*texts: str) -> list[IndexedText]:
    """Passages without a context, in English."""
    return [IndexedText(text, language="en") for text in texts]


def found(index: LexicalIndex, query: str, k: int = 100, allow: np.ndarray | None = None) -> list[int]:
    """Ids of an answer."""
    return index.search(query, k, allow=None if allow is None else Allowed.only(allow)).ids.tolist()


def test_an_empty_index_answers_with_nothing(index: LexicalIndex) -> None:
    """No texts: no neighbours, seq 0, every score 0."""
    answer = index.search("pump", 5)
    assert (answer.ids.tolist(), answer.scores.tolist(), index.seq) == ([], [], 0)
    assert index.score("pump", ids(1, 2)).tolist() == [0.0, 0.0]


def random_passages(count: int, seed: int) -> list[IndexedText]:
    """Short texts in some languages, half of them under a title."""
    chance = np.random.default_rng(seed)

    def words(most: int) -> str:
        return " ".join(chance.choice(WORDS_IN_USE, size=int(chance.integers(1, most)), p=ZIPF))

    return [
        IndexedText(words(90), f"{words(4)}\n" if number % 2 else "", str(chance.choice(LANGUAGES)))
        for number in range(count)
    ]


def test_scores_are_bm25(index: LexicalIndex) -> None:
    """Ranks and scores are those of the formula with k1 1.2 and b 0.75, document lengths kept in one byte."""
    judge, passages = Oracle(), random_passages(120, 4)
    for one in (judge, index):
        one.apply(1, np.arange(1, 121, dtype=np.int64), passages, NONE)
    for query in QUERIES:
        right = judge.scores(query)
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


@pytest.mark.parametrize("kept", [0.5, 0.1, 0.01, 0.001])
def test_a_filter_loses_nothing(tmp_path: Path, kept: float) -> None:
    """Whatever a filter keeps, and whichever way that is found: the k best of it, or all that match."""
    index, judge, passages = TantivyIndex(tmp_path / "lexical"), Oracle(), random_passages(40, 5)
    chance, numbers = np.random.default_rng(6), np.arange(2000, dtype=np.int64)
    # Many alike: what a filter keeps may stand deep in the list.
    every = [passages[number] for number in chance.integers(0, len(passages), len(numbers))]
    for one in (judge, index):
        one.apply(1, numbers, every, NONE)
    for query in QUERIES[1:3]:
        right = judge.scores(query)
        # At worst a filter keeps the end of the list.
        last = sorted(right, key=lambda number: right[number])[: int(kept * len(numbers))]
        for mask in (chance.random(len(numbers)) < kept, np.isin(numbers, last)):
            allow = Allowed(numbers, mask)
            best = sorted((right[number] for number in allow.ids().tolist() if number in right), reverse=True)
            for k in (1, 10, 500):
                answer = index.search(query, k, allow=allow)
                assert allow.hold(answer.ids).all()
                assert len(set(answer.ids.tolist())) == len(answer.ids) == min(k, len(best))
                np.testing.assert_allclose(answer.scores, best[:k], rtol=1e-4)


def test_equal_scores_go_by_the_lower_id(index: LexicalIndex) -> None:
    """Chunks of one text come in the order of their ids."""
    index.apply(1, ids(9, 3, 5), english(*["an oil pump"] * 3), NONE)
    assert found(index, "pump") == [3, 5, 9]


def test_k_bounds_the_answer(index: LexicalIndex) -> None:
    """The k best, or as many as share a term."""
    index.apply(1, ids(1, 2, 3, 4), english("pump pump pump", "pump pump oil", "pump oil oil", "stone"), NONE)
    assert [found(index, "pump", k) for k in (1, 2, 50)] == [[1], [1, 2], [1, 2, 3]]


def test_removed_texts_never_return(index: LexicalIndex) -> None:
    """A removal hides a chunk at once and for good, also from score."""
    index.apply(1, ids(1, 2), english("pump one", "pump two"), NONE)
    index.apply(2, ids(3), english("pump three"), ids(1))
    assert sorted(found(index, "pump")) == [2, 3]
    assert index.score("one", ids(1, 2)).tolist() == [0.0, 0.0]
    index.apply(3, NONE, english(), ids(2, 3, 77))
    assert found(index, "pump one two three") == []
    assert index.seq == 3


def test_what_is_added_and_removed_in_one_step_is_gone(index: LexicalIndex) -> None:
    """Removal wins over addition in the same change."""
    index.apply(1, ids(1, 2), english("pump", "pump"), ids(2))
    assert found(index, "pump") == [1]


def test_a_change_at_or_before_seq_is_not_applied_again(index: LexicalIndex) -> None:
    """Replays change nothing: neither an old number nor the same one."""
    index.apply(5, ids(1, 2), english("pump", "valve"), NONE)
    index.apply(5, ids(1, 2), english("pump", "valve"), NONE)
    index.apply(3, ids(9), english("pump"), ids(1))
    assert (found(index, "pump valve"), index.seq) == ([1, 2], 5)


def test_allow_limits_the_answer_without_shortening_it(index: LexicalIndex) -> None:
    """Only the given ids return, with the scores they have without the filter."""
    index.apply(
        1, np.arange(60, dtype=np.int64), english(*(f"pump {'oil ' * (n % 7)}" for n in range(60))), ids(10)
    )
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


def test_score_is_given_for_each_id_in_place(index: LexicalIndex) -> None:
    """Unknown ids and texts without a shared term score 0; order and repetition of the ids are kept."""
    index.apply(1, ids(1, 2, 3), english("pump oil", "valve oil", "pump pump"), NONE)
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
        'pump"',
        'pump 6" oil 8" x',
        '"" pump',
        '"?!" pump',
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
def test_nothing_people_type_is_an_operator(index: LexicalIndex, query: str) -> None:
    """Punctuation is no word, and AND, NOT and field names are only words."""
    index.apply(1, ids(1, 2), english("the pump", "a lamp of oil"), NONE)
    assert 1 in found(index, query)
    assert index.score(query, ids(1))[0] > 0


@pytest.mark.parametrize("query", ["", " ", "?!", "\n", "---", "🙂", "…"])
def test_a_query_without_words_finds_nothing(index: LexicalIndex, query: str) -> None:
    """What leaves no term after the analysis has no answer, and that is no error."""
    index.apply(1, ids(1), english("the pump"), NONE)
    assert found(index, query) == []


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Über den Wolken", "uber"),
        ("CAFÉ", "café"),
        ("naïve running", "NAIVE runs"),
        ("Привет мир", "привет"),
        ("東京 タワー", "東京"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("straße", "strasse"),
        ("東京タワーの高さ", "タワー"),
        ("학교에서 배우다", "학교"),
    ],
)
def test_words_of_any_script_are_found(index: LexicalIndex, text: str, query: str) -> None:
    """Case and accents do not matter; English endings neither."""
    index.apply(1, ids(1, 2), english(text, "something else"), NONE)
    assert found(index, query) == [1]


@given(query=strategies.text(strategies.characters(codec="utf-8"), max_size=60))
def test_any_text_is_a_query(tmp_path_factory: pytest.TempPathFactory, query: str) -> None:
    """No query raises, and only what shares a term with it comes back."""
    index = TantivyIndex(tmp_path_factory.getbasetemp() / "lexical-any")
    index.apply(1, ids(1, 2), english("the pump in the engine 7", "été à la rivière"), NONE)
    shared = [
        number
        for number, text in ((1, "the pump in the engine 7"), (2, "été à la rivière"))
        if set(terms(text, "english")) & set(terms(query, "english"))
    ]
    everything = sorted(found(index, query))
    assert everything == shared if not quoted(query) else set(everything) <= set(shared)


@pytest.mark.parametrize(
    ("language", "text", "query"),
    [
        ("de", "Die Pumpen laufen", "laufende Pumpe"),
        ("es", "las canciones corrían", "cancion"),
        ("ro", "casele frumoase", "casa"),
        ("fr", "les pompes chauffées", "pompe chauffée"),
        ("ru", "о книгах", "книга"),
        ("", "pumps", "PUMPS"),
        ("xx", "pumps", "pumps"),
    ],
)
def test_a_chunk_is_read_in_its_own_language(
    index: LexicalIndex, language: str, text: str, query: str
) -> None:
    """Endings of the chunk's language do not matter, whatever else the index holds; unknown ones are kept."""
    index.apply(
        1, ids(1, 2), [IndexedText(text, language=language), IndexedText("a stone", language="en")], NONE
    )
    assert found(index, query) == [1]


def test_a_word_that_languages_stem_alike_or_not_counts_once(index: LexicalIndex) -> None:
    """One language more in the index changes no score of what holds none of its words."""
    texts = english("the running pumps", "one pump", "a lamp")
    index.apply(1, ids(1, 2, 3, 4), [*texts, IndexedText("eine Lampe", language="en")], NONE)
    alone = index.search("running pumps", 9)
    index.apply(2, ids(4), [IndexedText("eine Lampe", language="de")], NONE)
    together = index.search("running pumps", 9)
    assert alone.ids.tolist() == together.ids.tolist() == [1, 2]
    # A replaced chunk counts in tantivy's statistics until its segment is merged.
    assert together.scores[0] < 1.5 * alone.scores[0]


def test_the_context_is_searched_with_the_text(index: LexicalIndex) -> None:
    """Title and headings count as words of the chunk; no phrase reaches from them into the text."""
    index.apply(
        1, ids(1, 2), [IndexedText("open the valve", "Pump > Start\n", "en"), *english("a pump")], NONE
    )
    assert sorted(found(index, "pump")) == [1, 2]
    assert [found(index, query) for query in ('"pump start"', '"start open"', '"the valve"')] == [
        [1],
        [],
        [1],
    ]


@pytest.mark.parametrize(
    ("query", "right"),
    [
        ('"oil pump"', [1, 3]),
        ('"oil pumps" stone', [1, 3]),
        ('"pump oil"', [2]),
        ('stone "pump"', [1, 2, 3]),
        ('"oil pump" "the stone"', [3]),
        ('"oil pump" "no such"', []),
        ("„oil pump“", [1, 3]),
        ("“oil pump”?", [1, 3]),
        ('"oil pump', [1, 2, 3, 4]),
        ('the 6"pump and 8" oil', [1, 2, 3]),
        ("'oil pump'", [1, 2, 3]),
    ],
)
def test_what_is_quoted_must_stand_there(index: LexicalIndex, query: str, right: list[int]) -> None:
    """As a phrase, in order; scores are those of the words. A mark that is not closed quotes nothing."""
    texts = english("an oil pump", "the pump, oil it", "oil pumps on the stone", "a stone oil")
    index.apply(1, ids(1, 2, 3, 4), texts, NONE)
    plain = index.search(query.replace('"', " ").replace("„", " ").replace("“", " ").replace("”", " "), 9)
    answer = index.search(query, 9)
    # "the" and "an" are words too.
    assert [number for number in sorted(answer.ids.tolist()) if number in right] == right
    scores = dict(zip(plain.ids.tolist(), plain.scores.tolist(), strict=True))
    np.testing.assert_allclose(answer.scores, [scores[number] for number in answer.ids.tolist()], rtol=1e-6)
    if quoted(query):
        assert sorted(answer.ids.tolist()) == right
        assert index.narrow(query, None).ids().tolist() == right
        assert index.narrow(query, Allowed.only(ids(2, 3))).ids().tolist() == [
            number for number in right if number in (2, 3)
        ]
        assert (index.score(query, ids(1, 2, 3, 4)) > 0).tolist() == [n in right for n in (1, 2, 3, 4)]
    else:
        assert index.narrow(query, None) is None


def test_ids_are_the_live_chunks(index: LexicalIndex) -> None:
    """Ascending, also those whose text has no word."""
    assert index.ids().tolist() == []
    index.apply(1, ids(5, 2, 9), english("pump", "", "?!"), ids(9))
    index.apply(2, ids(7), english("oil"), ids(5))
    assert index.ids().tolist() == [2, 7]


def test_two_objects_over_one_folder_share_every_change(tmp_path: Path) -> None:
    """What one applies the other sees at its next search, and applies no second time."""
    first, second = TantivyIndex(tmp_path / "lexical"), TantivyIndex(tmp_path / "lexical")
    first.apply(1, ids(1), english("pump"), NONE)
    assert found(second, "pump") == [1]
    second.apply(2, ids(2), english("pump"), ids(1))
    first.apply(2, ids(2), english("pump"), ids(1))
    assert (found(first, "pump"), found(second, "pump")) == ([2], [2])
    assert (first.seq, second.seq) == (2, 2)


_WRITER = """
import sys
from pathlib import Path
import numpy as np
from kb.index.lexical import TantivyIndex
from kb.types import IndexedText
index = TantivyIndex(Path(sys.argv[1]))
for seq in range(1, 9):
    index.apply(seq, np.array([seq]), [IndexedText(f"pump number{seq}")], np.empty(0, np.int64))
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
    index.apply(1, ids(1, 2), english("pump one", "pump two"), NONE)
    index.apply(2, ids(3), english("pump three"), ids(1))
    (tmp_path / "lexical" / "SEQ").unlink()
    again = TantivyIndex(tmp_path / "lexical")
    assert again.seq == 0
    again.apply(2, ids(2, 3), english("pump two", "pump three"), ids(1))
    assert (sorted(found(again, "pump")), again.seq) == ([2, 3], 2)


@pytest.mark.parametrize("text", ["", "7", "other-analysis 7", "words seven", "\x00\xff", "a b c"])
def test_a_seq_of_another_analysis_or_none_starts_at_0(tmp_path: Path, text: str) -> None:
    """What cannot be trusted is followed from the beginning."""
    index = TantivyIndex(tmp_path / "lexical")
    index.apply(1, ids(1), english("pump"), NONE)
    (tmp_path / "lexical" / "SEQ").write_bytes(text.encode("latin-1"))
    assert TantivyIndex(tmp_path / "lexical").seq == 0


def test_a_crash_between_commit_and_seq_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the two steps shows in the checksums: the index follows anew, nothing comes twice."""
    index = TantivyIndex(tmp_path / "lexical")
    index.apply(1, ids(1), english("pump one"), NONE)
    with monkeypatch.context() as patched:

        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            index.apply(2, ids(2), english("pump two"), ids(1))
    again = TantivyIndex(tmp_path / "lexical")
    assert (again.seq, found(again, "pump")) == (0, [])
    again.apply(2, ids(2), english("pump two"), ids(1))
    assert (found(again, "pump"), again.seq) == ([2], 2)


def filled(folder: Path) -> TantivyIndex:
    """An index that holds 1 and 3 at seq 3."""
    index = TantivyIndex(folder)
    index.apply(3, ids(1, 2, 3), english("the pump", "a valve", "pump and oil"), ids(2))
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
            index.apply(3, ids(1, 3), english("the pump", "pump and oil"), ids(2))
            assert found(index, "pump") == [1, 3]


def test_a_folder_that_is_dropped_under_another_object_is_made_again(tmp_path: Path) -> None:
    """Deleting the folder costs a rebuild, no more."""
    filled(tmp_path / "lexical")
    shutil.rmtree(tmp_path / "lexical")
    again = TantivyIndex(tmp_path / "lexical")
    assert (again.seq, found(again, "pump")) == (0, [])


class Life(RuleBasedStateMachine):
    """Anything that happens to an index, in any order, beside the oracle."""

    numbers = strategies.integers(1, 30)
    words = strategies.sampled_from(["pumps", "Pumpen", "oil", "lamp", "the", "東京タワー"])
    texts = strategies.lists(words, max_size=6).map(" ".join)
    passages = strategies.builds(IndexedText, texts, texts, strategies.sampled_from(LANGUAGES))
    queries = strategies.lists(
        strategies.one_of(words, texts.filter(bool).map(lambda text: f'"{text}"')), min_size=1, max_size=4
    ).map(" ".join)

    @initialize()
    def begin(self) -> None:
        """An empty folder."""
        self.folder = Path(tempfile.mkdtemp(prefix="kb-lexical-"))
        self.index, self.judge, self.seq = TantivyIndex(self.folder / "lexical"), Oracle(), 0

    def teardown(self) -> None:
        """Leave nothing behind."""
        # tantivy's own threads may still tidy up in there.
        shutil.rmtree(self.folder, ignore_errors=True)

    @rule(
        given=strategies.dictionaries(numbers, passages, min_size=1, max_size=8),
        remove=strategies.sets(numbers, max_size=4),
    )
    def change(self, given: dict[int, IndexedText], remove: set[int]) -> None:
        """Add, replace and remove."""
        self.seq += 1
        for one in (self.index, self.judge):
            one.apply(
                self.seq,
                np.array(list(given), np.int64),
                list(given.values()),
                np.array(sorted(remove), np.int64),
            )

    @rule(given=passages)
    def replay(self, given: IndexedText) -> None:
        """A change that is not new changes nothing."""
        self.index.apply(self.seq, ids(1), [given], NONE)

    @rule()
    def reopen(self) -> None:
        """What was applied is there again."""
        self.index = TantivyIndex(self.folder / "lexical")

    @rule(query=queries, k=strategies.integers(1, 40), kept=strategies.none() | strategies.sets(numbers))
    def search(self, query: str, k: int, kept: set[int] | None) -> None:
        """The same chunks as the oracle's, in the order of their scores, which `score` gives as well."""
        allow = None if kept is None else Allowed(np.arange(31), np.isin(np.arange(31), sorted(kept)))
        matching = self.judge.search(query, 99, allow=allow).ids
        scores = self.index.score(query, matching)
        answer = self.index.search(query, k, allow=allow)
        # Not the oracle's scores: tantivy counts removed chunks until their segment is merged.
        assert (scores > 0).all()
        assert set(answer.ids.tolist()) <= set(matching.tolist())
        np.testing.assert_allclose(answer.scores, np.sort(scores)[::-1][:k], rtol=1e-5)
        np.testing.assert_allclose(answer.scores, self.index.score(query, answer.ids), rtol=1e-5)
        narrowed, right = self.index.narrow(query, allow), self.judge.narrow(query, allow)
        assert (narrowed is allow) == (right is allow)
        if narrowed is not None and right is not None:
            assert narrowed.ids().tolist() == right.ids().tolist()

    @invariant()
    def the_same_chunks_are_held(self) -> None:
        """No chunk is lost, doubled or back."""
        assert self.index.ids().tolist() == self.judge.ids().tolist()
        assert self.index.seq == self.seq


def test_a_life() -> None:
    """Some lives of an index."""
    run_state_machine_as_test(Life, settings=settings(max_examples=5, stateful_step_count=12, deadline=None))


@pytest.mark.slow
def test_many_lives() -> None:
    """500 of 50 steps each."""
    run_state_machine_as_test(
        Life, settings=settings(max_examples=500, stateful_step_count=50, deadline=None)
    )
