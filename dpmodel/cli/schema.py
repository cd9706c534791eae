"""Print the JSON schema of training's input file.

Editors check and complete with it.

Examples:
    dpmodel schema > input.schema.json
"""

import json
from typing import Annotated, Any

import typer

from dpmodel.settings_reference import reference
from dpmodel.train.script import OLD_PLACES, SHARED, MultiScript, SingleScript


def main(
    several: Annotated[bool, typer.Option("--multi-task", help="Of the input file of several tasks.")] = False,
) -> None:
    print(json.dumps(schema(several), indent=2))


def schema(several: bool) -> dict[str, Any]:
    """The JSON schema of the input file of training, of one task or of ``several``."""
    schema_of = (MultiScript if several else SingleScript).model_json_schema()
    sections = schema_of["$defs"]
    training = sections["MultiTraining" if several else "TrainingSettings"]["properties"]
    for key, path in OLD_PLACES.items():
        training[key] = {"deprecated": True, "description": f"Now {'.'.join(path)}."}
    if several:
        branch = sections["ModelSettings"]
        for part in SHARED:  # the name of an entry of shared_dict
            branch["properties"][part] = {"anyOf": [branch["properties"][part], {"type": "string"}]}
        del branch["required"]  # what is beside model_dict counts for all branches
        sections["MultiModel"]["properties"] |= branch["properties"]
    return schema_of


def training_reference() -> str:
    """Markdown tables of every setting of the input file but those of ``model``."""
    return reference(SingleScript, "input", leave_out=("model",))
