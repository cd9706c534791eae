"""An input file for the data there are: what ``dpmodel train INPUT --from DATA`` writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dpmodel.data.systems import System, find_systems
from dpmodel.dpa2.sizes import NARROW, WIDE, Size, commented, sized
from dpmodel.errors import FileError
from dpmodel.io.files import expect_free, replacing
from dpmodel.model.settings import ModelSettings
from dpmodel.statistics.neighbors import NeighborStatistics, neighbor_statistics, resolve_auto_nsel
from dpmodel.train.script import load_script

HELD_OUT = "valid"  # what the names of folders with validation data begin with
ATOMS = 64  # in a batch, at least

TEMPLATE = """\
# Input of dpmodel train (and of deepmd-kit 3.2) for {n_frames} frames of {names}.
model:
  type_map: [{elements}]  # the elements that occur in the data
  descriptor:
{descriptor}  fitting_net:
    neuron: [240, 240, 240]
    resnet_dt: true
    precision: float64
    seed: 1

learning_rate:
  type: exp
  start_lr: 0.001
  stop_lr: 3.51e-08
  decay_steps: 5000

loss:  # from forces to energies as the learning rate falls; a term with zeros is off
  type: ener
  start_pref_e: 0.02
  limit_pref_e: 1
  start_pref_f: {force[0]}
  limit_pref_f: {force[1]}
  start_pref_v: {virial[0]}
  limit_pref_v: {virial[1]}

training:
  training_data:
    systems:{training}
    batch_size: "auto:{atoms}"  # as many frames as have {atoms} atoms together{validation}
  numb_steps: 100000  # more for much data: an atom's forces are seen again and again
  gradient_max_norm: 5.0
  seed: 1
  disp_file: lcurve.out
  disp_freq: 100
  save_freq: 1000
"""


class Data(NamedTuple):
    """The contents of the systems: names of the types that occur, frames, numbers of atoms, labels in all of them."""

    elements: list[str]
    n_frames: int
    n_atoms: tuple[int, int]
    labels: set[str]
    neighbors: NeighborStatistics


def write_input(output: Path, data: Path, size: Size) -> list[str]:
    """Write the input file ``output``, YAML, for the systems in ``data``; lines that say what was chosen.

    Raises FileError where there is such a file, or no labeled data.
    """
    expect_free(output, overwrite=False)
    if output.suffix not in (".yaml", ".yml"):
        raise FileError(f"{output}: comments need YAML: name a file ending in .yaml")
    paths = find_systems([str(data)])
    held_out = [path for path in paths if any(part.startswith(HELD_OUT) for part in Path(path).parts[-2:])]
    training = [path for path in paths if path not in held_out] or paths
    held_out = held_out if training is not paths else []
    survey = survey_of(training)
    model = model_of(survey, size)
    text = page(survey, model, size, training, held_out)
    with replacing(output, overwrite=False) as file:
        file.write(text.encode())
    load_script(output)  # what was written is an input
    return summary(survey, model, size, training, held_out)


def survey_of(paths: Sequence[str]) -> Data:
    """Read all frames of the systems in ``paths``."""
    systems = [System(path) for path in paths]
    labels = set.intersection(*(set(system.labels) for system in systems))
    if "energy" not in labels:
        common = ", ".join(sorted(labels)) or "none"
        raise FileError(f"{paths[0]}: expected energies in all systems, to learn from, found {common}")
    elements: dict[str, None] = {}
    neighbors = NeighborStatistics({WIDE: 0, NARROW: 0})
    for system in systems:
        for i in range(system.n_frames):
            counts = zip(system.type_map, system.counts(i), strict=True)
            elements |= dict.fromkeys(name for name, count in counts if count)
            neighbors |= neighbor_statistics([system.frame(i).structure], [WIDE, NARROW], system.where(i, "coord"))
    sizes = [system.n_atoms for system in systems]
    return Data(list(elements), sum(s.n_frames for s in systems), (min(sizes), max(sizes)), labels, neighbors)


def model_of(data: Data, size: Size) -> ModelSettings:
    """The model, with numbers of neighbors that fit the data."""
    fitting = {"neuron": [240, 240, 240]}
    model = {"type_map": data.elements, "descriptor": sized(size), "fitting_net": fitting}
    return resolve_auto_nsel(ModelSettings.read(model, "model"), data.neighbors)


def summary(
    data: Data, model: ModelSettings, size: Size, training: Sequence[str], held_out: Sequence[str]
) -> list[str]:
    """Lines for people: what the data are, and what was chosen."""
    fewest, largest = data.n_atoms
    atoms = f"{fewest}" if fewest == largest else f"{fewest} to {largest}"
    validation = f"{len(held_out)} systems named {HELD_OUT}..." if held_out else "none: hold some data out, if you can"
    return [
        f"data: {data.n_frames} frames in {len(training)} systems of {atoms} atoms, {', '.join(data.elements)}",
        f"closest atoms {data.neighbors.shortest:.3f} Å; labels: {', '.join(sorted(data.labels))}",
        f"size: {size}",
        *(
            f"{path}: {nsel} within {cutoff:g} Å (atoms have up to {data.neighbors.most[cutoff]})"
            for cutoff, nsel, path in model.descriptor.selections
        ),
        f"batches: frames of at least {ATOMS} atoms together; validation: {validation}",
    ]


def page(data: Data, model: ModelSettings, size: Size, training: Sequence[str], held_out: Sequence[str]) -> str:
    """The input file with a comment on each choice."""

    def listed(names: Sequence[str]) -> str:
        return "".join(f"\n      - {quoted(name)}" for name in names)

    return TEMPLATE.format(
        n_frames=data.n_frames,
        names=", ".join(data.elements),
        elements=", ".join(map(quoted, data.elements)),
        descriptor=commented(model.descriptor, size, data.neighbors.most),
        force=(1000, 1) if "force" in data.labels else (0, 0),
        virial=(0.02, 1) if "virial" in data.labels else (0, 0),
        atoms=ATOMS,
        training=listed(training),
        validation=f"\n  validation_data:\n    systems:{listed(held_out)}\n    batch_size: 1" if held_out else "",
    )


def quoted(name: str) -> str:
    """A YAML string: "NO" is nitrogen oxide, or a name of a type, and not a refusal."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
