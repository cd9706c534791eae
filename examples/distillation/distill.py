"""A small student learns from a larger teacher: labels from a model instead of a quantum method.

    python distill.py [--steps 1500] [--folder run]

The teacher is examples/water/water.dp.  Candidates are frames of the training data with their atoms shaken, which cost
nothing to label; the student has one layer of messages and a shorter cutoff.  In the end the
errors of both on held-out frames stand beside each other, against quantum labels and against the teacher.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

WATER = Path(__file__).resolve().parents[1] / "water"
STUDENT = {
    "type_map": ["O", "H"],
    "descriptor": {
        "type": "dpa2",
        "repinit": {"rcut": 4.5, "rcut_smth": 0.5, "nsel": "auto", "neuron": [8, 16], "axis_neuron": 4, "tebd_dim": 4},
        "repformer": {
            "rcut": 3.0, "rcut_smth": 0.5, "nsel": "auto", "nlayers": 1, "g1_dim": 24, "g2_dim": 8, "axis_neuron": 4,
            "update_g1_has_attn": False, "update_g2_has_g1g1": False, "update_g2_has_attn": False,
            "update_style": "res_residual", "update_residual": 0.01,
        },
    },
    "fitting_net": {"neuron": [32, 32]},
}  # fmt: skip


def run(*words: object, cwd: Path) -> str:
    """A command of dpmodel; what it prints."""
    line = [sys.executable, "-m", "dpmodel", *map(str, words)]
    return subprocess.run(line, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


def candidates(folder: Path, n: int) -> Path:
    """A system without labels: frames of the training data with every atom moved by about 0.05 angstrom."""
    source, target = WATER / "data" / "train_16", folder / "candidates"
    (target / "set.000").mkdir(parents=True)
    for name in ("type.raw", "type_map.raw"):
        (target / name).write_text((source / name).read_text())
    coord, box = (np.load(source / "set.000" / f"{name}.npy") for name in ("coord", "box"))
    random = np.random.default_rng(0)
    chosen = random.integers(len(coord), size=n)
    np.save(target / "set.000" / "coord.npy", coord[chosen] + random.normal(0.0, 0.05, coord[chosen].shape))
    np.save(target / "set.000" / "box.npy", box[chosen])
    return target


def errors(model: Path, data: Path, folder: Path) -> tuple[float, float]:
    """RMSE of energies, meV/atom, and forces, eV/angstrom."""
    total = json.loads(run("test", model, "-s", data, "--json", cwd=folder))["total"]
    return 1e3 * total["rmse_energy"], total["rmse_force"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=1500)
    options.add_argument("--frames", type=int, default=400)
    options.add_argument("--folder", type=Path, default=Path("run"))
    options.add_argument("--backend", default="torch")
    chosen = options.parse_args()
    folder = chosen.folder.resolve()
    folder.mkdir(parents=True)
    teacher, held_out = WATER / "water.dp", WATER / "data" / "valid_16"
    run(
        "label",
        teacher,
        candidates(folder, chosen.frames),
        "--to",
        folder / "labeled",
        "-b",
        chosen.backend,
        cwd=folder,
    )
    script = {
        "model": STUDENT,
        "learning_rate": {"type": "cosine", "start_lr": 0.003, "stop_lr": 1e-5},
        "loss": {"start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 10},
        "training": {
            "training_data": {"systems": [str(folder / "labeled")], "batch_size": 1},
            "numb_steps": chosen.steps,
            "seed": 1,
        },
    }
    (folder / "input.json").write_text(json.dumps(script, indent=2))
    run("train", "input.json", "-b", chosen.backend, cwd=folder)
    student = folder / "student.dp"
    run("convert", "model.ckpt.pt", student, "--force", cwd=folder)
    run("label", teacher, held_out, "--to", folder / "teacher_on_held_out", cwd=folder)
    rows = [
        ("teacher, quantum labels", errors(teacher, held_out, folder)),
        ("student, quantum labels", errors(student, held_out, folder)),
        ("student, teacher's labels", errors(student, folder / "teacher_on_held_out", folder)),
    ]
    for name, path in (("teacher", teacher), ("student", student)):
        print(f"{name}: {json.loads(run('show', path, '--json', cwd=folder))['n_parameters']} parameters")
    print(f"{'held-out frames':28}{'energy, meV/atom':>18}{'force, eV/A':>14}")
    for name, (energy, force) in rows:
        print(f"{name:28}{energy:18.2f}{force:14.4f}")


if __name__ == "__main__":
    main()
