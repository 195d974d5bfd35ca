"""The order in which artefacts are made: each as soon as it has what it needs, the longest chain of work first."""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import count
from typing import Protocol, Self


class Job(Protocol):
    """What is known of an artefact that has to be made."""

    @property
    def digest(self) -> str: ...

    def needs(self) -> list[Self]: ...

    def work(self) -> float: ...


class Queue:
    """Jobs of which none has begun. `pop` gives one that has all it needs; `done` says that another one has ended."""

    def __init__(self, jobs: Iterable[Job]):
        self._jobs = {job.digest: job for job in jobs}
        self._lacks = {
            digest: {need.digest for need in job.needs()} & self._jobs.keys() for digest, job in self._jobs.items()
        }
        self._users: dict[str, list[str]] = defaultdict(list)
        for digest, lacks in self._lacks.items():
            for need in lacks:
                self._users[need].append(digest)
        self._chain: dict[str, float] = {}
        self._ready: list[tuple[float, int, str]] = []
        self._number = count()  # of two chains of one length the one that was ready first: it shares what it reads
        for digest, lacks in self._lacks.items():
            if not lacks:
                self._push(digest)

    def __len__(self) -> int:
        """How many are ready."""
        return len(self._ready)

    def pop(self) -> Job:
        return self._jobs[heapq.heappop(self._ready)[-1]]

    def done(self, job: Job) -> None:
        for user in self._users[job.digest]:
            self._lacks[user].discard(job.digest)
            if not self._lacks[user]:
                self._push(user)

    def _push(self, digest: str) -> None:
        heapq.heappush(self._ready, (-self._work_until_the_end(digest), next(self._number), digest))

    def _work_until_the_end(self, digest: str) -> float:
        """Of a job and the longest chain of those that wait for it."""
        if digest not in self._chain:
            rest = max(map(self._work_until_the_end, self._users[digest]), default=0.0)
            self._chain[digest] = self._jobs[digest].work() + rest
        return self._chain[digest]


def makespan(jobs: Iterable[Job], seconds: Callable[[Job], float], slots: int) -> float:
    """Seconds from the first job to the end of the last, if whichever slot is free takes the next from the queue. With
    a slot for each job it is the longest chain, below which no number of slots comes."""
    queue, running, now = Queue(jobs), [], 0.0
    while queue or running:
        while queue and len(running) < slots:
            job = queue.pop()
            heapq.heappush(running, (now + seconds(job), job.digest, job))
        now, _, ended = heapq.heappop(running)
        queue.done(ended)
    return now
