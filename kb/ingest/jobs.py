"""Ingest in the background: one thread works through the jobs of a data folder."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy.exc import OperationalError

from kb.catalog.jobs import JobFile, Jobs
from kb.errors import Interrupted, KbError, ModelUnavailable, StorageFailed
from kb.ingest.source import Blob, Wanted
from kb.types import IngestReport, Job

# How soon a job is seen that another process accepted, or its end; one's own are seen at once. A look is a
# read of the catalog, a third of a millisecond.
_LOOK_SECONDS = 0.1
# How soon a job is tried again that a full disk or a missing model held up.
_RETRY_SECONDS = 15.0
# Without a job for so long, the parser's process is not kept for the next one.
_REST_SECONDS = 10.0

# What passes by itself; a refusal of the data (DataError, IntegrityError) does not.
_PASSING = (StorageFailed, ModelUnavailable, OSError, OperationalError)

log = logging.getLogger(__name__)


class JobRunner:
    """Runs waiting jobs, oldest first, in one thread of one process of a data folder.

    run: takes the documents of one job into its knowledge base. A job found half done after a
    crash runs again: what it had committed is seen to be there and costs nothing. rest: called when nothing
    was to do for a while.
    """

    def __init__(
        self,
        jobs: Jobs,
        run: Callable[[Job, Iterator[Wanted]], IngestReport],
        rest: Callable[[], None],
        lock: Path,
    ) -> None:
        self._jobs = jobs
        self._run = run
        self._rest = rest
        self._lock = FileLock(lock)
        self._wake = threading.Event()
        self._stopping = False
        self._finished = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="kb-jobs", daemon=True)

    def start(self) -> None:
        """Begin working."""
        self._thread.start()

    def notify(self) -> None:
        """A job was accepted."""
        self._wake.set()

    def wait(self, job_id: str) -> Job:
        """Block until a job is done, whichever process does it."""
        self.notify()
        while (job := self._jobs.get(job_id)).finished_at is None and not self._stopping:
            # An end that comes between the two is seen at the next look.
            with self._finished:
                self._finished.wait(_LOOK_SECONDS)
        return job

    def stop_soon(self) -> None:
        """Begin no other document; whoever waits for a job goes on without its end."""
        self._stopping = True
        self._wake.set()
        with self._finished:
            self._finished.notify_all()

    def stop(self) -> None:
        """Stop after the current job's current batch; what is not done goes on at the next start."""
        self.stop_soon()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while not self._stopping:
            try:
                with self._lock.acquire(timeout=1.0):
                    self._work_while_leading()
            except Timeout:
                # Another process of this data folder runs the jobs.
                continue

    def _work_while_leading(self) -> None:
        worked = time.monotonic()
        while not self._stopping:
            self._wake.clear()
            pause = _LOOK_SECONDS
            try:
                waiting = self._jobs.waiting()
            except _PASSING as error:
                log.error("jobs wait: %s", error)
                waiting = []
            if waiting:
                worked = time.monotonic()
            elif time.monotonic() - worked > _REST_SECONDS:
                self._rest()
            for job in waiting:
                if not self._stopping and not self._do(job):
                    pause = _RETRY_SECONDS
            if not self._stopping:
                self._wake.wait(pause)

    def _do(self, job: Job) -> bool:
        """Whether the job is settled."""
        try:
            self._take_in(job)
        except _PASSING as error:
            # The job is accepted and stays so: it is tried again, and others go on meanwhile.
            log.error("job %s waits: %s", job.id, error)
            return False
        return True

    def _take_in(self, job: Job) -> None:
        try:
            sent = self._jobs.start(job.id)
            report = self._run(job, self._while_wanted(sent))
        except Interrupted:
            return
        except _PASSING:
            raise
        except KbError as error:
            log.warning("job %s failed: %s", job.id, error)
            self._jobs.finish(job.id, error=str(error))
        except Exception as error:
            # The thread must outlive one bad job; the log has the trace, the job its reason.
            log.exception("job %s failed", job.id)
            self._jobs.finish(job.id, error=f"internal error: {type(error).__name__}: {error}")
        else:
            self._jobs.finish(job.id, report=report)
        with self._finished:
            self._finished.notify_all()

    def _while_wanted(self, sent: Iterable[JobFile]) -> Iterator[Wanted]:
        for file in sent:
            if self._stopping:
                raise Interrupted("the server is stopping; the job goes on at its next start")
            yield Wanted(Blob(file.name, file.data), file.attributes, file.chunking)
