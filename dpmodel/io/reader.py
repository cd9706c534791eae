"""A model's part of deepmd-kit's trees, read by its description (``dpmodel.io.template``) and checked against it."""

import contextlib
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from dpmodel.dpa2 import layout
from dpmodel.errors import FileError, SettingError
from dpmodel.io.template import FITTINGS
from dpmodel.io.values import describe, same
from dpmodel.model.settings import ModelSettings
from dpmodel.module import State
from dpmodel.nn.layout import Leaf

# newest version of each class that can be read; 1 is the oldest, and what an absent entry means
NEWEST = {"Model": 2, "Layer": 2, "EmbeddingNetwork": 2} | layout.NEWEST
# copies of settings that readers of deepmd-kit do not look at, or that say nothing about the numbers
UNREAD = set(
    """trainable trainable_ln protection time rcond layer_name tot_ener_zero spin exclude_types atom_ener network_type
    update_residual update_residual_init""".split()
)
# keys that older versions lack
NEWER = set(
    """use_sqrt_nnei g1_out_conv g1_out_mlp ln_eps use_tebd_bias use_econf_tebd type_map trainable_ln preset_out_bias
    rcond dim_case_embd default_fparam case_embd distinguish_types update_h2 bias @version tot_ener_zero spin
    layer_name mixed_types var_name dim_out constant_matrix r_differentiable c_differentiable atom_ener
    use_aparam_as_mask embedding_width trainable atom_exclude_types pair_exclude_types exclude_types env_mat
    use_exp_switch""".split()
)
# settings of fitting nets that the file has copies of, of all heads and of some
FITTING_COPIES = """neuron activation_function precision resnet_dt numb_fparam numb_aparam dim_case_embd default_fparam
    rcond use_aparam_as_mask trainable""".split()
HEAD_COPIES = {
    "ener": ("atom_ener", "layer_name"),
    "polar": ("fit_diag", "shift_diag"),
    "property": ("task_dim", "intensive", "distinguish_types"),
}
# settings that only the script in the file has
SCRIPT_ONLY = {
    "": "data_stat_nbatch data_stat_protect data_bias_nsample finetune_head model_branch_alias info".split(),
    "descriptor": ["seed"],
    "fitting_net": ["seed", "sel_type"],
}


