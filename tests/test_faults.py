"""Faults for real: runs in processes of their own that are killed, starved of disk, refused, made to hang. After each,
what was published is still whole, nothing is left running, and the message is one line; in the end the same command
makes the tables of a run that nothing disturbed.

The runs execute one notebook of a tiny profile. `make test` has each kind of fault once, `make torture` at more places;
`jsigr bench --only kills` kills many more runs.
"""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from hashlib import sha256
from itertools import cycle

import nbformat
import pytest

from benchmarks.faults import Sandbox, wait
from benchmarks.kills import campaign, undisturbed
from jsigr_lib.records.publishing import settle
from tests.test_readme import block

pytestmark = pytest.mark.slow
torture = pytest.mark.torture

NOTEBOOK = ("--notebook", "02")
PROGRESS = re.compile("tiny profile: |notebook 1 of 1: | *[0-9]+%")
INTERRUPTED = "jsigr: interrupted; what was complete is kept, and the same command continues from there"
GO_ON = "; the same command continues where this one stopped"
KILLED_AT = """
import os, signal, sys
from jsigr_lib import cli
from jsigr_lib.records import publishing
steps = iter(range(int(sys.argv.pop(1))))
rename = os.rename
def killed(*args):
    if next(steps, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(*args)
publishing.os.rename = killed
cli.main()
"""


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> tuple[dict[str, bytes], Sandbox, float]:
    """Tables of an undisturbed run, where it ran, and how long it took."""
    sandbox = Sandbox(tmp_path_factory.mktemp("reference"))
    seconds = undisturbed(sandbox, *NOTEBOOK)
    tables = sandbox.tables()
    assert len(tables) >= 2
    shutil.copytree(sandbox.runs, sandbox.root.parent / "kept")
    return tables, sandbox, seconds


@pytest.fixture
def warm(reference) -> Sandbox:
    """With all artefacts and a complete published run, to be there unchanged after the test and what it breaks."""
    tables, sandbox, _ = reference
    shutil.copytree(sandbox.root.parent / "kept", sandbox.runs, dirs_exist_ok=True)
    before = sandbox.published()
    notebook = sandbox.root / "notebooks" / "02_training.ipynb"
    source = notebook.read_text()
    yield sandbox
    notebook.write_text(source)
    assert sandbox.orphans() == []
    assert sandbox.whole()
    assert sandbox.published() == before or sandbox.tables() == tables  # of a new complete run
    assert sandbox.temporaries() == []


@pytest.fixture
def mount(tmp_path):
    """mount(folder, options): a small file system there, where that is permitted; else the test is skipped."""
    mounted = []

    def call(folder, *options):
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", *options, str(folder)]
        if os.name == "nt" or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting is not permitted")
        mounted.append(folder)

    yield call
    for folder in mounted[::-1]:
        subprocess.run(["umount", str(folder)], check=True)


def some():
    """Every fourth, for Sandbox.forget."""
    return cycle([True, False, False, False]).__next__


def plant(sandbox: Sandbox, source: str) -> None:
    """Make `source` the first cell of the notebook."""
    path = sandbox.root / "notebooks" / "02_training.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(source))
    nbformat.write(notebook, path)


def ended(sandbox: Sandbox, *arguments: str, **options) -> tuple[int, str]:
    """Exit code and last line of a run; that line alone is about the fault."""
    run = sandbox.start(*NOTEBOOK, *arguments, **options)
    code, said = run.end()
    assert code == 0 or [line for line in run.said() if not PROGRESS.match(line)] == [said]
    return code, said


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=torture)])
def test_killed_again_and_again(reference, tmp_path, kills):
    """Runner, kernel and worker in turn; and the run that is left alone ends as if nothing had happened."""
    tables, undisturbed_sandbox, seconds = reference
    sandbox = Sandbox(tmp_path)
    shutil.copytree(undisturbed_sandbox.out, sandbox.out)
    if kills == 3:  # then from half of the artefacts, to spare minutes
        shutil.copytree(undisturbed_sandbox.root.parent / "kept", sandbox.runs)
        sandbox.forget(cycle([True, False]).__next__)
    rows = list(campaign(sandbox, *NOTEBOOK, kills=kills, seconds=seconds))
    assert [row for row in rows if not row["intact"] or row["orphans"]] == []
    for row in rows:
        if row["target"] == "runner":
            assert row["exit"] == -signal.SIGKILL, row
        elif row["exit"]:  # a kernel or a worker that had done its work is not missed
            assert row["exit"] == 1 and row["said"].startswith("jsigr: ") and row["said"].endswith(GO_ON), row
    assert {row["exit"] for row in rows} >= ({-signal.SIGKILL, 1} if kills == 20 else {-signal.SIGKILL})
    undisturbed(sandbox, *NOTEBOOK)
    assert sandbox.tables() == tables
    assert sandbox.temporaries() == []


