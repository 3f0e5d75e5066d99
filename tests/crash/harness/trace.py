"""Trips under strace: started, hindered at a chosen system call, and read back as a list of calls."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# Everything that can change a file or a folder, and what is needed to know where a plain write lands.
WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "truncate", "fallocate")
SYNCS = ("fsync", "fdatasync", "sync_file_range", "msync", "sync", "syncfs")
NAMES = ("rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir",
         "link", "linkat", "symlink", "symlinkat", "mknod", "mknodat")  # fmt: skip
OPENS = ("open", "openat", "openat2", "creat")
OTHERS = ("read", "readv", "lseek", "close", "dup", "dup2", "dup3", "fcntl", "mmap", "sendfile",
          "copy_file_range", "splice", "execve", "execveat")  # fmt: skip

_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)(.*)")
_BEGUN = re.compile(r"(\w+)\((.*?) ?<unfinished \.\.\.>$")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_HANDLE = re.compile(r"(\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call. began and ended number the lines of the trace: calls of several threads overlap."""

    began: int
    ended: int
    thread: int
    name: str
    arguments: str
    result: int
    shown: str
    """What stands behind the result: the path of a file that was opened, or the error."""

    @property
    def failed(self) -> bool:
        """Nothing was changed."""
        return self.result < 0

    def path(self) -> str | None:
        """Of the handle that is its first argument; None where that is no file, or one without a name."""
        found = _HANDLE.match(self.arguments)
        if found is None or found[3] or found[1] == "AT_FDCWD":
            return None
        name = _text(found[2])
        return name if name.startswith("/") else None

    def opened(self) -> str:
        """The path of the file it opened."""
        found = _HANDLE.search(f"{self.result}{self.shown}")
        assert found is not None, self
        return _text(found[2])

    def handle(self) -> int:
        """The file descriptor that is its first argument."""
        return int(re.match(r"-?\d+", self.arguments)[0])  # type: ignore[index]

    def names(self) -> list[str]:
        """The paths among its arguments, made absolute by the folder handle before them."""
        found, folder = [], ""
        for part in re.finditer(f"{_HANDLE.pattern}|{_STRING.pattern}", self.arguments):
            if part[2] is not None:
                folder = _text(part[2])
            else:
                name = os.path.join(folder, _text(part[4]))
                assert name.startswith("/"), f"a path relative to nothing: {self}"
                found.append(name)
        return found

    def numbers(self) -> list[int]:
        """The plain numbers that follow its first argument."""
        rest = _HANDLE.sub("", _STRING.sub("", self.arguments), count=1)
        return [int(number) for number in re.findall(r"(?<![\w=])-?\d+(?!\w)", rest)]

    def data(self) -> bytes:
        """What was written: as much of it as the call says it took."""
        strings = _STRING.findall(self.arguments)
        return b"".join(bytes.fromhex(string.replace("\\x", "")) for string in strings)[: self.result]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a trip ended. code: its exit code, or minus the signal; said: its output."""

    code: int
    said: str
    promises: list[dict[str, dict[str, str | None]]]


class Nursery:
    """The process that forks a child per trip; see `nursery.py`."""

    def __init__(self, fakes: Path, scratch: Path) -> None:
        self._scratch = scratch
        self.log = scratch / "log"
        scratch.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(Path(__file__).with_name("nursery.py")), str(fakes)]
        # The same tree as the judge's, whatever is installed.
        path = os.pathsep.join((str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(
        self,
        trip: str,
        root: Path,
        documents: Path,
        *,
        bug: str | None = None,
        strace: Sequence[str] | None = None,
    ) -> Ended:
        """One trip; strace: arguments of the tracer, or None to run without one."""
        said, log = self._scratch / "said", self.log
        for old in (said, log):
            old.unlink(missing_ok=True)
        wanted: dict[str, Any] = {"trip": trip, "root": str(root), "documents": str(documents), "bug": bug}
        pid = int(self._ask({**wanted, "said": str(said), "log": str(log)}))
        tracer = None
        if strace is not None:
            command = ["strace", "-f", "-p", str(pid), *strace]
            tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            assert tracer.stderr is not None
            # From here on every call is seen: the child is stopped by its own signal and by the tracer's.
            while "attached" not in (line := tracer.stderr.readline()):
                assert line, "strace ended before it was attached"
        os.kill(pid, signal.SIGCONT)
        status = int(self._answer())
        if tracer is not None:
            tracer.communicate()
        code = os.waitstatus_to_exitcode(status)
        lines = log.read_bytes().splitlines() if log.exists() else []
        # A kill within a promise leaves half a line: it was not made.
        whole = [json.loads(line) for line in lines if line.endswith(b"}}")]
        return Ended(code, said.read_text(errors="replace"), whole)

    def record(
        self, trip: str, root: Path, documents: Path, *, bug: str | None = None
    ) -> tuple[Ended, list[Call]]:
        """A trip and the calls it made."""
        trace = self._scratch / "trace"
        every = ",".join((*WRITES, *SYNCS, *NAMES, *OPENS, *OTHERS))
        how = ["-y", "-xx", "-s", "100000000", "-o", str(trace), "-e", f"trace={every}"]
        ended = self.run(trip, root, documents, bug=bug, strace=how)
        with trace.open(encoding="ascii", errors="strict") as lines:
            return ended, list(calls(lines))

    def inject(self, trip: str, root: Path, documents: Path, call: str, fault: str) -> Ended:
        """A trip during which a call meets a fault: `signal=KILL:when=3`, `error=EIO:when=3`."""
        how = ["-o", str(self._scratch / "trace"), "-s", "0", "-e", f"trace={call}"]
        return self.run(trip, root, documents, strace=[*how, "-e", f"inject={call}:{fault}"])

    def _ask(self, wanted: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        print(json.dumps(wanted), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the nursery died"
        return line


def calls(lines: Iterator[str]) -> Iterator[Call]:
    """The calls of a trace, in the order in which they ended."""
    begun: dict[int, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        found = _LINE.match(line.rstrip("\n"))
        assert found is not None, line[:200]
        thread, rest = int(found[1]), found[2]
        began = number
        if unfinished := _BEGUN.fullmatch(rest):
            begun[thread] = (number, f"{unfinished[1]}({unfinished[2]}")
            continue
        if resumed := _RESUMED.fullmatch(rest):
            began, first = begun.pop(thread)
            rest = f"{first}{resumed[2]}"
        call = _CALL.fullmatch(rest)
        if call is None:
            # A signal or an exit.
            assert rest.startswith(("+++", "---")), rest[:200]
            continue
        if call[3] != "?":
            yield Call(began, number, thread, call[1], call[2], int(call[3]), call[4])


def promise_of(call: Call, log: Path) -> dict[str, dict[str, str | None]] | None:
    """What a call wrote into the log of promises; None for any other call."""
    if not call.name.startswith("pwritev") or call.path() != str(log):
        return None
    return dict(json.loads(call.data()))


def why_not() -> str | None:
    """Why no trip can be traced here; None where it can."""
    if sys.platform != "linux" or shutil.which("strace") is None:
        return "strace is not here (Linux: apt-get install strace)"
    tried = subprocess.run(
        ["strace", "-f", "-o", os.devnull, "-e", "inject=fsync:error=EIO:when=1", "true"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"strace may not trace here: {tried.stderr.strip()}" if tried.returncode else None


def _text(hexed: str) -> str:
    return os.fsdecode(bytes.fromhex(hexed.replace("\\x", "")))
