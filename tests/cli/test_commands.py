"""The command line as a whole: help, options, completion, and what a command costs to start."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from command_line import Command
from dpmodel.cli.app import app
from dpmodel.cli.commands import imported

WATER = Path(__file__).parents[1] / "reference" / "trained" / "single.dp"
# deepmd-kit has these twice, too: --restart and --rcut; --finetune and --training-script
DOUBLE = {"-r": {"restart", "rcut"}, "-t": {"finetune", "training-script"}, "-f": {"force", "format"}}


def leaves() -> dict[str, Any]:
    """Every command by the words that call it."""
    group: Any = get_command(app)
    commands = {name: imported(file, name) for name, (file, _) in group.files.items()}
    data = commands.pop("data")
    return commands | {f"data {name}": imported(file, name) for name, (file, _) in data.files.items()}


COMMANDS = leaves()
every_command = pytest.mark.parametrize("name", COMMANDS)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    return Command(capsys)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "error", "-m", "dpmodel", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=True, env=os.environ | environment)


def test_help_of_everything_fits_a_terminal(command: Command) -> None:
    text = command("-h").out
    assert command("--help").out == text
    assert max(map(len, text.splitlines())) <= 80
    for name in COMMANDS:
        words = name.split()
        shown = [line for line in text.splitlines() if line.startswith(f"│ {words[0]} ")]
        assert len(shown) == 1, f"{name} has no line of its own"
        if len(words) == 1:
            assert shown[0].rstrip("│ ").endswith("."), f"the line of {name} is cut"


@every_command
def test_help_of_a_command(command: Command, name: str) -> None:
    """It fits, it begins with the line of the list, and it has an example that calls the command."""
    text = command(*name.split(), "-h").out
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text, "the name of an option is cut"
    assert "angstrom" not in text.lower()
    assert COMMANDS[name].help.splitlines()[0] in text
    assert f"dpmodel {name}" in text.split("Examples:")[1]


@every_command
def test_options_are_explained(name: str) -> None:
    for parameter in COMMANDS[name].params:
        assert parameter.help, f"{name}: {parameter.name}"


def test_a_letter_has_one_meaning() -> None:
    meanings: dict[str, set[str]] = {}
    for command in COMMANDS.values():
        for parameter in command.params:
            for letter in (option for option in parameter.opts if len(option) == 2):
                longest = next(option for option in parameter.opts if option.startswith("--"))
                meanings.setdefault(letter, set()).add(longest.removeprefix("--"))
    for letter, names in meanings.items():
        assert len(names) == 1 or names <= DOUBLE.get(letter, set()), f"{letter} is {', '.join(names)}"


def test_an_option_is_spelt_in_one_way() -> None:
    """The same letter and the same words in every command that has it."""
    declared: dict[str, Any] = {}
    shared = {"head", "backend", "device", "precision", "index", "force", "as_json", "systems", "output"}
    for name, command in COMMANDS.items():
        for parameter in command.params:
            if parameter.name in shared and parameter.opts[0].startswith("-"):
                assert declared.setdefault(parameter.name, parameter.opts) == parameter.opts, (
                    f"{name}: {parameter.name}"
                )


@every_command
def test_options_stand_in_the_same_order(name: str) -> None:
    """What is read, what is written, then the library and the machine."""
    names = [parameter.name for parameter in COMMANDS[name].params]
    order = ["systems", "index", "head", "output", "detail", "force", "as_json", "backend", "device", "precision"]
    places = [order.index(option) for option in names if option in order and option != "output"]
    assert places == sorted(places), names


@pytest.mark.parametrize(
    ("words", "expected"),
    [("dpmodel c", {"compare", "compress"}), ("dpmodel data c", {"check"}), ("dpmodel train --re", {"--restart"})],
)
def test_completion(words: str, expected: set[str]) -> None:
    count = str(len(words.split()) - 1)
    result = run(_DPMODEL_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count)
    assert expected <= set(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], {"numpy", "pydantic", "h5py", "dpmodel.potential"}),
        (["show", str(WATER)], {"dpmodel.train", "dpmodel.testing", "dpmodel.potential", "vesin", "ase", "torch"}),
        (["schema"], {"dpmodel.potential", "dpmodel.testing", "ase", "torch"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_imports_what_it_needs(arguments: list[str], absent: set[str]) -> None:
    """The time to start is the time of imports."""
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('imported:', *sys.modules, file=sys.stderr))\n"
        "from dpmodel.cli.app import main\n"
        "main()"
    )
    line = [sys.executable, "-c", program, *arguments]
    result = subprocess.run(line, capture_output=True, text=True, check=True)
    modules = set(result.stderr.partition("imported: ")[2].split())
    assert "dpmodel.cli.app" in modules
    assert not modules & absent
