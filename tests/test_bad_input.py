"""One table of bad input to every command: each ends in one line that names the value and what is accepted, with exit
code 2, no traceback, and nothing written or changed anywhere that the command could write to.

In the arguments and in what the line has to say, {here} is a folder made for the case by `make`.
"""

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import explorer
from jsigr_lib import cli
from jsigr_lib.data import data
from jsigr_lib.data.sources import DATASETS, IDX
from jsigr_lib.explorer import pretrained
from jsigr_lib.method.errors import InputError
from jsigr_lib.pipeline import order
from jsigr_lib.store.paths import PRETRAINED, PROFILES, ROOT
from jsigr_lib.study import study
from jsigr_lib.study.config import PROFILE_NAMES
from jsigr_lib.study.study import Study

SMOKE = (PROFILES / "smoke.toml").read_text(encoding="utf-8")
LONG = "x" * 20_000
FOLDER = ["--set", "dataset=folder", "--set", "data_root={here}/pictures"]


def set_(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("--set", pair)]


def profile(old: str, new: str):
    """The smoke profile with one change, as mine.toml."""
    assert old in SMOKE
    return lambda here: (here / "mine.toml").write_text(SMOKE.replace(old, new, 1), encoding="utf-8")


def raw(content: bytes, name: str = "mine.toml"):
    return lambda here: (here / name).write_bytes(content)


def images(*paths: str, content: bytes | None = None):
    """Pictures; the last one with other content."""

    def make(here: Path) -> None:
        for path in paths:
            place = here / "pictures" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(place)
        if content is not None:
            place.write_bytes(content)

    return make


def fashion(damage):
    """The bundled data, one file damaged."""

    def make(here: Path) -> None:
        name = IDX["test labels"][0]
        for path in (data.sources.DATA / "fashion-mnist").glob("*.gz"):
            if path.name != name:
                os.symlink(path, here / path.name)
        content = damage((data.sources.DATA / "fashion-mnist" / name).read_bytes())
        if content is not None:
            (here / name).write_bytes(content)

    return make


WHOLE = ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"]

