"""What a computation runs on: its threads, its settings, its name."""

import os
import platform
from contextlib import contextmanager

import torch


@contextmanager
def one_thread():
    """One CPU thread: faster than sharing where processes run side by side, and the same bytes for any of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def equal_bytes() -> None:
    """From here on, this process computes the same bytes at each time on one CUDA device: sums in one order, and single
    precision that is not cut to TF32. torch warns of an operation that it has in no such form."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product of matrices
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)


def machine(device: torch.device) -> str:
    """The hardware, in words, with the instruction set: on another one, sums round differently."""
    cores = f"{os.cpu_count()} CPU cores ({platform.machine()})"
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else cores
    return f"{what}, {torch.backends.cpu.get_cpu_capability()}"
