"""A source compared with the catalog, by content: what is new, changed, moved, gone."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kb.catalog.documents import Known
from kb.errors import InvalidInput
from kb.types import Attributes, ChunkingPolicy, Failure, is_unicode


class Incoming(Protocol):
    """Something to take in: a file of a folder, bytes that were sent, a line of a corpus."""

    @property
    def uri(self) -> str:
        """Its place in its source."""

    def read(self) -> bytes:
        """Its bytes. Raises OSError."""

    def sha256(self) -> str:
        """Hex digest of its bytes. Raises OSError."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a folder; uri is its path inside it, with forward slashes."""

    uri: str
    path: Path

    def read(self) -> bytes:
        """Its bytes. Raises OSError."""
        return self.path.read_bytes()

    def sha256(self) -> str:
        """Hex digest of its bytes, read in portions. Raises OSError."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes at hand under a name."""

    uri: str
    data: bytes

    def read(self) -> bytes:
        """The bytes."""
        return self.data

    def sha256(self) -> str:
        """Hex digest of the bytes."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A document to take in. chunking: None for the policy of its knowledge base."""

    file: Incoming
    attributes: Attributes
    chunking: ChunkingPolicy | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes to bring the catalog level with a source."""

    added: list[Incoming] = field(default_factory=list)
    changed: list[Incoming] = field(default_factory=list)
    renamed: list[tuple[str, Incoming]] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    unreadable: list[Failure] = field(default_factory=list)


def find(path: Path) -> tuple[Path, list[SourceFile]]:
    """The folder a path stands for, and its files in order of name; for one file, its folder and that file.

    Hidden files and folders are left out, links to folders are not followed.
    Raises InvalidInput when there is nothing there.
    """
    if path.is_file():
        return path.parent, [SourceFile(path.name, path)]
    if not path.is_dir():
        raise InvalidInput(f"{path} does not exist", param="path")
    files = [SourceFile(found.relative_to(path).as_posix(), found) for found in _walk(path)]
    if not files:
        raise InvalidInput(f"{path} holds no files; nothing was changed", param="path")
    return path, files


def plan(files: Sequence[Incoming], known: Mapping[str, Known], *, whole: bool) -> Plan:
    """Compare files with what the catalog knows of their source, by uri.

    whole: the files are all there is, so that what is known and not among them is gone.
    An unreadable file is reported, and what is known of it stays.
    """
    made = Plan()
    present = {file.uri for file in files}
    missing = {uri: old for uri, old in known.items() if uri not in present} if whole else {}
    moved_from: dict[str, list[str]] = {}
    for uri, old in missing.items():
        moved_from.setdefault(old.sha256, []).append(uri)
    for file in files:
        if not is_unicode(file.uri):
            shown = file.uri.encode("utf-8", "backslashreplace").decode()
            made.unreadable.append(Failure(shown, "its name is not valid Unicode; rename it", "unreadable"))
            continue
        try:
            sha256 = file.sha256()
        except OSError as error:
            made.unreadable.append(Failure(file.uri, f"cannot be read: {error.strerror}", "unreadable"))
            continue
        if file.uri in known:
            old = known[file.uri]
            if old.sha256 == sha256:
                made.unchanged.append(old.content_id)
            else:
                made.changed.append(file)
        elif moved_from.get(sha256):
            made.renamed.append((missing.pop(moved_from[sha256].pop(0)).content_id, file))
        else:
            made.added.append(file)
    made.gone.extend(old.content_id for old in missing.values())
    return made


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if not entry.is_symlink():
                yield from _walk(entry)
        elif entry.is_file() or entry.is_symlink():
            yield entry
