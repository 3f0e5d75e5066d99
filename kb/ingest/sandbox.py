"""Parsing in a child process with limited memory and time.

A file of unknown origin may exhaust memory, run for ever or crash a parser written in C. It does so in a
child; the parent goes on with a fresh one. The child has been fed hostile bytes, so what it sends back is
data and nothing else: length-prefixed JSON and UTF-8, checked, never pickled.

    parent to child   header length (4 bytes), body length (8 bytes), JSON {"name", "seconds"}, the file
    child to parent   header length (4 bytes), body length (8 bytes), JSON, the text
"""

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from kb.errors import BrokenDocument, DocumentRefused, NoText, TooLarge, UnsupportedFormat
from kb.ingest.formats.draft import MAX_CHARACTERS
from kb.ingest.parse import parse
from kb.types import Document, Heading, Page

MEMORY = 4 << 30
"""Address space of the child: eight times what an archive may expand to, for parsers that build trees."""

SECONDS = 60.0
"""Time for one document. The slowest good ones, books of thousands of pages, take about ten."""

GRACE = 5
"""Seconds after the limit at which the child ends itself, should the parent have died meanwhile."""

LENGTHS = struct.Struct(">IQ")
MAX_HEADER = 100_000_000
"""Bytes of a header. It lists the headings, which are a part of a text of MAX_CHARACTERS."""

Parse = Callable[[bytes, str], Document]
"""Bytes and their name to a document. Raises DocumentRefused alone."""

