"""DPA-2 for TorchSim, which moves many systems at once.  TorchSim needs Python 3.12.

import torch_sim
from dpmodel_torch.torchsim import TorchSimModel

model = TorchSimModel(dpmodel.load("water.dp", backend="torch"))
final = torch_sim.integrate(system=atoms, model=model, integrator=torch_sim.Integrator.nve, n_steps=100, ...)
"""

from typing import Any

import numpy as np
import torch
from torch_sim.models.interface import ModelInterface

from dpmodel.data.structure import Structure, types_of
from dpmodel.dpa2.econf import SYMBOLS


class TorchSimModel(ModelInterface):
    """Energies (eV), forces (eV/angstrom) and stresses (eV/angstrom^3) of a ``dpmodel.Potential``, of any backend.

    Results are constants: nothing flows back through them.
    """

    def __init__(self, potential: Any) -> None:
        super().__init__()
        potential.expect_forces()
        self.potential = potential
        self._device = torch.device(potential.engine.device if potential.engine.name == "torch" else "cpu")
        self._dtype = torch.float64
        self._compute_stress = self._compute_forces = True
        self._memory_scales_with = "n_atoms_x_density"

    def forward(self, state: Any, **_: Any) -> dict[str, torch.Tensor]:
        """Of all systems of a ``torch_sim.SimState``; a system without a volume has zero stress.

        Raises
        ------
        InputError
            For an element that the model does not know, naming the system.
        """
        frames = [self._frame(state, s) for s in range(state.n_systems)]
        predictions = self.potential.evaluate_many(frames)
        forces = torch.cat([torch.as_tensor(p.forces[0]) for p in predictions])
        energy = torch.as_tensor([p.energy[0] for p in predictions])
        virial = torch.stack([torch.as_tensor(p.virial[0]) for p in predictions])
        volume = state.volume.to(virial)[:, None, None]
        stress = torch.where(volume > 0.0, -virial / torch.where(volume > 0.0, volume, 1.0), 0.0)
        results = {"energy": energy, "forces": forces, "stress": stress}
        return {name: value.to(state.positions) for name, value in results.items()}

    def _frame(self, state: Any, s: int) -> Structure:
        atoms = state.system_idx == s
        names = [SYMBOLS[z - 1] for z in state.atomic_numbers[atoms].tolist()]
        types = types_of(names, self.potential.type_map, f"system {s}: atom")
        pbc = torch.as_tensor(state.pbc).expand(3).cpu().numpy()
        cell = state.row_vector_cell[s].detach().cpu().double().numpy() if pbc.any() else None
        positions = state.positions[atoms].detach().cpu().double().numpy()
        return Structure(positions, np.array(types), cell, pbc)
