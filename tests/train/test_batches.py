"""Batch sizes, shares and the order of frames (specification/training.md 6)."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dpmodel.errors import FileError, SettingError
from dpmodel.model.settings import ModelSettings
from dpmodel.train.batches import Batches, TaskSampler, batch_sizes, open_batches, shares
from dpmodel.train.script import read_script
from dpmodel.train.settings.data import TrainingData, ValidationData
from dpmodel.train.start import open_data
from sample_settings import MODEL
from small_water import script, write_system

SETTINGS = ModelSettings.read(MODEL)


def write(root: Path, n_frames: int, n_atoms: int = 2, first: float = 0.0) -> Path:
    """A system whose energies number its frames."""
    (root / "set.000").mkdir(parents=True)
    (root / "type.raw").write_text("0 " * n_atoms)
    (root / "type_map.raw").write_text("O")
    (root / "nopbc").touch()
    x = np.random.default_rng(0).uniform(0, 9, (n_frames, 3 * n_atoms))
    np.save(root / "set.000/coord.npy", x)
    np.save(root / "set.000/energy.npy", first + np.arange(n_frames))
    return root


def data(**given: object) -> TrainingData:
    return TrainingData.read({"systems": "none"} | given)


SIZES = [
    (3, [3, 3, 3]),
    ([1, 2, 3], [1, 2, 3]),
    ("auto", [4, 1, 1]),
    ("auto:100", [13, 4, 1]),
    ("max:64", [8, 2, 1]),
    ("filter:64", [8, 2, 0]),
]


@pytest.mark.parametrize(("rule", "expected"), SIZES)
def test_sizes(rule: object, expected: list[int]) -> None:
    assert batch_sizes(data(batch_size=rule), [8, 32, 192]) == expected


def test_sizes_one_for_each_system() -> None:
    with pytest.raises(SettingError, match="batch_size has 2 entries, but there are 3 systems"):
        batch_sizes(data(batch_size=[1, 2]), [8, 32, 192])


def test_a_filter_that_leaves_nothing() -> None:
    with pytest.raises(
        SettingError, match=r"batch_size = 'filter:3' leaves out every system: the smallest has 8 atoms"
    ):
        batch_sizes(data(batch_size="filter:3"), [8, 32])


SHARES = [
    ({}, [0.5, 0.25, 0.25]),
    ({"auto_prob": "prob_uniform"}, [1 / 3, 1 / 3, 1 / 3]),
    ({"auto_prob": "prob_sys_size;0:1:3;1:3:1"}, [0.75, 0.125, 0.125]),
    ({"auto_prob": "prob_sys_size; 0:2:1.0"}, [2 / 3, 1 / 3, 0]),
    ({"sys_probs": [0.2, 0.3, 0.5]}, [0.2, 0.3, 0.5]),
    ({"sys_probs": [0.4, -1, -1]}, [0.4, 0.3, 0.3]),
    ({"sys_probs": [-1, 0.4, -1]}, [0.4, 0.4, 0.2]),
]


@pytest.mark.parametrize(("rule", "expected"), SHARES)
def test_shares(rule: dict[str, object], expected: list[float]) -> None:
    np.testing.assert_allclose(shares(data(**rule), np.array([20.0, 10.0, 10.0])), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"auto_prob": "prob_sys_size;0:4:1"}, "0:4 is no range of the 3 systems"),
        ({"auto_prob": "prob_sys_size;0:1:0"}, "no system a share"),
        ({"sys_probs": [0.5, 0.5]}, "2 entries, but there are 3"),
        ({"sys_probs": [0.0, 0.0, 0.0]}, "no system a share"),
    ],
)
def test_wrong_shares(rule: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        shares(data(**rule), np.ones(3))


def opened(root: Path, seed: int = 0, processes: int = 1, **given: object) -> Batches:
    return open_batches(data(systems=str(root), **given), SETTINGS, seed, "training", processes)


def energies(batches: Batches, n: int) -> list[float]:
    return [float(frame.labels["energy"]) for frame in batches.frames(n)]


def test_every_frame_once_in_a_pass(tmp_path: Path) -> None:
    write(tmp_path / "a", 7)
    batches = opened(tmp_path, batch_size=3)
    assert batches.epoch == 3
    for k in range(3):
        found = [energies(batches, n) for n in range(3 * k, 3 * k + 3)]
        assert [len(batch) for batch in found] == [3, 3, 1]
        assert sorted(sum(found, [])) == list(range(7))  # noqa: RUF017
    assert energies(batches, 0) != energies(batches, 3)


def test_batches_come_from_one_system_as_often_as_their_share(tmp_path: Path) -> None:
    write(tmp_path / "a", 30)
    write(tmp_path / "b", 10, first=100)
    batches = opened(tmp_path, batch_size=2)
    assert batches.epoch == 20
    found = [energies(batches, n) for n in range(2000)]
    from_b = [batch for batch in found if batch[0] >= 100]
    assert all(e >= 100 for batch in from_b for e in batch)
    assert len(from_b) / 2000 == pytest.approx(0.25, abs=0.03)
    counts = Counter(e for batch in found for e in batch)
    for first, size in ((0, 30), (100, 10)):  # passes are complete: no frame is ahead by more than one
        times = [counts[first + i] for i in range(size)]
        assert max(times) - min(times) <= 1


def test_a_function_of_seed_and_step(tmp_path: Path) -> None:
    write(tmp_path / "a", 9)
    write(tmp_path / "b", 5, first=100)
    forward = opened(tmp_path, batch_size=2)
    sequence = [energies(forward, n) for n in range(50)]
    backward = opened(tmp_path, batch_size=2)
    assert [energies(backward, n) for n in reversed(range(50))] == sequence[::-1]
    assert [energies(opened(tmp_path, batch_size=2), 3000)] == [energies(forward, 3000)]
    assert [energies(opened(tmp_path, seed=1, batch_size=2), n) for n in range(50)] != sequence
    other = open_batches(ValidationData.read({"systems": str(tmp_path), "batch_size": 2}), SETTINGS, 0, "validation")
    assert [energies(other, n) for n in range(50)] != sequence


def test_statistics_see_the_first_batches_of_every_system(tmp_path: Path) -> None:
    write(tmp_path / "a", 9)
    write(tmp_path / "b", 5, first=100)
    found = [float(frame.labels["energy"]) for frame in opened(tmp_path, batch_size=2).first(3)]
    assert len(found) == 6 + 5
    assert {e for e in found if e >= 100} == {100, 101, 102, 103, 104}


def test_frames_with_close_atoms_are_left_out(tmp_path: Path) -> None:
    root = write(tmp_path / "a", 6)
    x = np.zeros((6, 6))
    x[:, 3] = [0.4, 1.0, 0.6, 0.3, 2.0, 1.5]
    np.save(root / "set.000/coord.npy", x)
    batches = opened(tmp_path, batch_size=10, min_pair_dist=0.5)
    assert sorted(energies(batches, 0)) == [1, 2, 4, 5]
    with pytest.raises(SettingError, match="no frames are left"):
        opened(tmp_path, min_pair_dist=5.0)


def test_filtered_systems(tmp_path: Path) -> None:
    write(tmp_path / "a", 4, n_atoms=2)
    write(tmp_path / "b", 4, n_atoms=9, first=100)
    batches = opened(tmp_path, batch_size="filter:4")
    assert max(max(energies(batches, n)) for n in range(50)) < 100
    assert len(batches.frames(0)) == 2


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"batch_size": [1, 2]}, "batch_size has 2 entries, but there are 1 systems"),
        ({"batch_size": "filter:1"}, "batch_size = 'filter:1' leaves out every system"),
        ({"sys_probs": [0.5, 0.5]}, "sys_probs has 2 entries"),
        ({"auto_prob": "prob_sys_size;0:3:1"}, "auto_prob: 0:3 is no range"),
    ],
)
def test_messages_say_which_section(tmp_path: Path, rule: dict[str, object], message: str) -> None:
    write(tmp_path / "a", 4)
    section = "training.data_dict.A.training_data"
    with pytest.raises(SettingError, match=rf"^{section}\.{message}"):
        open_batches(data(systems=str(tmp_path), **rule), SETTINGS, 0, "A training", path=section)


def test_labels_that_only_some_sets_have(tmp_path: Path) -> None:
    root = write(tmp_path / "a", 4)
    shutil.copytree(root / "set.000", root / "set.001")
    np.save(root / "set.000/virial.npy", np.zeros((4, 9)))
    with pytest.warns(UserWarning, match=r"lacks 1 files that other sets have, such as .*set.001/virial.npy"):
        opened(tmp_path)
    open_batches(data(systems=str(tmp_path)), SETTINGS, 0, "training", labels=["energy"])  # nobody wants the virial


def test_what_training_does_not_ask_for_may_be_as_it_likes(tmp_path: Path) -> None:
    folder = write_system(tmp_path / "a", 2) / "set.000"
    np.save(folder / "virial.npy", np.full((2, 9), np.nan))
    np.save(folder / "names.npy", np.array(["x", "y"]))
    np.save(folder / "magmom.npy", np.zeros((7, 5)))
    unasked = read_script(script(tmp_path, loss={"start_pref_v": 0, "limit_pref_v": 0}))
    frames = open_data(unasked)["Default"].train.frames(0)
    assert all(set(frame.labels) == {"energy", "force"} for frame in frames)
    with pytest.raises(FileError, match=r"virial.npy: frame \d"):
        open_data(read_script(script(tmp_path)))["Default"].train.frames(0)


def test_processes_share_larger_batches(tmp_path: Path) -> None:
    write(tmp_path / "a", 12)
    one, three = opened(tmp_path, batch_size=6), opened(tmp_path, batch_size=2, processes=3)
    assert [energies(one, n) for n in range(6)] == [energies(three, n) for n in range(6)]


def test_turns_of_tasks() -> None:
    turns = TaskSampler({"A": 3.0, "B": 1.0}, seed=0)
    found = [turns(step) for step in range(4000)]
    assert sum(task == "B" for task, _ in found) / 4000 == pytest.approx(0.25, abs=0.03)
    for name in "AB":
        numbers = [n for task, n in found if task == name]
        assert numbers == list(range(len(numbers)))
    assert TaskSampler({"A": 3.0, "B": 1.0}, seed=0)(3999) == found[3999]
    assert TaskSampler({"A": 1.0}, seed=0)(17) == ("A", 17)
