"""How much memory a run takes."""

import threading

import psutil


class PeakMemory:
    """Samples the memory of this process and its children, each shared page counted once where the system tells."""

    def __init__(self, interval: float = 1.0):
        self.peak, self._interval, self._done = 0, interval, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        me = psutil.Process()
        while not self._done.wait(self._interval):
            self.peak = max(self.peak, sum(map(_memory, [me, *me.children(recursive=True)])))


def _memory(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
        return getattr(memory, "pss", 0) or memory.rss
    except psutil.Error:
        return 0  # it has just ended
