"""The conformance kit passes what is right, and names the first term of what is wrong."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import pytest

import dpmodel.dpa2.local_attention as local_attention
import dpmodel.dpa2.neighborhood as neighborhood
import dpmodel.dpa2.pair_attention as pair_attention
import dpmodel.ops.attention as attention
import dpmodel.ops.geometry as geometry
from dpmodel.backend import Engine, backend, installed
from dpmodel.data.samples import example
from dpmodel.dpa2.local_attention import LocalAttention
from dpmodel.dpa2.lower import graph_of_lists
from dpmodel.dpa2.repformer import Repformer, RepformerLayer, Slots
from dpmodel.dpa2.repinit import EnvironmentEmbedding, Repinit
from dpmodel.dpa2.three_body import ThreeBody
from dpmodel.errors import BackendError, SettingError
from dpmodel.io.model import read_model
from dpmodel.model.settings import ModelSettings
from dpmodel.module import state
from dpmodel.settings import Settings
from dpmodel.testing import OPTIONS, check_backend, check_callable
from dpmodel.testing.cases import Case
from dpmodel.testing.options import Space, section
from dpmodel.xp import namespace

# --- what is right ---


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "jax")) for n in installed()])
def test_every_backend_passes(name: str) -> None:
    try:
        report = check_backend(name, draws=3 if name == "jax" else 8, seed=1)
    except BackendError as error:
        pytest.skip(str(error))
    assert report.ok, str(report)
    assert {"repinit", "g1", "descriptor", "energy", "force", "virial"} <= set(report.terms)


def ours(path: Path) -> Callable[..., Any]:
    return read_model(path).model.descriptor.call


@pytest.mark.parametrize("suffix", [".dp", ".yaml", ".pt"])
def test_our_own_lower_interface_passes(suffix: str) -> None:
    report = check_callable(ours, draws=12 if suffix == ".dp" else 2, suffix=suffix)
    assert report.ok, str(report)
    assert report.terms == ["switch", "g2", "h2", "rot_mat", "descriptor"]


@pytest.mark.filterwarnings("ignore::dpmodel.NeighborOverflowWarning")  # some are meant to have too many
def test_our_energies_through_extended_systems_pass() -> None:
    """Energies, forces on every image and the virial that they make, by a code path of its own."""
    report = check_callable(with_energies, draws=8, name="extended")
    assert report.ok, str(report)
    assert {"descriptor", "atom_energy", "energy", "force", "virial"} <= set(report.terms)


def test_parameters_are_handed_over() -> None:
    def factory(path: Path) -> Callable[..., Any]:
        def function(coord: Any, types: Any, nlist: Any, mapping: Any, *, fparam: Any, aparam: Any) -> Any:
            assert fparam.shape == (len(coord), 2)
            assert aparam.shape == (*nlist.shape[:2], 1)
            return ours(path)(coord, types, nlist, mapping)

        return function

    parameters = {"fitting_net.numb_fparam": [2], "fitting_net.numb_aparam": [1]}
    report = check_callable(factory, draws=3, only=parameters)
    assert report.ok, str(report)


def with_energies(path: Path) -> Callable[..., Any]:
    file = read_model(path)
    engine = backend("numpy").engine()

    def function(coord: Any, types: Any, nlist: Any, mapping: Any) -> dict[str, Any]:
        blocks, n_types = file.settings.selection.blocks, file.settings.n_types

        def total(x: Any) -> tuple[Any, Any]:
            graph, vectors = graph_of_lists(x, types, nlist, mapping, blocks, n_types=n_types, truncate=True)
            atom_energy = file.model(graph, vectors)[:, 0]
            return atom_energy.sum(), atom_energy

        (slope,), atom_energy = engine.grad_and_aux(total, coord)
        atom_energy = atom_energy.reshape(nlist.shape[:2])
        described = file.model.descriptor.call(coord, types, nlist, mapping)
        return {
            "descriptor": described.descriptor,
            "atom_energy": atom_energy[..., None],
            "energy": atom_energy.sum(axis=1)[:, None],
            "extended_force": -slope.reshape(coord.shape),
        }

    return function


# --- what is wrong: an engine on which the core has a mistake ---

Change = Callable[[], AbstractContextManager[Any]]


class Mutant:
    """The NumPy engine; while it computes, ``change`` is in force."""

    name = "mutant"

    def __init__(self, change: Change) -> None:
        self.right, self.change = backend("numpy").engine(), change

    def __getattr__(self, name: str) -> Any:
        return getattr(self.right, name)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: Any) -> Any:
            with self.change():
                return function(*args)

        return changed


def mutant(change: Change) -> Engine:
    return cast(Engine, Mutant(change))


def method(owner: type, name: str, wrong: Callable[..., Any]) -> Change:
    """``owner.name`` replaced by ``wrong(right, self, *args)``."""
    right = getattr(owner, name)
    return lambda: patch.object(owner, name, lambda self, *args: wrong(right, self, *args))


def every_neighbor_weights(wrong: Callable[..., Any]) -> Change:
    """``neighbor_weights`` replaced wherever it was imported."""
    right = attention.neighbor_weights

    @contextmanager
    def change() -> Iterator[None]:
        with ExitStack() as stack:
            for module in (local_attention, pair_attention):
                stack.enter_context(patch.object(module, "neighbor_weights", lambda *a, **k: wrong(right, *a, **k)))
            yield

    return change


def divide_by_neighbors(right: Any, block: Any, near: Any, table: Any) -> Any:
    count = np.maximum(near.occupied.sum(axis=1), 1)[:, None]
    return right(block, near, table) * (block.near.n_slots / count) ** 2


def slowest_heads(right: Any, layer: Any) -> Any:
    w, dim = layer.mapkv.weight, layer.mapkv.n_in
    w = w.reshape(dim, layer.heads, layer.hidden + dim).transpose(1, 0, 2)
    return w[:, :, : layer.hidden].transpose(0, 2, 1), w[:, :, layer.hidden :]


def reversed_residuals(right: Any, layer: Any, x: Any, terms: Any, names: Any, residual: Any) -> Any:
    return right(layer, x, terms, names, residual[::-1])


def no_square_root(right: Any, block: Any, switch: Any, mask: Any) -> Slots:
    slots = right(block, switch, mask)
    return Slots(slots.weight, slots.mean, slots.mean)


def no_leak(right: Any, near: Any, *args: Any) -> Any:
    rows, switch, real, types, count = right(near, *args)
    if not near.padding_leak:
        return rows, switch, real, types, count
    return rows, switch, real, types, namespace(count).concat([count[:, :-1], 0.0 * count[:, -1:]], axis=1)


def without_diagonal(right: Any, block: Any, near: Any, table: Any) -> Any:
    """Pairs of different neighbors only."""
    alone = np.eye(near.occupied.shape[1], dtype=bool)[:, None, :] & near.occupied
    same = sum(right(block, near._replace(occupied=mask), table) for mask in alone)
    return right(block, near, table) - same


def unprotected(vectors: Any, *args: Any) -> Any:
    return geometry.environment(vectors, *args[:-1], 0.0)  # type: ignore[call-arg]


RIGHT_SWITCH = geometry.switch

MISTAKES: dict[str, tuple[Change, set[str], list[set[str]]]] = {
    # name: the change, the terms that may be named first, options one of which the smallest case must have
    "1/n instead of 1/nsel": (method(Repinit, "__call__", divide_by_neighbors), {"repinit"}, []),
    "switch not squared": (
        every_neighbor_weights(lambda right, logits, key, query, **k: right(logits, key, None, **k)),
        {"g2", "h2"},
        [{"update_g2_has_attn", "update_h2"}],
    ),
    "no phantom terms": (
        every_neighbor_weights(lambda right, logits, *a, **k: right(logits, *a, **k | {"n_slots": logits.shape[-1]})),
        {"g1", "g2", "h2"},
        [{"update_g1_has_attn", "update_g2_has_attn", "update_h2"}],
    ),
    "order of heads": (
        method(LocalAttention, "key_and_value", slowest_heads),
        {"g1"},
        [{"update_g1_has_attn"}, {"attn1_nhead"}],
    ),
    "order of residuals": (
        method(RepformerLayer, "combine", reversed_residuals),
        {"g1", "g2"},
        [{"update_style"}],
    ),
    "nsel without square root": (method(Repformer, "slots", no_square_root), {"g1", "rot_mat"}, []),
    "switch": (lambda: patch.object(geometry, "switch", lambda *a: RIGHT_SWITCH(*a) ** 2), {"switch"}, []),
    "no protection": (lambda: patch.object(neighborhood, "environment", unprotected), {"rows"}, [{"env_protection"}]),
    "padding rows": (method(EnvironmentEmbedding, "look", no_leak), {"repinit", "three_body"}, [{"set_davg_zero"}]),
    "three-body diagonal": (method(ThreeBody, "__call__", without_diagonal), {"three_body"}, [{"use_three_body"}]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_found_and_named(name: str) -> None:
    change, terms, options = MISTAKES[name]
    report = check_backend(mutant(change))
    assert not report.ok
    assert {finding.kind for finding in report.findings} <= terms, str(report)
    for finding in report.findings:
        found = {option.split(".")[-1] for option in finding.beyond_plain}
        assert all(found & one_of for one_of in options), finding.explain()
        assert len(found) <= 6, finding.explain()  # the others do not matter
        assert finding.first is not None
        assert f"{finding.first.term} is the first term that differs" in str(report)


def transposed_strain(right: Any, function: Any, *x: Any) -> Any:
    """The virial of a frame is symmetric, those of its atoms are not."""
    (slope, strain_slope), aux = right(function, *x)
    return (slope, strain_slope.swapaxes(-1, -2)), aux


def half_strain(right: Any, function: Any, *x: Any) -> Any:
    (slope, strain_slope), aux = right(function, *x)
    return (slope, 0.5 * strain_slope), aux


def half_slope(right: Any, function: Any, *x: Any) -> Any:
    (slope, *others), aux = right(function, *x)
    return (0.5 * slope, *others), aux


def no_derivative(right: Any, function: Any, *x: Any) -> Any:
    raise NotImplementedError("no derivatives yet")


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (half_slope, "force"),
        (half_strain, "virial"),
        (transposed_strain, "atom_virial"),
        (no_derivative, "NotImplementedError"),
    ],
)
def test_mistakes_in_derivatives(wrong: Any, kind: str) -> None:
    engine = mutant(nothing)
    right = engine.grad_and_aux
    with patch.object(engine, "grad_and_aux", lambda function, *x: wrong(right, function, *x), create=True):
        report = check_backend(engine, draws=6)
    assert {finding.kind for finding in report.findings} == {kind}, str(report)
    assert "equal before it: type_embedding, repinit.switch" in str(report)


@contextmanager
def nothing() -> Iterator[None]:
    yield


def test_not_a_number_is_a_difference() -> None:
    engine = mutant(nothing)
    with patch.object(engine, "numpy", lambda x: x * (np.nan if np.ndim(x) == 1 else 1.0), create=True):
        report = check_backend(engine, draws=2)
    assert not report.ok
    assert json.loads(report.to_json())["ok"] is False


# --- what is wrong: callables ---


def changed(wrong: Callable[..., Any]) -> Callable[[Path], Callable[..., Any]]:
    return lambda path: lambda *given: wrong(ours(path), *given)


def first_frame_for_all(right: Any, *given: Any) -> Any:
    return [np.broadcast_to(x[:1], x.shape) for x in right(*given)]


def named(values: Any) -> dict[str, Any]:
    return dict(zip(("descriptor", "rot_mat", "g2", "h2", "sw"), values, strict=True))


def transposed(right: Any, *given: Any) -> Any:
    found = right(*given)
    return found._replace(rot_mat=found.rot_mat.swapaxes(-1, -2))


def ghosts_are_themselves(right: Any, coord: Any, types: Any, nlist: Any, mapping: Any) -> Any:
    """As if an image had the features of whichever local atom its number suggests."""
    return right(coord, types, nlist, np.arange(mapping.size).reshape(mapping.shape) % nlist.shape[1])


def type_of_virtual(right: Any, coord: Any, types: Any, nlist: Any, mapping: Any) -> Any:
    return right(coord, np.where(types < 0, 0, types), nlist, mapping)


@pytest.mark.parametrize(
    ("wrong", "kinds", "option"),
    [
        (lambda right, *given: named(first_frame_for_all(right, *given)), {"switch"}, "structure.frames"),
        (transposed, {"rot_mat"}, ""),
        (ghosts_are_themselves, {"switch", "g2", "descriptor"}, "structure.boundary"),
        (lambda right, *given: {"descriptor": right(*given).descriptor[..., :-1]}, {"descriptor"}, ""),
        (lambda right, *given: {"energies": 0.0}, {"nothing to compare"}, ""),
    ],
    ids=["first frame for all", "transposed", "mapping ignored", "shape", "nothing"],
)
def test_mistakes_of_callables(wrong: Any, kinds: set[str], option: str) -> None:
    report = check_callable(changed(wrong), draws=8)
    assert not report.ok
    assert {finding.kind for finding in report.findings} <= kinds, str(report)
    for finding in report.findings:
        assert option in finding.options


# --- what is drawn ---


def test_every_choice_is_drawn_and_most_pairs() -> None:
    space = Space()
    rows = space.draw(30, seed=0)
    for name, choices in space.choices.items():
        assert {row[name] for row in rows} == set(range(len(choices))), name
    assert len({str(row) for row in rows}) == 30
    assert rows == space.draw(30, seed=0)
    assert rows != space.draw(30, seed=1)


def test_every_setting_that_changes_numbers_varies() -> None:
    """A new setting has to be added to the options, or here."""
    names = {name.split(".")[-1] for name in OPTIONS}
    for option in OPTIONS["cutoffs"]:
        names |= {name.split(".")[-1] for name in option}
    same = set(
        """type seed trainable trainable_ln rcond default_fparam layer_name attn_mask update_residual
        update_residual_init data_stat_nbatch data_stat_protect data_bias_nsample preset_out_bias finetune_head
        model_branch_alias info descriptor fitting_net repinit repformer intensive sel_type""".split()
    )
    every = {name for section in sections() for name in section.model_fields}
    assert every - names == same - names
    assert not (same - {"type"}) & names


def sections() -> Iterator[type[Settings]]:
    space = Space()
    for choice in range(len(OPTIONS["fitting_net.type"])):
        settings = ModelSettings.read(section(space.values(space.plain | {"fitting_net.type": choice})))
        descriptor = settings.descriptor
        for part in (settings, settings.fitting_net, descriptor, descriptor.repinit, descriptor.repformer):
            yield type(part)


def test_only_narrows() -> None:
    space = Space({"descriptor.smooth": [False]})
    assert {space.values(row)["descriptor.smooth"] for row in space.draw(5, seed=0)} == {False}
    with pytest.raises(SettingError, match=r"did you mean 'descriptor\.smooth'"):
        Space({"descriptor.smoth": [False]})
    with pytest.raises(SettingError, match="at least one choice"):
        Space({"descriptor.smooth": []})


def test_models_are_random_everywhere() -> None:
    """Zeros and ones would hide mistakes."""
    space = Space()
    for i, row in enumerate(space.draw(10, seed=0)):
        case = Case(space.values(row), i)
        for path, value in state(case.model.model).items():
            plain = np.all(value == 0.0) or np.all(value == 1.0)
            assert not plain or path.endswith(("mean", "features", "case")), path


@pytest.mark.parametrize("type_map", [("O", "H"), ("Cu", "H", "O", "C"), ("Cu",), ("A", "B")])
def test_example_structure_is_sensible(type_map: tuple[str, ...]) -> None:
    s = example(type_map)
    assert s.cell is not None
    vectors = s.positions[:, None] - s.positions
    vectors -= np.round(vectors / np.diag(s.cell)) * np.diag(s.cell)
    distance = np.linalg.norm(vectors, axis=-1) + 9.0 * np.eye(len(s.types))
    assert distance.min() > 0.85
    if "O" in type_map:
        oxygen, hydrogen = type_map.index("O"), type_map.index("H")
        bonds = distance[s.types == oxygen][:, s.types == hydrogen] < 1.2
        assert (bonds.sum(axis=1) == 2).all()
        assert (bonds.sum(axis=0) == 1).all()


# --- the report ---


def test_report_in_words_and_json() -> None:
    change, _, _ = MISTAKES["order of heads"]
    report = check_backend(mutant(change))
    found = json.loads(report.to_json())
    assert found["ok"] is report.ok is False
    assert found["subject"] == "mutant"
    assert len(found["draws"]) == 20
    finding = found["findings"][0]
    assert finding["first"] == "g1"
    assert finding["beyond_plain"]["descriptor.repformer.update_g1_has_attn"] is True
    # the model of a finding can be made again from what the report says
    assert ModelSettings.read(finding["model"]) == report.findings[0].case.settings
    order = [term for term in report.terms if term in ("three_body.rows", "repinit", "three_body", "g1", "descriptor")]
    assert order == ["three_body.rows", "repinit", "three_body", "g1", "descriptor"]
    words = str(report)
    assert "mutant: " in words
    assert "cases differ from the NumPy core" in words
    assert "descriptor.repformer.update_g1_has_attn = true" in words
    assert "\x1b" not in words


def test_unknown_backend() -> None:
    with pytest.raises(BackendError, match="nonsense"):
        check_backend("nonsense")
