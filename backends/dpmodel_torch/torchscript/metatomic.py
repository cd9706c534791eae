"""An energy model as metatomic loads it: for its ASE calculator, LAMMPS, GROMACS, PLUMED, i-PI and TorchSim."""

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import (
    AtomisticModel,
    ModelCapabilities,
    ModelEvaluationOptions,
    ModelMetadata,
    ModelOutput,
    NeighborListOptions,
    System,
    load_atomistic_model,
)
from torch import Tensor, nn

from dpmodel.data.neighbors import ROUNDING
from dpmodel.data.structure import Structure
from dpmodel.dpa2.econf import SYMBOLS
from dpmodel.errors import InputError
from dpmodel.export.forms import Options
from dpmodel.export.record import Record
from dpmodel.graph import Graph
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.settings import ModelSettings
from dpmodel_torch.arrays import to_numpy
from dpmodel_torch.engine import find_device
from dpmodel_torch.torchscript import program
from dpmodel_torch.torchscript.program import Program, leaf, program_of, quiet, scripted

__all__ = ["MetatomicModel", "read", "versions", "write"]

Edges = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # centers, ends, vectors and slopes


class WholeProgram(Program):
    """Energies in one process, for whoever takes derivatives himself."""

    def forward(
        self,
        types: Tensor,
        first_type: Tensor,
        neighbors: Tensor,
        vectors: Tensor,
        distances: Tensor,
        fparam: Tensor,
        aparam: Tensor,
    ) -> Tensor:
        """Energies of all atoms (N,), from what ``select`` gives."""
        if not vectors.requires_grad:  # or TorchScript plans without derivatives, and gets those of later calls wrong
            vectors = leaf(vectors)
        counts = self.counts(distances)
        order = torch.argsort(counts[2])
        inverse = torch.argsort(order)
        rows = [order[k : k + self.group] for k in range(0, order.shape[0], self.group)]
        near: list[Tensor] = []
        states: list[list[Tensor]] = []
        for row in rows:
            ends, mask, v = self.cut(row, counts, neighbors, vectors)
            states.append(list(self.start(types[row], types, first_type, ends, mask, v)))
            near.append(ends[:, : states[-1][1].shape[1]])
        for layer in self.layers:
            g1 = torch.cat([self.no_features] + [state[0] for state in states])[inverse]
            for k, x in enumerate(states):
                states[k] = list(layer(g1[near[k]], x[0], x[1], x[2], x[3], x[4], x[5], x[6]))
        energies = [torch.zeros([0], dtype=vectors.dtype, device=vectors.device)]
        for k, x in enumerate(states):
            row = rows[k]
            energies.append(self.end(types[row], fparam, aparam[row], x[0], x[1], x[2], x[3], x[4], x[5], x[6]))
        return torch.cat(energies)[inverse]


