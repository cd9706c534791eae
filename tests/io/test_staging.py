"""Files that are being written: nothing of them is left, whatever ends the process, and any name will do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dpmodel.errors import FileError
from dpmodel.io.files import beside, replacing, staged

WAITING = """
import sys, time
from dpmodel.io.files import staged
with staged(sys.argv[1]) as path:
    path.write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def writing(target: Path) -> subprocess.Popen[str]:
    """A process that is in the middle of writing ``target``."""
    process = subprocess.Popen([sys.executable, "-c", WAITING, str(target)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str], number: signal.Signals) -> int:
    process.send_signal(number)
    with process:
        return process.wait(30)


def test_sigterm_leaves_nothing(tmp_path: Path) -> None:
    assert end(writing(tmp_path / "a.dp"), signal.SIGTERM) == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_goes_with_the_next_file(tmp_path: Path) -> None:
    process = writing(tmp_path / "a.dp")
    with replacing(tmp_path / "b.dp") as file:
        file.write(b"whole")
    assert len(list(tmp_path.iterdir())) == 2  # that of a process at work stays
    end(process, signal.SIGKILL)
    with replacing(tmp_path / "c.pt") as file:
        file.write(b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.dp", "c.pt"]


def test_folders_of_killed_processes_go_as_well(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = beside(tmp_path / "data")
    left = left.with_name(left.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-"))
    (left / "set.000").mkdir(parents=True)
    with staged(tmp_path / "data") as folder:
        folder.mkdir()
        (folder / "type.raw").write_text("0")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("letter", ["a", "é", "水", "𝔘"])
@pytest.mark.parametrize("suffix", [".dp", ".dp.json", ".pt"])
def test_the_longest_names(letter: str, suffix: str, tmp_path: Path) -> None:
    """255 bytes, in scripts of one to four bytes a letter."""
    name = letter * ((255 - len(suffix)) // len(letter.encode())) + suffix
    with staged(tmp_path / name) as path:
        assert path.name.endswith(suffix)
        path.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(FileError, match="name too long"), staged(tmp_path / f"{letter * 9}{name}"):
        pass


def test_sigterm_means_what_it_meant_afterwards(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with replacing(tmp_path / "a"):
        time.sleep(0)
    assert signal.getsignal(signal.SIGTERM) is before