RUN = [
    # what is not there
    (["--profile", "quik"], None, ["'quik'", *PROFILE_NAMES]),
    (["--profile", ""], None, ["''", *PROFILE_NAMES]),
    (["--profile", "../smoke"], None, ["'../smoke'", *PROFILE_NAMES]),
    (["--profile", "SMOKE"], None, ["'SMOKE'", *PROFILE_NAMES]),
    (["--profile", "smoke\n\x1b[31m"], None, [r"'smoke\n\x1b[31m'", *PROFILE_NAMES]),
    (["--profile", "смоук"], None, ["'смоук'", *PROFILE_NAMES]),
    (["--profile", LONG], None, ["'xxx", "characters", *PROFILE_NAMES]),
    (["--notebook", "06"], None, ["'06'", "01", "05_claims"]),
    (["--notebook", "1"], None, ["'1'", "01"]),
    (["--notebook", "03", "--notebook", "../03"], None, ["'../03'", "03_transfer_attacks"]),
    (["--device", "tpu"], None, ["'tpu'", "auto, cpu, cuda"]),
    (["--device", "cuda:7"], None, ["'cuda:7'", "auto, cpu, cuda"]),
    (["--device", ""], None, ["''", "auto, cpu, cuda"]),
    (["--jobs", "-1"], None, ["jobs = -1", "from 1"]),
    (["--jobs", "1.5"], None, ["'1.5'", "jobs", "whole number"]),
    (["--jobs", "many"], None, ["'many'", "jobs", "whole number"]),
    (["--jobs", "9" * 5000], None, ["jobs", "characters", "whole number"]),
    (["--engine", "dask"], None, ["'dask'", "local, ray"]),
    (["--address", "10.0.0.1:6379"], None, ["'10.0.0.1:6379'", "--engine ray"]),
    (["--engine", "ray", "--gpus-per-task", "2"], None, ["gpus-per-task = 2", "0 to 1"]),
    (["--engine", "ray", "--retries", "-1"], None, ["retries = -1", "0 to"]),
    (["--timeout", "0"], None, ["timeout = 0", "0.01 to"]),
    (["--timeout", "nan"], None, ["timeout = nan", "0.01 to"]),
    (["--timeout", "soon"], None, ["'soon'", "timeout", "number"]),
    # settings
    (set_("eps"), None, ["'eps'", "KEY=VALUE"]),
    (set_(""), None, ["''", "KEY=VALUE"]),
    (set_("=0.1"), None, ["'=0.1'", "KEY=VALUE"]),
    (set_("eps=0.1", "eps=0.2"), None, ["'eps'", "twice", "once"]),
    (set_("epz=0.1"), None, ["'epz'", "eps"]),
    (set_("profile=smoke"), None, ["'profile'", "eps"]),
    (set_("out=/tmp"), None, ["'out'", "eps"]),
    (set_("name=../evil"), None, ["name = '../evil'", "accepted"]),
    (set_("penalty.share=2"), None, ["penalty.share = 2", "less than or equal to 1"]),
    (set_("penalty.shear=0.3"), None, ["'penalty.shear'", "estimator", "share"]),
    (set_(f"{LONG}=1"), None, ["'xxx", "characters", "eps"]),
    (["--notebook", "01", *set_("live=true")], None, ["'live'", "eps"]),
    (set_("eps=-0.1"), None, ["eps = -0.1", "greater than or equal to 0"]),
    (set_("eps=2"), None, ["eps = 2", "less than or equal to 1"]),
    (set_("eps=nan"), None, ["eps = nan", "finite"]),
    (set_("eps=inf"), None, ["eps = inf", "finite"]),
    (set_("eps=-inf"), None, ["eps = -inf", "finite"]),
    (set_('eps="0.1"'), None, ["eps = '0.1'", "number"]),
    (set_("eps=true"), None, ["eps = True", "number"]),
    (set_("eps="), None, ["eps = ''", "number"]),
    (set_("eps=0,1"), None, ["eps = '0,1'", "number"]),
    (set_("eps=[0.1]"), None, ["eps = [0.1]", "number"]),
    (set_("eps={a = 1}"), None, ["eps = {'a': 1}", "number"]),
    (set_("eps=1979-05-27"), None, ["eps = datetime.date(1979, 5, 27)", "number"]),
    (set_("eps=0.1\nseeds = [7]"), None, [r"eps = '0.1\nseeds = [7]'", "number"]),
    (set_("eps=" + "9" * 5000), None, ["eps", "number"]),
    (set_("eps=0x" + "f" * 5000), None, ["eps", "too large", "number"]),
    (set_("eps=" + "[" * 50_000), None, ["eps", "characters", "number"]),
    (set_("eps={" + "a." * 50_000 + "a = 1}"), None, ["eps", "too large", "number"]),
    (set_("epochs=0"), None, ["epochs = 0", "greater than or equal to 1"]),
    (set_("epochs=1.5"), None, ["epochs = 1.5", "integer"]),
    (set_("epochs=1000000000000"), None, ["epochs = 1000000000000", "less than or equal to"]),
    (set_("train_images=0"), None, ["train_images = 0", "1"]),
    (set_("train_images=60000"), None, ["train_images of fashion-mnist = 60000", "1 to"]),
    (set_("train_images=" + "9" * 100), None, ["train_images", "less than or equal to"]),
    (set_("seeds=[]"), None, ["seeds = []", "at least 1"]),
    (set_("seeds=[0, 0]"), None, ["seeds = [0, 0]", "different"]),
    (set_("seeds=[-1]"), None, ["seeds.0 = -1", "greater than or equal to 0"]),
    (set_("seeds=[1e3]"), None, ["1000.0", "integer"]),
    (set_("seeds=0"), None, ["seeds = 0", "list"]),
    (set_(f"seeds=[{2**64}]"), None, [f"{2**64}", "less than or equal to"]),
    # data
    (set_("dataset=imagenet"), None, ["'imagenet'", *DATASETS]),
    (set_("dataset=[1]"), None, ["dataset = [1]", "string"]),
    (set_("dataset=cifar10", "data_root={here}"), None, ["'cifar10'", "{here}", "--download"]),
    (set_("dataset=svhn", "data_root={here}"), None, ["'svhn'", "{here}", "--download"]),
    (set_("dataset=mnist", "data_root={here}/none"), None, ["'mnist'", "{here}/none", "--download"]),
    (
        set_("dataset=cifar10", "data_root={here}"),
        lambda here: (here / "cifar-10-batches-py").mkdir(),
        ["pickled", "cifar-10-binary.tar.gz", "accepted"],
    ),
    (
        set_("dataset=cifar10", "data_root={here}"),
        raw(b"no archive", "cifar-10-binary.tar.gz"),
        ["cifar-10-binary.tar.gz", "MD5", "accepted"],
    ),
    (
        set_("dataset=mnist", "data_root={here}"),
        raw(gzip.compress(bytes(100)), "train-images-idx3-ubyte.gz"),
        ["train-images-idx3-ubyte.gz", "accepted"],
    ),
    (set_("data_root={here}"), fashion(lambda content: content[:-1]), ["t10k-labels-idx1-ubyte.gz", "damaged"]),
    (set_("data_root={here}"), fashion(lambda content: b""), ["t10k-labels-idx1-ubyte.gz", "damaged"]),
    (set_("data_root={here}"), fashion(lambda content: None), ["t10k-labels-idx1-ubyte.gz", "missing"]),
    (set_("data_root=" + LONG), None, ["xxx", "missing"]),
    (set_("dataset=folder"), None, ["data_root = ''", "train/<class>/"]),
    (set_("dataset=folder", "data_root={here}/none"), None, ["'{here}/none'", "train/<class>/"]),
    (set_("dataset=folder", "data_root=" + LONG), None, ["data_root = 'xxx", "train/<class>/"]),
    (FOLDER, images("train/cat/1.png", "train/dog/1.png"), ["no test/", "accepted"]),
    (FOLDER, images("train/1.png", "test/1.png"), ["{here}/pictures/train has 0 folders", "one per class"]),
    (FOLDER, images("train/cat/1.png", "test/cat/1.png"), ["train has 1 folders", "two at least"]),
    (FOLDER, images(*WHOLE, "test/emu/1.png"), ["classes of", "accepted"]),
    (FOLDER, lambda here: (images(*WHOLE)(here), (here / "pictures/test/dog/1.png").unlink()), ["test/dog", ".png"]),
    (
        FOLDER,
        lambda here: (images(*WHOLE)(here), (here / "pictures/train/cat/2.png").symlink_to("/etc/hostname")),
        ["train/cat/2.png is a link", "accepted"],
    ),
    # profiles of one's own
    (["--profile", "{here}/none.toml"], None, ["{here}/none.toml", "no such file", *PROFILE_NAMES]),
    (["--profile", "{here}/a.toml"], lambda here: (here / "a.toml").mkdir(), ["{here}/a.toml", *PROFILE_NAMES]),
    (["--profile", "/dev/zero/a.toml"], None, ["/dev/zero/a.toml", *PROFILE_NAMES]),
    (["--profile", f"{LONG}.toml"], None, ["xxx", *PROFILE_NAMES]),
    (["--profile", "{here}/mine.toml"], raw(b""), ["is missing", "accepted"]),
    (["--profile", "{here}/mine.toml"], raw(os.urandom(2000)), ["mine.toml", *PROFILE_NAMES]),
    (["--profile", "{here}/mine.toml"], raw(b"\xef\xbb\xbf" + SMOKE.encode()), ["mine.toml", *PROFILE_NAMES]),
    (["--profile", "{here}/mine.toml"], raw(SMOKE.encode("utf-16")), ["mine.toml", *PROFILE_NAMES]),
    (["--profile", "{here}/mine.toml"], raw(b"a = " + b"[\n" * 100_000), ["mine.toml", "deeply", *PROFILE_NAMES]),
    (["--profile", "{here}/mine.toml"], raw(b"a = " + b"9" * 10_000), ["mine.toml", *PROFILE_NAMES]),
    (["--profile", "{here}/mine.toml"], profile("epochs = 2", "epochs = 2\nepochs = 2"), ["mine.toml", *PROFILE_NAMES]),
    (["--profile", "{here}/mine.toml"], profile("epochs = 2", "epoch = 2"), ["is missing", "accepted"]),
    (["--profile", "{here}/mine.toml"], profile("eps = 0.1", 'eps = "0.1"'), ["eps = '0.1'", "number"]),
    (["--profile", "{here}/mine.toml"], profile("", 'name = "../../evil"\n'), ["'../../evil'", "accepted"]),
    (["--profile", "{here}/mine.toml"], profile("[defences.pgd]", '[defences."../pgd"]'), ["'../pgd'", "accepted"]),
    (["--profile", "{here}/mine.toml"], profile("[defences.trades]", '[defences."a/b"]'), ["'a/b'", "accepted"]),
    (["--profile", "{here}/mine.toml"], profile('"TRADES-2"', '"a\\nb"'), [r"'a\nb'", "printable"]),
    (["--profile", "{here}/mine.toml"], profile('"trades"', '"magic"'), ["'magic'", "jsigr, input-gradient"]),
    (["--profile", "{here}/mine.toml"], profile("beta = 3.0", "beta = -3.0"), ["beta = -3.0", "0 to"]),
    (["--profile", "{here}/mine.toml"], profile("beta = 3.0", "gamma = 3.0"), ["'trades'", "'gamma'"]),
    (["--profile", "{here}/mine.toml"], profile("beta = 3.0", "name = 2"), ["options = 'name'", "accepted"]),
    (
        ["--profile", "{here}/mine.toml"],
        profile("steps = 2 }", f"steps = {10**18} }}"),
        [str(10**18), "at most 10,000,000"],
    ),
    (
        ["--profile", "{here}/quick.toml"],
        raw(SMOKE.encode(), "quick.toml"),
        ["{here}/quick.toml", "'quick'", "another"],
    ),
    (["--profile", "{here}/mine.toml"], profile("", 'name = "Full"\n'), ["{here}/mine.toml", "'Full'", "another"]),
    (["--profile", "{here}/mine.toml"], profile('["mi-fgsm", "fgsm"]', '["magic"]'), ["'magic'", "mi-fgsm"]),
    (
        ["--profile", "{here}/mine.toml"],
        profile("eps_grid", 'saliency_maps = ["x"]\neps_grid'),
        ["'x'", "perturbation"],
    ),
    (["--profile", "{here}/mine.toml"], profile('["small-cnn"]', '["large-cnn"]'), ["'large-cnn'", "small-cnn"]),
    (
        ["--profile", "{here}/mine.toml"],
        profile("vgg = 4", "vgg = 1000000000"),
        ["1000000000", "less than or equal to 4096"],
    ),
    (["--profile", "{here}/mine.toml"], profile("grid = 7", "grid = 65"), ["grid = 65", "64"]),
    (["--profile", "{here}/mine.toml"], profile("eps_l2 = 1.5", "eps_l2 = 0"), ["eps_l2 = 0", "greater than 0"]),
    (["--profile", "{here}/mine.toml"], profile("", 'imports = ["no_module"]\n'), ["'no_module'", "ModuleNotFound"]),
    (["--profile", "{here}/mine.toml"], profile("", 'imports = "mine"\n'), ["imports = 'mine'", "list"]),
    (["--profile", "{here}/mine.toml"], profile("", 'imports = ["../mine"]\n'), ["'../mine'", "accepted"]),
    # where to
    (["--out", ""], None, ["''", "accepted"]),
    (["--out", " "], None, ["' '", "accepted"]),
    (["--out", "{here}/a\nb"], None, [r"a\nb", "accepted"]),
    (["--out", "{here}/file"], raw(b"in the way", "file"), ["{here}/file", "accepted"]),
    (["--out", "{here}/file/below"], raw(b"in the way", "file"), ["{here}/file", "accepted"]),
    (["--out", "/proc/nothing"], None, ["/proc/nothing", "accepted"]),
    (["--out", "/" + LONG], None, ["xxx", "accepted"]),
    # typer's own
    (["--profil", "smoke"], None, ["--profil", "jsigr run --help"]),
    (["--profile"], None, ["--profile", "--help"]),
    (["smoke"], None, ["smoke", "jsigr run --help"]),
    (["--download=yes"], None, ["--download", "--help"]),
]

