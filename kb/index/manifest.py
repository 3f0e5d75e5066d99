"""A checkpoint's manifest: JSON that carries its own checksum, replaced in one rename."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from kb.errors import IndexCorrupt


def read_manifest(path: Path) -> dict[str, Any]:
    """What was written there. Raises FileNotFoundError, or IndexCorrupt if a single bit differs."""
    try:
        sealed = json.loads(path.read_bytes())
        content = sealed["content"]
        if sealed["sha256"] == _seal(content):
            return dict(content)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise IndexCorrupt(f"{path} is damaged")


def check_files(folder: Path, checksums: dict[str, str]) -> None:
    """Compare files with what a manifest says of them. Raises IndexCorrupt for the first that differs."""
    for name, expected in checksums.items():
        if not (folder / name).is_file() or digest(folder / name) != expected:
            raise IndexCorrupt(f"{folder / name} does not match its checksum")


def mismatch(path: Path) -> str | None:
    """What is wrong with a manifest or the files it names; None when nothing is."""
    try:
        check_files(path.parent, read_manifest(path)["files"])
    except FileNotFoundError:
        return f"{path} is missing"
    except IndexCorrupt as error:
        return str(error)
    return None


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """Replace the manifest: whoever reads sees the old one or this one, whole, also after a power cut.

    The files that it names must be synced; their names in its folder are synced here, before it is there.
    """
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps({"sha256": _seal(content), "content": content}), encoding="utf-8")
    sync(scratch)
    sync(path.parent)
    scratch.replace(path)
    sync(path.parent)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Bring a file, or a folder's entries, to the disk; Windows syncs folders by itself."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, so that a power cut does not take them back."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def _seal(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
