"""Electronic configurations of the elements (specification/descriptor.md 4.1)."""

import hashlib

import numpy as np
import pytest

from dpmodel.dpa2.econf import ORBITALS, SUBSHELLS, SYMBOLS, electronic_configuration, type_features


def electrons(symbol: str) -> dict[str, int]:
    """Occupation of each subshell, read back from the vector."""
    pairs = electronic_configuration(symbol).reshape(59, 2)
    count = (pairs == 1).sum(axis=1)
    ends = np.cumsum([ORBITALS[shell[1]] for shell in SUBSHELLS])
    return {shell: int(part.sum()) for shell, part in zip(SUBSHELLS, np.split(count, ends[:-1]), strict=True)}


def test_the_whole_table() -> None:
    table = np.stack([electronic_configuration(symbol) for symbol in SYMBOLS])
    assert table.shape == (118, 118)
    assert table.dtype == np.int8
    found = hashlib.sha256(table.tobytes()).hexdigest()
    assert found == "306fe19a29d49dbedebe1c8ee400eb89bd5ccbae623894269c3f62725fecbbc0"


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_atoms_are_neutral(symbol: str) -> None:
    assert sum(electrons(symbol).values()) == SYMBOLS.index(symbol) + 1


@pytest.mark.parametrize(
    ("symbol", "outer"),
    [
        ("N", {"2s": 2, "2p": 3}),
        ("Cr", {"3d": 5, "4s": 1}),
        ("Cu", {"3d": 10, "4s": 1}),
        ("Pd", {"4d": 10, "5s": 0}),
        ("Gd", {"4f": 7, "5d": 1, "6s": 2}),
        ("Au", {"5d": 10, "6s": 1}),
        ("U", {"5f": 3, "6d": 1, "7s": 2}),
        ("Lr", {"5f": 14, "6d": 1, "7p": 0}),
        ("Og", {"6d": 10, "7p": 6}),
    ],
)
def test_textbook_configurations(symbol: str, outer: dict[str, int]) -> None:
    assert {shell: electrons(symbol)[shell] for shell in outer} == outer


def test_hund_filling() -> None:
    """Oxygen's 2p: one pair first, then two single electrons."""
    start = 2 * sum(ORBITALS[shell[1]] for shell in ("1s", "2s"))
    assert electronic_configuration("O")[start : start + 6].tolist() == [1, 1, -1, 1, -1, 1]


def test_features_have_unit_length() -> None:
    features = type_features(("H", "O", "Cu"))
    assert features.shape == (3, 118)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0)
    np.testing.assert_array_equal(np.sign(features[1]), electronic_configuration("O"))