OTHERS = [
    (["rum"], None, ["'rum'", "jsigr --help"]),
    (["--version"], None, ["--version", "jsigr --help"]),
    (["\x1b[31m"], None, [r"\x1b[31m", "jsigr --help"]),
    (["site", "--profile", "quik"], None, ["'quik'", "quick"]),
    (["site", "--profile", "../quick"], None, ["'../quick'", "quick"]),
    (["site", "--profile", ""], None, ["''", "quick"]),
    (["site", "--profile", "quick/../quick"], None, ["'quick/../quick'", "quick"]),
    (["site", "--out", ""], None, ["''", "accepted"]),
    (["site", "--out", "{here}/file"], raw(b"in the way", "file"), ["{here}/file", "accepted"]),
    (["site", "--out", "{here}/file/below"], raw(b"in the way", "file"), ["{here}/file", "accepted"]),
    (["site", "--out", "{here}"], raw(b"mine", "thesis.tex"), ["{here}", "accepted"]),
    (["site", "--out", "/proc/nothing"], None, ["/proc", "accepted"]),
    (["site", "quick"], None, ["quick", "jsigr site --help"]),
    (["pretrained", "--profile", "quik"], None, ["'quik'", *PROFILE_NAMES]),
    (["pretrained", "--profile", "{here}/none.toml"], None, ["{here}/none.toml", *PROFILE_NAMES]),
    (["pretrained", "--profile", "{here}/mine.toml"], profile("eps = 0.1", "eps = 7"), ["eps = 7", "equal to 1"]),
    (["pretrained", "--of", "svhn"], None, ["'svhn'", "fashion-mnist, cifar10"]),
    (["pretrained", "jsigr"], None, ["jsigr", "jsigr pretrained --help"]),
    (["bench", "--only", "stepz"], None, ["'stepz'", "steps, attacks"]),
    (["bench", "--only", "steps", "--only", ""], None, ["''", "steps, attacks"]),
    (["bench", "--rounds", "0"], None, ["rounds = 0", "1 to"]),
    (["bench", "--rounds", "1.5"], None, ["'1.5'", "whole number"]),
    (["bench", "--rounds", "1000000000"], None, ["rounds = 1000000000", "1 to"]),
    (["bench", "--threads", "0"], None, ["threads = 0", "1 to"]),
    (["bench", "--threads", "100000"], None, ["threads = 100000", "1 to"]),
    (["bench", "--device", "tpu"], None, ["'tpu'", "auto, cpu, cuda"]),
    (["bench", "--out", ""], None, ["''", "accepted"]),
    (["bench", "--only", "fidelity", "--out", "{here}/file"], raw(b"in the way", "file"), ["{here}/file", "accepted"]),
    (["bench", "--jacobian-regularizer", "{here}"], None, ["{here}", "facebookresearch/jacobian_regularizer"]),
    (["bench", "--jacobian-regularizer", ""], None, ["''", "accepted"]),
    (
        ["bench", "--jacobian-regularizer", "{here}"],
        lambda here: ((here / "jacobian").mkdir(), (here / "jacobian" / "jacobian.py").write_text("this is no Python")),
        ["{here}", "SyntaxError", "facebookresearch/jacobian_regularizer"],
    ),
    (["bench", "--torchattacks", "{here}/python"], None, ["{here}/python", "torchattacks and torch"]),
    (["bench", "--torchattacks", "{here}"], None, ["{here}", "torchattacks and torch"]),
    (["bench", "--torchattacks", "/bin/true"], None, ["/bin/true", "torchattacks and torch"]),
    (["bench", "--torchattacks", "/bin/false"], None, ["/bin/false", "torchattacks and torch"]),
    (["plan", "--profile", "quik"], None, ["'quik'", *PROFILE_NAMES]),
    (["plan", "--notebook", "06"], None, ["'06'", "01"]),
    (["plan", "--profile", "smoke", *set_("eps=nan")], None, ["eps = nan", "finite"]),
    (["plan", "--jobs", "1.5"], None, ["'1.5'", "whole number"]),
    (["plan", "--device", "tpu"], None, ["'tpu'", "auto, cpu, cuda"]),
    (["trace"], None, ["'file'", "jsigr trace --help"]),
    (["trace", "{here}/none.png"], None, ["{here}/none.png", "accepted"]),
    (["trace", "{here}"], None, ["{here}", "accepted"]),
    (["trace", ""], None, ["accepted"]),
    (["trace", "{here}/a.png"], raw(b"", "a.png"), ["{here}/a.png", "accepted"]),
    (["trace", "{here}/a.png"], raw(b"\x89PNG\r\n\x1a\n" + bytes(9), "a.png"), ["{here}/a.png", "accepted"]),
    (["trace", "{here}/a.svg"], raw(b"<svg>" * 1000, "a.svg"), ["{here}/a.svg", "accepted"]),
    (["trace", "{here}/a.csv"], raw(os.urandom(99), "a.csv"), ["{here}/a.csv", "accepted"]),
    (["diff"], None, ["'a'", "jsigr diff --help"]),
    (["diff", "{here}/none"], None, ["{here}/none", "accepted"]),
    (["diff", "{here}"], None, ["{here}", "accepted"]),
    (["diff", "{here}/file", "{here}"], raw(b"", "file"), ["{here}/file", "accepted"]),
    (["diff", "{here}", "--profile", "../quick"], None, ["{here}", "accepted"]),
]


