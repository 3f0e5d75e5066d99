"""A file system that knows what was synced, and every state in which a crash may leave it.

Strict, as POSIX is: what was written to a file is safe behind an fsync of that file that began after the
write had ended, a name behind an fsync of its folder, a rename behind one of the folder it leads to. Whatever
is not safe yet may be there or not, each write and each name by itself, and a write by half.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from harness.trace import NAMES, OPENS, SYNCS, WRITES, Call

SECTOR = 512
State = dict[str, bytes | None]
"""Files with their bytes and folders with None, by path inside the root."""


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes at an offset, or, with `size`, a new length."""

    ended: int
    offset: int = 0
    data: bytes = b""
    size: int | None = None

    def apply(self, to: bytearray) -> None:
        """Change the bytes of a file."""
        if self.size is not None:
            del to[self.size :]
            to.extend(bytes(self.size - len(to)))
        elif self.data:
            to.extend(bytes(max(0, self.offset - len(to))))
            to[self.offset : self.offset + len(self.data)] = self.data

    def torn(self, sectors: int) -> "Write":
        """Only what fell into the first sectors that it touched."""
        end = (self.offset // SECTOR + sectors) * SECTOR
        return Write(self.ended, self.offset, self.data[: max(0, end - self.offset)], self.size)

    def zeroed(self) -> "Write":
        """The length has come to the disk and the bytes have not."""
        return Write(self.ended, self.offset, bytes(len(self.data)), self.size)


@dataclass(eq=False, slots=True)
class File:
    """An inode: what is safe, and what was written since."""

    safe: bytes = b""
    pending: list[Write] = field(default_factory=list)

    def length(self) -> int:
        """Of what a reader sees now."""
        return len(self.bytes(lambda write: write))

    def bytes(self, survives: Callable[[Write], Write | None]) -> bytes:
        """What is there when only some of the pending writes came through."""
        made = bytearray(self.safe)
        for write in self.pending:
            if (kept := survives(write)) is not None:
                kept.apply(made)
        return bytes(made)


@dataclass(eq=False, slots=True)
class Handle:
    """An open file, and the position in it that copies of the handle share; None where it appends."""

    file: File
    at: int | None


@dataclass(frozen=True, slots=True)
class Naming:
    """Names that one call changed together: to a file, a folder ("folder"), or nothing (None)."""

    ended: int
    folder: str
    changes: dict[str, "File | str | None"]


class Disk:
    """Follows calls; only what lies under `root` is looked at."""

    def __init__(self, root: Path) -> None:
        self._root = f"{root}/"
        self._safe: dict[str, File | str | None] = {}
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            self._safe[name] = File(path.read_bytes()) if path.is_file() else "folder"
        self._now = dict(self._safe)
        self._pending: list[Naming] = []
        self._last: tuple[File, Write] | None = None
        self._open_ones: dict[int, Handle] = {}

    def follow(self, call: Call) -> bool:
        """Do as the call did; says whether what a crash leaves may have changed."""
        assert not call.name.startswith("execve"), "a trip is one process: handles are told apart by number"
        if call.failed:
            # A disk that refused a sync has let go of what it was to sync; nothing makes it safe later.
            return False
        if call.name in OPENS:
            return self._open(call)
        if call.name in ("close", "lseek", "read", "readv"):
            self._move(call)
            return False
        if call.name.startswith("dup") or "F_DUPFD" in call.arguments:
            if call.handle() in self._open_ones:
                self._open_ones[call.result] = self._open_ones[call.handle()]
            return False
        if call.name == "fcntl":
            return False
        if call.name in WRITES:
            return self._write(call)
        if call.name in SYNCS:
            return self._sync(call)
        if call.name in NAMES:
            return self._rename(call)
        if call.name == "mmap":
            path = call.arguments
            shared = "MAP_SHARED" in path and "PROT_WRITE" in path and "MAP_ANONYMOUS" not in path
            # SQLite's shared memory is made anew by whoever opens the database first.
            assert not shared or "\\x2d\\x73\\x68\\x6d>" in path, f"written past the trace: {call}"
            return False
        inside = (call.path() or "").startswith(self._root)
        assert not inside, f"not modelled: {call}"
        return False

    def crashes(self, chance: random.Random, *, random_ones: int = 1) -> Iterator[tuple[str, State]]:
        """States in which the disk may be found now, each with what came through."""

        def all_of(write: Write) -> Write | None:
            return write

        def none_of(write: Write) -> Write | None:
            return None

        def zeros_of(write: Write) -> Write | None:
            return write.zeroed()

        every, nothing = list(self._pending), list[Naming]()
        yield "all (a kill)", self._state(all_of, every)
        yield "nothing that was not synced", self._state(none_of, nothing)
        yield "names without bytes", self._state(none_of, every)
        yield "names and lengths without bytes", self._state(zeros_of, every)
        yield "bytes without names", self._state(all_of, nothing)
        if self._last is not None and self._last[1] in self._last[0].pending:
            last = self._last[1]
            sectors = -(-(last.offset % SECTOR + len(last.data)) // SECTOR)
            for some in sorted({0, 1, sectors // 2, sectors - 1} - {sectors}):
                torn = last.torn(some)
                yield (
                    f"the last write torn behind {some} of {sectors} sectors",
                    self._state(lambda write, torn=torn: torn if write is last else write, every),  # type: ignore[misc]
                )

        def some_of(write: Write) -> Write | None:
            drawn = chance.random()
            if drawn < 0.4:
                return write
            return None if drawn < 0.7 else write.torn(chance.randrange(9))

        for number in range(random_ones):
            names = [naming for naming in every if chance.random() < 0.6]
            yield f"some, drawn {number}", self._state(some_of, names)

    def _state(self, survives: Callable[[Write], Write | None], namings: list[Naming]) -> State:
        names = dict(self._safe)
        for naming in namings:
            names.update(naming.changes)
        made: State = {}
        for name in sorted(names):
            node, folder = names[name], name.rpartition("/")[0]
            # Without its folder a name is nowhere.
            if node is not None and (not folder or (folder in made and made[folder] is None)):
                made[name] = node.bytes(survives) if isinstance(node, File) else None
        return made

    def _inside(self, path: str | None) -> str | None:
        return path.removeprefix(self._root) if path and path.startswith(self._root) else None

    def _file(self, name: str) -> File:
        found = self._now.get(name)
        assert isinstance(found, File), f"{name} is not known to be a file"
        return found

    def _name(self, call: Call, folder_of: str, changes: dict[str, "File | str | None"]) -> bool:
        self._now.update(changes)
        self._pending.append(Naming(call.ended, folder_of.rpartition("/")[0], changes))
        return True

    def _open(self, call: Call) -> bool:
        handle = call.result
        self._open_ones.pop(handle, None)
        name = self._inside(call.opened())
        if name is None or self._now.get(name) == "folder" or "O_DIRECTORY" in call.arguments:
            return False
        made = self._now.get(name) is None
        if made:
            assert "O_CREAT" in call.arguments or call.name == "creat", f"opened from nowhere: {call}"
            self._name(call, name, {name: File()})
        file = self._file(name)
        self._open_ones[handle] = Handle(file, None if "O_APPEND" in call.arguments else 0)
        if ("O_TRUNC" in call.arguments or call.name == "creat") and not made:
            self._put(file, Write(call.ended, size=0))
            return True
        return made

    def _move(self, call: Call) -> None:
        if call.name == "close":
            self._open_ones.pop(call.handle(), None)
            return
        handle = self._open_ones.get(call.handle())
        if handle is not None and handle.at is not None:
            handle.at = call.result if call.name == "lseek" else handle.at + call.result

    def _write(self, call: Call) -> bool:
        if call.name == "truncate":
            named = self._inside(call.names()[0])
            if named is not None:
                self._put(self._file(named), Write(call.ended, size=call.numbers()[-1]))
            return named is not None
        handle = self._open_ones.get(call.handle())
        if handle is None:
            assert self._inside(call.path()) is None, f"written to a handle from nowhere: {call}"
            return False
        file, numbers = handle.file, call.numbers()
        if call.name == "ftruncate":
            self._put(file, Write(call.ended, size=numbers[-1]))
        elif call.name == "fallocate":
            assert ", 0, " in call.arguments, f"not modelled: {call}"
            self._put(file, Write(call.ended, size=max(file.length(), numbers[-2] + numbers[-1])))
        elif call.name.startswith("pwrite"):
            at = numbers[-2] if call.name == "pwritev2" else numbers[-1]
            self._put(file, Write(call.ended, at, call.data()))
        else:
            self._put(file, Write(call.ended, file.length() if handle.at is None else handle.at, call.data()))
            if handle.at is not None:
                handle.at += call.result
        return True

    def _put(self, file: File, write: Write) -> None:
        file.pending.append(write)
        self._last = (file, write)

    def _sync(self, call: Call) -> bool:
        assert call.name in ("fsync", "fdatasync"), f"not modelled: {call}"
        handle = self._open_ones.get(call.handle())
        if handle is not None:
            file = handle.file
            safe = [write for write in file.pending if write.ended < call.began]
            made = bytearray(file.safe)
            for write in safe:
                write.apply(made)
            file.safe, file.pending = bytes(made), file.pending[len(safe) :]
            return bool(safe)
        path = call.path()
        if path is None or not f"{path}/".startswith(self._root):
            return False
        folder = path.removeprefix(self._root.rstrip("/")).removeprefix("/")
        safe_names = [one for one in self._pending if one.folder == folder and one.ended < call.began]
        for naming in safe_names:
            self._safe.update(naming.changes)
        self._pending = [one for one in self._pending if one not in safe_names]
        return bool(safe_names)

    def _rename(self, call: Call) -> bool:
        names = [self._inside(name) for name in call.names()]
        if not any(names):
            return False
        if call.name.startswith("rename"):
            old, new = names
            assert old, f"moved across the border: {call}"
            assert new, f"moved across the border: {call}"
            return self._name(call, new, {old: None, new: self._file(old)})
        if call.name.startswith("link"):
            old, new = names
            assert old, f"linked across the border: {call}"
            assert new, f"linked across the border: {call}"
            return self._name(call, new, {new: self._file(old)})
        (name,) = names
        assert name
        if call.name.startswith("mkdir"):
            return self._name(call, name, {name: "folder"})
        assert call.name in ("unlink", "unlinkat", "rmdir"), f"not modelled: {call}"
        return self._name(call, name, {name: None})


def materialise(state: State, root: Path) -> None:
    """Lay a state out as files under an empty folder."""
    for name, content in state.items():
        if content is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(content)


def key(state: State, *more: object) -> bytes:
    """Equal for equal states."""
    digest = blake2b(digest_size=16)
    for name, content in state.items():
        digest.update(repr((name, None if content is None else len(content))).encode())
        digest.update(content or b"")
    digest.update(repr(more).encode())
    return digest.digest()
