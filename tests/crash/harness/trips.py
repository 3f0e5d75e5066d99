"""What is done while the disk fails: each trip a few lines, from a known state, with its promises logged.

`begin` lists what may be found at each uri from now on, `ack` what must be: the hash of a document's bytes,
or None for none. Files that a trip makes outside the data folder are promised by their name.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import kb.ingest.pipeline
import kb.upkeep.backup
from kb.catalog.store import Store
from kb.ingest.parse import parse
from kb.ingest.source import find
from kb.service import Service
from kb.settings import Settings

NAME = "kb"
BACKUP = "kept/backup.zip"


class Parser:
    """Parses in this process: the limited one writes nothing, and takes a third of a second to start."""

    parse = staticmethod(parse)


class Scene:
    """One data folder and its surroundings.

    root: everything whose survival is judged. documents: what is ingested. log: where promises go.
    """

    def __init__(self, root: Path, documents: Path, log: Path) -> None:
        self.root = root
        self.documents = documents
        self.settings = Settings(root / "data", f"sqlite:///{root / 'data' / 'catalog.db'}")
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def begin(self, coming: Mapping[str, str | None]) -> None:
        """From now on these may be found."""
        self._say({"begin": coming})

    def ack(self, there: Mapping[str, str | None]) -> None:
        """From now on these must be found."""
        self._say({"ack": there})

    def _say(self, promise: Mapping[str, Mapping[str, str | None]]) -> None:
        # A call that nothing else makes: faults are for the others.
        os.pwritev(self._log, [json.dumps(promise).encode() + b"\n"], 0)

    @contextmanager
    def service(self) -> Iterator[Service]:
        """The service over the data folder."""
        with Service(self.settings) as opened:
            yield opened

    def ingest(self, service: Service) -> None:
        """Bring the knowledge base level with the folder; a document is promised when its commit returns."""
        wanted = shas(self.documents)
        before = service.documents(NAME, limit=1000) if service.knowledge_bases() else []
        gone = {document.uri: None for document in before if document.uri not in wanted}
        self.begin({**wanted, **gone})
        commit, remove = Store.commit, Store.remove

        def committed(store: Store, *given: Any) -> Any:
            done = commit(store, *given)
            self.ack({version.uri: version.sha256 for version in given[3]})
            return done

        def removed(store: Store, *given: Any) -> None:
            remove(store, *given)
            self.ack(gone)

        # Two documents a transaction, so that a trip has several.
        kb.ingest.pipeline._BATCH_DOCUMENTS = 2
        Store.commit, Store.remove = committed, removed  # type: ignore[method-assign]
        try:
            target = service._existing(NAME) or service.create_knowledge_base(NAME)
            _, files = find(self.documents)
            service.level(target, "folder", files, Parser())
        finally:
            Store.commit, Store.remove = commit, remove  # type: ignore[method-assign]


def shas(folder: Path) -> dict[str, str]:
    """What is in a folder of documents."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def live(service: Service) -> Any:
    """The indexes of the knowledge base, level with the catalog."""
    found = service._indexes.live(service.knowledge_base(NAME))
    found.catch_up()
    return found


def ingest(scene: Scene) -> None:
    """A folder into a place where nothing was; also what changed in it, and what is gone from it."""
    with scene.service() as service:
        scene.ingest(service)
        live(service).vectors.checkpoint()


def delete(scene: Scene) -> None:
    """Two documents, one by one."""
    with scene.service() as service:
        for document in service.documents(NAME, limit=1000)[:2]:
            scene.begin({document.uri: None})
            service.delete_document(NAME, document.id)
            scene.ack({document.uri: None})
            live(service)


def compact(scene: Scene) -> None:
    """The dense index written anew over an older one, without what was deleted since; then once more."""
    with scene.service() as service:
        live(service).vectors.checkpoint()
        document = service.documents(NAME, limit=1)[0]
        scene.begin({document.uri: None})
        service.delete_document(NAME, document.id)
        scene.ack({document.uri: None})
        live(service).vectors.checkpoint()


def backup(scene: Scene) -> None:
    """Into a file beside the data folder."""
    with scene.service() as service:
        scene.begin({BACKUP: "whole"})
        service.backup(scene.root / BACKUP)
        scene.ack({BACKUP: "whole"})


def restore(scene: Scene) -> None:
    """A backup into a data folder that is not there yet."""
    held = json.loads((scene.documents.parent / "held.json").read_text())
    scene.begin(held)
    kb.upkeep.backup.restore(scene.settings, scene.documents.parent / "backup.zip")
    scene.ack(held)
    with scene.service() as service:
        service.follow()


TRIPS: dict[str, Callable[[Scene], None]] = {
    "ingest": ingest,
    "replace": ingest,
    "delete": delete,
    "compact": compact,
    "backup": backup,
    "restore": restore,
}
