"""The real pipeline at smoke scale: five notebooks through papermill, verified and published."""

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from importlib.metadata import PackageNotFoundError

import nbformat
import pandas as pd
import pytest
from filelock import FileLock

import jsigr_lib
from jsigr_lib.explorer.widgets import PROGRESS
from jsigr_lib.method.errors import InputError
from jsigr_lib.pipeline import notebooks, order, pipeline
from jsigr_lib.records import running
from jsigr_lib.store import sources
from jsigr_lib.store.files import sha256
from jsigr_lib.study import robustness
from jsigr_lib.study.cells import robustness_cells
from jsigr_lib.study.needs import NEEDS
from jsigr_lib.study.study import Study

pytestmark = pytest.mark.slow


def test_everything_declared_is_published(smoke_run):
    for name in order.select(None):
        executed = nbformat.read(smoke_run.notebooks / f"{name}.ipynb", as_version=4)
        for file in order.declared_outputs(executed):
            assert (smoke_run.figures / file).stat().st_size > 0
    manifest = json.loads((smoke_run.figures / "manifest.json").read_text())
    on_disk = {path.name for path in smoke_run.figures.iterdir()} - {"manifest.json"}
    assert set(manifest["sha256"]) == on_disk
    for name, sha in manifest["sha256"].items():
        assert sha256((smoke_run.figures / name).read_bytes()) == sha
    executed = {path.name: sha256(path.read_bytes()) for path in smoke_run.notebooks.iterdir()}
    assert manifest["executed"] == executed
    assert set(executed) == {f"{name}.ipynb" for name in order.select(None)}


def test_run_accounts_for_itself(smoke_run):
    assert 0.1 < smoke_run.peak_memory_gb < 3
    assert smoke_run.seconds > 0
    assert "CPU" in smoke_run.machine


def test_executed_notebooks_show_every_figure_with_alt_text(smoke_run):
    for name in order.select(None):
        executed = nbformat.read(smoke_run.notebooks / f"{name}.ipynb", as_version=4)
        images = [
            output.metadata["image/png"]
            for cell in executed.cells
            if cell.cell_type == "code"
            for output in cell.outputs
            if "image/png" in output.get("data", {})
        ]
        assert len(images) == len(executed.metadata["jsigr"]["figures"])
        assert all(len(image["alt"]) > 40 for image in images)


def test_tables_hold_numbers_that_can_be_true(smoke_run):
    robustness = pd.read_csv(smoke_run.figures / "robustness.csv")
    assert ((robustness.low <= robustness.accuracy) & (robustness.accuracy <= robustness.high)).all()
    images = robustness.groupby("attack").images.max()
    assert images[["mi-fgsm", "square", "autoattack"]].tolist() == [200, 20, 10]
    assert set(robustness.threat) == {"clean", "white-box", "black-box", "transfer"}
    assert set(robustness[robustness.attack == "autoattack"].defence) == {"jsigr"}
    assert robustness["flags"].notna().all()
    card = pd.read_csv(smoke_run.figures / "scorecard.csv")
    assert set(card.verdict) <= {"supported", "refuted", "inconclusive", "not tested"}
    assert pd.read_csv(smoke_run.figures / "theory_checks.csv").holds.all()


@pytest.fixture(scope="module", params=[["02", "04"], pytest.param(None, marks=pytest.mark.torture)], ids=str)
def again(request, smoke_run, tmp_path_factory) -> pipeline.Summary:
    """Some notebooks once more, into a folder with an accent. The others' tables: test_determinism.py."""
    return pipeline.run(profile="smoke", notebooks=request.param, out=tmp_path_factory.mktemp("again") / "thèse")


def test_second_run_is_byte_identical_and_makes_nothing(smoke_run, again):
    assert again.made == 0
    made, all_ = (
        {path.name for path in run.figures.iterdir() if path.suffix in (".csv", ".png")} - {"cost_vs_robustness.png"}
        for run in (again, smoke_run)
    )
    assert (
        made == all_
        if len(list(again.notebooks.iterdir())) == len(order.select(None))
        else len(made) > 15 and made < all_
    )
    for name in made:
        assert (smoke_run.figures / name).read_bytes() == (again.figures / name).read_bytes(), name


