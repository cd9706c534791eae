"""The output bias fitted to data, given what the model already says (spec training.md 7.5)."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from dpmodel.backend import Engine
from dpmodel.data.selection import selection
from dpmodel.data.systems import Frame
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.predict import atomic_output, frame_energy
from dpmodel.module import Rebuilder, state
from dpmodel.train.collate import collate
from dpmodel.train.learner import native
from dpmodel.train.loss import Batch
from dpmodel.train.statistics import output_bias
from dpmodel.xp import Array


def with_fitted_bias(file: ModelFile, frames: Iterable[Frame], engine: Engine) -> ModelFile:
    """``file`` with what its energies lack, by least squares, added to its output bias; frames without energy do not
    count."""
    chosen, model = selection(file.settings), file.model
    held = {path: engine.native(value) for path, value in state(model).items()}
    rebuild = Rebuilder(model)

    def energy(held: dict[str, Array], batch: Batch) -> Array:
        return frame_energy(atomic_output(rebuild(held), batch.graph, batch.positions)[:, 0], batch.graph)

    function, counts, missing = engine.compile(energy), [], []
    for frame in frames:
        if "energy" in frame.labels:
            found = function(held, native(collate([frame], chosen, rounded=engine.rounds_shapes), engine))
            missing.append(float(frame.labels["energy"]) - float(engine.numpy(found)[0]))
            types = frame.structure.types
            counts.append(np.bincount(types[types >= 0], minlength=model.n_types))
    if not missing:
        return file
    settings = file.settings
    bias, _ = output_bias(
        np.array(counts), np.array(missing), excluded=settings.atom_exclude_types, rcond=settings.fitting_net.rcond
    )
    return ModelFile(settings, replace(model, out_bias=model.out_bias + bias[:, None]), file.extras)
