"""The JSON schema of the input file."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from dpmodel.interfaces.cli import app


def printed(*options: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["schema", *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def at(schema: dict[str, Any], *path: str) -> dict[str, Any]:
    """The part of the schema for the setting at ``path``, through references."""
    part = schema
    for name in path:
        part = part["properties"][name]
        while "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
    return part


def test_of_one_task() -> None:
    schema = printed()
    assert at(schema, "training", "gradient_max_norm")["description"]
    assert at(schema, "model", "type_map")["type"] == "array"
    assert not at(schema, "training")["additionalProperties"]
    assert set(schema["required"]) == {"model", "learning_rate", "training"}


@pytest.mark.parametrize("part", ["type_map", "descriptor", "fitting_net"])
def test_branches_may_name_what_they_share(part: str) -> None:
    branch = printed("--multi-task")["$defs"]["ModelSettings"]["properties"][part]
    assert {"type": "string"} in branch["anyOf"]