def parameters(**given):
    """What papermill hands to a notebook: its cell makes a Study of it."""
    return lambda here: Study(
        **{
            name: value.replace("{here}", str(here)) if isinstance(value, str) else value
            for name, value in given.items()
        }
    )


def loading(name: object):
    return lambda here: pretrained.load(name)


NOTEBOOK = [
    (parameters(profile=None), None, ["None", *PROFILE_NAMES]),
    (parameters(profile=3), None, ["3", *PROFILE_NAMES]),
    (parameters(profile=["smoke"]), None, ["['smoke']", *PROFILE_NAMES]),
    (parameters(profile="smoke", device=None), None, ["None", "auto, cpu, cuda"]),
    (parameters(profile="smoke", device=["cpu"]), None, ["['cpu']", "auto, cpu, cuda"]),
    (parameters(profile="smoke", out=3), None, ["out = 3", "accepted"]),
    (parameters(profile="smoke", out="{here}/file"), raw(b"in the way", "file"), ["{here}/file", "folder"]),
    (parameters(profile="smoke", download="yes"), None, ["download = 'yes'", "True, False"]),
    (parameters(profile="smoke", jobs=1.5), None, ["jobs = 1.5", "accepted"]),
    (parameters(profile="smoke", eps="0.1"), None, ["eps = '0.1'", "number"]),
    (parameters(profile="smoke", eps=float("nan")), None, ["eps = nan", "finite"]),
    (parameters(profile="smoke", seeds=[True]), None, ["True", "integer"]),
    (parameters(profile="smoke", seeds={"a": 1}), None, ["{'a': 1}", "list"]),
    (parameters(profile="smoke", epochs=None, dataset="folder", data_root=None), None, ["data_root = ''", "train/"]),
    (parameters(profile="smoke", epoch=3), None, ["'epoch'", "epochs"]),
    (loading("jsgir"), None, ["'jsgir'", "jsigr"]),
    (loading("../pretrained/jsigr"), None, ["'../pretrained/jsigr'", "jsigr"]),
    (loading(None), None, ["None", "jsigr"]),
    (lambda here: pretrained.load("jsigr", here), None, ["{here}/fashion-mnist does not exist", "data/pretrained"]),
    (lambda here: pretrained.images(0), None, ["0", "1 to"]),
    (lambda here: pretrained.images(10**12), None, ["1000000000000", "1 to"]),
]


