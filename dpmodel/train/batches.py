"""The frames of each step: a function of seed and step on every backend (specification/training.md 6)."""

import warnings
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from dpmodel.data.systems import Frame, System, find_systems
from dpmodel.errors import SettingError
from dpmodel.model.settings import ModelSettings
from dpmodel.statistics.neighbors import neighbor_statistics
from dpmodel.train.settings.data import DataSettings, TrainingData
from dpmodel.xp import Array

COPIES = "numb_copy"  # how often a frame comes in a pass over its system


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Random numbers of their own for everything that has a name."""
    return np.random.default_rng([seed, *(zlib.crc32(str(name).encode()) for name in names)])


@dataclass(frozen=True)
class Source:
    """A system as batches are drawn from it: ``frames`` are the ones that may be used, ``size`` of them at a time."""

    system: System
    frames: Array
    size: int

    @property
    def n_batches(self) -> int:
        """Batches in a pass over the system."""
        return ceil(len(self.frames) / self.size)


class Batches:
    """Batches of one task.  The n-th is ``frames(n)``; a pass over a system permutes its frames."""

    def __init__(self, sources: Sequence[Source], weights: Array, seed: int, name: str, mixed: int = 1) -> None:
        """``mixed``: how many draws, of any systems, make a batch."""
        self.sources, self.probabilities, self._mixed = list(sources), weights / weights.sum(), mixed
        self._seed, self._name = seed, name
        self._choices = np.zeros(0, dtype=np.int64)
        self._turns = np.zeros(0, dtype=np.int64)

    @property
    def epoch(self) -> int:
        """Batches after which every system was seen once, on average (specification/training.md 6.2)."""
        shares = zip(self.sources, self.probabilities, strict=True)
        return ceil(max(source.n_batches / p for source, p in shares if p > 0) / self._mixed)

    def frames(self, n: int) -> list[Frame]:
        """The frames of batch ``n``, all from one system unless draws are mixed."""
        return [frame for draw in range(n * self._mixed, (n + 1) * self._mixed) for frame in self._drawn(draw)]

    def _drawn(self, n: int) -> list[Frame]:
        if n >= len(self._choices):
            self._draw(max(1024, 2 * (n + 1)))
        return self._read(int(self._choices[n]), int(self._turns[n]))

    def first(self, limit: int) -> Iterable[Frame]:
        """At most ``limit`` batches of each system: what statistics are taken from."""
        for s, source in enumerate(self.sources):
            for turn in range(min(limit, source.n_batches)):
                yield from self._read(s, turn)

    def _read(self, s: int, turn: int) -> list[Frame]:
        source = self.sources[s]
        epoch, number = divmod(turn, source.n_batches)
        order = generator(self._seed, self._name, "frames", s, epoch).permutation(source.frames)
        return [source.system.frame(int(i)) for i in order[number * source.size : (number + 1) * source.size]]

    def _draw(self, count: int) -> None:
        """The systems of the first ``count`` batches; drawing more of them leaves the first as they were."""
        random = generator(self._seed, self._name, "systems").random(count)
        edges = np.cumsum(self.probabilities)
        self._choices = np.minimum(np.searchsorted(edges, random, side="right"), len(edges) - 1)
        self._turns = np.zeros(count, dtype=np.int64)
        for s in range(len(self.sources)):
            own = self._choices == s
            self._turns[own] = np.arange(own.sum())


def open_batches(
    data: DataSettings,
    model: ModelSettings,
    seed: int,
    name: str,
    processes: int = 1,
    *,
    labels: Collection[str] | None = None,
    path: str = "data",
) -> Batches:
    """Batches from the systems in ``data`` for ``model``; ``name`` tells tasks and training from validation.

    Several ``processes`` share batches of as many times the frames.  ``labels``: those that are needed, all if None;
    ``path`` of the section in the input.  Raises FileError and SettingError.
    """
    wanted = None if labels is None else {*labels, COPIES}
    systems = [System(system, model, wanted) for system in find_systems(data.systems, data.rglob_patterns)]
    for system in systems:
        if system.gaps:
            lacking = f"{len(system.gaps)} files that other sets have, such as {system.gaps[0]}"
            warnings.warn(f"{system.path} lacks {lacking}: no batch with such frames has the label", stacklevel=2)
    try:
        sizes, mixed = batch_sizes(data, [system.n_atoms for system in systems]), mixed_draws(data)
        sizes, mixed = (sizes, mixed * processes) if mixed else ([size * processes for size in sizes], 1)
        weights = _shares(data, systems, sizes)
    except SettingError as error:
        raise SettingError(f"{path}.{error}") from None
    frames = [_usable(system, data) for system in systems]
    used = [k for k in range(len(systems)) if sizes[k] and len(frames[k]) and weights[k] > 0]
    if not used:
        raise SettingError(f"{path}: no frames are left of {len(systems)} systems, or none may be drawn")
    chosen = [Source(systems[k], frames[k], sizes[k]) for k in used]
    return Batches(chosen, np.array([weights[k] for k in used]), seed, name, mixed)


def _usable(system: System, data: DataSettings) -> Array:
    """Frames without atoms that are too close, those to learn from as often as they say (numb_copy)."""
    every = np.arange(system.n_frames)
    if not isinstance(data, TrainingData):
        return every
    times = np.ones(len(every), dtype=int)
    if COPIES in system.labels:
        times = np.array([int(frame.labels.get(COPIES, 1)) for frame in system])
    if data.min_pair_dist:
        limit = data.min_pair_dist
        times *= [neighbor_statistics([frame.structure], [limit]).shortest >= limit for frame in system]
    return np.repeat(every, times)


def batch_sizes(data: DataSettings, n_atoms: Sequence[int]) -> list[int]:
    """Frames in a batch of each system; 0 for those that a filter leaves out (specification/training.md 6.1)."""
    rule = data.batch_size
    if isinstance(rule, int):
        return [rule] * len(n_atoms)
    if isinstance(rule, tuple):
        if len(rule) != len(n_atoms):
            raise SettingError(f"batch_size has {len(rule)} entries, but there are {len(n_atoms)} systems")
        return list(rule)
    if mixed_draws(data):
        return [1] * len(n_atoms)
    kind, _, number = rule.partition(":")
    most = int(number or 32)
    if kind == "auto":
        return [ceil(most / n) for n in n_atoms]
    if kind == "filter" and min(n_atoms) > most:
        raise SettingError(f"batch_size = {rule!r} leaves out every system: the smallest has {min(n_atoms)} atoms")
    return [0 if kind == "filter" and n > most else max(1, most // n) for n in n_atoms]


def mixed_draws(data: DataSettings) -> int:
    """The number of frames, of any systems, in a batch that mixes them; 0 if each is of one system."""
    rule = data.batch_size
    return int(rule.partition(":")[2]) if isinstance(rule, str) and rule.startswith("mixed:") else 0


def _shares(data: DataSettings, systems: Sequence[System], sizes: Sequence[int]) -> Array:
    batches = [ceil(system.n_frames / size) if size else 0 for system, size in zip(systems, sizes, strict=True)]
    return shares(data, np.array(batches, dtype=float))


def shares(data: DataSettings, n_batches: Array) -> Array:
    """The share of each system in the batches, adding up to 1 (specification/training.md 6.2)."""
    if data.sys_probs is not None:
        return _fixed_shares(np.array(data.sys_probs), n_batches)
    if data.auto_prob == "prob_uniform":
        return (n_batches > 0) / (n_batches > 0).sum()
    blocks = data.auto_prob.split(";")[1:] or [f"0:{len(n_batches)}:1"]
    result = np.zeros(len(n_batches))
    limits = [(int(a), int(b), float(w)) for a, b, w in (block.split(":") for block in blocks)]
    for start, stop, weight in limits:
        if not 0 <= start < stop <= len(n_batches):
            raise SettingError(f"auto_prob: {start}:{stop} is no range of the {len(n_batches)} systems")
        part = n_batches[start:stop]
        result[start:stop] += weight * part / max(part.sum(), 1)
    if not result.sum() > 0:
        raise SettingError("auto_prob gives no system a share")
    return result / result.sum()


def _fixed_shares(fixed: Array, n_batches: Array) -> Array:
    if len(fixed) != len(n_batches):
        raise SettingError(f"sys_probs has {len(fixed)} entries, but there are {len(n_batches)} systems")
    free = fixed < 0
    rest = np.where(free, n_batches, 0.0)
    left = 1.0 - fixed[~free].sum()
    result = np.where(free, left * rest / max(rest.sum(), 1), fixed)
    if not result.sum() > 0:
        raise SettingError("sys_probs gives no system a share")
    return result / result.sum()


class TaskSampler:
    """The task of each step, and how many steps it had before."""

    def __init__(self, shares: dict[str, float], seed: int) -> None:
        self._names = list(shares)
        self._edges = np.cumsum(list(shares.values())) / sum(shares.values())
        self._seed = seed
        self._choices = np.zeros(0, dtype=np.int64)

    def __call__(self, step: int) -> tuple[str, int]:
        """The task of a step, and the number of its batch."""
        if len(self._names) == 1:
            return self._names[0], step
        if step >= len(self._choices):
            random = generator(self._seed, "tasks").random(max(1024, 2 * (step + 1)))
            self._choices = np.minimum(np.searchsorted(self._edges, random, side="right"), len(self._names) - 1)
        task = self._choices[step]
        return self._names[task], int((self._choices[:step] == task).sum())
