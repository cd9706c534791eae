"""Running the command ``dpmodel`` inside the tests."""

import sys
import warnings
from typing import NamedTuple
from unittest.mock import patch

import pytest

from dpmodel.cli.app import main


class Result(NamedTuple):
    code: int
    out: str
    err: str


class Command:
    """``command("eval", model, structure)`` is the exit code, and what went to both streams."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> Result:
        argv = ["dpmodel", *map(str, arguments)]
        with patch.object(sys, "argv", argv), warnings.catch_warnings(), pytest.raises(SystemExit) as end:
            main()
        return Result(int(end.value.code or 0), *self.capsys.readouterr())

    def refuses(self, *arguments: object) -> str:
        """The one line on standard error with which bad input is refused; nothing goes to standard output."""
        result = self(*arguments)
        assert result.code == 2, result
        assert result.out == ""
        assert result.err.startswith("error: "), result.err
        assert result.err.count("\n") == 1, result.err
        return result.err.removeprefix("error: ").strip()