def test_executed_notebooks_are_equal_between_runs_and_name_no_machine(smoke_run, again):
    """But for where the figures came to lie."""
    for path in sorted(again.notebooks.iterdir()):
        texts = [(run.notebooks / path.name).read_text() for run in (smoke_run, again)]
        assert '"papermill"' not in texts[0]
        assert str(pipeline.ROOT) not in texts[0]
        lies = [str(run.figures).encode("unicode_escape").decode().replace("\\", "\\\\") for run in (smoke_run, again)]
        assert all(text.count(place) == 1 for text, place in zip(texts, lies, strict=True))
        assert texts[0].replace(lies[0], "") == texts[1].replace(lies[1], "")


def test_nothing_of_a_moment_stays_in_a_notebook(tmp_path):
    """Times, processes, progress and random ids; what a cell shows does."""
    progress = nbformat.v4.new_output("display_data", {"text/plain": "1.3 min"}, metadata={PROGRESS: True})
    shown = nbformat.v4.new_output("display_data", {"text/plain": "0.8"})
    streams = [nbformat.v4.new_output("stream", name=name, text="pid 71") for name in ("stderr", "stdout")]
    cells = [nbformat.v4.new_code_cell("pass", metadata={"tags": ["injected-parameters"]}, outputs=[])]
    cells.append(nbformat.v4.new_code_cell("pass", id="one", outputs=[progress, *streams, shown]))
    cells[1].metadata["papermill"] = {"start_time": "now"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "executed.ipynb")
    notebooks.tidy(tmp_path / "executed.ipynb", {"out": 'thèse "1"', "live": False})
    injected, other = nbformat.read(tmp_path / "executed.ipynb", as_version=4).cells
    values = {}
    exec(injected.source, values)
    assert (injected.id, values["out"], values["live"]) == ("injected-parameters", 'thèse "1"', False)
    assert other.outputs == [streams[1], shown] and other.metadata == {}


def test_failing_notebook_publishes_nothing(smoke_run, tmp_path, monkeypatch):
    broken = tmp_path / "notebooks"
    shutil.copytree(order.NOTEBOOKS, broken, ignore=shutil.ignore_patterns("executed"))
    source = nbformat.read(broken / "05_claims.ipynb", as_version=4)
    source.cells.append(nbformat.v4.new_code_cell("raise ArithmeticError('planted')"))
    nbformat.write(source, broken / "05_claims.ipynb")
    monkeypatch.setattr(order, "NOTEBOOKS", broken)
    monkeypatch.setattr(notebooks, "RUNS", tmp_path / "runs")
    published = tmp_path / "out"
    shutil.copytree(smoke_run.figures, published / "figures" / "smoke")
    before = {path.name: path.read_bytes() for path in (published / "figures" / "smoke").iterdir()}
    with pytest.raises(RuntimeError, match=r"05_claims failed.*planted.*05_claims.ipynb"):
        pipeline.run(profile="smoke", notebooks=["05"], out=published)
    assert {path.name: path.read_bytes() for path in (published / "figures" / "smoke").iterdir()} == before
    assert (tmp_path / "runs" / "failed" / "05_claims.ipynb").exists()


