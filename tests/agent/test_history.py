"""What was said before: how much of it there is, what stays, what is searched for."""

from typing import Any

from kb.agent.history import as_calls, has_pictures, newest, questions_of, text_of, tokens_of
from kb.agent.web_tool import ITEM
from kb.catalog.steps import Step
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


def test_calls_that_were_made_here_are_calls_to_a_model() -> None:
    """Each under its name for a model with its output behind it; what only our items tell is left out."""
    call = {"type": "mcp_call", "id": "m1", "server_label": "clock", "name": "get.time", "arguments": "{}"}
    failed = {**call, "id": "m2", "server_label": "kb", "name": "peek_content", "output": None}
    failed["error"] = {"content": [{"type": "text", "text": "No such"}, {"type": "text", "text": "version."}]}
    search = {"type": "web_search_call", "action": {"type": "search", "query": "Öl"}}
    lists = [{"type": kind} for kind in ("mcp_list_tools", "mcp_approval_request", "file_search_call")]
    said_before = [{"type": "reasoning", "id": "r1"}, CALL, OUTPUT]
    items = [
        *FIRST[:1],
        *lists,
        {**call, "output": "Noon."},
        failed,
        {**search, "id": f"{ITEM}_1"},
        *said_before,
    ]
    calls = [
        ("m1", "clock__get_time", "{}", "Noon."),
        ("m2", "peek_content", "{}", "No such\nversion."),
        (f"{ITEM}_1", "web_search", '{"query": "Öl"}', "Oil."),
    ]
    told = [
        one
        for call_id, name, arguments, output in calls
        for one in (
            {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments},
            {"type": "function_call_output", "call_id": call_id, "output": output},
        )
    ]
    step = Step("r", f"{ITEM}_1", "web", "web_search", '{"query": "Öl"}', "done", "Oil.", "2026", None)
    assert as_calls(items, {step.call_id: step}) == [*FIRST[:1], *told, *said_before]
    assert as_calls([{**search, "id": f"{ITEM}_1"}], {}) == []
    unfinished = {**call, "output": None, "error": None}
    assert as_calls([unfinished], {})[1]["output"] == ""
