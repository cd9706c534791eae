"""The atoms of one process as a graph: every atom is there once, however many images LAMMPS has of it."""

from typing import NamedTuple

import numpy as np

from dpmodel.data.graph import assemble
from dpmodel.data.neighbors import ROUNDING, Edges, find_pairs
from dpmodel.engines.lammps.halo import Comm, Halo
from dpmodel.errors import InputError
from dpmodel.graph import Graph, Selection
from dpmodel.xp import Array


class Atoms(NamedTuple):
    """Those of a process, then their images and the ghosts."""

    x: Array  # (n_all, 3) angstrom
    ids: Array  # (n_all,)
    types: Array  # (n_all,) LAMMPS' types


class Domain(NamedTuple):
    """``A`` atoms, first the ``N`` that this process owns: at least one, a virtual one if it owns none."""

    positions: Array  # (A, 3) angstrom
    types: Array  # (A,) LAMMPS' types; 0 for a virtual atom
    ids: Array  # (A,) LAMMPS' atom IDs
    n: int  # number of centers
    edges: Edges  # from the centers to the rows of their neighbors
    first_type: int  # of the atom with the smallest ID of all
    halo: Halo


class Topology(NamedTuple):
    """Of the atoms of a process, all that stays as long as LAMMPS keeps its neighbor list."""

    n_local: int  # atoms of this process, which come before their images and ghosts
    ids: Array  # (A,) of the domain
    source: Array  # (A,) the row of each among LAMMPS' atoms, -1 for a virtual one
    row: Array  # (n_all,) the row of each of LAMMPS' atoms in the domain
    center: Array  # (p,) pairs of neighbors, with LAMMPS' skin
    end: Array  # (p,)
    halo: Halo
    first: tuple[int, int]  # the process that owns the atom with the smallest ID of all, and its row there


def topology(ids: Array, n_local: int, center: Array, end: Array, comm: Comm) -> Topology:
    """The topology of a process of ``comm``, from IDs (n_all,) and LAMMPS' pairs; all processes make one together."""
    own = ids[:n_local]
    ghosts, image = np.unique(ids[n_local:], return_index=True)
    is_foreign = ~np.isin(ghosts, own)
    foreign, image = ghosts[is_foreign], n_local + image[is_foreign]
    halo = Halo(comm, own, foreign)
    image = image[np.searchsorted(foreign, halo.foreign)]

    n = max(n_local, 1)
    source = np.concatenate([np.arange(n_local), np.full(n - n_local, -1), image])
    domain_ids = np.append(ids, 0)[source]
    order = np.argsort(domain_ids)
    row = order[np.searchsorted(domain_ids, ids, sorter=order)]
    smallest = int(own.min()) if n_local else np.inf
    _, rank = min((smallest, rank) for rank, smallest in enumerate(comm.allgather(smallest)))
    return Topology(n_local, domain_ids, source, row, center, end, halo, (rank, int(own.argmin()) if n_local else 0))


def domain(atoms: Atoms, shape: Topology, cutoff: float, comm: Comm) -> Domain:
    """The domain with the atoms where they are now; pairs beyond ``cutoff`` (angstrom) are left out."""
    x, types = atoms.x, np.append(atoms.types, 0)  # -1: the virtual atom
    positions = np.append(x, np.zeros((1, 3)), axis=0)[shape.source]
    vector = x[shape.end] - x[shape.center]
    square = np.einsum("pk,pk->p", vector, vector)
    near = np.flatnonzero(square <= (cutoff + ROUNDING) ** 2)
    center, end, vector = shape.center[near], shape.end[near], vector[near]
    neighbor = shape.row[end]
    edges = Edges(center, neighbor, x[end] - positions[neighbor], vector, np.sqrt(square[near]))
    rank, row = shape.first
    first_type = comm.bcast(int(types[row]), root=rank)
    return Domain(positions, types[shape.source], shape.ids, max(shape.n_local, 1), edges, first_type, shape.halo)


def graph_of(atoms: Domain, type_of: Array, selection: Selection, strict: bool, fparam: Array | None) -> Graph:
    """The graph that a model gets, whose type is ``type_of`` LAMMPS' type (n_types + 1,), -1 for none."""
    types = type_of[atoms.types]
    edges = atoms.edges
    used = (edges.distance <= selection.cutoff + ROUNDING) & (types[edges.center] >= 0) & (types[edges.neighbor] >= 0)
    graph, _ = assemble(
        Edges(*(values[used] for values in edges)),
        types,
        np.array([atoms.n]),
        selection,
        strict,
        lambda atom: f"atom {atoms.ids[atom]}",
    )
    return graph._replace(
        first_type=np.full(atoms.n, max(type_of[atoms.first_type], 0)),
        fparam=None if fparam is None else fparam[None, :],
    )


def expect_all_pairs(now: Atoms, n_local: int, center: Array, end: Array, is_ours: Array, cutoff: float) -> None:
    """Raises InputError where LAMMPS' pairs of atoms that are ours are not all that are within ``cutoff`` (angstrom).

    It leaves out pairs that are bonded or excluded, but a many-body potential needs them all.
    """
    x, every = now.x, find_pairs(now.x, None, np.zeros(3, dtype=bool), cutoff, is_ours)
    local = every.center < n_local
    ours = is_ours[center] & is_ours[end]
    listed = _count_within(cutoff, x[end[ours]] - x[center[ours]])
    needed = _count_within(cutoff, x[every.neighbor[local]] - x[every.center[local]])
    if listed != needed:
        raise InputError(
            f"LAMMPS' neighbor list has {listed} of the {needed} pairs within {cutoff:g} Å. It leaves out "
            "bonded atoms unless the script says 'special_bonds lj/coul 1 1 1', and those of 'neigh_modify "
            "exclude'; DPA-2 needs them all"
        )


def _count_within(cutoff: float, vectors: Array) -> int:
    return int((np.linalg.norm(vectors, axis=1) <= cutoff + ROUNDING).sum())
