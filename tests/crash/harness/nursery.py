"""Forks one process per trip, so that a thousand trips import everything once: python nursery.py FAKES

Reads a line of JSON per trip, answers with the pid of a child that has stopped itself, and, when that has
ended, with its wait status. Between the two whoever asked may attach a tracer; SIGCONT starts the trip.
"""

import contextlib
import ctypes
import importlib.util
import io
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

# No threads in the process that forks; a trip's own are started behind the fork.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

import alembic.command
import faiss
import tantivy

from kb.cli.terminal import reported
from kb.embed.loaded import LoadedModels

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.bugs import BUGS
from harness.trips import TRIPS, Scene

UNREPORTED = 70
_PR_SET_PTRACER, _ANY = 0x59616D61, -1


def main(fakes: str) -> None:
    """Serve until standard input ends."""
    spec = importlib.util.spec_from_file_location("fakes", fakes)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    LoadedModels.embedder = lambda self, model: module.WordEmbedder()  # type: ignore[assignment, method-assign]
    assert all((alembic.command, faiss, tantivy))
    for line in sys.stdin:
        wanted = json.loads(line)
        pid = os.fork()
        if not pid:
            travel(wanted)
        os.waitpid(pid, os.WUNTRACED)
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


def travel(wanted: dict[str, Any]) -> None:
    """One trip; ends the process: 0 done, 1 failed with a message, 70 failed with a trace."""
    code, said = UNREPORTED, io.StringIO()
    try:
        file = os.open(wanted["said"], os.O_WRONLY | os.O_CREAT, 0o600)
        sys.stdout = sys.stderr = said
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY)
        scene = Scene(Path(wanted["root"]), Path(wanted["documents"]), Path(wanted["log"]))
        os.kill(os.getpid(), signal.SIGSTOP)
        with BUGS[wanted["bug"]].planted(scene) if wanted["bug"] else contextlib.nullcontext():
            with reported(False):
                TRIPS[wanted["trip"]](scene)
            code = 0
    except BaseException as error:
        # typer.Exit(1) is what the command line makes of an error it knows how to explain.
        code = getattr(error, "exit_code", UNREPORTED)
        if code == UNREPORTED:
            traceback.print_exc()
    finally:
        # Not by write: a fault meant for the trip would swallow its message.
        os.pwritev(file, [said.getvalue().encode(errors="replace")], 0)
        os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
