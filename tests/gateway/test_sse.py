"""Server-sent events, however their bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb.gateway import sse
from kb.gateway.faults import Broken
from kb.gateway.sse import EventDecoder

# A carriage return before an empty line that ends with a line feed is the end of one line, not of two.
ENDS = st.sampled_from([[b"\n"], [b"\r\n"], [b"\r"], [b"\n", b"\r\n"], [b"\r\n", b"\r"]])
LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)


def decoded(*chunks: bytes) -> list[bytes]:
    """The data of the events of some chunks."""
    decoder = EventDecoder()
    return [data for chunk in chunks for data in decoder.feed(chunk)]


@given(
    events=st.lists(st.lists(LINES, min_size=1, max_size=3), max_size=5),
    ends=ENDS,
    cuts=st.lists(st.integers(0, 400), max_size=20),
)
def test_any_cut_gives_the_same_events(events: list[list[str]], ends: list[bytes], cuts: list[int]) -> None:
    """Between any two bytes, with any of the three ends of lines, also in turns."""
    stream, lines = b"", 0
    for event in events:
        for line in [": a comment", "event: delta", *(f"data: {one}" for one in event), "id: 1", ""]:
            stream += line.encode() + ends[lines % len(ends)]
            lines += 1
    # What ends with a carriage return is whole once the next byte is there.
    stream += b": the end\n"
    at = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[a:b] for a, b in pairwise(at)]
    assert decoded(*pieces) == [("\n".join(event)).encode() for event in events]


def test_of_an_event_only_its_data_counts() -> None:
    """One blank behind the colon goes; an event without data is none; a stream may end within one."""
    assert decoded(b"data:a\ndata:  b \n\n") == [b"a\n b "]
    assert decoded(b": ping\n\nevent: x\nid: 2\n\n\n") == []
    assert decoded(b"database: 1\n\ndata: cut o") == []
    assert decoded(b"data: a\r", b"\n\r\n") == [b"a"]


def test_an_event_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line or in many."""
    monkeypatch.setattr(sse, "MOST_EVENT_BYTES", 100)
    assert decoded(b"data: " + b"x" * 50 + b"\n\n", b"data: " + b"x" * 50 + b"\n\n") == [b"x" * 50] * 2
    for endless in (b"data: " + b"x" * 101, b"data: 1234567890\n" * 11):
        with pytest.raises(Broken) as broken:
            decoded(endless)
        assert broken.value.reason == "too_large"