REFUSALS = {kind.__name__: kind for kind in (UnsupportedFormat, BrokenDocument, NoText, TooLarge)}
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Environment the child gets; keys and passwords of the service are none of its business."""


class ParserProcess:
    """parse() in a long-lived child, started at the first document and again after one that killed it.

    One document at a time; threads take turns. Use as a context manager, or call close().
    """

    def __init__(
        self, *, seconds: float = SECONDS, command: Sequence[str] = ("-m", "kb.ingest.sandbox")
    ) -> None:
        """seconds: time for one document.  command: what Python runs as the child; tests give a worse one."""
        self.seconds = seconds
        self.command = command
        self.child: subprocess.Popen[bytes] | None = None
        self.turn = threading.Lock()
        self.watch = Watch()

    def __enter__(self) -> "ParserProcess":
        """Itself; the child starts when there is something to parse."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the child."""
        self.close()

    def parse(self, data: bytes, name: str) -> Document:
        """As kb.ingest.parse.parse, with memory and time limited as well.

        Raises DocumentRefused alone: TooLarge when time is up, BrokenDocument when the parser crashes.
        """
        with self.turn:
            child = self.running()
            self.watch.arm(child, self.seconds)
            late = False
            answer: tuple[Any, bytes] | None = None
            try:
                answer = exchange(child, {"name": name, "seconds": self.seconds}, data)
            except (OSError, EOFError, ValueError):
                pass  # It died, or sent what is no answer: judged below, with the child gone.
            finally:
                # Also on KeyboardInterrupt: an unread answer would be taken for the next document's.
                late = self.watch.disarm()
                if answer is None or late:
                    self.discard()
            if answer is not None:
                return document_of(*answer, name)
            if late:
                raise TooLarge(f"{name}: took longer than {self.seconds:g} seconds to parse; split it")
            raise BrokenDocument(f"{name}: the parser crashed on it")

    def running(self) -> "subprocess.Popen[bytes]":
        """The child, a new one if there is none or it has died between documents."""
        if self.child is not None and self.child.poll() is not None:
            self.discard()
        if self.child is None:
            kept = {k: v for k, v in os.environ.items() if k in KEPT or k.startswith(("PYTHON", "LC_"))}
            room = str(Path(__file__).resolve().parents[2])
            kept["PYTHONPATH"] = os.pathsep.join(filter(None, (room, kept.get("PYTHONPATH"))))
            # NumPy comes with kb.types; its threads would reserve address space for nothing.
            kept["OPENBLAS_NUM_THREADS"] = "1"
            self.child = subprocess.Popen(
                # -P: the working directory may be the folder of documents, with a json.py in it.
                [sys.executable, "-P", *self.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=kept,
            )
        return self.child

    def discard(self) -> None:
        """Kills the child, if any."""
        if self.child is not None:
            self.child.kill()
            self.release(self.child)

    def close(self) -> None:
        """Lets the child end; it does so when its input closes. A later parse() starts a new one."""
        with self.turn:
            if self.child is not None:
                self.release(self.child)

    def release(self, child: "subprocess.Popen[bytes]") -> None:
        """Closes the pipes and waits for the end."""
        self.child = None
        self.watch.rest()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # Unsent bytes for a child that is dead.
                    pipe.close()
        try:
            child.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


class Watch:
    """Kills the child that is armed for longer than its time.

    One timer for many documents: it fires at the oldest deadline it knows and sets itself anew for the
    current one. A timer, that is a thread, for each document takes four fifths of the time of small ones.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.child: subprocess.Popen[bytes] | None = None
        self.deadline = 0.0
        self.late = False
        self.timer: threading.Timer | None = None
        self.due = 0.0

    def arm(self, child: "subprocess.Popen[bytes]", seconds: float) -> None:
        """From now the child has `seconds`."""
        with self.lock:
            self.child, self.deadline, self.late = child, time.monotonic() + seconds, False
            if self.timer is None or self.due > self.deadline:
                self.set()

    def disarm(self) -> bool:
        """The child has answered or is gone; whether it was killed for the time it took."""
        with self.lock:
            self.child = None
            return self.late

    def rest(self) -> None:
        """No timer until the next document."""
        with self.lock:
            if self.timer is not None:
                self.timer.cancel()
            self.timer = None

    def set(self) -> None:
        """A timer for the deadline, in place of the one there is."""
        if self.timer is not None:
            self.timer.cancel()
        self.due = self.deadline
        self.timer = threading.Timer(max(0.0, self.due - time.monotonic()), self.fire)
        self.timer.daemon = True
        self.timer.start()

    def fire(self) -> None:
        """Kills at the deadline; before it, which is that of a later document, waits on."""
        with self.lock:
            if threading.current_thread() is not self.timer:
                return  # replaced while it waited for the lock
            self.timer = None
            if self.child is None:
                return
            if time.monotonic() < self.deadline:
                self.set()
                return
            self.late = True
            self.child.kill()


def exchange(child: "subprocess.Popen[bytes]", header: Any, body: bytes) -> tuple[Any, bytes]:
    """Sends a document and returns the answer. Raises OSError, EOFError or ValueError when there is none."""
    assert child.stdin is not None
    assert child.stdout is not None
    send(child.stdin, header, body)
    return receive(child.stdout, max_body=4 * MAX_CHARACTERS)


def send(pipe: IO[bytes], header: Any, body: bytes) -> None:
    """Writes one frame."""
    head = json.dumps(header).encode("ascii")
    pipe.write(LENGTHS.pack(len(head), len(body)) + head)
    pipe.write(body)
    pipe.flush()


def receive(pipe: IO[bytes], *, max_body: int) -> tuple[Any, bytes]:
    """Reads one frame. Raises EOFError at the end of input, ValueError for what is no frame."""
    head_length, body_length = LENGTHS.unpack(exactly(pipe, LENGTHS.size))
    if head_length > MAX_HEADER or body_length > max_body:
        raise ValueError("frame too long")
    head = exactly(pipe, head_length)
    return json.loads(head), exactly(pipe, body_length)


def exactly(pipe: IO[bytes], count: int) -> bytes:
    """`count` bytes. Raises EOFError when there are fewer."""
    data = pipe.read(count)
    if len(data) < count:
        raise EOFError("the other side is gone")
    return data


def answer_of(document: Document) -> tuple[dict[str, Any], bytes]:
    """A document as a frame's header and body."""
    header = {
        "media_type": document.media_type,
        "title": document.title,
        "markup": document.markup,
        "pages": [(page.number, page.start) for page in document.pages],
        "headings": [(heading.level, heading.title, heading.start) for heading in document.headings],
        "date": document.date,
    }
    return header, document.text.encode("utf-8")


def document_of(header: Any, body: bytes, name: str) -> Document:
    """The document in a frame. Raises the refusal it carries, or BrokenDocument for a frame that is wrong."""
    try:
        if "refused" in header:
            raise REFUSALS[header["refused"]](str(header["message"]))
        title, date = header["title"], header["date"]
        markup: Literal["markdown", "plain"] = "markdown" if header["markup"] == "markdown" else "plain"
        return Document(
            body.decode("utf-8"),
            str(header["media_type"]),
            None if title is None else str(title),
            markup,
            tuple(Page(int(number), int(start)) for number, start in header["pages"]),
            tuple(Heading(int(level), str(words), int(start)) for level, words, start in header["headings"]),
            None if date is None else str(date),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenDocument(f"{name}: the parser crashed on it") from error


def limit_memory() -> None:
    """Caps the address space, where the system can."""
    try:
        import resource
    except ImportError:
        return  # Windows: the time limit alone holds there.
    with contextlib.suppress(ValueError, OSError):  # macOS refuses some limits; a lower hard limit stands.
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def serve(source: IO[bytes], sink: IO[bytes], parse: Parse = parse) -> None:
    """Answers documents until the input closes."""
    while True:
        try:
            header, data = receive(source, max_body=1 << 62)
        except EOFError:
            return
        if hasattr(signal, "alarm"):
            # The parent kills on time. Should it be dead, this does: SIGALRM's default is to end the process.
            signal.alarm(int(header["seconds"]) + GRACE)
        try:
            answer, text = answer_of(parse(data, header["name"]))
        except DocumentRefused as error:
            answer, text = {"refused": type(error).__name__, "message": str(error)}, b""
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        send(sink, answer, text)


def main(parse: Parse = parse) -> None:
    """The child, with a parser: frames on what were standard input and output, which no print can reach."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it closes the pipe.
    limit_memory()
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    with contextlib.suppress(BrokenPipeError):  # The parent is gone.
        serve(source, sink, parse)


if __name__ == "__main__":
    main()
