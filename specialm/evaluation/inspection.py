"""What a config costs, computed from shapes alone: nothing is allocated."""

import math

import jax
from ml_collections import ConfigDict

from specialm.models import transformer
from specialm.training import loop, optimizer, step


def inspect_config(config: ConfigDict) -> dict:
    """Sizes and costs of the model of a config.

    Returns:
      pretrain_params, inference_params (counts), train_flops_per_token, inference_flops_per_token,
      state_bytes (parameters, moments and step counter), steps, tokens, tokens_per_parameter.
    """
    model = transformer.Config(vocab_size=config.data.vocabulary_size,
                               context=config.data.context, **config.model)
    steps = loop.num_steps(config.train, config.data.context)
    state = step.abstract_state(model, optimizer.make(config.train, steps))
    params = transformer.num_params(model)
    tokens = steps * config.train.batch_size * config.data.context
    return {
        "method": config.method,
        "pretrain_params": params,
        "inference_params": params,
        "train_flops_per_token": transformer.flops_per_token(model, train=True),
        "inference_flops_per_token": transformer.flops_per_token(model, train=False),
        "state_bytes": sum(math.prod(leaf.shape) * leaf.dtype.itemsize
                           for leaf in jax.tree.leaves(state)),
        "steps": steps,
        "tokens": tokens,
        "tokens_per_parameter": round(tokens / params, 2),
    }