@pytest.mark.parametrize(
    ("number", "code", "target"),
    [
        (signal.SIGINT, 130, "worker"),
        (signal.SIGTERM, 143, "kernel"),
        pytest.param(signal.SIGINT, 130, "kernel", marks=torture),
        pytest.param(signal.SIGTERM, 143, "worker", marks=torture),
    ],
)
def test_interrupted(warm, number, code, target):
    """While workers compute, and while a notebook runs."""
    if target == "worker":
        warm.forget(some())
    run = warm.start(*NOTEBOOK)
    assert wait(lambda: warm.processes()[target], 300)
    run.send_signal(number)
    assert run.end() == (code, INTERRUPTED)
    assert warm.orphans() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGHUP, 129, marks=torture)])
def test_terminal(warm, number, code):
    """Ctrl-C and the end of a terminal reach workers as well, and an impatient user presses five times."""
    warm.forget(some())
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # where tests run under nohup, what they start ignores it
    run = warm.start(*NOTEBOOK, start_new_session=True)
    signal.signal(signal.SIGHUP, before)
    assert wait(lambda: warm.processes()["worker"], 300)
    for _ in range(5):
        with suppress(ProcessLookupError):
            os.killpg(run.pid, number)
        time.sleep(0.1)
    assert run.end()[0] == code
    assert [line for line in run.said() if not PROGRESS.match(line)] == [INTERRUPTED]


def test_exception_in_a_cell(warm):
    plant(warm, "raise ArithmeticError('planted')")
    code, said = ended(warm)
    assert code == 1
    assert said.startswith("jsigr: notebook 02_training failed in cell [1] (ArithmeticError: planted); see ")
    assert said.endswith(f"02_training.ipynb{GO_ON}")


@torture  # make test: a hanging cell of test_pipeline.py
def test_hanging_cell(warm):
    plant(warm, "import time; time.sleep(3600)")
    code, said = ended(warm, "--timeout", "0.1")
    assert code == 1
    assert "02_training failed in cell [1] (it took longer than --timeout 0.1 minutes); see " in said