def listing(*folders: Path) -> dict[str, tuple[int, int]]:
    """Every path below them, with its size and time."""
    found = [path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in found}


@pytest.fixture
def watched(monkeypatch, tmp_path):
    """watched(): all that a command could write, but for the decoded images in runs/data, which are good whatever else
    is wrong. The repository's runs/ and hidden files are left out: other tests, and pytest itself, write there."""
    runs = tmp_path / "runs"
    runs.mkdir()
    for module in (order, study):
        monkeypatch.setattr(module, "RUNS", runs)
    monkeypatch.chdir(tmp_path)
    top = [path for path in ROOT.iterdir() if path.name not in (".git", ".venv", "runs", "tests") and path.is_dir()]
    top = [path for path in top if not path.name.startswith(".") or path.name == ".ci"]

    def found() -> dict[str, tuple[int, int]]:
        here = {path: about for path, about in listing(tmp_path, *top).items() if str(runs) not in path}
        return {
            **here,
            "root": (0, len([path for path in ROOT.iterdir() if path.name != "runs" and path.name[0] != "."])),
            "runs": (0, len({p.name for p in runs.iterdir()} - {"data"})),
        }

    return found


@pytest.fixture
def here(tmp_path) -> Path:
    folder = tmp_path / "case"
    folder.mkdir()
    return folder