def test_what_an_earlier_run_made_passes_for_no_other_ones(smoke_run, tmp_path, monkeypatch):
    """A notebook that lost the line that saves a table, run alone."""
    shutil.copytree(smoke_run.figures, tmp_path / "figures" / "smoke")

    def execute(name, output, parameters, **_):
        shutil.copy(smoke_run.notebooks / output.name, output)
        for file in set(order.declared_outputs(order.source(name))) - {"scorecard.csv"}:
            shutil.copy(smoke_run.figures / file, parameters["out"])

    monkeypatch.setattr(pipeline, "execute", execute)
    monkeypatch.setattr(pipeline, "specs", lambda study, name: [])
    with pytest.raises(RuntimeError, match=r"^05_claims.ipynb did not make scorecard.csv, which it declares; the same"):
        pipeline.run(profile="smoke", notebooks=["05"], out=tmp_path)
    assert (tmp_path / "figures" / "smoke" / "scorecard.csv").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "", r"is no notebook of a run \(.*\); accepted: "),
        (
            lambda text: f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> mine\n",
            r"is no notebook of a run \(.*\); accepted: ",
        ),
        (lambda text: "[]", "is no notebook of a run"),
        (lambda text: text.replace('"jsigr": {', '"other": {'), "is no notebook of a run"),
        (lambda text: text.replace('"scorecard"', '"../scorecard"'), "name of an output = '../scorecard.png'"),
        (lambda text: text.replace('"parameters"', '"param"'), r"has 0 cells tagged 'parameters'; accepted: one$"),
        (lambda text: text.replace('"metadata": {}', '"metadata": {"tags": ["parameters"]}', 1), "has 2 cells tagged"),
    ],
)
def test_a_notebook_that_cannot_be_run_is_named(tmp_path, monkeypatch, change, said):
    text = (order.NOTEBOOKS / "05_claims.ipynb").read_text()
    (tmp_path / "05_claims.ipynb").write_text(change(text))
    monkeypatch.setattr(order, "NOTEBOOKS", tmp_path)
    with pytest.raises(InputError, match=said) as error:
        pipeline.run(profile="smoke", notebooks=["05"], out=tmp_path / "out")
    assert str(error.value).startswith(f"{tmp_path}/05_claims.ipynb") and str(error.value).isprintable()
    assert not (tmp_path / "out").exists()


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """execute(source): a notebook with one cell of this code after its parameters, run through papermill."""
    monkeypatch.setattr(order, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(notebooks, "RUNS", tmp_path / "runs")

    def call(source: str, **options) -> None:
        metadata = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
        notebook = nbformat.v4.new_notebook(metadata=metadata)
        notebook.cells = [
            nbformat.v4.new_code_cell("profile = 'smoke'", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(source),
        ]
        nbformat.write(notebook, tmp_path / "01_theory.ipynb")
        notebooks.execute("01_theory", tmp_path / "out.ipynb", {}, **options)

    return call


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ArithmeticError('plan\\nted')", r"in cell \[2\] \(ArithmeticError: plan\nted\)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"in cell \[2\] \(its kernel was killed, .*\)"),
        ("import time; time.sleep(600)", r"in cell \[2\] \(it took longer than --timeout 0.1 minutes\)"),
        ("raise SystemExit(1)", r"in cell \[2\] \(SystemExit: 1\)"),
    ],
)
def test_failed_notebook_says_where_and_why(execute, tmp_path, source, reason):
    with pytest.raises(
        RuntimeError, match=rf"^notebook 01_theory failed {reason}; see {tmp_path}/runs/failed/out.ipynb$"
    ):
        execute(source, timeout=0.1)
    assert (tmp_path / "runs" / "failed" / "out.ipynb").exists()


@pytest.mark.parametrize("length", [notebooks.LONGEST_TMPDIR, 80, pytest.param(500, marks=pytest.mark.torture)])
def test_a_long_name_of_the_temporary_folder_is_no_matter(execute, monkeypatch, length):
    """Although a socket's path may have a hundred bytes only."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        long = f"{short}/{'x' * 120}/{'y' * 120}/{'z' * 120}/{'x' * 120}"[:length]
        os.makedirs(long)
        monkeypatch.setenv("TMPDIR", long)
        monkeypatch.setattr(tempfile, "tempdir", None)
        execute("import tempfile\nwith tempfile.TemporaryFile(): pass")
        assert os.listdir(long) == []


def test_folders_of_killed_runs_are_removed_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(notebooks, "LONGEST_TMPDIR", 10_000)
    for name in ("jsigr-thesis", "jsigr-killed", "jsigr-running"):
        (tmp_path / name).mkdir()
    (tmp_path / "jsigr-killed" / notebooks.HELD).touch()
    with FileLock(tmp_path / "jsigr-running" / notebooks.HELD), notebooks.own_kernel(), notebooks.own_kernel():
        assert len(list(tmp_path.iterdir())) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jsigr-running", "jsigr-thesis"]


def test_failed_cell_is_the_one_that_started_last(tmp_path):
    """A kernel that was killed at once may not have told the number of its cell."""
    cells = [nbformat.v4.new_code_cell("pass") for _ in range(3)]
    for cell, start in zip(cells, ("now", "now", None), strict=True):
        cell.metadata["papermill"] = {"start_time": start}
    cells.insert(1, nbformat.v4.new_markdown_cell("# text"))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "failed.ipynb")
    assert notebooks._where(tmp_path / "failed.ipynb") == " in cell [2]"
    assert notebooks._where(tmp_path / "missing.ipynb") == ""


def test_input_error_in_a_notebook_stays_one(execute, tmp_path):
    """A damaged artefact is found when a notebook reads it; the user did that, so the exit code is 2."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"half")
    with pytest.raises(InputError, match=r"weights.safetensors is no complete artefact"):
        execute(f"from pathlib import Path\nfrom jsigr_lib.store.tensor_files import read\nread(Path({str(path)!r}))")


