import threading
import time

from jsigr_lib.memory import PeakMemory


def test_peak_memory_counts_children():
    with PeakMemory(interval=0.05) as memory:
        block = bytearray(200_000_000)
        time.sleep(0.3)
    assert memory.peak > len(block)
    assert threading.active_count() >= 1
