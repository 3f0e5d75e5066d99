"""Beside requests: a stop that is asked for, the end of the parent process, and memory that threads share."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType

# <malloc.h>
_M_ARENA_MAX = -8


@contextmanager
def heeding_stops(*stop_soon: Callable[[], None]) -> Iterator[None]:
    """Within it each of `stop_soon` is called as soon as a stop is asked for, before requests are waited for.

    The handlers that stand there are called after them: the server's own, which let it end its connections.
    """
    if threading.current_thread() is not threading.main_thread():
        # No signal comes here; whoever started this thread ends the application itself.
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def heed(number: int, frame: FrameType | None) -> None:
        # Not here: the thread that was interrupted may hold what it needs.
        for stop in stop_soon:
            threading.Thread(target=stop, daemon=True).start()
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, heed)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent() -> None:
    """Have this process stop, as by SIGTERM, when the one that started it is gone.

    A killed parent tells nobody: its processes would go on, holding the port and the jobs.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_outlive, args=(parent,), name="kb-parent", daemon=True).start()


def _outlive(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def share_arenas() -> None:
    """Have all threads of this process allocate from two of glibc's arenas, instead of eight a core.

    Each arena keeps what its threads needed at the most: the threads of every index commit, thirty megabytes
    (benchmarks/README.md, "Soak"). Call it before there are threads. Elsewhere nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
