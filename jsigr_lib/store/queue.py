"""The order in which artefacts are made: each as soon as it has what it needs, the longest chain of work first. Those
that share what they read are made together."""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import count
from typing import Protocol, Self

TOGETHER = 8  # how many artefacts at most, of those that share what they read, are one task


class Job(Protocol):
    """What is known of an artefact that has to be made."""

    @property
    def digest(self) -> str: ...

    @property
    def shares(self) -> str: ...

    def needs(self) -> list[Self]: ...

    def work(self) -> float: ...


class Queue:
    """Jobs of which none has begun. `pop` gives some that have all they need; `done` says that one has ended."""

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
        self._ready: list[tuple[float, int, str]] = []  # the last is where in `_alike` it is, or was
        self._alike: dict[str, list[str]] = defaultdict(list)  # what jobs share -> those that are ready
        self._length = 0
        self._number = count()  # of two chains of one length the one that was ready first: it shares what it reads
        for digest, lacks in self._lacks.items():
            if not lacks:
                self._push(digest)

    def __len__(self) -> int:
        """How many are ready."""
        return self._length

    def pop(self, slots: int) -> list[Job]:
        """The next one, and others that share what it reads; fewer of them if some of so many slots would be idle."""
        shared = heapq.heappop(self._ready)[-1]
        while not self._alike[shared]:  # they were taken with others
            shared = heapq.heappop(self._ready)[-1]
        some = max(1, min(TOGETHER, len(self) // slots))
        taken, self._alike[shared] = self._alike[shared][:some], self._alike[shared][some:]
        self._length -= len(taken)
        return [self._jobs[digest] for digest in taken]

    def done(self, job: Job) -> None:
        for user in self._users[job.digest]:
            self._lacks[user].discard(job.digest)
            if not self._lacks[user]:
                self._push(user)

    def _push(self, digest: str) -> None:
        shared = self._jobs[digest].shares or digest
        self._alike[shared].append(digest)
        self._length += 1
        heapq.heappush(self._ready, (-self._work_until_the_end(digest), next(self._number), shared))

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
            jobs = queue.pop(slots)
            heapq.heappush(running, (now + sum(map(seconds, jobs)), jobs[0].digest, jobs))
        now, _, ended = heapq.heappop(running)
        for job in ended:
            queue.done(job)
    return now
