"""Folders are replaced together or not at all, wherever the process that replaces them is killed."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jsigr_lib.method.errors import InputError
from jsigr_lib.records import publishing
from jsigr_lib.records.publishing import finish, places, recover, replacing, settle, sole_run, writable
from jsigr_lib.store.paths import PACKAGE

STEPS = 6  # of a publication: the journal, two renames for each of two folders, and the journal's end
ALONE = f"""
import sys, types
sys.modules["jsigr_lib"] = types.ModuleType("jsigr_lib")  # without torch, which takes seconds to import
sys.modules["jsigr_lib"].__path__ = [{str(PACKAGE)!r}]
"""
PUBLISH = """
import os, signal
from pathlib import Path
from jsigr_lib.records.publishing import places, replacing

last, count = int(sys.argv[2]), 0

def counted(step):
    def call(*args, **kwargs):
        global count
        count += 1
        if count > last:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*args, **kwargs)
    return call

targets = places(Path(sys.argv[1]), "smoke")
with replacing(*targets) as staged:
    for folder in staged:
        (folder / "new").write_text("new")
    os.rename, Path.touch, Path.unlink = counted(os.rename), counted(Path.touch), counted(Path.unlink)
print(count)
"""


@pytest.fixture
def targets(tmp_path) -> tuple[Path, Path]:
    """Two published folders, with one file each."""
    for place in places(tmp_path, "smoke"):
        place.mkdir(parents=True)
        (place / "old").write_text("old")
    return places(tmp_path, "smoke")


def contents(targets) -> list[list[str]]:
    return [os.listdir(target) if target.exists() else None for target in targets]


def beside(targets) -> list[str]:
    """What a publication may leave beside its targets."""
    return [path.name for target in targets for path in target.parent.glob(".*") if path.name != ".lock"]


def publish(out: Path, steps: int) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", ALONE + PUBLISH, str(out), str(steps)], capture_output=True, text=True)


@pytest.mark.parametrize("steps", range(STEPS))
def test_killed_before_any_step_of_publication(tmp_path, targets, steps):
    assert publish(tmp_path, steps).returncode == -9
    assert beside(targets) != []
    with sole_run(tmp_path):
        assert contents(targets) == ([["old"], ["old"]] if steps == 0 else [["new"], ["new"]])
    recover(*targets)
    assert beside(targets) == []


@pytest.mark.parametrize("steps", range(1, STEPS))
def test_those_who_read_finish_what_was_begun(tmp_path, targets, steps):
    publish(tmp_path, steps)
    settle(tmp_path)
    assert contents(targets) == [["new"], ["new"]]


def test_many_finish_at_once(tmp_path):
    """Such as the processes that read, and the one that had begun. None takes away what another one put in place."""
    for i in range(20):
        target = tmp_path / str(i) / "set"
        for place, name in ((target, "old"), (target.with_name(".set.1.staged"), "new")):
            place.mkdir(parents=True)
            (place / name).touch()
        target.with_name(".set.1.journal").touch()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(finish, [target] * 8))
        assert contents([target]) == [["new"]] and beside([target]) == []


def test_what_a_journal_announces_is_on_the_disk(targets, monkeypatch):
    steps, touch = [], Path.touch
    monkeypatch.setattr(publishing, "sync", steps.append)
    monkeypatch.setattr(Path, "touch", lambda path: (steps.append("journal"), touch(path)))
    with replacing(*targets) as staged:
        for folder in staged:
            (folder / "new").write_text("new")
    before = steps[: steps.index("journal")]
    assert {*staged, *(folder / "new" for folder in staged), *(target.parent for target in targets)} == set(before)
    assert steps[len(before) :] == ["journal", targets[0].parent]


def test_recovery_can_be_killed_too(tmp_path, targets, monkeypatch):
    publish(tmp_path, 2)
    rename, left = os.rename, []
    monkeypatch.setattr(os, "rename", lambda *args: left.pop()(*args))
    for allowed in range(3):
        left[:] = [rename] * allowed
        if allowed < 2:
            with pytest.raises(IndexError):
                recover(*targets)
    recover(*targets)
    assert contents(targets) == [["new"], ["new"]]
    assert beside(targets) == []


def test_what_a_killed_run_had_staged_is_removed_by_the_next(tmp_path, targets):
    left = targets[0].with_name(f".{targets[0].name}.99999.staged")
    left.mkdir(parents=True)
    with replacing(*targets):
        assert not left.exists()


def test_undisturbed_publication_has_the_steps_that_are_killed_here(tmp_path, targets):
    assert publish(tmp_path, 99).stdout.split() == [str(STEPS)]
    assert contents(targets) == [["new"], ["new"]]
    assert beside(targets) == []


def test_first_publication_has_nothing_to_replace(tmp_path):
    targets = places(tmp_path, "smoke")
    with replacing(*targets) as staged:
        assert all(folder.is_dir() for folder in staged)
        assert contents(targets) == [None, None]
        (staged[0] / "figure").touch()
    assert contents(targets) == [["figure"], []]


def test_keeping_starts_from_what_is_there(targets):
    with replacing(*targets, keep=True) as staged:
        (staged[0] / "new").touch()
    assert list(map(sorted, contents(targets))) == [["new", "old"], ["old"]]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_error_leaves_everything_as_it_was(targets, error):
    with pytest.raises(error), replacing(*targets) as staged:
        (staged[0] / "half").touch()
        raise error
    assert contents(targets) == [["old"], ["old"]]
    assert beside(targets) == []


def test_full_disk_at_the_journal_publishes_nothing(targets, monkeypatch):
    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    with pytest.raises(OSError, match="No space left"), replacing(*targets):
        pass
    assert contents(targets) == [["old"], ["old"]]
    assert beside(targets) == []


def test_recovery_leaves_other_profiles_alone(targets):
    """Also one whose name begins with this one's."""
    others = [target.with_name(".smoke.1.2.staged") for target in targets]
    for other in others:
        other.mkdir()
    targets[0].with_name(".smoke.3.staged").mkdir()
    recover(*targets)
    assert beside(targets) == [".smoke.1.2.staged"] * 2


