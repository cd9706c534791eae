"""Sixteen molecules of water in OpenMM at 300 K, with all forces from a DPA-2 model.

Run ``python water.py``; seconds.  ``--backend torch --steps 1000`` for more.
"""

import argparse
from pathlib import Path

import openmm
from openmm import app, unit

from dpmodel.data.systems import System
from dpmodel.engines.openmm import python_force

WATER = Path(__file__).parents[1] / "water"
MASSES = {"O": 15.999, "H": 1.008}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=WATER / "water.dp")
    parser.add_argument("--backend", default="numpy", help="numpy torch jax paddle")
    parser.add_argument("--steps", type=int, default=20, help="of 0.5 fs")
    given = parser.parse_args()

    system = System(WATER / "data" / "valid_16")
    frame = system.frame(0).structure
    symbols = [system.type_map[t] for t in frame.types]
    simulated = openmm.System()
    for symbol in symbols:
        simulated.addParticle(MASSES[symbol])
    simulated.setDefaultPeriodicBoxVectors(*(openmm.Vec3(*row) for row in 0.1 * frame.cell))
    simulated.addForce(python_force(given.model, symbols, backend=given.backend))

    topology = app.Topology()
    chain = topology.addChain()
    for start in range(0, len(symbols), 3):
        molecule = topology.addResidue("HOH", chain)
        for symbol in symbols[start : start + 3]:
            topology.addAtom(symbol, app.Element.getBySymbol(symbol), molecule)
    integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 0.5 * unit.femtosecond)
    simulation = app.Simulation(topology, simulated, integrator, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions(0.1 * frame.positions)
    simulation.context.setVelocitiesToTemperature(300 * unit.kelvin, 1)
    columns = {"step": True, "time": True, "potentialEnergy": True, "totalEnergy": True, "temperature": True}
    simulation.reporters.append(app.StateDataReporter("/dev/stdout", max(1, given.steps // 10), **columns))
    simulation.step(given.steps)


if __name__ == "__main__":
    main()
