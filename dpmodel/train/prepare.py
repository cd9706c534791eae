"""From an input file to a run that is ready to start."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpmodel.backend import Engine
from dpmodel.errors import SettingError
from dpmodel.train.checkpoint import Checkpoint, latest, read
from dpmodel.train.loop import Training
from dpmodel.train.script import Script
from dpmodel.train.start import fresh_models, loaded_models, look, open_data, settle, settled_by_file

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Origin:
    """Where the models come from: at most one of these, a fresh start if there is none.

    ``restart``: go on with a run, to the same numbers as without the interruption; ``init_model``: its parameters and
    statistics, but a new run.
    """

    restart: Path | None = None
    init_model: Path | None = None

    @property
    def path(self) -> Path | None:
        return self.restart or self.init_model


def prepare(script: Script, engine: Engine, origin: Origin = Origin(), tell: Tell = lambda _: None) -> Training:
    """The run that ``script`` describes, its data opened, its models made or read; raises what is wrong with them."""
    if origin.restart and origin.init_model:
        raise SettingError("restart and init_model say different things: give only one of them")
    data = open_data(script)
    for name, d in data.items():
        frames = sum(len(source.frames) for source in d.train.sources)
        tell(f"{name}: {frames} frames of {d.systems} systems, {d.train.epoch} batches to see all of them")
    if origin.path is not None:
        file = latest(origin.path)
        found = read(file)
        script = settled_by_file(script, found.models, str(file))
        models = loaded_models(script, found.models, str(file))
        if not origin.restart:
            return Training(script, data, Checkpoint(models), engine)
        if not found.optimizer:
            tell(f"{file} says nothing of the optimizer: it starts anew at step {found.step}")
        start = Checkpoint(models, found.step, found.optimizer, found.ema)
        return Training(script, data, start, engine, append=True)
    crowd = look(data, script)
    script = settle(script, crowd)
    tell(f"closest atoms: {crowd.shortest:.3f} angstrom; most neighbors: {_listed(crowd.most)}")
    return Training(script, data, Checkpoint(fresh_models(script, data, crowd)), engine)


def _listed(most: dict[float, int]) -> str:
    return ", ".join(f"{n} within {cutoff:g} angstrom" for cutoff, n in most.items())