def test_full_disk_for_the_failed_copy_hides_no_failure(execute, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(notebooks.shutil, "copyfile", full)
    with pytest.raises(RuntimeError, match=r"^notebook 01_theory failed in cell \[2\] \(ZeroDivisionError: .*\)$"):
        execute("1 / 0")


def test_verify_does_not_believe_papermill(smoke_run, tmp_path):
    path = tmp_path / "02_training.ipynb"
    executed = nbformat.read(smoke_run.notebooks / path.name, as_version=4)
    nbformat.write(executed, path)
    notebooks.verify(path, smoke_run.figures)
    with pytest.raises(RuntimeError, match="did not make"):
        notebooks.verify(path, tmp_path)
    executed.cells[-2].execution_count = None
    nbformat.write(executed, path)
    with pytest.raises(RuntimeError, match="never ran"):
        notebooks.verify(path, smoke_run.figures)


def test_verify_compares_every_file_with_its_record(smoke_run, tmp_path):
    executed = smoke_run.notebooks / "05_claims.ipynb"
    for suffix in ("csv", "md", "png", "svg"):
        figures = tmp_path / suffix
        shutil.copytree(smoke_run.figures, figures)
        notebooks.verify(executed, figures)
        with open(figures / f"scorecard.{suffix}", "ab") as file:
            file.write(b" ")
        with pytest.raises(RuntimeError, match=rf"scorecard.{suffix} differs from what scorecard.json says of it"):
            notebooks.verify(executed, figures)


HOSTILE = """
import os, sys, jsigr_lib, matplotlib
assert sys.executable == {python!r}, sys.executable
assert jsigr_lib.__file__ == {library!r}, jsigr_lib.__file__
assert "planted" not in globals() and "MPLBACKEND" in os.environ
assert not matplotlib.rcParams["text.usetex"]
"""


def test_kernel_is_this_interpreter_and_knows_nothing_of_its_user(execute, tmp_path, monkeypatch):
    """Kernels of a user's Jupyter, start-up files and configuration of their IPython, settings of their matplotlib."""
    other, home = tmp_path / "other", tmp_path / "home"
    kernel = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python"}
    kernel |= {"display_name": "", "env": {"PYTHONPATH": str(other)}}
    planted = "import builtins; planted = builtins.planted = True"
    files = {
        other / "jsigr_lib" / "__init__.py": "",
        tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json": json.dumps(kernel),
        home / ".ipython" / "profile_default" / "startup" / "00.py": planted,
        home / ".ipython" / "profile_default" / "ipython_config.py": f"get_config().exec_lines = [{planted!r}]",
        home / "startup.py": planted,
        home / ".config" / "matplotlib" / "matplotlibrc": "text.usetex: true",
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for name in ("IPYTHONDIR", "MPLCONFIGDIR", "MATPLOTLIBRC", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("PYTHONSTARTUP", str(home / "startup.py"))
    monkeypatch.setenv("MPLBACKEND", "planted")
    execute(HOSTILE.format(python=sys.executable, library=jsigr_lib.__file__))


def test_a_notebook_whose_files_other_code_made_is_refused(smoke_run, tmp_path):
    """As when the library is edited between two notebooks."""
    executed, figures = smoke_run.notebooks / "05_claims.ipynb", tmp_path / "figures"
    shutil.copytree(smoke_run.figures, figures)
    notebooks.same_code(executed, figures)
    sidecar = figures / "scorecard.json"
    for ours, other in (("sources", "0" * 64), ("own", {"mine": "0" * 64})):
        said = json.loads((smoke_run.figures / "scorecard.json").read_text())
        said["table"]["code"][ours] = other
        sidecar.write_text(json.dumps(said))
        with pytest.raises(InputError, match=r"^other code than this run's made scorecard.*; accepted: "):
            notebooks.same_code(executed, figures)


def test_manifest_knows_code_software_times_and_artefacts(smoke_run):
    manifest = json.loads((smoke_run.figures / "manifest.json").read_text())
    assert list(manifest["notebooks"]) == order.select(None)
    assert all(started <= finished for started, finished in manifest["notebooks"].values())
    assert manifest["run"]["machine"] in manifest["environment"]["machine"]
    assert manifest["code"]["sources"] == sources.library_sha256()
    assert len(manifest["artefacts"]) > 100 and all(manifest["artefacts"].values())


def test_settings_never_touch_the_published_run(monkeypatch, tmp_path):
    """A run with other settings goes to runs/custom unless told where."""
    monkeypatch.setattr(order, "RUNS", tmp_path)
    monkeypatch.setattr(pipeline, "execute", lambda name, output, parameters, timeout: output.write_text("{}"))
    monkeypatch.setattr(pipeline, "verify", lambda executed, figures: None)
    monkeypatch.setattr(pipeline, "same_code", lambda executed, figures: None)
    monkeypatch.setattr(pipeline, "tidy", lambda executed, parameters: None)
    monkeypatch.setattr(pipeline, "specs", lambda study, name: [])
    summary = pipeline.run(profile="smoke", settings={"eps": 0.05})
    assert tmp_path / "custom" in summary.figures.parents


def test_a_relative_folder_of_pictures_is_the_callers(monkeypatch, tmp_path, image_folder):
    """Although notebooks run in the repository; and its run has a folder of its own."""
    monkeypatch.chdir(image_folder.parent)
    monkeypatch.setattr(order, "RUNS", tmp_path)
    settings = {"dataset": "folder", "data_root": image_folder.name}
    asked = order.order("smoke", ["05"], settings)
    assert asked.settings == {"dataset": "folder", "data_root": str(image_folder)} and asked.study.notes
    assert asked.out.parent == tmp_path / "custom"
    assert order.order("smoke", ["05"], {**settings, "eps": 0.05}).out != asked.out


def test_a_run_overwrites_no_other_settings(tmp_path):
    figures = tmp_path / "figures" / "smoke"
    figures.mkdir(parents=True)
    Study("smoke", out=figures, eps=0.05).save_files("t", {"csv": b"a\n1\n"}, kind="table")
    assert order.order("smoke", ["05"], {"eps": 0.05}, out=tmp_path).targets[0] == figures
    for settings in ({}, {"eps": 0.2}):
        with pytest.raises(InputError, match=r"holds figures of other eps; accepted: another out"):
            pipeline.run(profile="smoke", notebooks=["05"], settings=settings, out=tmp_path)
    assert sorted(path.name for path in figures.iterdir()) == ["t.csv", "t.json"]


def test_a_package_without_metadata_is_named(monkeypatch, tmp_path):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(running, "_packages", running._packages.__wrapped__)
    monkeypatch.setattr(running.importlib.metadata, "version", missing)
    with pytest.raises(
        InputError, match=r"^no metadata of the package \S+; accepted: an installed one, pip install -e"
    ):
        pipeline.run(profile="smoke", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_timeout_is_a_time(tmp_path, timeout):
    with pytest.raises(InputError, match=r"^timeout = "):
        pipeline.run(profile="smoke", out=tmp_path / "out", timeout=timeout)
    assert not (tmp_path / "out").exists()


def test_selection_of_notebooks():
    assert order.select(None) == list(NEEDS["study"])
    assert order.select(["07"], "neighbours") == ["07_bounds"]
    assert order.select(["03", "01_theory", "03"]) == ["01_theory", "03_transfer_attacks"]
    with pytest.raises(InputError, match="'6'"):
        order.select(["6"])


@pytest.mark.parametrize("architecture", ["resnet8", "wrn28-10"])
def test_paper_profile_at_tiny_scale_on_an_image_folder(tmp_path, image_folder, architecture):
    """The paper profile's own code path: colour images, residual networks with batch norm, several seeds."""
    profile = tmp_path / "tiny.toml"
    text = (pipeline.ROOT / "jsigr_lib" / "study" / "profiles" / "paper.toml").read_text()
    text = text.replace('["resnet18", "wrn28-10"]', f'["{architecture}", "resnet18"]')
    text = text.replace(
        "widths = { vgg = 64, resnet8 = 32 }", "widths = { vgg = 8, resnet8 = 8, resnet18 = 8, wrn28-10 = 8 }"
    )
    profile.write_text(text)
    study = Study(
        str(profile),
        dataset="folder",
        data_root=str(image_folder),
        train_images=16,
        validation_images=8,
        test_images=8,
        saliency_images=4,
        seeds=[0, 1],
        epochs=1,
        surrogate_epochs=1,
        runs=tmp_path / "runs",
        jobs=1,
    )
    networks = [study.training("jsigr", seed=seed) for seed in study.profile.seeds]
    study.make(networks)
    cells = [cell for cell in robustness_cells(study) if cell.row["defence"] == "jsigr"][:3]
    table = robustness.accuracy_table(study, cells)
    assert table.seeds.eq(2).all()
    assert table.accuracy.between(0, 1).all()


def test_peak_memory_counts_children():
    with pipeline.PeakMemory(interval=0.05) as memory:
        block = bytearray(200_000_000)
        time.sleep(0.3)
    assert memory.peak > len(block)
    assert threading.active_count() >= 1
