"""Many small models in training at once on one accelerator, which one of them cannot fill.

A lane is a model with its own initial values, draws, learning rate and specialist set. All lanes
of a group have one shape and take each step together: `jax.vmap` over the functions of the training
loop and of fine-tuning, which decide all figures; a test holds both ways against each other. All
text lies on the device, and a call runs many steps.
"""

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from specialm.common.progress import bar
from specialm.models import tensors, transformer
from specialm.models.placement import WHOLE
from specialm.training import objectives, optimizer, step

SCORED = 16  # windows of a lane scored at once


@dataclass(frozen=True)
class Text:
    """Windows on the device, those of all sets one after the other.

    Attributes:
      tokens_NxL: uint16 or uint32, 0 (pad) after a window's end.
      sizes_N: tokens of each window.
      start: the token in front of every window.
    """

    tokens_NxL: jax.Array
    sizes_N: jax.Array
    start: int


jax.tree_util.register_dataclass(Text, ["tokens_NxL", "sizes_N"], ["start"])


def batch(text: Text, indices_B: jax.Array) -> dict[str, jax.Array]:
    """As `WindowStore.batch`; an index below 0 is a window that counts nothing."""
    targets_BxL = text.tokens_NxL[indices_B].astype(jnp.int32)
    inputs_BxL = jnp.roll(targets_BxL, 1, axis=1).at[:, 0].set(text.start)
    size_B = jnp.where(indices_B < 0, 0, text.sizes_N[indices_B])
    mask_BxL = jnp.arange(targets_BxL.shape[1]) < size_B[:, None]
    return {"inputs": inputs_BxL, "targets": targets_BxL, "mask": mask_BxL.astype(jnp.float32)}


@dataclass(frozen=True)
class Watched:
    """Early stopping of every lane, as in fine-tuning.

    Attributes:
      valid_RxV: int32, each lane's validation windows, -1 where it has fewer.
      tokens_R: their tokens.
      patience: validations without an improvement; 0 never stops.
    """

    valid_RxV: np.ndarray
    tokens_R: np.ndarray
    patience: int


@dataclass(frozen=True)
class Fitted:
    """What a group of lanes came to.

    Attributes:
      params: stacked, of the last step, or of each lane's best one if it was watched.
      loss_R: mean training loss of the last steps that were run at once, nats.
      best_step_R: the step of `params`.
    """

    params: Any
    loss_R: np.ndarray
    best_step_R: np.ndarray


