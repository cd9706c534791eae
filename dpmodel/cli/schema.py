"""What is generated from the settings of the input file: its JSON schema and its reference page."""

from typing import Any

from dpmodel.settings import reference
from dpmodel.train.script import OLD_PLACES, SHARED, MultiScript, SingleScript


def schema(several: bool) -> dict[str, Any]:
    """The JSON schema of the input file of training, of one task or of ``several``."""
    made = (MultiScript if several else SingleScript).model_json_schema()
    sections = made["$defs"]
    training = sections["MultiTraining" if several else "TrainingSettings"]["properties"]
    for key, place in OLD_PLACES.items():
        training[key] = {"deprecated": True, "description": f"Now {'.'.join(place)}."}
    if several:
        branch = sections["ModelSettings"]
        for part in SHARED:  # the name of an entry of shared_dict
            branch["properties"][part] = {"anyOf": [branch["properties"][part], {"type": "string"}]}
        del branch["required"]  # what stands beside model_dict counts for all branches
        sections["MultiModel"]["properties"] |= branch["properties"]
    return made


def training_reference() -> str:
    """Markdown tables of every setting of the input file but those of ``model``."""
    return reference(SingleScript, "input", leave_out=("model",))
