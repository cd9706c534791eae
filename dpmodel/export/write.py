"""An exported file is put in its place only after a fresh process loaded it and it passed its own test."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

from dpmodel.errors import FileError, InputError
from dpmodel.export.forms import FORMS, Options, exporter_of, form_of
from dpmodel.export.record import add_record, record_of
from dpmodel.io.deepmd import ModelFile, to_tree
from dpmodel.io.files import staged
from dpmodel.io.inside import put_model

MINUTES = 30  # for a program to be loaded and to answer


@dataclass(frozen=True)
class Report:
    """The export: seconds that it took, bytes, and the results of the fresh process."""

    form: str
    seconds: float
    size: int
    load_seconds: float
    first_seconds: float  # of the first call
    worst: float  # largest difference from NumPy, relative to the largest number of its kind


def export(
    path: str | PathLike[str],
    file: ModelFile,
    form: str | None = None,
    *,
    options: Options | None = None,
    overwrite: bool = False,
    with_model: bool = False,
) -> Report:
    """Write ``file`` as a program to ``path`` in the ``form`` that is named, or that the suffix says.

    ``with_model``: put the model itself in as well, for dpmodel to read without running the program.

    Raises
    ------
    InputError
        In one line, for a model that cannot be written so.
    BackendError
        If the libraries of the form are missing.
    FileError
        If the file cannot be written, or what was written did not pass its test; then there is no file.
    """
    form, options = form_of(path, form), options or Options()
    kind = file.settings.fitting_net.type
    if FORMS[form].forces_only and kind != "ener":
        raise InputError(f"a {kind} model cannot be exported for {form}, which asks for energies and forces")
    exporter = exporter_of(form)
    with staged(path, overwrite) as temporary:
        start = time.perf_counter()
        exporter.write(temporary, file, options)
        seconds = time.perf_counter() - start
        add_record(temporary, record_of(file, form, exporter.versions()))
        if with_model:
            put_model(temporary, to_tree(file))
        report = tried(temporary)
        size = temporary.stat().st_size
    return Report(form, seconds, size, **report)


def tried(path: Path) -> dict[str, float]:
    """The report of a fresh process, which loads ``path`` and runs its test.  Raises FileError."""
    command = [sys.executable, "-W", "ignore", "-m", "dpmodel.export.trial", fspath(path)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60 * MINUTES, check=False)
    except subprocess.TimeoutExpired:
        raise FileError(f"{path}: not written: its test took more than {MINUTES} minutes") from None
    lines = ran.stdout.splitlines()
    if ran.returncode or not lines:
        reason = (ran.stderr.strip().splitlines() or [f"the process ended with {ran.returncode}"])[-1]
        raise FileError(f"{path}: not written: in a fresh process: {reason}")
    result: dict[str, float] = json.loads(lines[-1])
    return result
