"""``dpmodel plot``: files come out, and what cannot be drawn is refused."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dpmodel.cli.app import app
from dpmodel.cli.plot import plot
from dpmodel.errors import FileError

CURVE = """# step       rmse_val    rmse_trn    rmse_e_val  rmse_e_trn    rmse_f_val  rmse_f_trn   lr
# remark
      1      2.75e+01    2.53e+01      1.96e+00    1.99e+00      8.62e-01    7.90e-01    2.0e-03
     10      2.68e+01    2.55e+01           nan    9.89e-01      8.45e-01    8.03e-01    2.0e-03
"""


def test_learning_curve(tmp_path: Path) -> None:
    (tmp_path / "lcurve.out").write_text(CURVE)
    result = CliRunner().invoke(app, ["plot", str(tmp_path / "lcurve.out"), "-o", str(tmp_path / "curve.svg")])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "curve.svg").read_text()
    assert text.count('<g id="axes_') == 2  # energy and force


def test_a_curve_without_learning_rates(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("# step rmse_trn rmse_e_trn\n 1 0.1 0.2\n")
    plot([tmp_path / "a"], tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


def test_parity(tmp_path: Path) -> None:
    random, files = np.random.default_rng(0), []
    for k in range(2):
        values = {"types": np.zeros((3, 4), dtype=int), "energy": random.normal(size=3)}
        values["force"] = random.normal(size=(3, 4, 3))
        values |= {f"predicted_{name}": values[name] + 0.1 for name in ("energy", "force")}
        files.append(tmp_path / f"{k}.npz")
        np.savez(files[-1], allow_pickle=False, **values)
    plot(files, tmp_path / "parity.png")
    assert (tmp_path / "parity.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    with pytest.raises(FileError, match="expected a learning curve"):
        plot([tmp_path / "a"], tmp_path / "b.png")
    with pytest.raises(FileError, match="one learning curve, or"):
        plot([tmp_path / "a", tmp_path / "c"], tmp_path / "b.png")
    (tmp_path / "a").write_text("# step lr\n 1 0.1\n")
    with pytest.raises(FileError, match="expected columns of errors, as rmse_e_trn, found none"):
        plot([tmp_path / "a"], tmp_path / "b.png")
    (tmp_path / "lcurve.out").write_text(CURVE)
    with pytest.raises(FileError, match=r"b\.nothing: cannot be drawn"):
        plot([tmp_path / "lcurve.out"], tmp_path / "b.nothing")


def test_archives_of_something_else(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, allow_pickle=False, energy=np.zeros(3))
    with pytest.raises(FileError, match=r"a\.npz: expected .* --detail', but predicted_energy, types is missing"):
        plot([file], tmp_path / "b.png")
    whole, one = file.read_bytes(), tmp_path / "one.npy"
    np.save(one, np.zeros(3))
    for part in (b"", b"text", whole[: len(whole) // 2], one.read_bytes()):
        file.write_bytes(part)
        with pytest.raises(FileError, match=r"a\.npz: cannot be read"):
            plot([file], tmp_path / "b.png")
