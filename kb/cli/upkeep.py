"""Commands that look after a data folder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kb.cli.terminal import AsJson, DataDir, print_json, reported, say, service
from kb.errors import DataFolderInUse

Only = Annotated[str | None, typer.Option("--kb", help="Only this knowledge base.")]


def fsck(
    repair: Annotated[bool, typer.Option("--repair", help="Rebuild what is derived.")] = False,
    kb: Only = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Check catalog, vectors and indexes against each other; exit code 1 if something is wrong."""
    with service(data_dir, as_json) as opened, ExitStack() as held:
        if repair:
            # A server would go on from the index that it has mapped, and might write it back.
            held.enter_context(_no_server(opened.settings.data_dir))
        report = opened.check(kb, repair=repair)
    if as_json:
        print_json(asdict(report))
    else:
        for finding in report.found:
            fate = "left" if finding in report.left else "repaired"
            if fate == "left":
                fate = "kb fsck --repair" if finding.repairable else "restore a backup, or ingest it anew"
            say(f"{finding.kind}  {finding.knowledge_base or '-'}  {finding.what}  ({fate})")
        deleted = {True: "overwritten", False: "not overwritten", None: "the database's own affair"}
        say(f"{len(report.found)} found, {len(report.left)} left")
        say(f"{report.receipts} deletions proved; deleted pages: {deleted[report.secure_delete]}")
        if report.masked:
            say(f"{report.masked} deleted vectors lie masked in index files  (kb fsck --repair)")
    if report.left:
        raise typer.Exit(1)


def backup(file: Path, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Write everything that cannot be rebuilt into one file; a server may run meanwhile."""
    with service(data_dir, as_json) as opened:
        manifest = opened.backup(file)
    print_json(manifest) if as_json else say(f"wrote {file}")


def restore(file: Path, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Bring a backup into an empty data folder and rebuild its indexes."""
    with reported(as_json):
        from kb.settings import Settings
        from kb.upkeep.backup import restore

        manifest = restore(Settings.read(data_dir), file)
    with service(data_dir, as_json) as opened:
        opened.follow()
    print_json(manifest) if as_json else say(f"restored {file}, written {manifest['created_at']}")


def receipts(kb: Only = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List what was deleted; --kb takes the id of a knowledge base that is gone, too."""
    with service(data_dir, as_json) as opened:
        found = opened.receipts(kb)
    if as_json:
        print_json({"data": [asdict(receipt) for receipt in found]})
        return
    for receipt in found:
        what = f"{receipt.content_id}  {receipt.chunks} chunks  {receipt.sha256}"
        say(f"{receipt.id}  {receipt.deleted_at}  {what}")


@contextmanager
def _no_server(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / "serve.lock", timeout=0):
            yield
    except Timeout:
        raise DataFolderInUse(f"a server runs on {folder}; stop it before a repair") from None
