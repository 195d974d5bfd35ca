"""How long cases take, interleaved: every round runs each case once, so that whatever slows the machine down slows
all of them, and only times of the same round are compared.

Needs torch alone, as it also runs in a peer's own environment.
"""

import math
from collections.abc import Callable
from time import perf_counter

import torch

MOST_REPEATS = 1000  # of a case within one timing


def measure(
    cases: dict[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 2,
    at_least: float = 0.05,
    device: torch.device | str = "cpu",
) -> dict[str, list[float]]:
    """Seconds per call of each case, one number per round.

    Args:
        cases: what to time, by name.
        rounds: how often each case is timed.
        warmup: rounds before that, which do not count; they also find how often a quick case is repeated.
        at_least: seconds that one timing lasts; a quicker case is called several times in a row, and the mean counts.
        device: on CUDA every timing waits for the device.
    """
    repeats = dict.fromkeys(cases, 1)
    for _ in range(warmup):
        for name, case in cases.items():
            once = max(_seconds(case, 1, device), 1e-9)
            repeats[name] = min(math.ceil(at_least / once) or 1, MOST_REPEATS)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for i in range(rounds):
        for name in _rotated(list(cases), i):
            seconds[name].append(_seconds(cases[name], repeats[name], device))
    return seconds


def _rotated(names: list[str], by: int) -> list[str]:
    """No case is always the first of its round, or always the last."""
    by %= len(names)
    return names[by:] + names[:by]


def _seconds(case: Callable[[], object], repeats: int, device: torch.device | str) -> float:
    """Mean seconds of `repeats` calls in a row."""
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else (lambda: None)
    wait()
    start = perf_counter()
    for _ in range(repeats):
        case()
    wait()
    return (perf_counter() - start) / repeats
