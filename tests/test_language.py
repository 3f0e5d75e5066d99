"""The language of a text."""

import threading

import pytest

from kb.language import language_of

ENGLISH = (
    "The pump is started with the green lever, and the valve is closed when the pressure is high enough."
)
GERMAN = "Die Pumpe wird mit dem grünen Hebel gestartet, und das Ventil wird bei hohem Druck geschlossen."


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        (GERMAN, "de"),
        ("La bomba se pone en marcha con la palanca verde y la válvula se cierra después.", "es"),
        ("Pompa este pornită cu maneta verde, iar supapa se închide când presiunea este mare.", "ro"),
        ("ポンプは緑色のレバーで始動し、圧力が高くなると弁が閉じます。", "ja"),
        ("Насос запускается зелёным рычагом, а клапан закрывается при высоком давлении.", "ru"),
        ("", ""),
        ("12.5 0x3fA9 -- // {} 77", ""),
        ("\0\n\t 🙂", ""),
    ],
)
def test_a_text_has_its_language(text: str, language: str) -> None:
    """Or none, where there are no words."""
    assert language_of(text) == language


def test_formulas_and_numbers_do_not_hide_the_language() -> None:
    """Greek letters and digits stand in many an English abstract."""
    assert language_of("TNF-α and IL-1β at 0.5 μg were measured in the cells; α β γ δ ε ζ 1 2 3 " * 4) == "en"


def test_a_long_text_is_judged_by_more_than_its_beginning() -> None:
    """A foreign quotation at the beginning does not decide."""
    assert language_of(f"{GERMAN * 10}\n{ENGLISH * 100}") == "en"


def test_threads_share_the_detector() -> None:
    """Each gets the answer to its own text."""
    wrong: list[str] = []

    def ask(text: str, right: str) -> None:
        wrong.extend(text for _ in range(50) if language_of(text) != right)

    threads = [
        threading.Thread(target=ask, args=pair)
        for pair in [(ENGLISH, "en"), (GERMAN, "de")]
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
