"""A teacher's largest probabilities of every token, on disk: plain .npy files, a row a window.

FOLDER/ids.npy            int32 [N, L, v], the pieces of largest probability, largest first
FOLDER/probabilities.npy  float32 [N, L, v], at the stored temperature; what is missing to 1
belongs to all other pieces together
FOLDER/teacher.json       what they were computed with; written last
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from specialm.common import disk, manifest, processes
from specialm.common.errors import UserError
from specialm.common.files import read_sealed, write_sealed
from specialm.data.store import WindowStore
from specialm.models import loss as loss_lib
from specialm.models import transformer
from specialm.training import sharding, step

BATCH = 64  # windows at once
ARRAYS = {"ids": np.int32, "probabilities": np.float32}


@dataclass(frozen=True)
class Stored:
    """What a teacher said of a set of windows, read through memory maps."""

    ids_NxLxv: np.ndarray
    p_NxLxv: np.ndarray
    seconds: float  # that it took to make

    @property
    def tokens(self) -> int:
        """Tokens that the teacher read, counted as windows * context."""
        return self.ids_NxLxv.shape[0] * self.ids_NxLxv.shape[1]

    def columns(self, rows_B: np.ndarray) -> dict[str, np.ndarray]:
        """`teacher_ids` and `teacher_p` [B, L, v] of these windows."""
        return {"teacher_ids": self.ids_NxLxv[rows_B], "teacher_p": self.p_NxLxv[rows_B]}


def store(
    path: Path,
    config: transformer.Config,
    params: transformer.Params,
    windows: WindowStore,
    indices_N: np.ndarray,
    k: int,
    temperature: float,
    mesh: jax.sharding.Mesh,
) -> Stored:
    """Runs the teacher once over these windows of a store; reads what a finished run left.

    Several processes run it together, each on its own windows; the first writes.
    """
    if not processes.run_on_first("finding a teacher", (path / "teacher.json").exists):
        _write(path, config, params, windows, indices_N, k, temperature, mesh)
        processes.run_on_all("storing a teacher", lambda: None)
    record = read_sealed(path / "teacher.json")
    if processes.is_first():
        _check(path, record)
    ids_NxLxv, p_NxLxv = (manifest.load_array(path / f"{name}.npy", mmap=True) for name in ARRAYS)
    return Stored(ids_NxLxv, p_NxLxv, record["seconds"])


def _write(path, config, params, windows, indices_N, k, temperature, mesh) -> None:
    started = time.perf_counter()
    shape = (len(indices_N), windows.context, k)
    arrays = _create(path, shape) if processes.is_first() else ()
    top_k = make_top_k_step(config, mesh, k, temperature)
    devices = sharding.parts(mesh, "batch")
    batch_size = max(devices, BATCH // devices * devices)
    rows_b = sharding.rows(mesh, batch_size)
    for start in range(0, len(indices_N), batch_size):
        # The last batch is filled up with its last window.
        own_b = np.minimum(start + rows_b, len(indices_N) - 1)
        batch = sharding.put_batch(mesh, windows.batch(indices_N[own_b]))
        end = min(start + batch_size, len(indices_N))
        stored = jax.device_get(top_k(params, batch))
        for array, values in zip(arrays, stored, strict=False):  # none in the other processes
            array[start:end] = values[: end - start]
    if not processes.is_first():
        return
    for name, array in zip(ARRAYS, arrays, strict=True):
        array.flush()
        os.replace(path / f"{name}.npy.partial", path / f"{name}.npy")
    write_sealed(
        path / "teacher.json",
        {
            "k": k,
            "temperature": temperature,
            "seconds": time.perf_counter() - started,
            "digests": {name: manifest.digest(path / f"{name}.npy") for name in ARRAYS},
        },
    )


def _check(path: Path, record: dict) -> None:
    """Raise UserError for arrays that are not what was stored."""
    for name, expected in record.get("digests", {}).items():
        if manifest.digest(path / f"{name}.npy") != expected:
            raise UserError(
                f"{path / name}.npy: is damaged: it is not what was stored; remove "
                f"{path / 'teacher.json'}: the same command runs the teacher again."
            )


def _create(path: Path, shape: tuple[int, ...]) -> list[np.memmap]:
    path.mkdir(parents=True, exist_ok=True)
    arrays = []
    for name, dtype in ARRAYS.items():
        file = path / f"{name}.npy.partial"
        arrays.append(np.lib.format.open_memmap(file, "w+", dtype, shape))
        disk.reserve(file)
    return arrays


def make_top_k_step(
    config: transformer.Config, mesh: jax.sharding.Mesh, k: int, temperature: float
) -> Callable:
    """(params, batch) -> int32 and float32 [B, L, v], whole everywhere: pieces and probabilities,
    largest first.

    The probabilities are those of softmax(logits / temperature) over the whole vocabulary.
    """
    size, place = step.default_microbatch(config.context), sharding.placement(mesh)

    def local_top_k(params: transformer.Params, batch: dict):
        params = transformer.gather_ends(params, config, place)

        def part_top_k(part):
            x_TxE = transformer.hidden(params, part["inputs"], config, place)[transformer.LAST]
            head_VxE = transformer.head_meets(params, config).astype(x_TxE.dtype)

            def chunk_top_k(x_txE):
                logits_txV = jnp.einsum(
                    "tE,VE->tV", x_txE, head_VxE, preferred_element_type=jnp.float32
                )
                return jax.lax.top_k(jax.nn.softmax(logits_txV / temperature), k)

            chunks = jax.lax.map(chunk_top_k, loss_lib.chunks(x_TxE))
            shape = (*part["inputs"].shape, k)
            p, ids = (a.reshape(-1, k)[: len(x_TxE)].reshape(shape) for a in chunks)
            return ids, p

        parts = jax.lax.map(part_top_k, step.split_windows(batch, size))
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), parts)

    split = sharding.spec(("batch",))
    mapped = jax.shard_map(
        local_top_k,
        mesh=mesh,
        check_vma=False,
        out_specs=split,
        in_specs=(sharding.specs(transformer.logical_axes(config)), split),
    )
    return jax.jit(mapped, out_shardings=sharding.replicated(mesh))
