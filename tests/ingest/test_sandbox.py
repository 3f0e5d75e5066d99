"""The child process: documents come back whole, and what kills it costs one document."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from kb.errors import BrokenDocument, NoText, TooLarge, UnsupportedFormat
from kb.ingest.parse import parse
from kb.ingest.sandbox import ParserProcess

SCRIPTED = """
import os, sys, time
from kb.ingest import sandbox
real = sandbox.parse
def scripted(data, name):
    if data == b"hang": time.sleep(3600)
    if data == b"crash": os.abort()
    if data == b"exit": os._exit(0)
    if data == b"print": print("noise on standard output", flush=True); os.write(1, b"more noise")
    if data == b"memory":
        try: bytearray(5 << 30)
        except MemoryError: data = b"refused by the system"
    if data == b"garbage": os.write(sink(), b"{" * 64); os._exit(0)
    if data == b"environment": data = repr(sorted(os.environ)).encode()
    return real(data, name)
def sink():
    return max(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")
               and "pipe" in os.readlink(f"/proc/self/fd/{fd}"))
sandbox.main(scripted)
"""
"""A child that does on certain inputs what hostile files make parsers do."""


@pytest.fixture(scope="module")
def process() -> Iterator[ParserProcess]:
    """The real child, shared: that one child serves many documents is its point."""
    with ParserProcess() as shared:
        yield shared


@pytest.fixture(scope="module")
def scripted() -> Iterator[ParserProcess]:
    """A child that misbehaves on request."""
    with ParserProcess(seconds=20, command=("-c", SCRIPTED)) as shared:
        yield shared


def test_the_child_gives_what_parse_gives(process: ParserProcess) -> None:
    """Text, title, headings and pages survive the pipe exactly."""
    data = "---\ntitle: Überschrift\n---\n# Eins\n\n𝄞 text\r\n\n## Zwei\n".encode()
    assert process.parse(data, "a.md") == parse(data, "a.md")
    assert process.parse(data, "a.md").headings[1].title == "Zwei"


def test_refusals_travel_with_class_and_message(process: ParserProcess) -> None:
    """The parent raises the same refusal as parse would."""
    for data, name, kind in [(b"", "ä\udcff.md", NoText), (b"PK\x03\x04", "a.docx", BrokenDocument)]:
        with pytest.raises(kind) as direct:
            parse(data, name)
        with pytest.raises(kind) as through:
            process.parse(data, name)
        assert str(through.value) == str(direct.value)
    with pytest.raises(UnsupportedFormat, match=r"^x\.png: no parser for image/png"):
        process.parse(b"\x89PNG\r\n\x1a\n\0", "x.png")


def test_one_child_serves_many_documents_quickly(process: ParserProcess) -> None:
    """Small files cost a round trip, not a start of Python."""
    process.parse(b"warm", "a.txt")
    pid = process.running().pid
    start = time.perf_counter()
    for _ in range(200):
        process.parse(b"some text", "a.txt")
    assert process.running().pid == pid
    # A child per document would take 200 times 0.2 seconds; the limit leaves room for a loaded machine.
    assert time.perf_counter() - start < 4


def test_a_document_that_takes_too_long_is_refused_and_the_next_one_parsed() -> None:
    """The time limit kills the child; a fresh one goes on."""
    with ParserProcess(seconds=20, command=("-c", SCRIPTED)) as patient:
        patient.parse(b"warm", "a.txt")
        first = patient.running().pid
        patient.seconds = 0.3
        with pytest.raises(TooLarge, match=r"^slow\.txt: took longer than 0\.3 seconds"):
            patient.parse(b"hang", "slow.txt")
        patient.seconds = 20
        assert patient.parse(b"next", "b.txt").text == "next"
        assert patient.running().pid != first


def test_each_document_has_the_whole_time() -> None:
    """The clock starts anew: many quick documents may take longer together than one may alone."""
    with ParserProcess(seconds=20, command=("-c", SCRIPTED)) as steady:
        steady.parse(b"warm", "a.txt")
        pid, steady.seconds = steady.running().pid, 0.8
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            assert steady.parse(b"quick", "a.txt").text == "quick"
        assert steady.running().pid == pid
        with pytest.raises(TooLarge, match=r"took longer than 0\.8 seconds"):
            steady.parse(b"hang", "slow.txt")


@pytest.mark.parametrize("data", [b"crash", b"exit"])
def test_a_crash_costs_one_document(scripted: ParserProcess, data: bytes) -> None:
    """A dead child is a broken document, and the next document gets a fresh child."""
    with pytest.raises(BrokenDocument, match=r"^bad\.pdf: the parser crashed on it"):
        scripted.parse(data, "bad.pdf")
    assert scripted.parse(b"next", "b.txt").text == "next"


def test_a_child_that_died_between_documents_is_replaced(process: ParserProcess) -> None:
    """An idle child lost to the system's memory killer is nobody's fault."""
    process.parse(b"warm", "a.txt")
    child = process.running()
    child.kill()
    child.wait()
    assert process.parse(b"next", "b.txt").text == "next"


def test_prints_of_libraries_do_not_reach_the_frames(scripted: ParserProcess) -> None:
    """Standard output belongs to no one in the child."""
    assert scripted.parse(b"print", "a.txt").text == "print"
    assert scripted.parse(b"next", "b.txt").text == "next"


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="finds the child's pipe through /proc")
def test_an_answer_that_is_no_frame_is_a_crash(scripted: ParserProcess) -> None:
    """What a taken-over child sends is checked before it is believed."""
    with pytest.raises(BrokenDocument, match=r"^a\.txt: the parser crashed on it"):
        scripted.parse(b"garbage", "a.txt")


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS holds on Linux")
def test_memory_is_limited(scripted: ParserProcess) -> None:
    """The system gives the child no more than its share."""
    assert scripted.parse(b"memory", "a.txt").text == "refused by the system"


def test_the_child_gets_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment of the service stay there."""
    monkeypatch.setenv("SOME_API_KEY", "secret")
    with ParserProcess(command=("-c", SCRIPTED)) as fresh:
        names = fresh.parse(b"environment", "a.txt").text
    assert "PYTHONPATH" in names
    assert "SOME_API_KEY" not in names


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_an_interrupt_does_not_kill_the_child(process: ParserProcess) -> None:
    """Ctrl-C reaches the whole process group; the child leaves it to the parent."""
    process.parse(b"warm", "a.txt")
    child = process.running()
    child.send_signal(signal.SIGINT)
    assert process.parse(b"next", "b.txt").text == "next"
    assert process.running() is child


def test_the_child_ends_with_its_input() -> None:
    """A killed parent leaves no orphan: the end of the pipe is the end of the child."""
    process = ParserProcess()
    process.parse(b"warm", "a.txt")
    child = process.running()
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(timeout=10) == 0
    process.close()


def test_nothing_starts_before_the_first_document() -> None:
    """A service that parses nothing pays for no child."""
    process = ParserProcess()
    assert process.child is None
    process.close()


def test_importing_the_parsers_loads_no_heavy_library() -> None:
    """Each library is imported by the format that needs it, when it does."""
    heavy = [
        "lxml",
        "pptx",
        "openpyxl",
        "mammoth",
        "pypdfium2",
        "olefile",
        "charset_normalizer",
        "defusedxml",
    ]
    script = f"import json, sys, kb.ingest.parse; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, env=environment)
    assert json.loads(done.stdout) == []
