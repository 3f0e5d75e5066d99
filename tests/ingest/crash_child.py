"""A process that ingests a folder until it is killed: python crash_child.py FAKES DATA FOLDER

Prints `tick` before each SQL statement, file synced and file renamed, and `ack URI SHA256` when a document's
commit has returned.
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import event

import kb.index.faiss_index
import kb.ingest.pipeline
from kb.catalog.store import Store
from kb.embed.loaded import LoadedModels
from kb.service import Service
from kb.settings import Settings


def main(fakes: str, data: str, folder: str) -> None:
    """Ingest in small batches, searching after each, so that the indexes follow and are kept often."""
    spec = importlib.util.spec_from_file_location("fakes", fakes)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    embedder = module.WordEmbedder()
    LoadedModels.embedder = lambda self, model: embedder  # type: ignore[assignment, method-assign]
    kb.ingest.pipeline._BATCH_DOCUMENTS = 2
    kb.index.faiss_index._SMALL_TAIL = 10
    commit, fsync, replace = Store.commit, os.fsync, Path.replace

    def tick(*_: object) -> None:
        print("tick", flush=True)

    def ticking(real: Any) -> Any:
        def call(*given: Any) -> Any:
            tick()
            return real(*given)

        return call

    def committed(self: Store, *given: Any) -> Any:
        done = commit(self, *given)
        for version in given[3]:
            print(f"ack {version.uri} {version.sha256}", flush=True)
        return done

    Store.commit = committed  # type: ignore[method-assign]
    os.fsync = ticking(fsync)
    Path.replace = ticking(replace)  # type: ignore[method-assign]
    with Service(Settings(Path(data), f"sqlite:///{data}/catalog.db")) as service:
        event.listen(service.catalog.database.engine, "before_cursor_execute", tick)
        service.ingest(folder, "kb", progress=lambda *_: service.search("common", ["kb"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