def limit_files() -> None:
    """As good as a disk with 20 kB left."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_full_disk_for_artefacts(warm):
    warm.forget(some())
    code, said = ended(warm, preexec_fn=limit_files)
    assert code == 1
    assert said.startswith(f"jsigr: File too large: {warm.runs}")
    assert said.endswith(GO_ON)


def test_full_disk_for_what_is_staged(warm):
    code, said = ended(warm, preexec_fn=limit_files)
    assert code == 1
    assert said.startswith("jsigr: [Errno 27] File too large: ") and said.count("File too large") == 1
    assert said.endswith(GO_ON)


def test_full_disk_for_notebooks(warm, mount, tmp_path):
    out = tmp_path / "out"
    mount(out, "-t", "tmpfs", "-o", "size=200k", "tmpfs")
    code, said = ended(warm, out=out)
    assert code == 1
    assert "No space left on device" in said and said.endswith(GO_ON)
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == [".lock"]


def test_read_only_output(warm, mount, tmp_path):
    out = tmp_path / "out"
    mount(out, "-t", "tmpfs", "-o", "ro", "tmpfs")
    code, said = ended(warm, out=out)
    assert code == 2
    assert said == f"jsigr: cannot write to {out}/figures (Read-only file system); accepted: a writable folder"


def test_read_only_artefacts(warm, mount, tmp_path):
    mount(warm.runs, "-t", "tmpfs", "-o", "ro", "tmpfs")
    code, said = ended(warm)
    assert code == 1
    assert said.startswith(f"jsigr: Read-only file system: {warm.runs}") and said.endswith(GO_ON)


@pytest.mark.parametrize("kind", ["model", pytest.param("data", marks=torture)])
def test_truncated_artefact(warm, kind):
    path = sorted((warm.runs / kind).glob("*.safetensors"))[0]
    os.truncate(path, path.stat().st_size // 2)
    code, said = ended(warm)
    assert code == 2
    assert said.startswith(f"jsigr: {path} is no complete artefact (")
    assert said.endswith(f"; set aside as {path.stem}.damaged; the same command makes it anew")
    undisturbed(warm, *NOTEBOOK)
    assert path.exists()


def test_two_runs_into_one_folder(warm, tmp_path):
    plant(warm, f"import pathlib, time\nwhile not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.1)")
    first = warm.start(*NOTEBOOK)
    assert wait(lambda: warm.processes()["kernel"], 300)
    code, said = ended(warm)
    (tmp_path / "go").touch()
    assert first.end()[0] == 0
    assert code == 2
    assert said.startswith(f"jsigr: out = {warm.out} is in use by process {first.pid} on ")
    assert said.endswith("; accepted: another --out, or this one after that run")


def test_two_runs_that_share_artefacts(warm, tmp_path, reference):
    warm.forget(cycle([True, *[False] * 9]).__next__)
    other = warm.start(*NOTEBOOK, out=tmp_path / "other")
    assert (ended(warm)[0], other.end()[0]) == (0, 0), other.said()
    assert warm.tables() == warm.tables(tmp_path / "other") == reference[0]
    assert warm.whole(tmp_path / "other")


@pytest.mark.parametrize("steps", [pytest.param(1, marks=torture), 3])
def test_killed_between_the_renames_of_publication(warm, steps):
    command = warm.command(*NOTEBOOK)
    command = [sys.executable, "-c", KILLED_AT, str(steps), *command[3:]]
    environment = {**os.environ, "PYTHONPATH": str(warm.root)}
    assert subprocess.run(command, cwd=warm.root, env=environment, stderr=subprocess.DEVNULL).returncode == -9
    assert warm.committed()
    assert not warm.whole()  # and the manifest shows it
    settle(warm.out)
    assert warm.whole()


@torture  # make test: tests/store/test_sources.py
@pytest.mark.parametrize(("jobs", "moment"), [("1", "kernel"), ("1", "first line"), ("2", "worker")])
def test_code_edited_in_mid_run(warm, jobs, moment):
    """And undone once something is said. Nothing is kept, under whatever key, that the edited code may have made."""
    path = warm.root / "jsigr_lib" / "networks" / "training.py"
    source = path.read_text()
    edited = source.replace("learning_rate *", "0.1 * learning_rate *")
    assert edited != source
    if moment != "kernel":
        shutil.rmtree(warm.runs)
    run = warm.start(*NOTEBOOK, "--jobs", jobs)
    assert wait(lambda: run.said() if moment == "first line" else warm.processes()[moment], 300, every=0.02)
    path.write_text(edited)
    assert wait(lambda: run.poll() is not None or any("%" in line for line in run.said()), 300)
    path.write_text(source)
    code, said = run.end()
    assert code == 2
    noticed = f"{re.escape(str(path))} was edited while its code was running|a worker has other code .*, in training"
    assert re.match(f"jsigr: ({noticed}); accepted: ", said)
    undisturbed(warm, *NOTEBOOK)


@torture  # make test: workers that import it, in test_readme.py
def test_defence_of_the_readme_in_a_run_with_two_workers(warm, tmp_path):
    """Its module lies beside the profile, which names it; two networks, for two workers."""
    imports, _, defence = block("smoothing", "toml").partition("\n")
    other = defence.replace("smoothing]", "more]").replace("label smoothing", "more of it").replace("0.1", "0.3")
    profile = tmp_path / "own.toml"
    profile.write_text("\n".join((imports, warm.profile.read_text(), defence, other)))
    module = tmp_path / "my_defences.py"
    module.write_text(block("LabelSmoothing"))
    code, said = warm.start(*NOTEBOOK, "--profile", str(profile), out=tmp_path).end(within=600)
    assert code == 0, said
    (figures,) = (tmp_path / "figures").glob("own")
    assert "smoothing" in (figures / "training_history.csv").read_text()
    own = json.loads((figures / "manifest.json").read_text())["code"]["own"]
    assert own == {"my_defences": sha256(module.read_bytes()).hexdigest()}
    module.write_text("1 / 0")
    code, said = warm.start(*NOTEBOOK, "--profile", str(profile), out=tmp_path).end()
    assert code == 2
    assert said.startswith("jsigr: imports = 'my_defences' fails (ZeroDivisionError: division by zero); accepted: ")


def test_after_all_of_this_the_same_command_makes_the_same_tables(warm, reference):
    undisturbed(warm, *NOTEBOOK)
    assert warm.tables() == reference[0]