def check(said: str, code: int, words: list[str], here: Path) -> None:
    assert code == 2, said
    assert said.endswith("\n") and said.count("\n") == 1 and len(said) < 1_100, said
    assert said[:-1].isprintable() and "Traceback" not in said
    assert said.startswith("jsigr: ")
    assert [word for word in (word.replace("{here}", str(here)) for word in words) if word not in said] == [], said


def name_of(case) -> str:
    given = " ".join(case[0]) if isinstance(case[0], list) else case[2][0]
    return f"{given}, {case[2][0]}"[:70].encode("unicode_escape").decode()


PLANNED = [(["plan", *one[0]], *one[1:]) for one in RUN if "--set" in one[0] or "--profile" in one[0]]
"""A plan refuses what a run refuses, in the same words."""


@pytest.mark.parametrize("case", [(["run", *one[0]], *one[1:]) for one in RUN] + PLANNED + OTHERS, ids=name_of)
def test_command(monkeypatch, capsys, here, watched, case):
    arguments, make, words = case
    if make:
        make(here)
    arguments = [part.replace("{here}", str(here)) for part in arguments]
    if case[0][0] in ("run", "plan") and case not in OTHERS:
        arguments[1:1] = [] if "--profile" in arguments else ["--profile", "smoke"]
    if arguments[0] == "run":
        arguments[1:1] = [] if "--out" in arguments else ["--out", "out"]
    monkeypatch.setattr(explorer, "find", lambda: "chromium")  # or another line says first that there is none
    monkeypatch.setattr(sys, "argv", ["jsigr", *arguments])
    monkeypatch.setattr(cli.console, "file", sys.stderr)
    before = watched()
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    captured = capsys.readouterr()
    check(captured.err, exit_.value.code, words, here)
    assert captured.out == ""
    assert watched() == before


