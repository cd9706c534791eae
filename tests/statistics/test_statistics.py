"""Statistics against deepmd-kit's (make_statistics.py), brute force, and cases worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmodel.backend import backend
from dpmodel.data.structure import structures
from dpmodel.data.systems import Frame
from dpmodel.errors import NeighborOverflowWarning, SettingError
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from dpmodel.module import state
from dpmodel.statistics.environment import row_moments, statistics, with_statistics
from dpmodel.statistics.neighbors import (
    NeighborStatistics,
    automatic,
    neighbor_statistics,
    no_neighbors,
    resolve_auto_nsel,
    too_few,
)
from dpmodel.statistics.output import OutputSample, output_bias, output_statistics
from dpmodel.train.prepare import StartFrom, prepare
from dpmodel.train.script import read_script
from dpmodel.train.start import count_neighbors, fresh_models, open_data, resolve_nsel
from small_water import DESCRIPTOR, MODEL, REFORM, write_system
from small_water import script as small_script
from statistics_cases import case_frames, case_settings

REFERENCE = np.load(Path(__file__).parent / "statistics.npz")
NAMES = sorted({key.partition("/")[0] for key in REFERENCE.files})
PLACES = {
    "repinit": "descriptor.repinit.near",
    "three_body": "descriptor.three_body.near",
    "repformer": "descriptor.repformer",
    "fparam_avg": "fitting",
    "fparam_inv_std": "fitting",
    "aparam_avg": "fitting",
    "aparam_inv_std": "fitting",
}


@pytest.mark.filterwarnings("ignore::dpmodel.errors.NeighborOverflowWarning")
@pytest.mark.parametrize("name", NAMES)
def test_deepmd_kit(name: str) -> None:
    settings = case_settings(name)
    found = state(with_statistics(build(settings), settings, statistics(case_frames(name, settings), settings)))
    for key in [key for key in REFERENCE.files if key.startswith(f"{name}/")]:
        what, theirs = key.partition("/")[2], REFERENCE[key]
        home, _, leaf = what.partition(".")
        path = f"{PLACES[home]}.{leaf or home}" if home in PLACES else what
        ours = found[path]
        assert ours.shape == theirs.shape, what
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11, err_msg=what)


def test_bias_of_types_that_can_be_told_apart() -> None:
    counts = np.array([[2, 1], [1, 3], [4, 2], [1, 1]])
    bias, deviation = output_bias(counts, counts @ [[-3.0], [5.0]], [None, None])
    np.testing.assert_allclose(bias, [[-3.0], [5.0]], rtol=1e-12)
    assert deviation < 1e-12


def test_bias_shared_by_types_that_always_come_together() -> None:
    counts = np.array([[64, 128]] * 3)
    bias, _ = output_bias(counts, np.array([[-10.0], [-11.0], [-12.0]]), [None, None])
    np.testing.assert_allclose(bias[:, 0], -11.0 * np.array([64, 128]) / (64**2 + 128**2), rtol=1e-12)


def test_preset_and_excluded_types() -> None:
    settings = ModelSettings.read(
        MODEL | {"type_map": list("ABC"), "atom_exclude_types": [2], "preset_out_bias": {"energy": [1.5, None, None]}}
    )
    counts = np.array([[2, 1, 1], [1, 3, 1], [4, 2, 0]])
    samples = [OutputSample(np.repeat([0, 1, 2], n), np.array([1.5 * n[0] + 5.0 * n[1]]), None) for n in counts]
    bias, _ = output_statistics(samples, settings)
    np.testing.assert_allclose(bias[:, 0], [1.5, 5.0, 0.0], atol=1e-12)


def test_frames_without_energy_do_not_count() -> None:
    settings = case_settings("baseline")
    given = case_frames("baseline", settings)
    unlabeled = [*given, Frame(given[0].structure)]
    a, b = (statistics(f, settings).bias for f in (given, unlabeled))
    np.testing.assert_array_equal(a, b)
    nothing = statistics(unlabeled[-1:], settings)
    assert not nothing.bias.any()
    assert (nothing.deviation == 1).all()


def simple_cubic(n: int, spacing: float) -> list:
    """n^3 atoms of a cubic lattice."""
    grid = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * spacing
    return structures(grid, np.zeros(n**3, dtype=int), np.eye(3) * n * spacing, type_map=["A"])


def test_crowding_of_a_lattice() -> None:
    found = neighbor_statistics(simple_cubic(2, 2.0), [1.9, 2.0, 2.1, 2.9])  # strictly within: 2.0 counts none
    assert found.most == {1.9: 0, 2.0: 0, 2.1: 6, 2.9: 18}
    assert found.shortest == pytest.approx(2.0)


@pytest.mark.parametrize(("most", "nsel", "expected"), [(6, "auto", 8), (10, "auto:1.0", 12), (40, "auto:1.2", 48)])
def test_automatic_selection(most: int, nsel: str, expected: int) -> None:
    assert automatic(most, nsel) == expected


def test_selection_from_data() -> None:
    data = case_settings("baseline").model_dump()
    data["descriptor"]["repinit"]["nsel"] = "auto:1.5"
    data["descriptor"]["repformer"]["nsel"] = "auto"
    settings = ModelSettings.read(data)
    given = [f.structure for f in case_frames("baseline", case_settings("baseline"))]
    found = neighbor_statistics(given, [cutoff for cutoff, _, _ in settings.descriptor.selections])
    new = resolve_auto_nsel(settings, found)
    d = new.descriptor
    assert d.repinit.nsel == automatic(found.most[d.repinit.rcut], "auto:1.5")
    assert d.repformer.nsel == automatic(found.most[d.repformer.rcut], "auto")
    assert not too_few(d, found)


@pytest.mark.parametrize(("narrow", "expected"), [("auto", (8, 4)), (4, (8, 4)), (6, (8, 6)), (2, (4, 2))])
def test_small_molecules_have_as_many_neighbors_within_both_cutoffs(narrow: Any, expected: tuple[int, int]) -> None:
    data = case_settings("baseline").model_dump()
    data["descriptor"]["repinit"]["nsel"], data["descriptor"]["repformer"]["nsel"] = "auto", narrow
    settings = ModelSettings.read(data)
    found = NeighborStatistics({cutoff: 2 for cutoff, _, _ in settings.descriptor.selections}, 0.96)
    d = resolve_auto_nsel(settings, found).descriptor
    assert (d.repinit.nsel, d.repformer.nsel) == expected


@pytest.mark.parametrize(
    ("most", "words"), [({4.0: 0, 5.0: 1}, "within 4 Å (the closest two are 4.83 apart)"), ({4.0: 3}, "")]
)
def test_coordinates_that_leave_atoms_alone(most: dict[float, int], words: str) -> None:
    assert words in no_neighbors(NeighborStatistics(most, 4.83))
    assert bool(no_neighbors(NeighborStatistics(most, 4.83))) == bool(words)


@pytest.mark.parametrize("block", ["repinit", "repformer"])
def test_warnings_of_statistics_name_the_block_that_leaves_out_neighbors(block: str) -> None:
    data = case_settings("baseline").model_dump()
    data["descriptor"]["repinit"]["nsel"], data["descriptor"]["repformer"]["nsel"] = 3, 2
    settings = ModelSettings.read(data)
    rcut, nsel = data["descriptor"][block]["rcut"], data["descriptor"][block]["nsel"]
    frame = next(iter(case_frames("baseline", settings)))
    with pytest.warns(NeighborOverflowWarning, match=f"^{block} keeps the {nsel} nearest neighbors within {rcut:g} "):
        row_moments(frame, block, settings.selection, settings)


def test_selections_that_do_not_fit_each_other() -> None:
    data = case_settings("baseline").model_dump()
    data["descriptor"]["repinit"]["nsel"] = "auto"
    data["descriptor"]["repformer"]["nsel"] = 1000
    with pytest.raises(SettingError, match="nsel"):
        resolve_auto_nsel(
            ModelSettings.read(data),
            neighbor_statistics(
                simple_cubic(2, 2.0), [data["descriptor"][b]["rcut"] for b in ("repinit", "repformer")]
            ),
        )


def parameters_of_two(root: Path, **training: Any) -> tuple[dict[str, ModelFile], list[np.ndarray]]:
    """Models of two tasks with one fitting net, and the frame parameters of their data."""
    shared = {"types": MODEL["type_map"], "d": MODEL["descriptor"], "f": {"neuron": [4], "numb_fparam": 2}}
    branch = {"type_map": "types", "descriptor": "d", "fitting_net": "f", "data_stat_protect": 1e-3}
    data, given = {}, []
    for k, name in enumerate("AB"):
        given.append(np.random.default_rng(k).normal([1.0, -100.0 * k], [0.1, 3.0], (4, 2)))
        np.save(write_system(root / name, 4, seed=k) / "set.000" / "fparam.npy", given[-1])
        data[name] = {"training_data": {"systems": str(root / name), "batch_size": 1}}
    settings = {
        "model": {"shared_dict": shared, "model_dict": {"A": dict(branch), "B": dict(branch)}},
        "learning_rate": {"start_lr": 0.01},
        "training": {"data_dict": data, "numb_steps": 1} | training,
    }
    read = read_script(settings)
    found = open_data(read)
    return fresh_models(read, found, count_neighbors(found, read)), given


@pytest.mark.parametrize("shares", [{"A": 1.0, "B": 3.0}, {"A": 1.0, "B": 0.0}, {"A": 0.0, "B": 0.25}], ids=str)
def test_parameters_of_tasks_that_share_a_head(tmp_path: Path, shares: dict[str, float]) -> None:
    """Mean and deviation of the data that training will see: each task as often as it has its turn."""
    models, (a, b) = parameters_of_two(tmp_path, model_prob=shares)
    weights = np.repeat([shares.get("A", 0.0), shares.get("B", 0.0)], len(a))
    values = np.concatenate([a, b])
    mean = np.average(values, axis=0, weights=weights)
    deviation = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))
    for file in models.values():
        found = state(file.model)
        np.testing.assert_allclose(found["fitting.fparam_avg"], mean, rtol=1e-12)
        np.testing.assert_allclose(found["fitting.fparam_inv_std"], 1 / deviation, rtol=1e-9)


def test_without_counting_neighbors(tmp_path: Path) -> None:
    write_system(tmp_path / "a", 2)
    given = read_script(small_script(tmp_path))
    assert resolve_nsel(given, None) is given
    auto: dict[str, Any] = small_script(tmp_path)
    auto["model"] = MODEL | {"descriptor": DESCRIPTOR | {"repformer": REFORM | {"nsel": "auto:1.2"}}}
    with pytest.raises(SettingError, match=r"descriptor.repformer.nsel should be a number .* got 'auto:1.2'"):
        resolve_nsel(read_script(auto), None)
    with pytest.raises(SettingError, match=r"descriptor.repformer.nsel should be a number"):
        prepare(read_script(auto), backend("numpy").engine(), StartFrom(count_neighbors=False))
    fresh = prepare(given, backend("numpy").engine(), StartFrom(count_neighbors=False)).models()["Default"]
    counted = prepare(given, backend("numpy").engine()).models()["Default"]
    assert all(np.array_equal(value, state(counted.model)[path]) for path, value in state(fresh.model).items())
