"""The picture of the README: how equal the backends are, measured now, and how fast, as ``make bench`` measured it.

python benchmarks/picture.py      writes docs/measured.png
"""

import re
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import dpmodel
from dpmodel.capabilities import BACKENDS

ROOT = Path(__file__).parents[1]
WATER = ROOT / "dpmodel" / "examples" / "water"


def differences(names: list[str], n_frames: int = 4) -> dict[str, float]:
    """The largest difference of forces from NumPy's, relative to the largest force, on held-out frames of water."""
    system = WATER / "data" / "valid_16"
    types = np.loadtxt(system / "type.raw", dtype=int)
    x = np.load(system / "set.000" / "coord.npy")[:n_frames].reshape(n_frames, -1, 3)
    cells = np.load(system / "set.000" / "box.npy")[:n_frames].reshape(n_frames, 3, 3)
    forces = {
        name: dpmodel.load(WATER / "water.dp", backend=name).evaluate(x, types, cells).forces
        for name in ["numpy", *names]
    }
    scale = abs(forces["numpy"]).max()
    return {name: float(abs(forces[name] - forces["numpy"]).max() / scale) for name in names}


def speeds() -> tuple[str, dict[str, float]]:
    """Conditions and factors, by processor time, of the first table of docs/performance.md."""
    page = (ROOT / "docs" / "performance.md").read_text()
    title, table = re.findall(r"^## (.+)\n\n(\|.+?)\n\n", page, flags=re.MULTILINE | re.DOTALL)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return title, {row[0]: float(row[3].split()[0]) for row in rows}


def main() -> None:
    names = [name for name in BACKENDS if name != "numpy"]
    equal, (title, fast) = differences(names), speeds()
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.barh([BACKENDS[name] for name in names], [equal[name] for name in names], height=0.5)
    left.axvline(np.finfo(float).eps, color="0.5", linestyle="--", label="rounding of one number")
    left.set(xscale="log", xlim=(1e-17, 1e-9), xlabel="largest difference of forces from NumPy's, relative")
    left.set_title("the same numbers", fontsize="medium")
    left.legend(fontsize="small")
    order = sorted(fast, key=fast.__getitem__)
    bars = right.barh(
        [BACKENDS.get(name, name) for name in order],
        [fast[name] for name in order],
        height=0.5,
        color=["C0" if name in BACKENDS else "0.6" for name in order],
    )
    right.bar_label(bars, fmt="%.1f", padding=3)
    right.set(xlabel="times as fast as deepmd-kit 3.2, processor time", xlim=(0, 1.15 * max(fast.values())))
    right.set_title(title.partition(":")[0], fontsize="medium")
    figure.savefig(ROOT / "docs" / "measured.png", dpi=120)
    for name in names:
        print(f"{name}: {equal[name]:.1e}")


if __name__ == "__main__":
    main()
