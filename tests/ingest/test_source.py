"""A source compared with what the catalog knows of it."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies

from kb.catalog.documents import Known
from kb.errors import InvalidInput
from kb.ingest.source import Blob, find, plan


def sha(text: str) -> str:
    """What the catalog holds of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def known(**texts: str) -> dict[str, Known]:
    """Documents of the catalog: uri and text; the id of `a` is `doc_a`."""
    return {uri: Known(f"doc_{uri}", sha(text), {}) for uri, text in texts.items()}


def blobs(**texts: str) -> list[Any]:
    """Documents of the source."""
    return [Blob(uri, text.encode()) for uri, text in texts.items()]


def uris(files: list[Any]) -> list[str]:
    """Where files are."""
    return [file.uri for file in files]


def test_files_are_found_in_order_without_hidden_ones(folder: Path) -> None:
    """Everything below the folder by name, forward slashes, but what begins with a dot."""
    for name in ("b.txt", "a/z.txt", "a/b/c.txt", "C.md", ".hidden", ".git/config", "a/.cache/x", "a/~lock"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    root, files = find(folder)
    assert root == folder
    assert uris(files) == ["C.md", "a/b/c.txt", "a/z.txt", "a/~lock", "b.txt"]
    assert files[1].read() == b"a/b/c.txt"
    assert files[1].sha256() == sha("a/b/c.txt")


def test_a_file_stands_in_its_folder(folder: Path) -> None:
    """One file is its folder's file of that name."""
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    root, files = find(folder / "a.txt")
    assert (root, uris(files)) == (folder, ["a.txt"])


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_links_to_folders_are_not_followed(folder: Path, tmp_path: Path) -> None:
    """A loop of folders ends, a linked file is read, a broken link is found for the report."""
    (folder / "inner").mkdir()
    (folder / "inner" / "loop").symlink_to(folder)
    (tmp_path / "elsewhere.txt").write_text("x")
    (folder / "linked.txt").symlink_to(tmp_path / "elsewhere.txt")
    (folder / "broken.txt").symlink_to(tmp_path / "missing.txt")
    assert uris(find(folder)[1]) == ["broken.txt", "linked.txt"]
    made = plan(find(folder)[1], {}, whole=True)
    assert (uris(made.added), [failure.uri for failure in made.unreadable]) == (
        ["linked.txt"],
        ["broken.txt"],
    )
    assert "cannot be read" in made.unreadable[0].reason


@pytest.mark.parametrize("name", ["missing", "empty", "only-hidden"])
def test_where_nothing_is_is_an_error(folder: Path, name: str) -> None:
    """An empty folder is more likely a wrong path or a lost mount than a wish to remove everything."""
    (folder / "empty").mkdir()
    (folder / "only-hidden").mkdir()
    (folder / "only-hidden" / ".x").write_text("x")
    with pytest.raises(InvalidInput) as error:
        find(folder / name)
    assert error.value.param == "path"


def test_new_changed_unchanged_and_gone_are_told_apart() -> None:
    """By place and content."""
    made = plan(blobs(new="1", same="2", other="3 changed"), known(same="2", other="3", gone="4"), whole=True)
    assert (uris(made.added), uris(made.changed)) == (["new"], ["other"])
    assert (made.unchanged, made.gone, made.renamed, made.unreadable) == (["doc_same"], ["doc_gone"], [], [])


def test_a_moved_file_is_the_same_document() -> None:
    """What is gone from one place and stands at a new one keeps its id."""
    made = plan(blobs(there="1"), known(here="1"), whole=True)
    assert [(content_id, file.uri) for content_id, file in made.renamed] == [("doc_here", "there")]
    assert (made.added, made.gone) == ([], [])


def test_a_copy_is_a_new_document() -> None:
    """While the first place still holds the content, or a copy has taken its id, it is no move."""
    made = plan(blobs(here="1", there="1"), known(here="1"), whole=True)
    assert (made.unchanged, uris(made.added), made.renamed) == (["doc_here"], ["there"], [])
    made = plan(blobs(x="1", y="1"), known(here="1"), whole=True)
    assert ([file.uri for _, file in made.renamed], uris(made.added), made.gone) == (["x"], ["y"], [])


def test_of_several_files_of_one_content_each_that_moved_may_keep_its_id() -> None:
    """Two copies move: neither is both gone and added."""
    made = plan(blobs(x="1", y="1"), known(a="1", b="1"), whole=True)
    assert sorted(content_id for content_id, _ in made.renamed) == ["doc_a", "doc_b"]
    assert (made.added, made.gone) == ([], [])


def test_a_swap_is_two_changes() -> None:
    """Places keep their documents when contents trade places."""
    made = plan(blobs(a="2", b="1"), known(a="1", b="2"), whole=True)
    assert (uris(made.changed), made.renamed, made.gone) == (["a", "b"], [], [])


def test_part_of_a_source_removes_and_moves_nothing() -> None:
    """One file of a folder says nothing about its siblings."""
    made = plan(blobs(there="1"), known(here="1", other="2"), whole=False)
    assert (uris(made.added), made.gone, made.renamed) == (["there"], [], [])


def test_what_cannot_be_read_is_reported_and_what_is_known_of_it_stays() -> None:
    """A lost permission removes no document."""

    class Locked(Blob):
        def sha256(self) -> str:
            raise PermissionError(13, "Permission denied")

    made = plan([Locked("a", b""), Locked("new", b"")], known(a="1"), whole=True)
    assert [(one.uri, one.reason) for one in made.unreadable] == [
        ("a", "cannot be read: Permission denied"),
        ("new", "cannot be read: Permission denied"),
    ]
    assert (made.gone, made.added, made.changed) == ([], [], [])


NAMES = strategies.sampled_from("abcdef")
TEXTS = strategies.sampled_from("1234")


@given(
    files=strategies.dictionaries(NAMES, TEXTS),
    held=strategies.dictionaries(NAMES, TEXTS),
    whole=strategies.booleans(),
)
def test_a_plan_accounts_for_everything_once(
    files: dict[str, str], held: dict[str, str], whole: bool
) -> None:
    """Carrying it out leaves exactly the files' contents at their places."""
    made = plan(blobs(**files), known(**held), whole=whole)
    after = dict(held)
    id_to_uri = {f"doc_{uri}": uri for uri in held}
    for content_id in [*made.gone, *(content_id for content_id, _ in made.renamed)]:
        del after[id_to_uri[content_id]]
    for content_id, file in made.renamed:
        assert held[id_to_uri[content_id]] == files[file.uri]
        after[file.uri] = files[file.uri]
    for file in [*made.added, *made.changed]:
        after[file.uri] = files[file.uri]
    assert after == (files if whole else {**held, **files})
    handled = [*uris(made.added), *uris(made.changed), *(file.uri for _, file in made.renamed)]
    assert sorted([*handled, *(id_to_uri[one] for one in made.unchanged)]) == sorted(files)
