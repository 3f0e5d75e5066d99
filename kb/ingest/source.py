"""A folder compared with the catalog, by content: what is new, changed, moved, gone."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kb.catalog.documents import Known
from kb.errors import InvalidInput
from kb.types import Failure


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a folder; uri is its path inside it, with forward slashes."""

    uri: str
    path: Path

    def read(self) -> bytes:
        """Its bytes. Raises OSError."""
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes to bring the catalog level with a folder."""

    added: list[SourceFile] = field(default_factory=list)
    changed: list[SourceFile] = field(default_factory=list)
    renamed: list[tuple[str, SourceFile]] = field(default_factory=list)
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


def plan(files: list[SourceFile], known: Mapping[str, Known], *, whole: bool) -> Plan:
    """Compare files with what the catalog knows of their source, by uri.

    whole: the files are all there is, so that what is known and not among them is gone.
    An unreadable file is reported, and what is known of it stays.
    """
    made = Plan()
    present = {file.uri for file in files}
    missing = {uri: old for uri, old in known.items() if uri not in present} if whole else {}
    moved_from = {old.sha256: uri for uri, old in missing.items()}
    for file in files:
        try:
            with file.path.open("rb") as opened:
                sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            made.unreadable.append(Failure(file.uri, f"cannot be read: {error.strerror}"))
            continue
        if file.uri in known:
            old = known[file.uri]
            if old.sha256 == sha256:
                made.unchanged.append(old.content_id)
            else:
                made.changed.append(file)
        elif sha256 in moved_from:
            made.renamed.append((missing.pop(moved_from.pop(sha256)).content_id, file))
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