class MetatomicModel(nn.Module):
    """Energies in eV by positions in angstrom; forces and stress are derivatives that metatomic takes."""

    fparam: Tensor  # (1, k)
    types: Tensor  # (n_elements + 1,) by atomic number

    def __init__(self, program: WholeProgram, settings: ModelSettings) -> None:
        super().__init__()
        self.program = program
        self.options = NeighborListOptions(cutoff=float(settings.cutoff), full_list=True, strict=True)
        types = torch.full((len(SYMBOLS) + 1,), -1, dtype=torch.int64)
        types[torch.tensor(numbers_of(settings))] = torch.arange(settings.n_types)
        self.register_buffer("types", types)
        default: Sequence[float] = settings.fitting_net.default_fparam or ()
        self.register_buffer("fparam", torch.tensor(list(default), dtype=torch.float64)[None])

    @torch.jit.export
    def requested_neighbor_lists(self) -> list[NeighborListOptions]:
        return [self.options]

    def energies(self, system: System) -> Tensor:
        """Of the atoms of ``system``, (n,)."""
        pairs = system.get_neighbor_list(self.options)
        center = pairs.samples.column("first_atom").to(torch.int64)
        end = pairs.samples.column("second_atom").to(torch.int64)
        order = torch.argsort(center, stable=True)
        center, end, edges = center[order], end[order], pairs.values[:, :, 0][order]
        n = len(system)
        count = torch.bincount(center, minlength=n)
        slot = torch.arange(center.shape[0], device=center.device) - (torch.cumsum(count, 0) - count)[center]
        width = int(count.max().item()) if n > 0 else 0
        ends = torch.zeros([n, width], dtype=torch.int64, device=center.device).index_put((center, slot), end)
        vectors = torch.zeros([n, width, 3], dtype=edges.dtype, device=edges.device).index_put((center, slot), edges)
        valid = slot.new_ones(1) * torch.arange(width, device=slot.device) < count[:, None]
        types = self.types[system.types.to(torch.int64)]
        ends, vectors, distances = self.program.select(types, ends, vectors, valid)
        aparam = torch.zeros([n, 0], dtype=edges.dtype, device=edges.device)
        return self.program(types, types[:1], ends, vectors, distances.detach(), self.fparam, aparam)

    def forward(
        self,
        systems: list[System],
        outputs: dict[str, ModelOutput],
        selected_atoms: Optional[Labels] = None,  # noqa: UP045  such a class knows no "|"
    ) -> dict[str, TensorMap]:
        result: dict[str, TensorMap] = {}
        if "energy" not in outputs:
            return result
        per_atom = outputs["energy"].sample_kind == "atom"
        values: list[Tensor] = []
        samples: list[Tensor] = []
        for k, system in enumerate(systems):
            energies = self.energies(system)
            atoms = torch.arange(energies.shape[0], device=energies.device)
            if selected_atoms is not None:
                chosen = selected_atoms.column("atom")[selected_atoms.column("system") == k]
                atoms = chosen.to(energies.device, torch.int64)
                energies = energies[atoms]
            if per_atom:
                values.append(energies[:, None])
                samples.append(torch.stack([torch.full_like(atoms, k), atoms], 1))
            else:
                values.append(energies.sum().reshape(1, 1))
                samples.append(torch.full([1, 1], k, device=atoms.device))
        everything = torch.cat(values)
        only = torch.zeros([1, 1], dtype=torch.int32, device=everything.device)
        block = TensorBlock(
            values=everything,
            samples=Labels(["system", "atom"] if per_atom else ["system"], torch.cat(samples).to(torch.int32)),
            components=torch.jit.annotate(list[Labels], []),
            properties=Labels(["energy"], only),
        )
        result["energy"] = TensorMap(Labels(["_"], only), [block])
        return result


def numbers_of(settings: ModelSettings) -> list[int]:
    """Atomic numbers of the types.  Raises InputError where a type is no element."""
    others = [name for name in settings.type_map if name not in SYMBOLS]
    if others:
        raise InputError(f"metatomic knows elements alone, and {', '.join(others[:3])} of the type map is none")
    return [SYMBOLS.index(name) + 1 for name in settings.type_map]


def versions() -> dict[str, str]:
    """See ``dpmodel.export.forms.Exporter``."""
    return program.versions("metatomic-torch", "metatensor-torch")


def write(path: Path, file: ModelFile, options: Options) -> None:
    """See ``dpmodel.export.forms.Exporter``."""
    settings, fitting = file.settings, file.settings.fitting_net
    if fitting.numb_aparam or (fitting.numb_fparam and fitting.default_fparam is None):
        raise InputError("metatomic has no frame or atomic parameters to give to this model")
    model = MetatomicModel(program_of(file, WholeProgram), settings).eval()
    reach = model.program.cutoff + len(model.program.layers) * model.program.cutoffs[-1]
    capabilities = ModelCapabilities(
        outputs={"energy": ModelOutput(unit="eV", sample_kind="atom")},
        atomic_types=numbers_of(settings),
        interaction_range=reach,
        length_unit="angstrom",
        supported_devices=["cuda", "cpu"],
        dtype="float64",
    )
    with quiet():
        AtomisticModel(scripted(model), ModelMetadata(name="DPA-2"), capabilities).save(str(path))


