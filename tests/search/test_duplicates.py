"""Which passages say the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb.search.duplicates import Kept, alike, wording

LONG = "The pump is started with the green lever, and the valve opens by itself after 30 seconds of running."


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The pump!", "the  PUMP"),
        ("an exam-\nple of hyphenation", "an example of hyphenation"),
        (LONG, f"{LONG} See also"),
        (LONG, f"Note: {LONG}"),
        ("東京の天気は晴れです。", "東京の天気は晴れです"),
        ("***", " *** "),
        ("ﬁlter", "filter"),
    ],
)
def test_the_same_words_are_alike(one: str, other: str) -> None:
    """Case, punctuation, hyphenation, ligatures, and a little more at an end do not count."""
    assert alike(wording(one), wording(other))
    assert alike(wording(other), wording(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LONG, LONG.replace("30", "40")),
        (LONG, LONG.replace("green", "red")),
        (LONG, LONG.replace("is started", "is not started")),
        (LONG, f"{LONG} And the lamp burns for as long."),
        (LONG, f"{LONG} 7"),
        ("version 1.2 is old", "version 12 is old"),
        ("it is 5 degrees", "it is -5 degrees"),
        ("pump", "pumps"),
        ("chsh changes the shell of a login", "ypchsh changes the shell of a login"),
        ("***", "---"),
        ("", "pump"),
    ],
)
def test_another_word_or_number_is_another_passage(one: str, other: str) -> None:
    """One word can turn a sentence round."""
    assert not alike(wording(one), wording(other))
    assert not alike(wording(other), wording(one))


TEXTS = st.lists(
    st.text(alphabet="ab1 ", max_size=40) | st.sampled_from([LONG[:40], LONG[2:40], LONG[:43]]), max_size=30
)


@given(texts=TEXTS)
def test_looking_up_is_comparing_with_all(texts: list[str]) -> None:
    """The first that is alike is found, though few are compared."""
    kept, plain = Kept(), []
    for place, text in enumerate(texts):
        said = wording(text)
        assert kept.first_like(said) == next((at for at, one in plain if alike(one, said)), None)
        kept.add(said, place)
        plain.append((place, said))


@given(
    words=st.lists(st.sampled_from(["pump", "valve", "oil", "river"]), min_size=30, max_size=60),
    more=st.integers(0, 20),
)
def test_a_passage_cut_elsewhere_is_found(words: list[str], more: int) -> None:
    """With words before or behind, up to a tenth of the longer; whichever of the two came first."""
    text = " ".join(words)
    for longer in (
        f"{'x' * more} {text}",
        f"{text} {'x' * more}",
        f"{'x' * (more // 2)} {text} {'x' * (more // 2)}",
    ):
        short, long = wording(text), wording(longer)
        same = len(short.letters) >= 0.9 * len(long.letters)
        for first, second in ((short, long), (long, short)):
            kept = Kept()
            kept.add(first, 7)
            assert kept.first_like(second) == (7 if same else None)
