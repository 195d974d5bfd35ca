"""Nothing waits for a file or is drowned by one; nothing is left half written."""

import os
import subprocess
import sys

import pytest

from jsigr_lib.store.files import alone, contents, opened, replace
from tests.strangers import each_stranger, promptly


@each_stranger
def test_what_is_no_regular_file_of_a_sensible_size_is_refused_at_once(tmp_path, stranger):
    path = tmp_path / "file"
    stranger(path)
    with promptly(), pytest.raises((OSError, ValueError)):
        contents(path, 2**20)


def test_a_file_may_have_as_many_bytes_as_it_may(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"four")
    assert contents(path, 4) == contents(str(path), 5) == b"four"
    with pytest.raises(ValueError, match=r"^file has more than 3 bytes$"):
        contents(path, 3)
    if os.path.exists("/proc/self/maps"):  # which says that it has none
        with pytest.raises(ValueError, match="more than 100 bytes"):
            contents("/proc/self/maps", 100)


def test_a_link_to_a_file_is_one(tmp_path):
    replace(tmp_path / "new" / "file", b"content")
    (tmp_path / "link").symlink_to("new/file")
    assert contents(tmp_path / "link", 100) == b"content"
    assert os.listdir(tmp_path / "new") == ["file"]


def test_a_lock_ends_with_its_process(tmp_path):
    path = tmp_path / "file"
    path.touch()
    code = f"import sys\nfrom jsigr_lib.store.files import alone\nfile = open({str(path)!r}, 'ab')\n"
    code += "print(alone(file), flush=True)\nsys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    with opened(path) as file:
        assert not alone(file)
    holder.kill()
    holder.communicate()
    with opened(path) as file:
        assert alone(file)


def test_what_is_written_reaches_the_disk_before_it_is_named(tmp_path, monkeypatch):
    steps, fsync, rename = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda one: (steps.append(os.readlink(f"/proc/self/fd/{one}")), fsync(one)))
    monkeypatch.setattr(os, "replace", lambda *args: (steps.append("rename"), rename(*args)))
    replace(tmp_path / "file", b"content")
    assert steps[0].endswith(".tmp") and steps[1:] == ["rename"]
