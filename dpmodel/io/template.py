"""deepmd-kit's layout of a model (specification/serialization.md 2-5): see ``dpmodel.nn.layout`` for how it is used."""

from dpmodel.dpa2.layout import Layout
from dpmodel.model.model import Model
from dpmodel.model.settings import ModelSettings
from dpmodel.nn.layout import Leaf, Tree, collection, linear


def model_template(settings: ModelSettings, model: Model) -> Tree:
    """The ``model`` entry of a file; ``model`` tells which arrays there are, its values are not looked at."""
    return {
        "@class": "Model",
        "@version": 2,
        "type": "standard",
        "type_map": list(settings.type_map),
        "atom_exclude_types": list(settings.atom_exclude_types),
        "pair_exclude_types": [list(pair) for pair in settings.pair_exclude_types],
        "rcond": settings.fitting_net.rcond,
        "preset_out_bias": settings.model_dump()["preset_out_bias"],
        "@variables": {"out_bias": Leaf("out_bias", lead=True), "out_std": Leaf("out_std", lead=True)},
        "descriptor": Layout(settings.descriptor, settings.type_map, model.descriptor).tree(),
        "fitting": fitting(settings, model),
    }


# version, name of the output and further keys of each head (specification/serialization.md 5)
FITTINGS = {
    "ener": (4, "energy", ("atom_ener", "dim_out")),
    "dipole": (4, "dipole", ("embedding_width", "r_differentiable", "c_differentiable")),
    "polar": (5, "polar", ("embedding_width", "fit_diag", "shift_diag")),
    "dos": (4, "dos", ("dim_out", "atom_ener")),
    "property": (6, "", ("dim_out", "atom_ener", "task_dim", "intensive", "distinguish_types")),
}


def fitting(settings: ModelSettings, model: Model) -> Tree:
    """The fitting net's part."""
    s, m = settings.fitting_net, model.fitting
    version, name, extra = FITTINGS[s.type]
    trainable = list(s.trainable) if isinstance(s.trainable, tuple) else [s.trainable] * (len(s.neuron) + 1)
    dumped = s.model_dump()
    stored = "neuron resnet_dt numb_fparam numb_aparam dim_case_embd default_fparam activation_function".split()
    computed = {
        "dim_out": m.n_net,
        "embedding_width": settings.descriptor.rotation_width,
        "r_differentiable": True,
        "c_differentiable": True,
    }
    buffers = {
        "bias_atom_e": "bias", "case_embd": "case", "fparam_avg": "fparam_avg", "fparam_inv_std": "fparam_inv_std",
        "aparam_avg": "aparam_avg", "aparam_inv_std": "aparam_inv_std",
    } | ({"scale": "scale", "constant_matrix": "constant"} if s.type == "polar" else {})  # fmt: skip
    tree = {
        "@class": "Fitting",
        "@version": version,
        "var_name": name or dumped["property_name"],
        "ntypes": settings.n_types,
    }
    tree |= {"type": s.type, "dim_descrpt": settings.descriptor.dim_out, "precision": s.precision, "rcond": s.rcond}
    tree |= {key: dumped[key] for key in stored}
    tree |= {
        "mixed_types": True,
        "exclude_types": list(settings.atom_exclude_types),
        "type_map": list(settings.type_map),
        "tot_ener_zero": False,
        "trainable": trainable,
        "layer_name": dumped.get("layer_name"),
        "use_aparam_as_mask": s.use_aparam_as_mask,
        "spin": None,
        "@variables": {
            key: None if getattr(m, field) is None else Leaf(f"fitting.{field}") for key, field in buffers.items()
        },
        "nets": collection(fitting_network(settings, model, trainable), "fitting_network", settings.n_types),
    }
    return tree | {key: computed.get(key, dumped.get(key)) for key in extra}


def fitting_network(settings: ModelSettings, model: Model, trainable: list[bool]) -> Tree:
    s, layers = settings.fitting_net, model.fitting.network.layers
    return {
        "@class": "FittingNetwork",
        "@version": 1,
        "in_dim": layers[0].n_in,
        "out_dim": layers[-1].n_out,
        "neuron": list(s.neuron),
        "activation_function": s.activation_function,
        "resnet_dt": s.resnet_dt,
        "precision": s.precision,
        "bias_out": True,
        "layers": [
            linear(layer, f"fitting.network.layers.{i}", precision=s.dtype, trainable=flag)
            for i, (layer, flag) in enumerate(zip(layers, trainable, strict=True))
        ],
    }
