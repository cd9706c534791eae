"""Arguments of an exported program (.pt2, .stablehlo) for one structure, with NumPy and vesin alone."""

import json
import zipfile

import numpy as np
from vesin import NeighborList


def read_record(path):
    """What an exported file says of itself."""
    archive = zipfile.ZipFile(path)
    return json.loads(archive.read(next(name for name in archive.namelist() if name.endswith("dpmodel.json"))))


def arguments(record, positions, types, cell):
    """Positions (N, 3) and periodic cell (3, 3) in angstrom, types (N,); at least two atoms."""
    x, types, cell, n = np.asarray(positions, float), np.asarray(types), np.asarray(cell, float), len(types)
    search = NeighborList(cutoff=record["cutoff"] + 1e-9, full_list=True)
    i, j, image, r = search.compute(x, cell, True, quantities="ijSd")
    order = np.lexsort((r, i))
    i, j, shift, r = i[order].astype(int), j[order].astype(int), (image @ cell)[order], r[order]
    blocks = record["blocks"].values()
    if record["truncate"]:  # the nsel nearest of the widest block, before pairs of types are excluded
        widest = max((b["cutoff"], b["nsel"]) for b in blocks)[1]
        near = ranks(i, n) < widest
        i, j, shift, r = i[near], j[near], shift[near], r[near]
    for a, b in record["pair_exclude_types"]:
        seen = ~(((types[i] == a) & (types[j] == b)) | ((types[i] == b) & (types[j] == a)))
        i, j, shift, r = i[seen], j[seen], shift[seen], r[seen]
    masks = []
    for block in blocks:
        count = np.bincount(i[r <= block["cutoff"] + 1e-9], minlength=n)
        count = np.minimum(count, block["nsel"]) if record["truncate"] else count
        masks.append(np.arange(max(2, count.max())) < count[:, None])
    slot = ranks(i, n)
    width = max([slot.max(initial=0) + 1, *(mask.shape[1] for mask in masks)]) + 1
    neighbors, shifts = np.repeat(np.arange(n)[:, None], width, axis=1), np.tile(record["empty_slot"], (n, width, 1))
    neighbors[i, slot], shifts[i, slot] = j, shift
    return [x, types, neighbors, shifts, *masks]


def ranks(i, n):
    """Place of each entry among those of its center."""
    counts = np.bincount(i, minlength=n)
    return np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
