"""Trees of clusters: k-means inside of k-means, trained level by level, descended greedily.

The first level is the k-means of a sample of the rows. A node's children are the k-means of the
sample's rows that descend to it: many small problems, each solved on one device by one program
for nodes of all sizes. A node has fewer children than branches if the rows are too few or too
alike.

A row goes to the nearest child at every level (beam width 1): sum(branching) distances instead of
prod(branching). Its leaf is the path read as a number in the mixed radix `branching`, so that
leaf // branching[-1] is the leaf's parent; the numbers of missing children stay unused. Greedy
descent does not always reach the nearest leaf; docs/clustering.md measures what that costs.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from specialm.clustering import kmeans, levels, passes, resumable
from specialm.clustering.descent import descender
from specialm.clustering.tree_training import fit_level, train_groups
from specialm.common import manifest
from specialm.common.errors import UserError
from specialm.common.files import write_bytes

CHUNK = 1 << 17  # rows that `assign` brings to the devices at a time


@dataclass(frozen=True)
class Tree:
    """A trained tree.

    Attributes:
      branching: children of a node at each level, at most.
      centroids: of each level float32 [P, b, D]: the children of all nodes of the level above.
        A missing child has its parent's centroid and is never taken.
      children: of each level int32 [P]: how many of the b exist; the missing ones are last.
      inertia: of each level: sum over the sample of the squared distance to the node reached.
      rows: M, those of the sample.

    """

    branching: tuple[int, ...]
    centroids: tuple[np.ndarray, ...]
    children: tuple[np.ndarray, ...]
    inertia: tuple[float, ...]
    rows: int

    @property
    def leaves(self) -> int:
        """prod(branching): the leaves are numbered below it; fewer may exist."""
        return math.prod(self.branching)

    @property
    def leaves_KxD(self) -> np.ndarray:
        """float32 [K, D]: the centroids of the leaves, by number."""
        return self.centroids[-1].reshape(self.leaves, -1)

    @property
    def present_K(self) -> np.ndarray:
        """The leaves that exist, bool [K]."""
        return (np.arange(self.branching[-1]) < self.children[-1][:, None]).reshape(-1)

    @property
    def fingerprint(self) -> str:
        """Changes whenever an assignment could."""
        digest = hashlib.sha256(str(self.branching).encode())
        for array in (*self.centroids, *self.children):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def cut(self, level: int) -> "Tree":
        """Return the tree down to a level (0: all of it), whose nodes become the leaves.

        Raises:
          UserError: see `levels.check`.

        """
        levels.check(self.branching, level)
        upper = slice(level or None)
        return Tree(
            self.branching[upper],
            self.centroids[upper],
            self.children[upper],
            self.inertia[upper],
            self.rows,
        )

    def save(self, path: str | Path) -> None:
        """Write an .npz, atomically."""
        from io import BytesIO

        arrays: dict[str, Any] = {
            "branching": np.array(self.branching),
            "inertia": np.array(self.inertia),
            "rows": np.array(self.rows),
            **{f"centroids{i}": array for i, array in enumerate(self.centroids)},
            **{f"children{i}": array for i, array in enumerate(self.children)},
        }
        stream = BytesIO()
        np.savez(stream, **arrays)
        write_bytes(Path(path), stream.getvalue())


def load(path: str | Path) -> Tree:
    """Read the tree that `Tree.save` wrote.

    Raises:
      UserError: no file is there, or it is damaged.

    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file with a tree of clusters; run `specialm prepare`.")
    with manifest.arrays(Path(path)) as saved:
        depth = range(len(saved["branching"]))
        return Tree(
            tuple(map(int, saved["branching"])),
            tuple(saved[f"centroids{i}"] for i in depth),
            tuple(saved[f"children{i}"] for i in depth),
            tuple(map(float, saved["inertia"])),
            int(saved["rows"]),
        )


