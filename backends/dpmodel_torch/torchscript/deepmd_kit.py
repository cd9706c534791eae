"""An energy model as deepmd-kit's runtime loads it: ``pair_style deepmd``, ``DeepPot`` in Python and C++."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dpmodel.data.images import explicit_images
from dpmodel.data.structure import Structure
from dpmodel.export.forms import Options
from dpmodel.export.record import Record
from dpmodel.graph import Graph, Selection
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.settings import ModelSettings
from dpmodel_torch.arrays import to_numpy
from dpmodel_torch.engine import find_device
from dpmodel_torch.torchscript.domain import Comm, DomainProgram, know_border_op
from dpmodel_torch.torchscript.program import program_of, quiet, scripted, versions

__all__ = ["DeepmdModel", "read", "versions", "write"]

PAIRS = 4_000_000  # distances that the search for neighbors looks at together


class DeepmdModel(nn.Module):
    """The methods that deepmd-kit 3.2 calls, in its units: eV and angstrom.

    Atomic virials give an edge's share to the neighbor that it ends on.
    """

    default_fparam: Tensor  # (1, k)

    def __init__(self, program: DomainProgram, settings: ModelSettings) -> None:
        super().__init__()
        wants = settings.fitting_net
        self.program = program
        self.rcut = float(settings.cutoff)
        self.nsel = max(program.nsel)
        self.type_map = list(settings.type_map)
        self.n_types = len(self.type_map)
        self.n_fparam = int(wants.numb_fparam)
        self.n_aparam = 0 if wants.use_aparam_as_mask else int(wants.numb_aparam)
        self.has_default = wants.default_fparam is not None
        default = torch.tensor(wants.default_fparam or [0.0] * self.n_fparam, dtype=torch.float64)
        self.register_buffer("default_fparam", default[None])
        self.script = json.dumps(settings.model_dump(mode="json"))

    @torch.jit.export
    def get_rcut(self) -> float:
        return self.rcut

    @torch.jit.export
    def get_ntypes(self) -> int:
        return self.n_types

    @torch.jit.export
    def get_type_map(self) -> list[str]:
        return self.type_map

    @torch.jit.export
    def get_sel(self) -> list[int]:
        return [self.nsel]

    @torch.jit.export
    def get_nsel(self) -> int:
        return self.nsel

    @torch.jit.export
    def get_nnei(self) -> int:
        return self.nsel

    @torch.jit.export
    def get_sel_type(self) -> list[int]:
        return torch.jit.annotate(list[int], [])

    @torch.jit.export
    def get_dim_fparam(self) -> int:
        return self.n_fparam

    @torch.jit.export
    def get_dim_aparam(self) -> int:
        return self.n_aparam

    @torch.jit.export
    def has_default_fparam(self) -> bool:
        return self.has_default

    @torch.jit.export
    def get_default_fparam(self) -> Tensor | None:
        return self.default_fparam[0] if self.has_default else None

    @torch.jit.export
    def is_aparam_nall(self) -> bool:
        return False

    @torch.jit.export
    def has_message_passing(self) -> bool:
        return True

    @torch.jit.export
    def has_spin(self) -> bool:
        return False

    @torch.jit.export
    def mixed_types(self) -> bool:
        return True

    @torch.jit.export
    def need_sorted_nlist_for_lower(self) -> bool:
        return False

    @torch.jit.export
    def use_self_built_nlist(self) -> bool:
        return True

    @torch.jit.export
    def model_output_type(self) -> list[str]:
        return ["energy"]

    @torch.jit.export
    def get_model_def_script(self) -> str:
        return self.script

    @torch.jit.export
    def forward_lower(
        self,
        extended_coord: Tensor,
        extended_atype: Tensor,
        nlist: Tensor,
        mapping: Tensor | None = None,
        fparam: Tensor | None = None,
        aparam: Tensor | None = None,
        do_atomic_virial: bool = False,
        comm_dict: Comm | None = None,
        charge_spin: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Of centers and ghosts: nlist (nf, nloc, nnei) is padded with -1, in any order, and may have a skin.

        With ``comm_dict`` ghosts belong to whoever says there; ``mapping`` (nf, nall) is for a single process.
        """
        nf, n_all = extended_atype.shape[0], extended_atype.shape[1]
        coord = extended_coord.reshape(nf, n_all, 3)
        results: list[list[Tensor]] = []
        for f in range(nf):
            owner = torch.arange(n_all, device=coord.device)
            if comm_dict is None and mapping is not None:
                owner = mapping[f]
            parameters = self.parameters_of(fparam, aparam, f, nlist.shape[1], coord)
            results.append(self.evaluate(coord[f], extended_atype[f], nlist[f], owner, parameters, comm_dict))
        names = ["energy", "atom_energy", "extended_force", "virial", "extended_virial"]
        result: dict[str, Tensor] = {}
        for k, name in enumerate(names):
            result[name] = torch.stack([frame[k] for frame in results]).to(extended_coord.dtype)
        if not do_atomic_virial:
            result.pop("extended_virial")
        return result

    def forward(
        self,
        coord: Tensor,
        atype: Tensor,
        box: Tensor | None = None,
        fparam: Tensor | None = None,
        aparam: Tensor | None = None,
        do_atomic_virial: bool = False,
        charge_spin: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Of whole systems, periodic in three directions if there is a ``box`` (nf, 9), else in none."""
        nf, n = atype.shape[0], atype.shape[1]
        x = coord.reshape(nf, n, 3).detach().to(torch.float64)
        names = ["energy", "atom_energy", "force", "virial", "atom_virial"]
        results: list[list[Tensor]] = []
        for f in range(nf):
            positions, owner = x[f], torch.arange(n, device=x.device)
            if box is not None:
                positions, owner = images(x[f], box.reshape(nf, 3, 3)[f].detach().to(torch.float64), self.rcut)
            nlist = neighbors(positions, n, self.rcut)
            parameters = self.parameters_of(fparam, aparam, f, n, x)
            one = self.evaluate(positions, atype[f][owner], nlist, owner, parameters, None)
            for k in (2, 4):
                one[k] = torch.zeros_like(one[k][:n]).index_add(0, owner, one[k])
            results.append(one)
        result: dict[str, Tensor] = {}
        for k, name in enumerate(names):
            result[name] = torch.stack([frame[k] for frame in results]).to(coord.dtype)
        if not do_atomic_virial:
            result.pop("atom_virial")
        return result

    def parameters_of(
        self, fparam: Tensor | None, aparam: Tensor | None, f: int, n: int, x: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(1, k) frame and (n, k) atomic parameters of frame ``f``."""
        frame = self.default_fparam
        if fparam is not None and self.n_fparam > 0:
            frame = fparam.reshape(-1, self.n_fparam)[f : f + 1].to(x.device, torch.float64)
        elif self.n_fparam > 0:
            assert self.has_default, "the model takes frame parameters: give fparam"
        atomic = torch.zeros([n, self.n_aparam], dtype=torch.float64, device=x.device)
        if self.n_aparam > 0:
            assert aparam is not None, "the model takes atomic parameters: give aparam"
            atomic = aparam.reshape(-1, n, self.n_aparam)[f].to(x.device, torch.float64)
        return frame, atomic

    def evaluate(
        self,
        coord: Tensor,
        atype: Tensor,
        nlist: Tensor,
        owner: Tensor,
        parameters: tuple[Tensor, Tensor],
        comm: Comm | None,
    ) -> list[Tensor]:
        """Energy, atomic energies, forces on all, virial and atomic virials of one frame."""
        n = nlist.shape[0]
        x = coord.detach().to(torch.float64)
        types = torch.where(atype < 0, torch.full_like(atype, self.n_types), atype)
        ends = torch.clamp(nlist, min=0)
        ends, vectors, distances = self.program.select(types, ends, x[ends] - x[:n, None], nlist >= 0)
        first = torch.clamp(atype[:1], min=0)
        weight = torch.ones([n], dtype=torch.float64, device=x.device)
        frame, atomic = parameters
        own_types = types if comm is not None else types[:n]
        energies, slope = self.program(own_types, first, owner[ends], vectors, distances, weight, frame, atomic, comm)
        forces = torch.zeros_like(x).index_add_(0, ends.reshape(-1), -slope.reshape(-1, 3))
        forces[:n] += slope.sum(1)
        virials = -(slope[:, :, :, None] * vectors[:, :, None, :]).reshape(-1, 9)
        atom_virial = torch.zeros([x.shape[0], 9], dtype=x.dtype, device=x.device)
        atom_virial.index_add_(0, ends.reshape(-1), virials)
        return [energies.sum()[None], energies[:, None], forces, atom_virial.sum(0), atom_virial]


def images(x: Tensor, box: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Atoms (n, 3) in the cell, followed by all images that are within ``reach`` of it, and whose images they are."""
    inverse = torch.linalg.inv(box)
    margin = reach * torch.sqrt((inverse * inverse).sum(0))  # in units of the cell
    inside = x @ inverse
    inside = inside - torch.floor(inside)
    ranges: list[Tensor] = []
    for k in range(3):
        most = int(torch.ceil(margin[k]).item())
        ranges.append(torch.arange(-most, most + 1, dtype=x.dtype, device=x.device))
    shifts = torch.stack(torch.meshgrid(ranges, indexing="ij"), -1).reshape(-1, 3)
    shifts = shifts[(shifts != 0.0).any(1)]
    every = inside + shifts[:, None]
    near = ((every >= -margin) & (every <= 1.0 + margin)).all(-1)
    owner = torch.arange(x.shape[0], device=x.device)
    owners = owner.expand(shifts.shape[0], -1)[near]
    return torch.cat([inside, every[near]]) @ box, torch.cat([owner, owners])


def neighbors(x: Tensor, n: int, reach: float, pairs: int = PAIRS) -> Tensor:
    """(n, m) places within ``reach`` of the first ``n`` of ``x`` (A, 3), -1 in empty slots."""
    size = max(1, pairs // max(1, x.shape[0]))
    parts: list[Tensor] = []
    width = 0
    for start in range(0, n, size):
        rows = torch.arange(start, min(n, start + size), device=x.device)
        vectors = x[None] - x[rows][:, None]
        near = (vectors * vectors).sum(-1) <= (reach + 1e-6) ** 2
        near[torch.arange(rows.shape[0], device=x.device), rows] = False
        count = int(near.sum(-1).max().item())
        end = torch.argsort(near.to(torch.uint8), dim=-1, descending=True, stable=True)[:, :count]
        parts.append(torch.where(torch.gather(near, 1, end), end, torch.full_like(end, -1)))
        width = max(width, count)
    if len(parts) == 0:
        return torch.zeros([0, 0], dtype=torch.int64, device=x.device)
    padded = [torch.nn.functional.pad(part, [0, width - part.shape[1]], value=-1.0) for part in parts]
    return torch.cat(padded)


def write(path: Path, file: ModelFile, options: Options) -> None:
    """See ``dpmodel.export.forms.Exporter``."""
    know_border_op()
    program = scripted(DeepmdModel(program_of(file, DomainProgram), file.settings))
    with quiet():
        torch.jit.save(program, path)


def read(path: Path, record: Record, device: str | None) -> "Loaded":
    """See ``dpmodel.export.forms.Exporter``."""
    return Loaded(path, record.selection, find_device(device))


class Loaded:
    """One structure, evaluated as deepmd-kit does it."""

    def __init__(self, path: Path, selection: Selection, device: torch.device) -> None:
        self.device, self._at, self._selection = str(device), device, selection
        know_border_op()
        with quiet():
            self._model = torch.jit.load(path, map_location=device)

    def __call__(self, structure: Structure, graph: Graph) -> dict[str, np.ndarray]:
        n = len(structure.types)
        parameters = [None if x is None else self._tensor(x[None]) for x in (structure.fparam, structure.aparam)]
        if structure.cell is not None and structure.pbc.all():
            arguments = [structure.positions[None], structure.types[None], structure.cell[None]]
            result = self._model(*map(self._tensor, arguments), *parameters, True)
            forces, virials = to_numpy(result["force"])[0], to_numpy(result["atom_virial"])[0]
        else:
            images, positions, owner = explicit_images(graph, structure.positions, self._selection)
            nlist = np.where(images.shift[:, :, 0] == 0.0, images.neighbors, -1)
            lists = (positions, structure.types[owner], nlist, owner)
            result = self._model.forward_lower(*(self._tensor(x[None]) for x in lists), *parameters, True)
            forces, virials = np.zeros((n, 3)), np.zeros((n, 9))
            np.add.at(forces, owner, to_numpy(result["extended_force"])[0])
            np.add.at(virials, owner, to_numpy(result["extended_virial"])[0])
        return {
            "energy": to_numpy(result["energy"])[0, 0],
            "atom_energy": to_numpy(result["atom_energy"])[0, :, 0],
            "forces": forces,
            "virial": to_numpy(result["virial"])[0].reshape(3, 3),
            "atom_virial": virials.reshape(n, 3, 3),
        }

    def _tensor(self, x: np.ndarray) -> Tensor:
        return torch.tensor(x, device=self._at)