@pytest.mark.parametrize("case", NOTEBOOK, ids=name_of)
def test_parameters(here, watched, case):
    """In a notebook the same line is the error of the cell."""
    call, make, words = case
    if make:
        make(here)
    before = watched()
    with pytest.raises(InputError) as error:
        call(here)
    check(f"jsigr: {error.value}\n", 2, words, here)
    assert watched() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--profile", "smoke", "--set", "eps=nan"],
        ["run", "--jobs", "\x1b[31m"],
        pytest.param(["run", "--profile", "quik"], marks=pytest.mark.torture),
        pytest.param(["rum"], marks=pytest.mark.torture),
        pytest.param(["bench", "--only", "stepz"], marks=pytest.mark.torture),
    ],
    ids=" ".join,
)
def test_from_the_shell(tmp_path, arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C", "COLUMNS": "20"}
    done = subprocess.run(
        [sys.executable, "-m", "jsigr_lib", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=120,
    )
    check(done.stderr, done.returncode, ["accepted" if arguments[-1] != "eps=nan" else "eps = nan"], tmp_path)
    assert done.stdout == "" and not [*tmp_path.iterdir()]


def test_damaged_pictures_and_networks_are_named(here):
    """What is found only when it is read."""
    images(*WHOLE, content=b"\x89PNG\r\n\x1a\n")(here)
    settings = {"train_images": 1, "validation_images": 1, "test_images": 2, "saliency_images": 2, "gallery_images": 1}
    with pytest.warns(UserWarning, match="files of test/ are in train/ as well, and 1 files are in two classes"):
        study = Study("smoke", dataset="folder", data_root=str(here / "pictures"), runs=here / "runs", **settings)
    with pytest.raises(InputError, match=r"test/dog/1\.png is no readable image .*; accepted: JPEG, PNG"):
        _ = study.dataset
    copy = shutil.copytree(PRETRAINED, here / "set")
    (copy / "fashion-mnist" / "jsigr.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"jsigr\.safetensors is truncated or altered"):
        pretrained.load("jsigr", copy)


def test_the_table_is_long_enough():
    assert len(RUN) + len(OTHERS) + len(NOTEBOOK) >= 60
