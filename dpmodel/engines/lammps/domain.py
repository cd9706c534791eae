"""The atoms of one process as a graph: every atom is there once, however many images LAMMPS has of it."""

from typing import NamedTuple

import numpy as np

from dpmodel.data.graph import assemble
from dpmodel.data.neighbors import ROUNDING, Edges
from dpmodel.engines.lammps.halo import Comm, Halo
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


def domain(atoms: Atoms, n_local: int, center: Array, end: Array, cutoff: float, comm: Comm) -> Domain:
    """The domain of a process of ``comm`` with ``n_local`` atoms, which come before their images and ghosts.

    Pairs of neighbors from ``center`` (p,) to ``end`` (p,); those beyond ``cutoff`` (angstrom) are left out.
    """
    x, ids, types = atoms
    own = ids[:n_local]
    ghosts, image = np.unique(ids[n_local:], return_index=True)
    is_foreign = ~np.isin(ghosts, own)
    foreign, image = ghosts[is_foreign], n_local + image[is_foreign]
    halo = Halo(comm, own, foreign)
    image = image[np.searchsorted(foreign, halo.foreign)]

    n = max(n_local, 1)
    kept = np.concatenate([np.arange(n_local), np.full(n - n_local, -1), image])
    all_ids, all_types = np.append(ids, 0), np.append(types, 0)  # -1: the virtual atom
    places = np.append(x, np.zeros((1, 3)), axis=0)[kept]
    row = _rows(ids, all_ids[kept])
    vector = x[end] - x[center]
    distance = np.sqrt(np.einsum("pk,pk->p", vector, vector))
    near = np.flatnonzero(distance <= cutoff + ROUNDING)
    edges = Edges(center[near], row[end[near]], (x - places[row])[end[near]], vector[near], distance[near])
    smallest = (int(own.min()), int(types[own.argmin()])) if n_local else (np.inf, 0)
    return Domain(places, all_types[kept], all_ids[kept], n, edges, min(comm.allgather(smallest))[1], halo)


def _rows(ids: Array, kept: Array) -> Array:
    """The row of each atom among the ``kept`` IDs, all of which are different."""
    order = np.argsort(kept)
    return order[np.searchsorted(kept, ids, sorter=order)]


def graph_of(found: Domain, type_of: Array, selection: Selection, strict: bool, fparam: Array | None) -> Graph:
    """The graph that a model is given, whose type is ``type_of`` LAMMPS' type (n_types + 1,), -1 for none."""
    types = type_of[found.types]
    edges = found.edges
    kept = (edges.distance <= selection.cutoff + ROUNDING) & (types[edges.center] >= 0) & (types[edges.neighbor] >= 0)
    graph, _ = assemble(
        Edges(*(values[kept] for values in edges)),
        types,
        np.array([found.n]),
        selection,
        strict,
        lambda atom: f"atom {found.ids[atom]}",
    )
    return graph._replace(
        first_type=np.full(found.n, max(type_of[found.first_type], 0)),
        fparam=None if fparam is None else fparam[None, :],
    )
