"""Electronic configurations of the elements as vectors of +-1 (specification/descriptor.md 4.1)."""

import numpy as np

SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu "
    "Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr "
    "Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
).split()

SUBSHELLS = "1s 2s 2p 3s 3p 3d 4s 4p 4d 4f 5s 5p 5d 5f 6s 6p 6d 7s 7p".split()
ORBITALS = {"s": 1, "p": 3, "d": 5, "f": 7}

# ground states that break the Madelung rule: only the subshells that differ
EXCEPTIONS = {
    "Cr": "3d5 4s1", "Cu": "3d10 4s1", "Nb": "4d4 5s1", "Mo": "4d5 5s1", "Ru": "4d7 5s1", "Rh": "4d8 5s1",
    "Pd": "4d10 5s0", "Ag": "4d10 5s1", "La": "4f0 5d1", "Ce": "4f1 5d1", "Gd": "4f7 5d1", "Pt": "5d9 6s1",
    "Au": "5d10 6s1", "Ac": "5f0 6d1", "Th": "5f0 6d2", "Pa": "5f2 6d1", "U": "5f3 6d1", "Np": "5f4 6d1",
    "Cm": "5f7 6d1", "Ds": "6d9 7s1", "Rg": "6d10 7s1",
}  # fmt: skip


def madelung(electrons: int) -> dict[str, int]:
    """Electrons of each subshell, filled by n + l and then n."""
    order = sorted(SUBSHELLS, key=lambda s: (int(s[0]) + "spdf".index(s[1]), int(s[0])))
    filled = {}
    for shell in order:
        filled[shell] = min(electrons, 2 * ORBITALS[shell[1]])
        electrons -= filled[shell]
    return filled


def electronic_configuration(symbol: str) -> np.ndarray:
    """118 numbers for one element: two an orbital, (-1,-1) empty, (-1,+1) single, (+1,+1) double (Hund filling)."""
    filled = madelung(SYMBOLS.index(symbol) + 1)
    for entry in EXCEPTIONS.get(symbol, "").split():
        filled[entry[:2]] = int(entry[2:])
    numbers: list[int] = []
    for shell in SUBSHELLS:
        m, n = ORBITALS[shell[1]], filled[shell]
        pairs = max(n - m, 0)
        single = n - 2 * pairs
        numbers += [1, 1] * pairs + [-1, 1] * single + [-1, -1] * (m - pairs - single)
    return np.array(numbers, dtype=np.int8)


def type_features(type_map: tuple[str, ...]) -> np.ndarray:
    """Rows for the types of a model, (n_types, 118), scaled to unit length."""
    return np.stack([electronic_configuration(name) for name in type_map]) / np.sqrt(118.0)
