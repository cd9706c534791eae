"""Make water.dp: a small DPA-2 model of water with the statistics of the training data, its parameters still random.

Run ``OMP_NUM_THREADS=1 python make_model.py``; seconds.  It is where training starts, and fast enough to try things on.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from dpmodel.data.systems import Frame, System, find_systems
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import write_model
from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from dpmodel.train.neighbors import Crowding, crowding, resolved
from dpmodel.train.statistics import statistics, with_statistics

HERE = Path(__file__).parent

SETTINGS: dict[str, Any] = {
    "type_map": ["O", "H"],
    "descriptor": {
        "type": "dpa2",
        "repinit": {
            "rcut": 5.0,
            "rcut_smth": 0.5,
            "nsel": "auto",
            "neuron": [8, 16, 32],
            "axis_neuron": 4,
            "use_three_body": True,
            "three_body_neuron": [2, 4, 8],
            "three_body_rcut": 3.5,
            "three_body_rcut_smth": 0.5,
            "three_body_sel": "auto",
        },
        "repformer": {
            "rcut": 3.5,
            "rcut_smth": 0.5,
            "nsel": "auto",
            "nlayers": 3,
            "g1_dim": 32,
            "g2_dim": 16,
            "axis_neuron": 4,
            "attn1_hidden": 16,
            "attn1_nhead": 2,
            "attn2_hidden": 8,
            "attn2_nhead": 2,
            "update_h2": False,
            "update_g1_has_attn": False,
            "update_g2_has_g1g1": False,
            "update_g2_has_attn": False,
            "update_style": "res_residual",
            "update_residual": 0.01,
            "update_residual_init": "norm",
            "use_sqrt_nnei": True,
            "g1_out_conv": True,
            "g1_out_mlp": True,
        },
    },
    "fitting_net": {"neuron": [32, 32, 32]},
}


def model_of(frames: list[Frame], settings: ModelSettings, found: Crowding, seed: int) -> ModelFile:
    """A model of random parameters with the statistics of ``frames``."""
    settings = resolved(settings, found)
    model = with_statistics(build(settings, seed), settings, statistics(frames, settings))
    variables = {"min_nbor_dist": np.asarray(found.shortest)}
    return ModelFile(settings, model, {"@variables": variables, "model_def_script": settings.model_dump()})


def main(
    data: Annotated[Path, typer.Option(help="Folder with the training systems.")] = HERE / "data",
    pattern: Annotated[str, typer.Option(help="Which folders in it are systems to train on.")] = "train_*",
    output: Annotated[Path, typer.Option(help="Where the model goes.")] = HERE / "water.dp",
    seed: Annotated[int, typer.Option(help="Seed of the parameters.")] = 1,
) -> None:
    """Make the model."""
    settings = ModelSettings.read(SETTINGS, "model")
    paths = find_systems(str(data), [pattern])
    frames = [frame for path in paths for frame in System(path, settings)]
    found = crowding([frame.structure for frame in frames], [cutoff for cutoff, _, _ in settings.descriptor.selections])
    made = model_of(frames, settings, found, seed)
    write_model(output, made)
    sizes = ", ".join(f"{path} = {nsel}" for _, nsel, path in made.settings.descriptor.selections)
    print(
        f"{output}: {output.stat().st_size / 1000:.0f} kB, from {len(frames)} frames of {len(paths)} systems; {sizes}"
    )


if __name__ == "__main__":
    typer.run(main)