class Lanes:
    """The compiled programs of one shape of model.

    Args:
      model: its config.
      train: settings of the optimizer, but for the learning rate and its schedule.
    """

    def __init__(self, model: transformer.Config, train: ConfigDict):
        self.model, self.declared = model, transformer.declare(model)
        unit = copy.deepcopy(train).unlock()
        unit.schedule, unit.warmup_steps, unit.learning_rate = "constant", 0, 1.0
        self._unit = optimizer.make(unit, 1, self.declared)
        self._objective = objectives.make(train.objective, model)
        self._advance = jax.jit(self._advanced, donate_argnums=0)
        self._nll = jax.jit(self._scores)
        self._begin = jax.jit(jax.vmap(self._fresh))

    def init(self, seeds_R: np.ndarray, constants: dict[str, Any] | None = None) -> Any:
        """Stacked initial parameters, those of `tensors.init`."""
        draw = partial(tensors.init, self.declared, constants=constants)
        return jax.jit(jax.vmap(lambda seed: draw(jax.random.key(seed))))(seeds_R)

    def fit(
        self,
        params: Any,
        text: Text,
        drawn_SxRxB: np.ndarray,
        rate_S: np.ndarray,
        scale_R: np.ndarray,
        every: int,
        watched: Watched | None = None,
        title: str = "",
    ) -> Fitted:
        """Trains a group of lanes.

        Args:
          params: stacked initial values.
          drawn_SxRxB: the windows of every step, of the text.
          rate_S: the learning rate of every step, as a multiple of the lane's.
          scale_R: the learning rate of each lane.
          every: steps that are run at once; with `watched` between two validations.
          title: of a progress bar; "" shows none.
        """
        steps, lanes = len(rate_S), len(scale_R)
        missing = -steps % every  # one program for all calls; a rate of 0 changes nothing
        drawn_SxRxB = np.pad(drawn_SxRxB, ((0, missing), (0, 0), (0, 0)), mode="edge")
        rate_SxR = np.outer(np.pad(rate_S, (0, missing)), scale_R)
        state, best, loss_R, done = self._begin(params), _Best(params, lanes), np.zeros(lanes), 0
        with bar(steps, title, "step") as progress:
            while True:
                if watched:
                    nats_R = self.nats(state.params, text, watched.valid_RxV) / watched.tokens_R
                    best.judge(done, nats_R, state.params, watched.patience)
                if done == steps or best.over:
                    break
                part = slice(done, done + every)
                drawn_sxRxB = drawn_SxRxB[part].astype(np.int32)
                state, loss_sxR = self._advance(state, text, drawn_sxRxB, rate_SxR[part])
                loss_R = np.asarray(loss_sxR)[: steps - done].mean(axis=0)
                before, done = done, min(done + every, steps)
                progress.update(done - before)
        if watched:
            return Fitted(best.params, loss_R, best.step_R.astype(int))
        return Fitted(state.params, loss_R, np.full(lanes, done))

    def nats(self, params: Any, text: Text, indices_RxN: np.ndarray) -> np.ndarray:
        """float64 [R]: the sum of -log p over each lane's windows; -1 is none."""
        missing = -indices_RxN.shape[1] % SCORED
        padded = np.pad(indices_RxN, ((0, 0), (0, missing)), constant_values=-1)
        nll_RxN = self._nll(params, text, padded.astype(np.int32))
        return np.asarray(nll_RxN, np.float64).sum(axis=1)

    def _fresh(self, params: Any) -> step.TrainState:
        return step.TrainState(jnp.zeros((), jnp.int32), params, self._at(1.0).init(params))

    def _at(self, rate) -> optax.GradientTransformation:
        """The optimizer at a learning rate, which every update is proportional to."""
        return optax.chain(self._unit, optax.scale(rate))

    def _advanced(self, state, text: Text, indices_SxRxB, rate_SxR):
        lanes = jax.vmap(self._one_step, in_axes=(0, None, 0, 0))

        def one(state, given):
            return lanes(state, text, *given)

        return jax.lax.scan(one, state, (indices_SxRxB, rate_SxR))

    def _one_step(self, state: step.TrainState, text: Text, indices_B, rate):
        windows = batch(text, indices_B)
        nll, grads = jax.value_and_grad(self._objective.sum_loss)(state.params, windows, (), WHOLE)
        tokens = jnp.sum(windows["mask"])
        state, metrics = step.update(state, self._at(rate), nll, tokens, grads)
        return state, metrics["loss"]

    def _scores(self, params: Any, text: Text, indices_RxN: jax.Array) -> jax.Array:
        def of_lane(params, indices_N):
            def some(indices_n):
                windows = batch(text, indices_n)
                nll_NxL = transformer.token_nll(
                    params, windows["inputs"], windows["targets"], self.model
                )
                return jnp.sum(nll_NxL * windows["mask"], axis=1)

            return jax.lax.map(some, indices_N.reshape(-1, SCORED)).reshape(-1)

        return jax.vmap(of_lane)(params, indices_RxN)


class _Best:
    """The parameters of each lane's best validation so far, as `Kept.judge` of fine-tuning has."""

    def __init__(self, params: Any, lanes: int):
        self.params, self.nats_R = params, np.full(lanes, np.inf)
        self.step_R, self.worse_R = np.zeros((2, lanes))
        self.over = False  # no lane goes on

    def judge(self, done: int, nats_R: np.ndarray, params: Any, patience: int) -> None:
        """Takes what is better; a lane that had no improvement for so long takes nothing more."""
        limit = patience or np.inf
        better_R = (nats_R < self.nats_R) & (self.worse_R < limit)
        self.worse_R = np.where(better_R, 0, self.worse_R + 1)
        self.nats_R = np.where(better_R, nats_R, self.nats_R)
        self.step_R = np.where(better_R, done, self.step_R)
        self.params = _chosen(jnp.asarray(better_R), params, self.params)
        self.over = bool((self.worse_R >= limit).all())


@jax.jit
def _chosen(first_R: jax.Array, first: Any, second: Any) -> Any:
    """Stacked parameters, of each lane the first or the second."""

    def leaf(a, b):
        return jnp.where(first_R.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(leaf, first, second)


def taken(params: Any, lanes_R: np.ndarray) -> Any:
    """Stacked parameters of some lanes, in this order."""
    return jax.tree.map(lambda leaf: leaf[lanes_R], params)
