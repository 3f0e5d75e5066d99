"""What was said before: how much of it there is, what stays, what is searched for."""

from typing import Any

from kb.agent.history import has_pictures, newest, questions_of, text_of, tokens_of
from kb.tokens import count_tokens

CALL: dict[str, Any] = {"type": "function_call", "call_id": "c1", "name": "stop", "arguments": "{}"}
OUTPUT: dict[str, Any] = {"type": "function_call_output", "call_id": "c1", "output": "stopped"}
PICTURE = {"type": "input_image", "image_url": "https://example.org/pump.png"}


def said(role: str, *texts: str) -> dict[str, Any]:
    """A message of those parts."""
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text} for text in texts]}


FIRST = [said("user", "Stop the pump."), CALL, OUTPUT, said("assistant", "It stands.")]
SECOND = [said("user", "And the blower?"), said("assistant", "That too.")]
THIRD = [said("user", "Thanks.")]


def test_tokens_are_those_of_the_texts_and_eight_for_each_item() -> None:
    """Calls as the JSON that they are, pictures at the most that one takes; roles need no `type`."""
    assert tokens_of([]) == 0
    assert tokens_of([{"role": "user", "content": "hello world"}]) == 2 + 8
    assert (
        tokens_of([said("user", "hello world", "hello world")])
        == count_tokens("hello world\nhello world") + 8
    )
    assert (
        tokens_of([OUTPUT])
        == count_tokens('{"type": "function_call_output", "call_id": "c1", "output": "stopped"}') + 8
    )
    shown = {"role": "user", "content": [{"type": "input_text", "text": "hello world"}, PICTURE, PICTURE]}
    assert tokens_of([shown]) == count_tokens("hello world\n\n") + 2 * 2_500 + 8


def test_the_newest_turns_stay_whole() -> None:
    """From what the user said on, calls with their outputs; the last turn whatever it takes."""
    items = [*FIRST, *SECOND, *THIRD]
    assert newest(items, tokens_of(items)) == items
    assert newest(items, tokens_of(items) - 1) == [*SECOND, *THIRD]
    assert newest(items, tokens_of([*SECOND, *THIRD]) - 1) == THIRD
    assert newest(items, 0) == THIRD
    assert newest([CALL, OUTPUT], 0) == [CALL, OUTPUT]


def test_a_question_is_searched_for_alone_and_behind_the_one_before() -> None:
    """What the user said, not what was answered; nothing where they said nothing."""
    assert questions_of([said("system", "Be short."), said("user", " How? ")]) == ("How?",)
    assert questions_of([*FIRST, *SECOND, *THIRD]) == ("Thanks.", "And the blower?\nThanks.")
    assert questions_of([said("user", "  "), said("assistant", "Yes?")]) == ()
    assert questions_of([{"role": "user", "content": [PICTURE]}, said("user", "What is it?")]) == (
        "What is it?",
    )


def test_texts_and_pictures_of_a_message() -> None:
    """A refusal is a text; what has no content has none."""
    refusal = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    assert [text_of(one) for one in (said("user", "a", "b"), refusal, CALL)] == ["a\nb", "No.", ""]
    assert has_pictures([*FIRST, {"role": "user", "content": [PICTURE]}])
    assert not has_pictures([*FIRST, {"role": "user", "content": "a picture"}])
