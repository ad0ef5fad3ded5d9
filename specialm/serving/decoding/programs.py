"""What is compiled: reading a prompt, and some steps of all rows in one call."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from specialm.models import decoder
from specialm.models.config import Config
from specialm.models.decoder import Caches
from specialm.models.transformer import Params
from specialm.serving.decoding.draw import Choices, Drawn, Kind, draw

STEPS = 32  # at most, in one call


class State(NamedTuple):
    """On the device, given away by every call and returned."""

    caches: Caches
    seen_BxV: jax.Array | None  # bool, the tokens of each row's text; None while nobody asks


@partial(jax.jit, static_argnames=("config", "kind"), donate_argnames="state")
def read(
    params: Params,
    state: State,
    tokens_1xL: jax.Array,
    count: jax.Array,
    row: jax.Array,
    column: jax.Array,
    choices: Choices,
    seen_V: jax.Array | None,
    config: Config,
    kind: Kind,
) -> tuple[State, Drawn]:
    """(state, the first token after a text) of one row.

    Args:
      tokens_1xL: padding, then the text.
      count: int32 [], tokens of the text.
      column: int32 [], at least L: the text ends before it.
      choices: of this row alone.
      seen_V: bool, the tokens of its text; where `kind.penalised`.
    """
    length = tokens_1xL.shape[1]
    held_1 = (count - length)[None]
    fresh = decoder.init_caches(config, 1, length)
    x_1xLxD, new = decoder.decode(params, tokens_1xL, fresh, 0, held_1, config)
    caches = decoder.placed(state.caches, new, row, column - length, config)
    logits_1xV = decoder.scores(params, x_1xLxD[:, -1], config)
    drawn = draw(logits_1xV, choices, None if seen_V is None else seen_V[None], kind)
    seen_BxV = state.seen_BxV
    if seen_BxV is not None and seen_V is not None:
        seen_BxV = seen_BxV.at[row].set(seen_V.at[drawn.token_B[0]].set(True))
    return State(caches, seen_BxV), drawn


@partial(jax.jit, static_argnames=("config", "kind"), donate_argnames="state")
def advance(
    params: Params,
    state: State,
    token_B: jax.Array,
    held_B: jax.Array,
    column: jax.Array,
    choices: Choices,
    steps: jax.Array,
    is_end_V: jax.Array,
    ended_B: jax.Array,
    config: Config,
    kind: Kind,
) -> tuple[State, Drawn]:
    """(state, what each of `steps` steps drew, on a leading axis of STEPS).

    Stops early when all rows have ended; what comes after a row's end means nothing.

    Args:
      token_B: int32, the last token of each row, which is not in the cache yet.
      held_B: int32, the tokens before it, in the columns before `column`.
      steps: int32 [], at most STEPS; the cache has so many columns from `column` on.
      is_end_V: bool, the tokens that end a text.
      ended_B: bool, the rows that nobody waits for.
    """
    batch = token_B.shape[0]

    def step(carry):
        i, token_B, ended_B, state, written = carry
        x_Bx1xD, caches = decoder.decode(
            params, token_B[:, None], state.caches, column + i, held_B + i, config
        )
        logits_BxV = decoder.scores(params, x_Bx1xD[:, 0], config)
        at = choices._replace(index_B=choices.index_B + i)
        drawn = draw(logits_BxV, at, state.seen_BxV, kind)
        seen_BxV = state.seen_BxV
        if seen_BxV is not None:
            seen_BxV = seen_BxV.at[jnp.arange(batch), drawn.token_B].set(True)
        written = jax.tree.map(lambda all_, one: all_.at[i].set(one), written, drawn)
        ended_B = ended_B | is_end_V[drawn.token_B]
        return i + 1, drawn.token_B, ended_B, State(caches, seen_BxV), written

    def goes_on(carry):
        return (carry[0] < steps) & ~jnp.all(carry[2])

    whole, real = jnp.zeros((STEPS, batch), jnp.int32), jnp.zeros((STEPS, batch), jnp.float32)
    tops = [jnp.zeros((STEPS, batch, kind.top), kind_of) for kind_of in (jnp.int32, jnp.float32)]
    first = (jnp.int32(0), token_B, ended_B, state, Drawn(whole, real, *tops))
    *_, state, written = jax.lax.while_loop(goes_on, step, first)
    return state, written


@partial(jax.jit, static_argnames=("columns", "config"))
def moved(state: State, row_B: jax.Array, shift: jax.Array, columns: int, config: Config) -> State:
    """The state with these rows, and every column further right by `shift`, in `columns`."""
    seen_BxV = None if state.seen_BxV is None else jnp.take(state.seen_BxV, row_B, axis=0)
    return State(decoder.moved(state.caches, row_B, shift, columns, config), seen_BxV)
