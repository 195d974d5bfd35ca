"""The command as a user types it: bad input ends in one line and exit code 2, before anything is computed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import jsigr_lib
from jsigr_lib import cli, options
from jsigr_lib.method.errors import InputError
from jsigr_lib.pipeline import pipeline
from jsigr_lib.store.paths import ROOT, RUNS


def jsigr(*arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONWARNINGS": "error::UserWarning"}
    return subprocess.run(
        [sys.executable, "-m", "jsigr_lib", *arguments], capture_output=True, text=True, env=environment, timeout=120
    )


def call(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """The same in this process: exit code and what was said."""
    monkeypatch.setattr(sys, "argv", ["jsigr", *arguments])
    monkeypatch.setattr(cli.console, "file", sys.stderr)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return exit_.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--profile", "quik"], ["'quik'", "smoke", "quick", "paper"]),
        (["--profile", "nowhere.toml"], ["nowhere.toml"]),
        (["--notebook", "06"], ["'06'", "01", "05"]),
        (["--notebook", "saliency"], ["'saliency'"]),
        (["--set", "epz=0.1"], ["'epz'", "eps"]),
        (["--set", "profile=smoke"], ["'profile'"]),
        (["--set", "eps"], ["'eps'", "KEY=VALUE"]),
        (["--set", "eps=1.5"], ["eps", "1.5"]),
        (["--set", "eps=-0.1"], ["eps", "-0.1"]),
        (["--set", "eps=nan"], ["eps"]),
        (["--set", "eps=big"], ["eps", "'big'"]),
        (["--set", "epochs=0"], ["epochs", "0"]),
        (["--set", "epochs=1.5"], ["epochs", "1.5"]),
        (["--set", "seeds=[0, 0]"], ["seeds"]),
        (["--set", "seeds=[]"], ["seeds"]),
        (["--set", "train_images=0"], ["train_images"]),
        (["--set", "train_images=60000"], ["train_images", "60000"]),
        (["--set", "dataset=imagenet"], ["'imagenet'", "fashion-mnist"]),
        (["--set", "dataset=cifar10", "--set", "data_root=/nowhere"], ["cifar10", "/nowhere", "--download"]),
        (["--set", "dataset=folder", "--set", "data_root=/nowhere"], ["/nowhere", "train"]),
        (["--set", "dataset=folder"], ["train"]),
        (["--device", "tpu"], ["'tpu'", "auto", "cpu", "cuda"]),
        (["--jobs", "-1"], ["jobs", "-1"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(monkeypatch, capsys, tmp_path, arguments, named):
    profile = [] if "--profile" in arguments else ["--profile", "smoke"]
    code, said = call(monkeypatch, capsys, "run", *profile, "--out", str(tmp_path / "out"), *arguments)
    assert code == 2
    assert len(said.strip().splitlines()) == 1
    for word in named:
        assert word in said
    assert not (tmp_path / "out").exists()


@pytest.mark.alone
def test_plan_says_what_a_run_would_make_and_writes_nothing():
    before = set(RUNS.rglob("*"))
    finished = jsigr("plan", "--profile", "smoke", "--notebook", "02", "--set", "seeds=[77]", "--jobs", "2")
    assert finished.returncode == 0, finished.stderr
    first, *kinds, last = finished.stdout.splitlines()
    assert first.startswith("smoke profile: ")
    assert any(line.split()[:1] == ["model"] for line in kinds)
    assert re.match(r"about [\d.]+ minutes with 2 processes: [\d.]+ for artefacts, [\d.]+ for notebooks", last)
    assert set(RUNS.rglob("*")) == before


def test_plan_for_programs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jsigr", "plan", "--profile", "smoke", "--notebook", "02", "--json"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code in (0, None)
    content = json.loads(capsys.readouterr().out)
    assert {"profile", "artefacts", "minutes"} <= set(content)


def test_plan_refuses_what_a_run_refuses(monkeypatch, capsys):
    for arguments in (["--profile", "quik"], ["--notebook", "06"], ["--set", "epz=1"]):
        assert call(monkeypatch, capsys, "plan", *arguments)[0] == 2


def test_progress_estimates_what_is_left(monkeypatch, capsys):
    monkeypatch.setattr(cli.console, "file", sys.stderr)
    clock = iter([0.0, 60.0, 120.0])
    monkeypatch.setattr(cli.time, "perf_counter", lambda: next(clock))
    progress = cli.progress_lines()
    for done in (25.0, 50.0):
        progress(SimpleNamespace(kind="maps"), done, 100.0)
    said = capsys.readouterr().err.splitlines()
    assert "about 3.0 min left" in said[0]
    assert "about 2.0 min left" in said[1]


def test_cuda_without_a_gpu_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, said = call(monkeypatch, capsys, "run", "--profile", "smoke", "--device", "cuda")
    assert code == 2
    assert "cuda" in said


def test_module_and_help_work_from_the_shell():
    finished = jsigr("run", "--help")
    assert finished.returncode == 0
    assert "--profile" in finished.stdout
    refused = jsigr("run", "--profile", "quik")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "Traceback" not in refused.stderr


def test_help_waits_for_no_heavy_library():
    heavy = "{'torch', 'numpy', 'pandas', 'matplotlib', 'papermill', 'nbconvert', 'IPython'}"  # typer has pydantic
    code = "import sys; from jsigr_lib import cli; sys.argv[1:] = arguments\ntry: cli.main()\n"
    code += f"except SystemExit: print('loaded:', sorted({heavy} & set(sys.modules)))"
    for arguments in (["--help"], ["plan", "--help"], ["run", "--help"]):
        said = subprocess.check_output([sys.executable, "-c", f"arguments = {arguments}; {code}"], text=True)
        assert "Usage: jsigr" in said and said.endswith("loaded: []\n")


def test_public_names_are_there_when_asked_for():
    code = "import jsigr_lib as j; print(set(j.__all__) <= set(dir(j)), all(hasattr(j, name) for name in j.__all__))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "True True\n"
    with pytest.raises(AttributeError, match="'nonsense'"):
        _ = jsigr_lib.nonsense


def test_unwritable_output_is_refused(monkeypatch, capsys, tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    code, said = call(monkeypatch, capsys, "run", "--profile", "smoke", "--out", str(file))
    assert code == 2
    assert "file" in said
    assert file.read_text() == "in the way"


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (InputError("eps = 2"), 2, "jsigr: eps = 2"),
        (RuntimeError("first\nsecond"), 1, "jsigr: first second"),
        (OSError(28, "No space left on device", "/full"), 1, "jsigr: No space left on device: /full"),
        (
            signal.SIGINT,
            130,
            "jsigr: interrupted; what was complete is kept, and the same command continues from there",
        ),
        (
            signal.SIGTERM,
            143,
            "jsigr: interrupted; what was complete is kept, and the same command continues from there",
        ),
        (
            signal.SIGHUP,
            129,
            "jsigr: interrupted; what was complete is kept, and the same command continues from there",
        ),
        (MemoryError(), 1, "jsigr: MemoryError"),
        (ImportError("libx.so: cannot map segment"), 1, "jsigr: libx.so: cannot map segment"),
    ],
)
def test_whatever_stops_a_run_is_one_line(monkeypatch, capsys, failure, code, said):
    def run(**options):
        if isinstance(failure, Exception):
            raise failure
        os.kill(os.getpid(), failure)
        time.sleep(10)

    hangs_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where nohup runs the tests
    handlers = {number: signal.getsignal(number) for number in cli.SIGNALS}
    monkeypatch.setattr(pipeline, "run", run)
    try:
        assert call(monkeypatch, capsys, "run") == (code, f"{said}\n")
        left = dict.fromkeys(cli.SIGNALS, signal.SIG_IGN) if code > 128 else handlers
        assert {number: signal.getsignal(number) for number in cli.SIGNALS} == left
    finally:
        for number, handler in (handlers | {signal.SIGHUP: hangs_up}).items():
            signal.signal(number, handler)


def test_further_signals_disturb_no_end(monkeypatch, capsys):
    """Five Ctrl-C, of which four come while the first one's cleaning up goes on."""
    handlers = {number: signal.getsignal(number) for number in cli.SIGNALS}

    def run(**options):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        finally:
            for _ in range(4):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)

    monkeypatch.setattr(pipeline, "run", run)
    try:
        code, said = call(monkeypatch, capsys, "run")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert code == 130 and said.count("\n") == 1


