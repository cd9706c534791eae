"""What is generated from the settings of the input file: its JSON schema and its reference page."""

from typing import Any

from dpmodel.settings import reference
from dpmodel.train.script import SHARED, MultiScript, SingleScript


def schema(several: bool) -> dict[str, Any]:
    """The JSON schema of the input file of training, of one task or of ``several``."""
    if not several:
        return SingleScript.model_json_schema()
    made = MultiScript.model_json_schema()
    branch = made["$defs"]["ModelSettings"]
    for part in SHARED:  # the name of an entry of shared_dict
        branch["properties"][part] = {"anyOf": [branch["properties"][part], {"type": "string"}]}
    return made


def training_reference() -> str:
    """Markdown tables of every setting of the input file but those of ``model``."""
    return reference(SingleScript, "input", leave_out=("model",))
