"""What a config costs, computed from shapes alone: nothing is allocated."""

import math

import jax
from ml_collections import ConfigDict

from specialm import budgets, methods
from specialm.models import families, transformer
from specialm.planning import memory, step_memory
from specialm.training import loop, optimizer, step


def inspect_config(config: ConfigDict, dense: transformer.Config | None = None) -> dict:
    """Sizes and costs of the model of a config.

    Args:
      dense: the architecture of the small transformer; None for that of the settings.

    Returns:
      pretrain_params (all that is trained), inference_params (the model that is served) and
      inference_params_by_part,
      train_flops_per_token (projecting a bank included), inference_flops_per_token, state_bytes
      (parameters, moments, step counters, and what `train.bank_every` keeps), training_bytes
      (those, gradients and projected weights: what a step on one device holds at least, beside
      activations), memory_here (of this machine), steps, tokens, tokens_per_parameter (served).
    """
    methods.check_sizes(config, config.method)
    model = methods.model_config(
        config, config.method, config.data.vocabulary_size, methods.centroid_size(config), dense
    )
    dense = families.dense(model)
    train = config.train
    if methods.trains_one_expert(config, config.method):
        train = budgets.one_expert_settings(train, config.model.num_experts)
    steps = loop.num_steps(train, config.data.context)
    groups = methods.num_groups(config, config.method)
    tx = optimizer.make(train, steps, families.declare(model), groups)
    state = step.abstract_state(model, tx, train.param_dtype)
    held = step_memory.of_step(model, tx, train.param_dtype, groups)
    params = transformer.num_params(dense)
    tokens = steps * train.batch_size * config.data.context
    per_group = methods.tokens_per_group(config, config.method)
    return {
        "method": config.method,
        "pretrain_params": families.num_params(model),
        "inference_params": params,
        "inference_params_by_part": transformer.params_by_part(dense),
        "train_flops_per_token": round(families.flops_per_token(model, True, per_group)),
        "inference_flops_per_token": transformer.flops_per_token(dense, train=False),
        "state_bytes": sum(
            math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)
        ),
        "training_bytes": sum(held.values()),
        "memory_here": memory.host_memory(),
        "steps": steps,
        "tokens": tokens,
        "tokens_per_parameter": round(tokens / params, 2),
    }
