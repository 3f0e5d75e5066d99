"""What a server process does beside requests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each of twelve threads that live at the same time allocates something.
_ARENAS = """
import ctypes, sys, threading
from api.process import share_arenas
if sys.argv[1] == "shared":
    share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
all_there = threading.Barrier(12)
def work():
    libc.malloc(1000)
    all_there.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="arenas are glibc's")
def test_threads_share_two_arenas() -> None:
    """However many there are; by themselves nearly each takes one of its own."""
    arenas = {
        given: subprocess.run(
            [sys.executable, "-c", _ARENAS, given],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.count("<heap nr=")
        for given in ("shared", "as they come")
    }
    assert arenas["shared"] <= 2 < arenas["as they come"]
