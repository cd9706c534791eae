"""Learning rates as functions of the step (specification/training.md 3)."""

from collections.abc import Callable
from math import cos, exp, log, pi

from dpmodel.errors import SettingError
from dpmodel.train.settings.schedule import CosineSchedule, ExpSchedule, WSDSchedule

SMALLEST = 1e-10  # stands in for a final learning rate of zero where its logarithm is taken

Schedule = Callable[[int], float]


def schedule(settings: ExpSchedule | CosineSchedule | WSDSchedule, n_steps: int) -> Schedule:
    """The learning rate at step t = 0, 1, ... of a run of ``n_steps``."""
    warmup = settings.warmup(n_steps)
    if warmup and warmup >= n_steps:
        raise SettingError(f"learning_rate.warmup_steps should be below the number of steps, {n_steps}, got {warmup}")
    decay, start = _decay(settings, n_steps, n_steps - warmup), settings.start_lr
    low = settings.warmup_start_factor * start

    def at(step: int) -> float:
        return low + (start - low) * step / warmup if step < warmup else decay(step - warmup)

    return at


def _decay(settings: ExpSchedule | CosineSchedule | WSDSchedule, n_steps: int, length: int) -> Schedule:
    """The part after the warm-up, ``length`` steps long."""
    if isinstance(settings, ExpSchedule):
        return _exponential(settings, length)
    if isinstance(settings, CosineSchedule):
        return _cosine(settings, length)
    return _stable_decay(settings, n_steps, length)


def _exponential(s: ExpSchedule, length: int) -> Schedule:
    width, rate = s.decay_steps, s.decay_rate
    if rate is None and width >= length:
        width = 100 if length // 10 > 100 else length // 100 + 1
    if rate is None:
        rate = exp(log(max(s.final, SMALLEST) / s.start_lr) * width / length) if length else 1.0
    factor = rate

    def at(step: int) -> float:
        drops = step / width if s.smooth else step // width
        return max(s.start_lr * factor**drops, s.final)

    return at


def _cosine(s: CosineSchedule, length: int) -> Schedule:
    def at(step: int) -> float:
        if step >= length:
            return s.final
        return s.final + (s.start_lr - s.final) * 0.5 * (1.0 + cos(pi * step / length))

    return at


def _stable_decay(s: WSDSchedule, n_steps: int, length: int) -> Schedule:
    falling = max(1, min(int(s.decay_phase_ratio * n_steps), length))
    high, low = s.start_lr, s.final
    shapes: dict[str, Callable[[float], float]] = {
        "inverse_linear": lambda x: 1.0 / (x / low + (1.0 - x) / high),
        "cosine": lambda x: low + (high - low) * 0.5 * (1.0 + cos(pi * x)),
        "linear": lambda x: high + (low - high) * x,
    }
    shape = shapes[s.decay_type]

    def at(step: int) -> float:
        stable = length - falling
        if step < stable:
            return high
        return low if step >= length else shape((step - stable) / falling)

    return at