@pytest.mark.parametrize("name", [b".\xff.1.journal", b"....1.journal", b"..a b.1.journal"])
def test_a_journal_of_what_is_no_profile_is_nobodys(tmp_path, targets, name):
    (tmp_path / "figures" / os.fsdecode(name)).touch()
    settle(tmp_path)
    with sole_run(tmp_path):
        assert contents(targets) == [["old"], ["old"]]
    assert os.listdir(os.fsencode(tmp_path / "figures")).count(name) == 1


def test_whatever_the_lock_says_is_one_line(tmp_path):
    with sole_run(tmp_path):
        (tmp_path / "figures" / ".lock").write_bytes(b"\xff\n/")
        with pytest.raises(InputError, match=r"is in use by .*; accepted: another --out"):
            sole_run(tmp_path).__enter__()


def test_one_run_at_a_time(tmp_path):
    refused = rf"^out = {tmp_path} is in use by process {os.getpid()} on .* since .*; accepted: another --out, or"
    with sole_run(tmp_path), sole_run(tmp_path / "other"), pytest.raises(InputError, match=refused):
        sole_run(tmp_path).__enter__()
    with sole_run(tmp_path):
        pass


def test_lock_ends_with_its_holder(tmp_path):
    hold = (
        "from jsigr_lib.records.publishing import sole_run; from pathlib import Path\n"
        f"with sole_run(Path({str(tmp_path)!r})):"
    )
    holder = subprocess.Popen([sys.executable, "-c", f"{hold} print(flush=True); input()"], stdin=-1, stdout=-1)
    holder.stdout.readline()
    with pytest.raises(InputError, match=f"process {holder.pid} on "), sole_run(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with sole_run(tmp_path):
        pass


def test_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^cannot write to .*file.* \(.*\); accepted: a writable folder$"):
        writable(tmp_path / "file" / "figures")
    writable(tmp_path / "new" / "figures")
    assert os.listdir(tmp_path / "new" / "figures") == []
    assert publishing.journals(tmp_path / "nowhere") == []
