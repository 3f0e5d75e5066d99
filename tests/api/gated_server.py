"""A server whose work can be held: python gated_server.py FAKES DATA PORT

Reads commands from its standard input, one a line: `hold WORK`, `pass WORK` (one of them goes on), `open
WORK` (all do), and `state`. WORK is search, list (of documents) or job. Prints `WORK WHAT` when a piece of
work has a thread, and the state as JSON. Its bounds on bodies and on waiting for documents are small.
"""

import importlib.util
import json
import sys
import threading
from pathlib import Path
from typing import Any

import uvicorn

from api import admission
from api.app import create_app
from kb.embed.loaded import LoadedModels
from kb.ingest.core import IngestCore
from kb.service import Service
from kb.settings import Settings

held: dict[str, float] = {"search": float("inf"), "list": float("inf"), "job": float("inf")}
changed = threading.Condition()


def say(word: str, what: str) -> None:
    """One line, whole: several threads speak."""
    with changed:
        sys.stdout.write(f"{word} {what}\n")
        sys.stdout.flush()


def gate(work: str, owner: type, name: str) -> None:
    """Have a method say its second argument and wait until it may pass."""
    real = getattr(owner, name)

    def gated(self: object, what: Any, *given: Any, **more: Any) -> Any:
        say(work, what if isinstance(what, str) else "")
        with changed:
            changed.wait_for(lambda: held[work] > 0)
            held[work] -= 1
        return real(self, what, *given, **more)

    setattr(owner, name, gated)


def obey(state: Any) -> None:
    """Follow the commands until there are no more."""
    for line in sys.stdin:
        command, _, work = line.strip().partition(" ")
        with changed:
            if command == "hold":
                held[work] = 0
            elif command == "pass":
                held[work] += 1
            elif command == "open":
                held[work] = float("inf")
            changed.notify_all()
        if command == "state":
            inside = state.admission
            shown = {
                "at_work": inside.searches.at_work,
                "waiting": inside.searches.waiting,
                "others": inside.others.taken,
                "waits": inside.waits.at_work,
                "bytes": inside.other_bodies.taken,
            }
            say("state", json.dumps(shown))


def main(fakes: str, data: str, port: str) -> None:
    """Serve under the fake embedder."""
    spec = importlib.util.spec_from_file_location("fakes", fakes)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    embedder = module.WordEmbedder()
    LoadedModels.embedder = lambda self, model: embedder  # type: ignore[assignment, method-assign]
    gate("search", Service, "search")
    gate("list", Service, "documents")
    gate("job", IngestCore, "sent")
    admission._OTHER_BYTES = 100_000
    admission.WAITING = 2
    app = create_app(Settings(Path(data), f"sqlite:///{data}/catalog.db"))
    threading.Thread(target=obey, args=(app.state,), daemon=True).start()
    uvicorn.run(app, port=int(port), log_level="error")


if __name__ == "__main__":
    main(*sys.argv[1:])