def read(path: Path, record: Record, device: str | None) -> "Loaded":
    """See ``dpmodel.export.forms.Exporter``."""
    return Loaded(path, record.settings, find_device(device))


class Loaded:
    """The evaluation of one structure as an engine does it."""

    def __init__(self, path: Path, settings: ModelSettings, device: torch.device) -> None:
        self.device, self._at, self._reach = str(device), device, float(settings.cutoff) + ROUNDING
        self._numbers = np.array(numbers_of(settings))
        with quiet():
            self._model = load_atomistic_model(str(path)).to(device)
        [self._options] = self._model.requested_neighbor_lists()
        output = ModelOutput(unit="eV", sample_kind="atom")
        self._wants = ModelEvaluationOptions(length_unit="angstrom", outputs={"energy": output})

    def __call__(self, structure: Structure, graph: Graph) -> dict[str, np.ndarray]:
        real = np.flatnonzero(structure.types >= 0)
        number = np.cumsum(structure.types >= 0) - 1  # among the real ones
        x = structure.positions
        vectors = x[graph.neighbors] - x[: len(graph.neighbors), None] + graph.shift
        center, slot = np.nonzero(np.linalg.norm(vectors, axis=-1) <= self._reach)  # empty slots are farther
        neighbor, vectors = graph.neighbors[center, slot], vectors[center, slot]
        i, j, none = number[center], number[neighbor], np.zeros_like(slot)
        edges = self._tensor(vectors[:, :, None]).requires_grad_(True)
        types = self._tensor(self._numbers[structure.types[real]].astype(np.int32))
        system = System(types, self._tensor(x[real]), self._tensor(np.zeros((3, 3))), self._tensor(np.zeros(3, bool)))
        samples = np.column_stack([i, j, slot, none, none])  # nobody asks which image it is
        system.add_neighbor_list(self._options, self._list(samples, edges))
        energies = self._model([system], self._wants, check_consistency=False)["energy"].block().values
        slope = np.zeros((len(i), 3))
        if len(i):
            slope = to_numpy(torch.autograd.grad(energies.sum(), edges)[0])[:, :, 0]
        return self._results(len(structure.types), real, to_numpy(energies.detach())[:, 0], (i, j, vectors, slope))

    def _list(self, samples: np.ndarray, edges: Tensor) -> TensorBlock:
        names = ["first_atom", "second_atom", "cell_shift_a", "cell_shift_b", "cell_shift_c"]
        return TensorBlock(
            values=edges,
            samples=Labels(names, self._tensor(samples.astype(np.int32))),
            components=[Labels.range("xyz", 3).to(self._at)],
            properties=Labels.range("distance", 1).to(self._at),
        )

    def _results(self, n: int, real: np.ndarray, energies: np.ndarray, edges: Edges) -> dict[str, np.ndarray]:
        """On the axis of all atoms, of which these are ``real``."""
        i, j, vectors, slope = edges
        atom_energy, forces, virials = np.zeros(n), np.zeros((n, 3)), np.zeros((n, 3, 3))
        atom_energy[real] = energies
        np.add.at(forces, real[i], slope)
        np.add.at(forces, real[j], -slope)
        np.add.at(virials, real[j], -slope[:, :, None] * vectors[:, None, :])
        virial = virials.sum(axis=0)
        total = {"energy": energies.sum(), "atom_energy": atom_energy}
        return total | {"forces": forces, "virial": virial, "atom_virial": virials}

    def _tensor(self, x: np.ndarray) -> Tensor:
        return torch.tensor(x, device=self._at)
