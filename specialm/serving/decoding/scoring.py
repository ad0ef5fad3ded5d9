"""Log-probabilities of a text's tokens, with the parameters that an engine holds."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from specialm.models import decoder, transformer
from specialm.models.config import Config
from specialm.models.parts.heads import HEADS
from specialm.models.transformer import Params
from specialm.serving.decoding.columns import read_length


class Scorer:
    """-log p of windows of at most `context` tokens, each behind the token `start`."""

    def __init__(self, params: Params, config: Config, start: int):
        self._params, self._config, self._start = params, config, start

    def nats(self, window: list[int]) -> np.ndarray:
        """float64 [L]"""
        length = read_length(len(window), self._config.context)
        targets_1xL = np.zeros((1, length), np.int32)
        targets_1xL[0, : len(window)] = window
        inputs_1xL = np.roll(targets_1xL, 1, axis=1)
        inputs_1xL[0, 0] = self._start
        nll_L = _nll(self._params, inputs_1xL, targets_1xL[0], self._config)
        return np.asarray(nll_L, np.float64)[: len(window)]


@partial(jax.jit, static_argnames="config")
def _nll(params: Params, inputs_1xL: jax.Array, targets_L: jax.Array, config: Config) -> jax.Array:
    length = inputs_1xL.shape[1]
    empty = decoder.init_caches(config, 1, length)
    states_1xLxD, _ = decoder.decode(params, inputs_1xL, empty, 0, jnp.zeros(1, jnp.int32), config)
    meets = transformer.head_meets(params, config)
    return HEADS[config.head].token_nll(states_1xLxD[0], meets, targets_L, config)
