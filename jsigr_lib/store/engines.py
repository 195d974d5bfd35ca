"""Where artefacts are computed: in this process, or in others of this machine. Another engine has the same methods."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, Protocol

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from torch import Tensor

WORKER_KILLED = "a worker process was killed, perhaps for want of memory, of which --jobs 1 needs least"
AHEAD = 2  # submissions that an engine takes per process, so that none waits for the next one
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM", "NUMEXPR")}
"""What tells the libraries below numpy and scipy to have one thread; torch is told by `hardware.one_thread`."""
KEPT = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**30))
"""What tells glibc to keep up to 1 GB that tensors leave for the next ones: the kernel would clear it each time."""

Made = tuple[dict[str, Tensor], dict[str, Any]]
"""An artefact's tensors, and the facts about it."""


Tasks = list[Callable[[Any], Made]]
"""Functions of a store, which one process computes one after the other."""


class Engine(Protocol):
    """Computes tasks; what `submit` returns stands for them until their results."""

    def slots(self) -> int:
        """How many submissions it takes at a time, which may change."""

    def submit(self, tasks: Tasks, store: Any) -> Any:
        """Begin tasks, whose needs lie in the store."""

    def wait(self, running: Collection[Any]) -> Collection[Any]:
        """Those that have ended: one at least, for which it waits."""

    def result(self, ended: Any) -> list[Made]:
        """Raises whatever one of the tasks raised, and RuntimeError, in one line, if what ran them is gone."""

    def close(self) -> None:
        """End whatever still runs, and free what it held."""


def each(tasks: Tasks, store: Any) -> list[Made]:
    return [task(store) for task in tasks]


class Here:
    """This process, one task after the other."""

    def slots(self) -> int:
        return 1

    def submit(self, tasks: Tasks, store: Any) -> Callable[[], list[Made]]:
        return lambda: each(tasks, store)

    def wait(self, running: Collection[Callable[[], list[Made]]]) -> Collection[Callable[[], list[Made]]]:
        return list(running)

    def result(self, ended: Callable[[], list[Made]]) -> list[Made]:
        return ended()

    def close(self) -> None:
        pass


class Local:
    """Processes of this machine, which read what they need from the store's folder."""

    def __init__(self, jobs: int):
        self.jobs = jobs
        with _out_of_hearing():  # its locks start a process of their own
            self._pool = ProcessPoolExecutor(jobs, initializer=_end_with_parent, env=THREADS | KEPT)

    def slots(self) -> int:
        return AHEAD * self.jobs

    def submit(self, tasks: Tasks, store: Any) -> Future:
        with _out_of_hearing():
            return self._pool.submit(each, tasks, store)

    def wait(self, running: Collection[Future]) -> Collection[Future]:
        return wait_for(running, return_when=FIRST_COMPLETED).done

    def result(self, ended: Future) -> list[Made]:
        try:
            return ended.result()
        except TerminatedWorkerError:
            raise RuntimeError(WORKER_KILLED) from None

    def close(self) -> None:
        """Idle processes would keep their memory for minutes, and busy ones compute for a run that has failed. They are
        killed, as what they made is here: one that was asked to end has been seen to wait for another for good."""
        self._pool.shutdown(kill_workers=True)


@contextmanager
def _out_of_hearing() -> Iterator[None]:
    """Processes that are started here hear no Ctrl-C and no hang-up: a terminal sends it to them as well as to the run,
    which ends them anyway, and each would print a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    heard = {signal.SIGINT, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    resource_tracker.ensure_running()  # the first process, after which Python lets SIGINT through again
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """End this worker soon after the process that started it, even if that was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        while os.getppid() == parent.pid:
            time.sleep(1)
        os._exit(1)

    if parent and os.name != "nt":  # where a process keeps the number of its dead parent
        threading.Thread(target=watch, daemon=True).start()
