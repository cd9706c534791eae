"""The table of LAMMPS' styles that ask the pair style for something, and what comes of it with a model."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from dpmodel.engines.lammps.library import Lammps, defined
from dpmodel.engines.lammps.masses import MASSES
from dpmodel.engines.lammps.plugin import PairObject
from dpmodel.errors import InputError

Outcome = Literal["works", "refused", "refused by LAMMPS", "for other pair styles"]

HEAT = (
    "the heat flux of a message-passing model is no sum over atoms of a stress times a velocity: compute "
    "dpmodel/heat/flux is the exact one, with the same six numbers; compute stress/atom gives the stress of atoms"
)
PAIRWISE = "forces and energies of a many-body model are no sums over pairs"
CHUNKS = f"{PAIRWISE}: use compute stress/atom with compute chunk/atom"
FIXED = "a model has no parameters to change"


class Row(NamedTuple):
    """Styles of one category, and what comes of them."""

    category: str
    styles: tuple[str, ...]
    outcome: Outcome
    words: str


def _row(category: str, styles: str, outcome: Outcome, words: str) -> Row:
    return Row(category, tuple(styles.split()), outcome, words)


ROWS = (
    _row("command", "run minimize rerun dynamical_matrix third_order neb neb/spin prd tad hyper", "works", ""),
    _row("command", "temper temper/grem temper/npt balance info delete_atoms create_bonds", "works", ""),
    _row("command", "write_restart read_restart", "works", "the model is not in the file: give its two lines again"),
    _row("command", "write_data write_coeff read_data", "works", "the model is not in the file"),
    _row("run_style", "verlet verlet/split", "works", ""),
    _row(
        "run_style",
        "respa respa/omp",
        "works",
        "at the level of `pair`, by default the outermost; LAMMPS refuses `inner` and `outer`",
    ),
    _row("min_style", "cg hftn sd quickmin fire fire/old spin spin/cg spin/lbfgs", "works", ""),
    _row("pair_style", "hybrid hybrid/overlay hybrid/scaled", "works", ""),
    _row("compute", "pe pe/atom pressure pressure/uef pressure/alchemy stress/atom", "works", "with `pair`, too"),
    _row("compute", "pair", "works", "`compute 1 all pair dpmodel`: the energy is in `evdwl`"),
    _row("compute", "born/matrix", "works", "with `numdiff`; LAMMPS refuses it without"),
    _row("compute", "fep/ta ti", "works", ""),
    _row("compute", "dpmodel/heat/flux", "works", "the exact heat flux"),
    _row("compute", "dpmodel/uncertainty", "works", "standard deviations of atomic energies"),
    _row("fix", "numdiff numdiff/virial", "works", ""),
    _row("fix", "gcmc widom", "works", "LAMMPS turns on `full_energy` by itself, and says so"),
    _row("fix", "atom/swap mol/swap neighbor/swap sgcmc charge/regulation hmc", "works", ""),
    _row("fix", "bocs external ipi balance dt/reset", "works", ""),
    _row(
        "compute",
        "ackland/atom adf aggregate/atom ave/sphere/atom basal/atom centro/atom cluster/atom cna/atom cnp/atom "
        "composition/atom contact/atom coord/atom entropy/atom hexorder/atom mliap orientorder/atom pod/atom "
        "pod/global pod/local podd/atom property/local rattlers/atom rdf sna/atom snad/atom snap snav/atom",
        "works",
        "they ask for the cutoff",
    ),
    _row(
        "fix",
        "bond/create bond/react hyper/local nonaffine/displacement orient/eco",
        "works",
        "they ask for the cutoff",
    ),
    _row("compute", "heat/flux heat/flux/tally heat/flux/virial/tally centroid/stress/atom", "refused", HEAT),
    _row("compute", "pe/tally pe/mol/tally", "refused", f"{PAIRWISE}: use compute pe/atom"),
    _row("compute", "stress/tally force/tally", "refused", f"{PAIRWISE}: use compute stress/atom, or fx, fy, fz"),
    _row("fix", "tune/kspace", "refused by LAMMPS", "it goes with pair styles that have long-range parts of their own"),
    _row("command", "pair_write", "refused by LAMMPS", f"{PAIRWISE}: dpmodel eval gives energies of structures"),
    _row("compute", "group/group pair/local", "refused by LAMMPS", f"{PAIRWISE}: use compute pe/atom"),
    _row("compute", "stress/cartesian stress/cylinder stress/spherical", "refused by LAMMPS", CHUNKS),
    _row("compute", "stress/mop stress/mop/profile", "refused by LAMMPS", CHUNKS),
    _row("compute", "hma fabric", "refused by LAMMPS", PAIRWISE),
    _row("compute", "fep", "refused by LAMMPS", FIXED),
    _row("fix", "adapt adapt/fep pair", "refused by LAMMPS", FIXED),
    _row("fix", "bond/swap", "refused by LAMMPS", PAIRWISE),
    _row(
        "compute",
        "dilatation/atom dipole/chunk dipole/tip4p dipole/tip4p/chunk efield/atom efield/wolf/atom plasticity/atom "
        "reaxff/atom spin smd/hourglass/error smd/tlsph/dt smd/tlsph/num/neighs smd/tlsph/shape smd/tlsph/strain "
        "smd/tlsph/strain/rate smd/tlsph/stress smd/ulsph/effm smd/ulsph/num/neighs smd/ulsph/strain/rate "
        "smd/ulsph/stress",
        "for other pair styles",
        "which `hybrid/overlay` may add",
    ),
    _row(
        "fix",
        "acks2/reaxff amoeba/bitorsion amoeba/pitorsion dpd/energy efield efield/tip4p electrode/conp mvv/dpd mvv/edpd "
        "mvv/tdpd nve/spin polarize/bem/gmres polarize/bem/icc polarize/functional qeq/comb qeq/comb/omp qeq/ctip "
        "qeq/fire qeq/reaxff qeq/shielded qeq/slater qtpie/reaxff reaxff/bonds reaxff/species rx shardlow "
        "smd/integrate_tlsph smd/integrate_ulsph wall/body/polygon wall/body/polyhedron",
        "for other pair styles",
        "which `hybrid/overlay` may add",
    ),
)


def expect_answers(lmp: Lammps, target: PairObject) -> None:
    """Raises InputError for the first compute or fix that would get something from the model which it does not have."""
    refused = {(row.category, style): row for row in ROWS if row.outcome == "refused" for style in row.styles}
    for category in ("compute", "fix"):
        for name, style in defined(lmp, target, category):
            row = refused.get((category, style))
            if row is not None:
                raise InputError(f"{category} {name} ({style}) cannot be had with pair_style dpmodel: {row.words}")


def advice(message: str) -> str:
    """The row's words for LAMMPS' refusal ``message``, or nothing."""
    for row in ROWS:
        for style in row.styles if row.outcome == "refused by LAMMPS" else ():
            name = re.escape(style)
            if re.search(rf"\bnot support(ed)? (compute |fix )?{name}(?![/\w])|\bFix {name} .* not supported", message):
                return row.words
    return ""


NEAR, FAR = 0.01, 0.1  # relative to the mass of an element: the same, another
GRAMS_A_MOLE = "real", "metal", "electron"  # units with masses in the unit of MASSES


def foreign_masses(lmp: Lammps, elements: Sequence[str | None]) -> str:
    """A warning of types whose mass is that of another element than ``pair_coeff`` names, or nothing."""
    masses = lmp.numpy.extract_atom("mass")
    if masses is None or lmp.extract_global("units") not in GRAMS_A_MOLE:
        return ""
    foreign = []
    for number, name in enumerate(elements, 1):
        mass = float(masses[number])
        own = MASSES.get(name or "", mass)
        other = min(MASSES, key=lambda symbol: abs(MASSES[symbol] - mass))
        if abs(mass - own) > FAR * own and abs(mass - MASSES[other]) <= NEAR * mass:
            foreign.append(f"{name} for atom type {number} of mass {mass:g}, that of {other}")
    return f"pair_coeff names {'; '.join(foreign)}" if foreign else ""


def markdown_table() -> str:
    """The rows as a table of the documentation."""
    lines = ["| | | with a model |", "|---|---|---|"]
    for row in ROWS:
        words = f"{row.outcome}: {row.words}" if row.words else row.outcome
        lines.append(f"| {row.category} | {', '.join(f'`{style}`' for style in row.styles)} | {words} |")
    return "\n".join(lines) + "\n"
