"""Files as a whole: what they are, and writing them so that no half-written one is ever seen."""

import codecs
import contextlib
import os
import platform
import secrets
import shutil
import signal
import stat
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dpmodel.errors import DpmodelError, FileError, printable

LONGEST_TEXT = 2**28  # bytes
ZIP = "a zip archive (PyTorch's .pt and .pth are)"
_SIGNATURES = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"PK\x03\x04": ZIP,
    b"PK\x05\x06": "an empty zip archive",
    b"\x80\x02": "a Python pickle (old PyTorch or Paddle)",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"\x93NUMPY": "a NumPy array file",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\x7fELF": "a program or shared library",
    b"- of Ulm": "a trajectory of ASE",
    b"SQLite format 3": "an SQLite database (ASE's .db are)",
    b"CDF": "a NetCDF file",
}


def sniff(path: str | os.PathLike[str]) -> str:
    """The content of the file at ``path``, in words; FileError where there is no readable file."""
    path = Path(path)
    try:
        expect_no_other(path, "a file")
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError:
        raise FileError(f"{path}: there is no such file") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    if not head:
        return "an empty file"
    for signature, words in _SIGNATURES.items():
        if head.startswith(signature):
            return words
    return _sniff_text(head)


def expect_no_other(path: Path, words: str) -> None:
    """Raise FileError where ``path`` is something else than a file: reading a pipe would wait, a device never ends."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # the name is too long, or links go round, or it has a null in it
        raise FileError(f"{path}: cannot be used: {getattr(error, 'strerror', error)}") from None
    if not stat.S_ISREG(mode):
        actual = "a directory" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise FileError(f"{path}: expected {words}, found {actual}")


def read_text(path: str | os.PathLike[str]) -> str:
    """The UTF-8 text in a file; raises FileError."""
    expect_no_other(Path(path), "a file")
    try:
        if (size := os.path.getsize(path)) > LONGEST_TEXT:
            raise FileError(f"{path}: expected a text, found {size} bytes")
        return Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read as text: {error}") from error


def _sniff_text(head: bytes) -> str:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return "unknown binary data"
    if "\0" in text:
        return "unknown binary data"
    return "JSON text" if text.lstrip().startswith("{") else "text"


def expect_content(path: str | os.PathLike[str], wanted: tuple[str, ...], words: str) -> None:
    """Raise FileError unless ``sniff`` finds one of ``wanted``; ``words`` say what should have been there."""
    actual = sniff(path)
    if actual not in wanted:
        raise FileError(f"{path}: expected {words}, found {actual}")


@contextlib.contextmanager
def damaged(path: str | os.PathLike[str], words: str) -> Iterator[None]:
    """Turn whatever a library raises on a file into FileError; ``words`` say what the file should be."""
    try:
        yield
    except (DpmodelError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  on a damaged file h5py and zipfile raise nearly anything
        raise FileError(f"{path}: cannot be read as {words}: {str(error)[:200] or type(error).__name__}") from None


def expect_free(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """The file that ``path`` means, links followed; FileError if it must not or can not be written there."""
    expect_no_other(Path(path), "a file or a new name")
    target = Path(os.path.realpath(path))
    if target.exists() and not overwrite:
        raise FileError(f"{path}: exists already; choose another name, or replace it with --force (overwrite=True)")
    if not target.parent.is_dir():
        raise FileError(f"{path}: cannot be written: No such file or directory: {target.parent}")
    if not os.access(target.parent, os.W_OK):
        raise FileError(f"{path}: cannot be written: no permission to write in {target.parent}")
    return target


def expect_folder(path: str | os.PathLike[str]) -> None:
    """Raise FileError unless there is a folder ``path`` to write in, or one can be made."""
    here = Path(path).absolute()
    while not here.exists() and here != here.parent:
        here = here.parent
    if not here.is_dir():
        raise FileError(f"{path}: expected a folder or a new name, but {here} is a file")
    if not os.access(here, os.W_OK):
        raise FileError(f"{path}: cannot be written: no permission to write in {here}")


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make the folder ``path``, and those above it, if they are not there; FileError where that cannot be."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path}: expected a folder, or a place where one can be made: {error.strerror}") from error


def beside(target: Path) -> Path:
    """A name in the folder of ``target`` for what is not finished yet; those of processes that died are removed."""
    host = f".dpmodel-{zlib.crc32(platform.node().encode()):08x}-"
    for left in target.parent.glob(f"{host}*-*"):
        if not _is_alive(left.name.removeprefix(host).partition("-")[0]):
            _remove(left)
    return target.with_name(f"{host}{os.getpid()}-{secrets.token_hex(4)}{''.join(target.suffixes[-2:])[-20:]}")


def _is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except OSError:
        pass  # of another user
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _ending_well() -> Iterator[None]:
    """SIGTERM leaves the block as an exception does, rather than ending the process at once."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def staged(path: str | os.PathLike[str], overwrite: bool = True) -> Iterator[Path]:
    """A name with the same suffix; what is there becomes ``path`` if the block ends well, and vanishes if it does not.

    It is beside the target and then renamed: readers see the old file or the new one.  A link is followed, the mode of
    an existing file is kept.
    """
    target = expect_free(path, overwrite)
    temporary = beside(target)
    try:
        with _ending_well():
            yield temporary
            if expect_free(path, overwrite).exists():  # what was free may not be any more
                temporary.chmod(target.stat().st_mode & 0o7777)
            temporary.replace(target)
            _sync_folder(target.parent)
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error
    except FileError as error:  # nobody knows the temporary name
        raise FileError(str(error).replace(printable(str(temporary)), os.fspath(path))) from None
    finally:
        _remove(temporary)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], overwrite: bool = True) -> Iterator[BinaryIO]:
    """A binary file that becomes ``path``, as ``staged`` says, once it has been flushed to the disk."""
    with staged(path, overwrite) as temporary, temporary.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut; file systems that cannot do it are left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
