"""From settings to a model, and from a model's settings to the neighbors it wants."""

from typing import Any

import numpy as np

from dpmodel.dpa2.build import build_descriptor
from dpmodel.initializers import Initializer
from dpmodel.model.fitting import Fitting
from dpmodel.model.model import Model
from dpmodel.model.settings import DosFitting, FittingSettings, ModelSettings, PropertyFitting
from dpmodel.nn import MLP
from dpmodel.xp import Array


def build(settings: ModelSettings, seed: int | None = 0, descriptor: Any = None) -> Model:
    """The model that ``settings`` describe, with initial values drawn from ``seed``, or with another ``descriptor``.

    ``seed=None`` gives a blank model: arrays of the right shapes with nothing in them, to read a file into.
    """
    draw = Initializer(seed)
    n_out = output_width(settings.fitting_net)
    return Model(
        descriptor=descriptor or build_descriptor(settings.descriptor, settings.type_map, draw("descriptor")),
        fitting=build_fitting(settings, draw("fitting")),
        out_bias=draw("out_bias").full((settings.n_types, n_out), 0.0),
        out_std=draw("out_std").full((settings.n_types, n_out), 1.0),
        n_types=settings.n_types,
        n_out=n_out,
        excluded=settings.atom_exclude_types,
        distinguish_types=getattr(settings.fitting_net, "distinguish_types", True),
        intensive=getattr(settings.fitting_net, "intensive", False),
    )


def output_width(s: FittingSettings) -> int:
    """Numbers per atom that the model gives."""
    if isinstance(s, DosFitting):
        return s.numb_dos
    if isinstance(s, PropertyFitting):
        return s.task_dim
    return {"ener": 1, "dipole": 3, "polar": 9}[s.type]


def network_width(s: FittingSettings, g2_dim: int) -> int:
    """Numbers per atom that the fitting network gives."""
    if s.type == "dipole":
        return g2_dim
    if s.type == "polar":
        return g2_dim if s.fit_diag else g2_dim**2
    return output_width(s)


def polar_scale(s: FittingSettings, n_types: int, draw: Initializer) -> Array:
    """Factors of the polarizability, (n_types, 1)."""
    scale = np.reshape(getattr(s, "scale", 1.0), (-1, 1))
    return draw.full((n_types, 1), 1.0) * scale.astype(draw.numpy_dtype)


def build_fitting(settings: ModelSettings, draw: Initializer) -> Fitting:
    s, n_types, exact = settings.fitting_net, settings.n_types, draw.cast("float64")  # what follows the network
    draw = draw.cast(s.dtype)
    n_net = network_width(s, settings.descriptor.rotation_width)
    n_in = settings.descriptor.dim_out + s.numb_fparam + s.dim_case_embd
    n_in += 0 if s.use_aparam_as_mask else s.numb_aparam
    polar = s.type == "polar"
    # sums over a frame say little of what differs between atoms: densities of states start at their mean
    gain = 0.1 if s.type == "dos" else 1.0

    def buffer(name: str, n: int, value: float) -> Array | None:
        return draw(name).full((n,), value) if n else None

    return Fitting(
        network=MLP.fitting(
            draw("network"),
            (n_in, *s.neuron),
            n_net,
            activation=s.activation_function,
            time_step=s.resnet_dt,
            gain=gain,
        ),
        bias=exact("bias").full((n_types, n_net), 0.0),
        fparam_avg=buffer("fparam_avg", s.numb_fparam, 0.0),
        fparam_inv_std=buffer("fparam_inv_std", s.numb_fparam, 1.0),
        aparam_avg=buffer("aparam_avg", s.numb_aparam, 0.0),
        aparam_inv_std=buffer("aparam_inv_std", s.numb_aparam, 1.0),
        case=buffer("case", s.dim_case_embd, 0.0),
        scale=polar_scale(s, n_types, exact("scale")) if polar else None,
        constant=exact("constant").full((n_types,), 0.0) if polar else None,
        kind=s.type,
        n_types=n_types,
        n_net=n_net,
        n_fparam=s.numb_fparam,
        n_aparam=s.numb_aparam,
        n_case=s.dim_case_embd,
        sees_aparam=not s.use_aparam_as_mask,
        minus_vacuum=any(e is not None for e in getattr(s, "atom_ener", ())),
        fit_diag=getattr(s, "fit_diag", True),
        shift_diag=getattr(s, "shift_diag", False),
    )
