"""A fixed number of threads for handlers that are not `async`.

Not `concurrent.futures`: its threads keep the interpreter from exiting, so
that one handler that hangs for ever would hold up every restart.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

_log = logging.getLogger("restpipe")


class Job:
    """Work for a thread, which can be given up as long as no thread has begun with it."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._taken = False

    def take(self) -> bool:
        """Claim the work, to do it or to give it up; the first to come gets it."""
        with self._lock:
            taken, self._taken = self._taken, True
            return not taken

    def run(self) -> None:
        """Do the work unless it was given up."""
        if self.take():
            self._work()


class Threads:
    """Up to `size` daemon threads, started when there is work and none is idle."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._idle = 0

    def submit(self, work: Callable[[], None]) -> Job:
        """Queue work. The queue is as long as the events that the app lets in."""
        job = Job(work)
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif self._started < self.size:
                self._started += 1
                name = f"restpipe-handler-{self._started}"
                threading.Thread(target=self._run, name=name, daemon=True).start()
        self._jobs.put(job)
        return job

    def close(self) -> None:
        """Let the threads end once the queue is done."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job.run()
            except BaseException:
                _log.exception("a handler thread met an error of the package itself: report it")
            with self._lock:
                if self._jobs.empty():
                    self._idle += 1