class Reader:
    """Walks a template and a tree together."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.where: dict[str, str] = {}

    def fail(self, where: str, expected: str, value: Any = None, *, words: str | None = None) -> NoReturn:
        """FileError: at ``where`` the file has ``value``, or what ``words`` say."""
        actual = describe(value) if words is None else words
        raise FileError(f"{self.file}: {where}: expected {expected}, found {actual}")

    def held(self, path: str, value: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """``value`` in the precision that the settings say, if that loses nothing."""
        if not np.can_cast(value.dtype, dtype):
            self.fail(self.where[path], f"{dtype} (from the precision in the same file)", words=str(value.dtype))
        return value.astype(dtype, copy=False)

    def table(self, value: Any, ndim: int, where: str) -> np.ndarray:
        """``value`` if it is an array with ``ndim`` axes."""
        if not isinstance(value, np.ndarray) or value.ndim != ndim:
            self.fail(where, f"an array with {ndim} axes", value)
        return value

    def section(self, tree: Mapping[str, Any], *path: str) -> dict[str, Any]:
        for i, key in enumerate(path):
            if not isinstance(tree, dict) or not isinstance(tree.get(key), dict):
                words = "nothing" if isinstance(tree, dict) and key not in tree else None
                here, value = "/model/" + "/".join(path[: i + 1]), tree.get(key) if isinstance(tree, dict) else tree
                self.fail(here, "a mapping", value, words=words)
            tree = tree[key]
        return dict(tree)

    def settings(self, tree: Mapping[str, Any], script: Any = None) -> ModelSettings:
        """The settings that the file's copies of them amount to, and what only the ``script`` beside them knows."""
        d, f = self.section(tree, "descriptor"), self.section(tree, "fitting")
        arguments = {key: self.section(tree, "descriptor", key) for key in layout.ARGUMENTS}
        if not isinstance(f.get("type", "ener"), str) or f.get("type", "ener") not in FITTINGS:
            self.fail("/model/fitting/type", f"one of {', '.join(FITTINGS)}", f.get("type"))
        values = {
            "type_map": tree.get("type_map"),
            "descriptor": layout.settings_in(d, arguments),
            "fitting_net": self.fitting(f),
            "pair_exclude_types": [] if tree.get("pair_exclude_types") is None else tree["pair_exclude_types"],
            "atom_exclude_types": [] if tree.get("atom_exclude_types") is None else tree["atom_exclude_types"],
            "preset_out_bias": tree.get("preset_out_bias"),
        }
        with contextlib.suppress(SettingError):  # the script may be anybody's
            return ModelSettings.read(with_script(values, script))
        try:
            return ModelSettings.read(values)
        except SettingError as error:
            raise FileError(f"{self.file}: /model: {error}") from None

    def fitting(self, f: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of the fitting net; redundant and constant entries are left to the comparison with the template."""
        kind = f.get("type", "ener")
        names = {*FITTING_COPIES, *HEAD_COPIES.get(kind, ())}
        values = {name: f[name] for name in names if name in f} | {"type": kind}
        flags = values.get("trainable")
        if isinstance(flags, list) and flags and all(flag is flags[0] for flag in flags):
            values["trainable"] = flags[0]
        if kind == "ener" and values.get("atom_ener") is None:
            values["atom_ener"] = []
        if kind == "dos":
            values["numb_dos"] = f.get("dim_out")
        if kind == "polar":
            values["scale"] = scale_setting(self.section({"fitting": f}, "fitting", "@variables").get("scale"))
        if kind == "property":
            values["property_name"] = f.get("var_name")
            values.setdefault("distinguish_types", False)
        return values

    def arrays(self, template: Any, tree: Any) -> State:
        """The arrays of ``tree`` by their path in the model."""
        by_path: State = {}
        self.walk(template, tree, "/model", by_path)
        return by_path

    def walk(self, template: Any, tree: Any, where: str, by_path: State) -> None:
        if isinstance(template, dict):
            self.mapping(template, tree, where, by_path)
        elif isinstance(template, Leaf):
            by_path[template.path] = self.array(template, tree, where)
        elif isinstance(template, list) and template and isinstance(template[0], dict | Leaf | np.ndarray):
            if not isinstance(tree, list) or len(tree) != len(template):
                self.fail(where, f"a list of {len(template)}", tree)
            for i, (part, value) in enumerate(zip(template, tree, strict=True)):
                self.walk(part, value, f"{where}/{i}", by_path)
        elif isinstance(template, np.ndarray):
            pass  # made from the file's own numbers
        elif not same(template, tree):
            self.fail(where, f"{describe(template)} (from the settings in the same file)", tree)

    def mapping(self, template: dict[str, Any], tree: Any, where: str, by_path: State) -> None:
        if not isinstance(tree, dict):
            self.fail(where, "a mapping", tree)
        if "@class" in template:
            tree = self.versioned(template, tree, where)
        for key in tree.keys() - template.keys():
            if tree[key] is not None and key not in UNREAD:
                self.fail(f"{where}/{key}", "no such entry", tree[key])
        for key, part in template.items():
            here = f"{where}/{key}"
            if key in ("@version", *UNREAD, *layout.ARGUMENTS):
                continue  # settings were read from there, version was checked
            if key in tree:
                self.walk(part, tree[key], here, by_path)
            elif key not in NEWER and part not in (None, {}):
                self.fail(here, "an array" if isinstance(part, Leaf) else describe(part), words="nothing")

    def versioned(self, template: dict[str, Any], tree: dict[str, Any], where: str) -> dict[str, Any]:
        """Check class and version; bring older layouts to the present one."""
        version, newest = tree.get("@version", 1), NEWEST.get(template["@class"], template["@version"])
        if type(version) is not int or not 1 <= version <= newest:
            self.fail(f"{where}/@version", f"a version from 1 to {newest}", version)
        residuals = {key: tree[key] for key in ("g1_residual", "g2_residual", "h2_residual") if key in tree}
        if residuals and "@variables" in template:
            tree = {key: value for key, value in tree.items() if key not in residuals} | {"@variables": residuals}
        return tree

    def array(self, leaf: Leaf, value: Any, where: str) -> np.ndarray:
        """``value``, which the file has at ``where``, as the model holds it."""
        self.where[leaf.path] = where
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = np.asarray(value, dtype=float)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fV":
            words = str(value.dtype) if isinstance(value, np.ndarray) else None
            self.fail(where, "an array of floating-point numbers", value, words=words)
        if leaf.copies:
            value = self.one_slot(value, leaf, where)
        if leaf.packed:
            if value.ndim != 2 or value.shape[1] % 6:
                self.fail(where, "shape (n_rows, 6 * width)", value)
            value = np.ascontiguousarray(np.swapaxes(value.reshape(len(value), -1, 6), 1, 2))
        if leaf.lead:
            if value.ndim < 2 or value.shape[0] != 1:
                self.fail(where, "shape (1, n_types, width)", value)
            value = value[0]
        if value.ndim == 2 and value.shape[0] == 1 and leaf.row:
            value = value[0]
        if n_bad := np.count_nonzero(~np.isfinite(value)):
            self.fail(where, "finite numbers", words=f"{n_bad} that are NaN or infinite")
        return value

    def one_slot(self, value: np.ndarray, leaf: Leaf, where: str) -> np.ndarray:
        """Statistics of a type from their equal copies, one a slot."""
        if value.ndim != 3 or value.shape[1:] != (leaf.copies, 4):
            self.fail(where, f"shape (n_types, {leaf.copies}, 4)", value)
        if not np.all(value == value[:, :1, :]):
            self.fail(where, "the same statistics in every slot, as deepmd-kit makes them", words="slots that differ")
        if leaf.path.endswith("stddev") and not np.all(value > 0):
            self.fail(where, "standard deviations above zero", words=f"a smallest one of {value.min()}")
        return np.ascontiguousarray(value[:, 0, :])


def scale_setting(values: Any) -> Any:
    """The setting that an array of one factor a type amounts to."""
    listed = np.ravel(values).tolist() if isinstance(values, np.ndarray) else [1.0]
    return listed[0] if len(set(listed)) == 1 else listed


def with_script(settings: dict[str, Any], script: Any) -> dict[str, Any]:
    """``settings`` with those that a tree has no place for, of training above all, from ``script``."""
    result = dict(settings)
    for section, names in SCRIPT_ONLY.items():
        section_there = script.get(section) if section and isinstance(script, dict) else script
        extra = (
            {name: section_there[name] for name in names if name in section_there}
            if isinstance(section_there, dict)
            else {}
        )
        if section:
            result[section] = settings[section] | extra
        else:
            result |= extra
    return result
