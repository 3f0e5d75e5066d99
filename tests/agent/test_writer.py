"""Parts of an answer become items and events, in the order that the API promises."""

from collections.abc import Iterable

import pytest

from kb.agent.cite import Citer, Source
from kb.agent.writer import Event, Writer
from kb.gateway.events import ArgumentsDelta, CallAdded, ItemPassed, Part, RefusalDelta, TextDelta

TEXT = "The pump starts with the green lever. It stops by itself."
SOURCE = Source(1, "ver_1", "doc_1", "Pump", "pump.md", 0, len(TEXT))


def write(writer: Writer, *parts: Part, whole: bool = True) -> list[Event]:
    """All events of an answer but the last."""
    events = [*writer.began(), *(event for part in parts for event in writer.write(part))]
    return [*events, *writer.close(whole=whole)]


def kinds(events: Iterable[Event]) -> list[str]:
    """Their types, without what all begin with."""
    return [event["type"].removeprefix("response.") for event in events]


def plain() -> Writer:
    """Writes what cites nothing."""
    return Writer({"id": "resp_1", "status": "queued", "output": []}, None)


def citing() -> Writer:
    """Writes what cites the one source."""
    return Writer({"id": "resp_1", "output": []}, lambda: Citer([SOURCE], lambda _: TEXT, lambda *_: 4))


def test_a_text_in_order() -> None:
    """One item, one content; ids that stay, and numbers without a gap."""
    writer = plain()
    events = write(writer, TextDelta(7, "A "), TextDelta(7, ""), TextDelta(7, "pump"))
    assert kinds(events) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
    ]  # fmt: skip
    assert [event["sequence_number"] for event in events] == list(range(9))
    (item,) = writer.output
    assert {event["item_id"] for event in events if "item_id" in event} == {item["id"]}
    assert {event["output_index"] for event in events[2:]} == {0}
    part = {"type": "output_text", "text": "A pump", "annotations": [], "logprobs": []}
    assert item == {
        "id": item["id"], "type": "message", "status": "completed", "role": "assistant", "content": [part],
    }  # fmt: skip
    assert (events[6]["text"], events[7]["part"], events[8]["item"]) == ("A pump", part, item)
    assert events[0]["response"] == {"id": "resp_1", "status": "in_progress", "output": []}


def test_events_tell_what_was_there_when_they_were_made() -> None:
    """What is written later does not change an event that is on its way."""
    events = write(plain(), TextDelta(0, "A pump"))
    assert events[2]["item"]["content"] == []
    assert events[3]["part"]["text"] == ""


def test_calls_end_the_text_before_them() -> None:
    """Each is an item of its own; their arguments come in pieces, and whole."""
    writer = plain()
    events = write(
        writer,
        TextDelta(0, "Wait"),
        CallAdded(1, "c1", "stop"),
        CallAdded(2, "c2", "go"),
        ArgumentsDelta(2, '{"at"'),
        ArgumentsDelta(2, ":1}"),
    )
    assert kinds(events)[6:] == [
        "content_part.done", "output_item.done", "output_item.added", "output_item.added",
        "function_call_arguments.delta", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done",
        "function_call_arguments.done", "output_item.done",
    ]  # fmt: skip
    assert [(item["type"], item["status"], item.get("arguments")) for item in writer.output] == [
        ("message", "completed", None),
        ("function_call", "completed", ""),
        ("function_call", "completed", '{"at":1}'),
    ]
    added = next(
        event
        for event in events
        if event["type"] == "response.output_item.added" and event["output_index"] == 2
    )
    assert (added["item"]["arguments"], added["item"]["call_id"], added["item"]["name"]) == ("", "c2", "go")


def test_a_refusal_is_a_content_of_its_own() -> None:
    """Behind the text of the same message."""
    writer = plain()
    events = write(writer, TextDelta(0, "I "), RefusalDelta(0, "will not"))
    assert kinds(events)[4:] == [
        "output_text.delta", "output_text.done", "content_part.done",
        "content_part.added", "refusal.delta", "refusal.done", "content_part.done", "output_item.done",
    ]  # fmt: skip
    assert [event["content_index"] for event in events[4:-1]] == [0, 0, 0, 1, 1, 1, 1]
    assert writer.output[0]["content"][1] == {"type": "refusal", "refusal": "will not"}


def test_what_passes_is_an_item_as_it_came() -> None:
    """Under the endpoint's own id."""
    thought = {"type": "reasoning", "id": "rs_9", "summary": []}
    writer = plain()
    events = write(writer, ItemPassed(0, thought), TextDelta(1, "A"))
    assert kinds(events)[2:4] == ["output_item.added", "output_item.done"]
    assert writer.output[0] == thought
    assert [event["output_index"] for event in events[2:5]] == [0, 0, 1]


def test_what_was_cut_off_is_incomplete() -> None:
    """Half of a call's arguments are not told as done."""
    writer = plain()
    events = write(writer, TextDelta(0, "A"), CallAdded(1, "c1", "stop"), ArgumentsDelta(1, "{"), whole=False)
    assert kinds(events)[-2:] == ["function_call_arguments.delta", "output_item.done"]
    assert [item["status"] for item in writer.output] == ["completed", "incomplete"]
    assert kinds(write(plain(), TextDelta(0, "A"), whole=False))[-1] == "output_item.done"


def test_citations_come_behind_their_marker() -> None:
    """With the place in the source; what does not hold is counted and not written."""
    writer = citing()
    events = write(writer, TextDelta(0, 'Pull it [1: "green'), TextDelta(0, ' lever"]. Twice [1: "twice"].'))
    assert kinds(events)[4:8] == [
        "output_text.delta", "output_text.delta", "output_text.annotation.added", "output_text.delta",
    ]  # fmt: skip
    content = writer.output[0]["content"][0]
    assert content["text"] == "Pull it [1]. Twice."
    (annotation,) = content["annotations"]
    assert annotation == events[6]["annotation"]
    start = TEXT.index("green lever")
    assert annotation == {
        "type": "file_citation", "file_id": "doc_1", "filename": "pump.md", "index": 8, "end_index": 11,
        "number": 1, "title": "Pump", "content_id": "doc_1", "content_version_id": "ver_1",
        "start": start, "end": start + 11, "page": 4, "quote": "green lever",
    }  # fmt: skip
    assert (events[6]["annotation_index"], events[6]["content_index"]) == (0, 0)
    assert (writer.verified, writer.dropped) == (1, 1)


@pytest.mark.parametrize("last", [CallAdded(1, "c1", "stop"), RefusalDelta(0, "No")])
def test_what_a_citer_holds_back_goes_out_before_what_follows(last: Part) -> None:
    """The beginning of a marker that never ends is text."""
    writer = citing()
    write(writer, TextDelta(0, "See [1"), last)
    assert writer.output[0]["content"][0]["text"] == "See [1"


def test_the_last_event_is_named_by_the_status() -> None:
    """Whatever that is."""
    writer = plain()
    assert writer.ended({"status": "incomplete"})["type"] == "response.incomplete"
    assert writer.ended({"status": "failed"})["sequence_number"] == 1