def test_nohup_stays_in_force(monkeypatch, capsys):
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(pipeline, "order", lambda *_, **__: os.kill(os.getpid(), signal.SIGHUP))
        assert call(monkeypatch, capsys, "run", "--timeout", "0")[0] == 2  # it went on, to what is refused
    finally:
        signal.signal(signal.SIGHUP, handler)


def test_settings_are_toml_values_or_strings():
    parsed = options.parse_settings(["eps=0.1", "seeds=[0, 1]", "dataset=mnist", "data_root=/a=b"])
    assert parsed == {"eps": 0.1, "seeds": [0, 1], "dataset": "mnist", "data_root": "/a=b"}
    with pytest.raises(InputError):
        options.parse_settings(["=1"])


def test_diff_exits_with_the_agreement(monkeypatch, capsys, tmp_path):
    """0 within tolerance, 1 beyond it or, with --exact, for any byte; the output of a run is as good as its figures."""
    mine, quick = tmp_path / "figures" / "quick", ROOT / "figures" / "quick"
    shutil.copytree(quick, mine)
    assert call(monkeypatch, capsys, "diff", str(quick), str(tmp_path))[0] == 0
    text = (quick / "deletion_insertion.csv").read_text()
    first = text.splitlines()[1].rpartition(",")[2]
    for share, codes in ((f"{float(first) + 1e-4:.4f}", (0, 1)), ("0.1", (1, 1))):
        (mine / "deletion_insertion.csv").write_text(text.replace(f",{first}\n", f",{share}\n", 1))
        for given, code in zip(([], ["--exact"]), codes, strict=True):
            assert call(monkeypatch, capsys, "diff", str(quick), str(mine), *given)[0] == code
    monkeypatch.setattr(sys, "argv", ["jsigr", "diff", str(tmp_path), str(quick), "--json"])
    with pytest.raises(SystemExit):
        cli.main()
    found = json.loads(capsys.readouterr().out)
    assert (found["agrees"], found["exact"], found["changed"]) == (False, False, ["deletion_insertion"])
    assert [(one["a"], one["b"], one["within"]) for one in found["differences"]] == [("0.1", first, False)]


@pytest.mark.parametrize("arguments", [["nowhere"], ["README.md"], [".", "jsigr_lib"], [".", "--profile", "quik"]])
def test_diff_of_what_is_no_run_is_refused(monkeypatch, capsys, arguments):
    monkeypatch.chdir(ROOT)
    code, said = call(monkeypatch, capsys, "diff", *arguments)
    assert code == 2
    assert len(said.strip().splitlines()) == 1
    assert "accepted" in said