def fit(
    x_NxD: np.ndarray,
    branching: tuple[int, ...] = (64, 64, 64),
    seed: int = 0,
    sample: int = 2_000_000,
    iterations: int = 50,
    tolerance: float = 1e-4,
    devices: list | None = None,
) -> Tree:
    """Train a tree on rows of a float32 array or memory map.

    The same data, seed and settings give the same tree; another number of devices changes the
    rounding of the first level only.

    Args:
      x_NxD: rows.
      branching: children of a node at each level.
      seed: of all random choices.
      sample: rows it is trained on, at most; they are held in memory.
      iterations: of every k-means, see `kmeans.fit`; "full" is the method.
      tolerance: of every k-means, likewise.
      devices: all local ones by default.

    Raises:
      UserError: see `levels.check`; fewer rows than nodes of the first level; values not finite.

    """
    branching = tuple(branching)
    levels.check(branching)
    x_MxD = kmeans.sample(x_NxD, sample, seed)
    if branching[0] > len(x_MxD):
        raise UserError(
            f"clustering.branching={branching}: the first level has more clusters than "
            f"there are windows to train on, {len(x_MxD)}; use fewer, more text or a "
            "larger clustering.sample."
        )
    mesh = passes.make_mesh(devices)
    first = kmeans.fit(
        x_MxD, branching[0], seed, "full", iterations, tolerance, devices=list(mesh.devices.flat)
    )
    centroids_PxbxD, node_M = np.array(first.centroids_KxD)[None], np.zeros(len(x_MxD), np.int32)
    above_PxD = x_MxD.mean(0, keepdims=True)
    centroids, children, inertia = [], [], []
    for level, width in enumerate(branching):
        if level:
            train = partial(
                train_groups(mesh, width),
                jax.random.fold_in(jax.random.key(seed), level),
                iterations,
                tolerance,
            )
            centroids_PxbxD = fit_level(
                x_MxD,
                node_M,
                width,
                len(above_PxD),
                train,
                mesh,
                np.random.default_rng([seed, level]),
                f"tree, level {level + 1} of {len(branching)}",
            )
        node_M, children_P, level_inertia = _descend_level(
            x_MxD, node_M, centroids_PxbxD, above_PxD, mesh
        )
        centroids.append(centroids_PxbxD)
        children.append(children_P)
        inertia.append(level_inertia)
        above_PxD = centroids_PxbxD.reshape(-1, x_MxD.shape[1])
    return Tree(branching, tuple(centroids), tuple(children), tuple(inertia), len(x_MxD))


def assign(
    x_NxD: np.ndarray, tree: Tree, chunk: int = CHUNK, devices: list | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the leaf that each row reaches, int32 [N], and its Euclidean distance, float32 [N].

    One pass over the rows, `chunk` at a time.
    """
    leaf_N, distance_N = np.empty(len(x_NxD), np.int32), np.empty(len(x_NxD), np.float32)
    if len(x_NxD):
        descend = descender(
            tree.centroids, tree.children, min(chunk, len(x_NxD)), passes.make_mesh(devices)
        )
        for start in range(0, len(x_NxD), chunk):
            rows = slice(start, start + chunk)
            leaf_N[rows], distance_N[rows] = descend(x_NxD[rows])
    return leaf_N, distance_N


def assign_to(
    path: str | Path,
    x_NxD: np.ndarray,
    tree: Tree,
    key: str = "",
    chunk: int = CHUNK,
    devices: list | None = None,
) -> np.memmap:
    """Assign more rows than fit into memory: int32 [N], memory map of `path` (.npy).

    It is written chunk by chunk. A run that was killed is resumed; a file of another tree or other
    rows is removed, never used.

    Args:
      key: identifies the rows, the fingerprint of their stage for instance.

    """
    facts = {"tree": tree.fingerprint, "key": key, "count": len(x_NxD)}
    descend = descender(
        tree.centroids, tree.children, min(chunk, max(len(x_NxD), 1)), passes.make_mesh(devices)
    )

    def compute(start: int, stop: int, progress: Callable[[int], None]) -> np.ndarray:
        leaf_N, _ = descend(x_NxD[start:stop])
        progress(stop - start)
        return leaf_N

    return resumable.array(path, facts, (len(x_NxD),), np.int32, compute, chunk, "assigning")


def _descend_level(
    x_MxD: np.ndarray,
    node_M: np.ndarray,
    centroids_PxbxD: np.ndarray,
    above_PxD: np.ndarray,
    mesh: Mesh,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Bring the rows one level down, and in place the children that have rows to the front.

    Args:
      x_MxD: rows of the sample.
      node_M: int32, the node of each.
      centroids_PxbxD: of the children; those without rows get their parent's centroid.
      above_PxD: the centroids of the nodes.
      mesh: of one axis, `data`.

    Returns:
      (node one level down of each row [M], number of children of each node [P], inertia).

    """
    parents, width = centroids_PxbxD.shape[:2]
    child_M, inertia = np.empty(len(x_MxD), np.int32), 0.0
    descend = descender(
        (centroids_PxbxD,), (np.full(parents, width, np.int32),), min(CHUNK, len(x_MxD)), mesh
    )
    for start in range(0, len(x_MxD), CHUNK):
        rows = slice(start, start + CHUNK)
        reached, distance = descend(x_MxD[rows], node_M[rows])
        child_M[rows] = reached
        inertia += float(np.square(distance, dtype=np.float64).sum())
    if not math.isfinite(inertia):
        raise UserError(
            "the embeddings to cluster hold values that are not finite; remove the stage "
            "`embeddings` from the work folder and run the command again."
        )
    has_rows_Pxb = np.bincount(child_M, minlength=parents * width).reshape(parents, width) > 0
    for parent in np.flatnonzero(~has_rows_Pxb.all(1)):
        present = np.flatnonzero(has_rows_Pxb[parent])
        centroids_PxbxD[parent, : len(present)] = centroids_PxbxD[parent, present]
        centroids_PxbxD[parent, len(present) :] = above_PxD[parent]
    number_K = (np.cumsum(has_rows_Pxb, 1) - 1 + np.arange(parents)[:, None] * width).reshape(-1)
    return number_K[child_M].astype(np.int32), has_rows_Pxb.sum(1, dtype=np.int32), inertia
