"""A place to break runs in, and what is left of them: shared by tests/test_faults.py and the campaign in kills.py.

The place is a copy of the repository's code and notebooks that shares its data. Every process of it is found by a mark
in its environment, whatever became of the process that started it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep

import psutil

from jsigr_lib.records.publishing import journals, places
from jsigr_lib.store.paths import PROFILES, ROOT

MARK = "JSIGR_SANDBOX"
OWN = {"jsigr_lib", "notebooks", "figures", "runs", "site", "dist", ".git", ".venv"}  # the rest is linked
TARGETS = ("runner", "kernel", "worker")
TEMPORARY = re.compile(r".+\.(tmp|draft)|\..+\.(staged|old|journal)")
TINY = {  # of the smoke profile: every notebook, every network, in a fraction of the time
    "train_images": 512,
    "validation_images": 64,
    "test_images": 40,
    "epochs": 2,
    "surrogate_epochs": 1,
    "pgd_steps": 2,
    "square_queries": 5,
    "strong_images": 8,
    "autoattack_images": 4,
    "autoattack": [],
    "estimator_draws": 10,
    "boundary_images": 2,
    "truth_images": 40,
    "saliency_images": 6,
    "sanity_images": 2,
    "saliency_maps": ["gradient", "perturbation"],
}


class Sandbox:
    """Runs of the profile `TINY` in a copy of the repository below `folder`, with artefacts and output of its own."""

    def __init__(self, folder: Path):
        self.root, self.out, self.runs = folder / "copy", folder / "out", folder / "copy" / "runs"
        for name in ("jsigr_lib", "notebooks"):
            ignored = shutil.ignore_patterns("__pycache__", "executed", ".ipynb_checkpoints")
            shutil.copytree(ROOT / name, self.root / name, ignore=ignored)
        for path in ROOT.iterdir():
            if path.name not in OWN:
                (self.root / path.name).symlink_to(path)
        self.profile = self.root / "tiny.toml"
        text = (PROFILES / "smoke.toml").read_text()
        for key, value in TINY.items():
            text = re.sub(rf"^{key} = .*\n", "", text, flags=re.MULTILINE)
            text = f"{key} = {json.dumps(value)}\n{text}"
        self.profile.write_text(text)

    def command(self, *arguments: str, out: Path | None = None) -> list[str]:
        own = ["run", "--profile", str(self.profile), "--device", "cpu", "--jobs", "2", "--out", str(out or self.out)]
        return [sys.executable, "-m", "jsigr_lib", *own, *arguments]

    def start(self, *arguments: str, out: Path | None = None, **options) -> "Run":
        environment = {**os.environ, "PYTHONPATH": str(self.root), MARK: str(self.root)}
        return Run(self, self.command(*arguments, out=out), cwd=self.root, env=environment, **options)

    def published(self, out: Path | None = None) -> dict[str, bytes]:
        """Every published file, by its path below the output folder."""
        out = out or self.out
        files = (path for place in places(out, "tiny") for path in place.rglob("*") if path.is_file())
        return {str(path.relative_to(out)): path.read_bytes() for path in files}

    def tables(self, out: Path | None = None) -> dict[str, bytes]:
        return {name: content for name, content in self.published(out).items() if name.endswith(".csv")}

    def whole(self, out: Path | None = None) -> bool:
        """Whether what is published is of one run, to the byte: as its manifest says, which names every file."""
        files = self.published(out)
        figures, notebooks = (str(place.relative_to(out or self.out)) for place in places(out or self.out, "tiny"))
        if f"{figures}/manifest.json" not in files:
            return not files
        manifest = json.loads(files.pop(f"{figures}/manifest.json"))
        said = {f"{figures}/{name}": digest for name, digest in manifest["sha256"].items()}
        said |= {f"{notebooks}/{name}": digest for name, digest in manifest["executed"].items()}
        return said == {name: sha256(content).hexdigest() for name, content in files.items()}

    def committed(self) -> bool:
        """Whether a publication was begun that the next command finishes."""
        return bool(journals(self.out))

    def temporaries(self) -> list[Path]:
        places = (path for top in (self.out, self.runs) for path in top.rglob("*"))
        return [path for path in places if TEMPORARY.fullmatch(path.name)]

    def processes(self) -> dict[str, list[psutil.Process]]:
        """What runs here, by kind; "other" are loky's helpers."""
        found: dict[str, list[psutil.Process]] = {kind: [] for kind in (*TARGETS, "other")}
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == str(self.root) and process.status() != psutil.STATUS_ZOMBIE:
                    found[_kind(" ".join(process.cmdline()))].append(process)
            except psutil.Error:
                continue
        return found

    def forget(self, chosen: Callable[[], bool]) -> None:
        """Delete each artefact if `chosen` says so, so that there is something to compute."""
        for path in sorted(self.runs.glob("*/*.safetensors")):
            if chosen():
                path.unlink()

    def orphans(self, within: float = 10) -> list[str]:
        """Command lines of the processes that are still there after so many seconds."""
        wait(lambda: not any(self.processes().values()), within)
        left = [process for kind in self.processes().values() for process in kind]
        return [" ".join(process.cmdline()) for process in left if process.is_running()]


def _kind(command: str) -> str:
    if "ipykernel_launcher" in command:
        return "kernel"
    if "jsigr_lib" in command:
        return "runner"
    return "worker" if "popen_loky" in command else "other"


class Run(subprocess.Popen):
    """A run that a test may break."""

    def __init__(self, sandbox: Sandbox, command: list[str], **options):
        self.sandbox, self.log = sandbox, sandbox.root / f"{monotonic()}.log"
        with open(self.log, "w") as log:
            super().__init__(command, stdout=subprocess.DEVNULL, stderr=log, **options)

    def said(self) -> list[str]:
        """The lines that it has printed so far."""
        return self.log.read_text().splitlines()

    def doing(self) -> str:
        if self.sandbox.committed():
            return "publishing"
        lines = self.said()
        notebooks = [line for line in lines if line.startswith("notebook ")]
        return notebooks[-1].rpartition(": ")[2] if notebooks else "computing" if lines else "starting"

    def end(self, within: float = 300) -> tuple[int, str]:
        """Wait for its end: the exit code and the last line."""
        if not wait(lambda: self.poll() is not None, within):
            self.kill()
        return self.wait(), "".join(self.said()[-1:])

    def strike(self, target: str, delay: float) -> bool:
        """SIGKILL for the newest process of a kind, `delay` seconds after the first appears; False if none is left."""
        wait(lambda: self.poll() is not None or self.sandbox.processes()[target], within=600)
        wait(lambda: self.poll() is not None, within=delay)
        for process in self.sandbox.processes()[target][::-1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
                return True
        return False


def wait(true: Callable[[], bool], within: float, every: float = 0.25) -> bool:
    """Whether it became true in time."""
    until = monotonic() + within
    while not true():
        if monotonic() > until:
            return False
        sleep(every)
    return True
