"""Folders as users name them, tables as they may be damaged, and the published run as git keeps it."""

import shutil
import subprocess
from io import BytesIO

import pytest
from PIL import Image

from jsigr_lib.method.errors import InputError
from jsigr_lib.records import embedding, results
from jsigr_lib.records.record import Manifest
from jsigr_lib.records.running import Code, Environment
from jsigr_lib.store.paths import ROOT


@pytest.fixture
def repository(tmp_path):
    """A git repository with one published run, of the profile quick."""
    folder = tmp_path / "repository"
    (folder / "figures" / "quick").mkdir(parents=True)
    (folder / "figures" / "quick" / "judges.csv").write_text("defence,accuracy\njsigr,0.5\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "Published")
    return folder


def git(folder, *arguments):
    name = ("-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", "-C", folder, *name, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "header"),
        (b"a,b\n1\n", "row 1 has 1 values, not 2"),
        (b"a,b\n1,2\n1,2,3\n", "row 2 has 3 values, not 2"),
        (b"a,a\n1,2\n", "two equal names"),
        (b'a,b\n"1,2\n', "end of data"),
        (b"a\n\xff\n", "utf-8"),
        (b"a,b\n" + b"x" * 200_000 + b",1\n", "field"),
        (b"\x89PNG\r\n\x1a\n", "utf-8"),
    ],
)
def test_damaged_table_is_one_line(tmp_path, content, named):
    path = tmp_path / "robustness.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"robustness\.csv is no table") as error:
        results.read_table(path)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_huge_table_is_refused_unread(tmp_path):
    path = tmp_path / "huge.csv"
    with open(path, "wb") as file:
        file.truncate(results.LARGEST_TABLE + 1)  # of no blocks on the disk
    with pytest.raises(InputError, match="50,000,001 bytes"):
        results.read_table(path)


def test_table_is_read_as_text(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('test,value\n"a, b",0.10\n‖J‖,\n', encoding="utf-8")
    table = results.read_table(path)
    assert table.columns == ("test", "value")
    assert table.rows == ({"test": "a, b", "value": "0.10"}, {"test": "‖J‖", "value": ""})


def test_folder_is_found_as_itself_or_in_the_output_of_a_run(repository):
    quick = repository / "figures" / "quick"
    assert results.find_results(quick) == quick
    assert results.find_results(repository) == quick
    assert results.find_results(repository, "quick") == quick
    shutil.copytree(quick, repository / "figures" / "smoke")
    assert results.find_results(repository, "smoke") == repository / "figures" / "smoke"
    with pytest.raises(InputError, match="profile = None; accepted: one of quick, smoke"):
        results.find_results(repository)
    with pytest.raises(InputError, match="profile = 'full'; accepted: one of quick, smoke"):
        results.find_results(repository, "full")


def test_what_holds_no_tables_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "folder.csv").mkdir(parents=True)
    for name, said in {"file": "is no folder", "nowhere": "is no folder", "folder": "holds no tables"}.items():
        with pytest.raises(InputError, match=rf"{name} {said}; accepted: a folder with CSV files"):
            results.find_results(tmp_path / name)


def test_published_run_is_that_of_the_last_commit(repository):
    working = repository / "figures" / "quick" / "judges.csv"
    working.write_text("defence,accuracy\njsigr,0.9\n")
    commit = git(repository, "log", "-1", "--format=%h").strip()
    with results.published_run("quick", repository) as (folder, name):
        assert name == f"the published quick run (commit {commit})"
        assert results.read_table(folder / "judges.csv").rows == ({"defence": "jsigr", "accuracy": "0.5"},)
    assert not folder.exists()
    assert "0.9" in working.read_text()
    assert git(repository, "status", "--short").strip() == "M figures/quick/judges.csv"


@pytest.mark.parametrize("profile", ["smoke", "*", "-x", "../.."])
def test_profile_without_a_published_run_is_refused(repository, profile):
    with pytest.raises(InputError, match="published"), results.published_run(profile, repository):
        pass


def test_without_git_there_is_no_published_run(repository, tmp_path, monkeypatch):
    """Neither in a folder that is no repository, as from a zip file, nor on a machine without the program."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(InputError, match="not a git repository"), results.published_run("quick", tmp_path):
        pass
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="'git'") as error, results.published_run("quick", repository):
        pass
    assert "\n" not in str(error.value)


def test_repository_is_where_results_are_published():
    with results.published_run("quick") as (folder, name):
        assert results.files(folder, "csv").keys() == results.files(ROOT / "figures" / "quick", "csv").keys()
    assert "commit" in name


def test_manifest_says_what_made_a_run_or_is_silent(tmp_path):
    unknown = {"profile": None, "code": None, "packages": None, "machine": None}
    assert results.made_of(tmp_path) == unknown
    path = tmp_path / "manifest.json"
    for content in ("", "[]", "null", '{"run": 3}', '{"run": ', "[" * 100_000):
        path.write_text(content)
        assert set(results.made_of(tmp_path).values()) == {None}
    code = Code(version="1", commit=None, modified=None, sources="S", own={"mine": "T"})
    environment = Environment(python="3", machine="M, with AVX2", packages={"torch": "2"})
    path.write_text(Manifest(run={"machine": "M"}, code=code, environment=environment).model_dump_json())
    said = {"code": ("S", {"mine": "T"}), "packages": {"torch": "2"}, "machine": "M, with AVX2"}
    assert results.made_of(tmp_path) == unknown | said
    for name, profile in {"smoke": "smoke", ".smoke.41.staged": "smoke"}.items():
        (tmp_path / "figures" / name).mkdir(parents=True)
        assert results.made_of(tmp_path / "figures" / name)["profile"] == profile


def test_drawing_is_what_a_picture_shows_not_what_it_says(tmp_path):
    shades = {"one": 9, "other": 9, "darker": 8}
    for name, shade in shades.items():
        picture = BytesIO()
        Image.new("L", (3, 2), shade).save(picture, "PNG")
        (tmp_path / f"{name}.png").write_bytes(embedding.embed(picture.getvalue(), {"commit": name}))
    for name, content in {"short": b"\x89PNG", "cut": (tmp_path / "one.png").read_bytes()[:-9], "empty": b""}.items():
        (tmp_path / f"{name}.png").write_bytes(content)
    for pair, same in {
        "one other": True,
        "one darker": False,
        "one cut": False,
        "cut cut": True,
        "short empty": False,
    }.items():
        assert results.look_the_same(*(tmp_path / f"{name}.png" for name in pair.split())) is same, pair
