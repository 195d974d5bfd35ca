"""Models per hour: one process with all threads, against as many processes with one thread each."""

import math
import tempfile
from time import perf_counter

import pandas as pd
import torch

from benchmarks import tables
from jsigr_lib.store.specs import Spec
from jsigr_lib.study.study import Study

SCALE = {"train_images": 4000, "epochs": 2, "seeds": [0, 1, 2]}  # enough networks that the last one leaves few idle


def table(*, threads: int, rounds: int, **scale) -> pd.DataFrame:
    """The smoke profile's defences, three seeds, trained anew in each round. `ratio` is models per hour over those of
    the one process."""
    one, several = f"one process, {threads} threads", f"{threads} processes, one thread each"
    measures = {one: one_process, several: one_thread_each}
    rates: dict[str, list[float]] = {one: [], several: []}
    for i in range(rounds):
        for name in list(measures)[:: 1 if i % 2 else -1]:
            with tempfile.TemporaryDirectory() as runs:
                study = Study("smoke", runs=runs, device="cpu", jobs=threads, **{**SCALE, **scale})
                study.get(study.data)
                rates[name].append(measures[name](study, trainings(study)))
    return tables.ratios(rates, one)


def trainings(study: Study) -> list[Spec]:
    return study.networks


def one_process(study: Study, specs: list[Spec]) -> float:
    """Models per hour, one after the other, with the threads that torch has now."""
    start = perf_counter()
    for spec in specs:
        spec.compute(study.store, torch.device("cpu"))
    return len(specs) * 3600 / (perf_counter() - start)


def one_thread_each(study: Study, specs: list[Spec]) -> float:
    """Models per hour through the store. The clock starts with the first training: workers take seconds to start,
    once in a run of many minutes."""
    began, ended = math.inf, 0.0

    def progress(spec: Spec, done: float, total: float) -> None:
        nonlocal began, ended
        ended = perf_counter()
        began = min(began, ended - study.get(spec).facts["seconds"])

    study.store.make(specs, progress)
    return len(specs) * 3600 / (ended - began)
