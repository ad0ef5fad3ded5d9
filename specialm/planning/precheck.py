"""What `specialm check` and the launchers say of a config before it costs anything; without JAX."""

import math

from ml_collections import ConfigDict

from specialm import methods
from specialm.common.errors import UserError
from specialm.planning import memory
from specialm.training import hardware, layout

# As `specialm compile` and the launchers write it -> device_kind, devices of a chip.
CHIPS = {
    "v4": ("TPU v4", 1),
    "v5e": ("TPU v5e", 1),
    "v5p": ("TPU v5p", 1),
    "v6e": ("TPU v6e", 1),
    "tpu7x": ("TPU7x", 2),
}


def pretrained(config: ConfigDict) -> list[str]:
    """The domains that pretraining `config.method` reads.

    Raises:
      UserError: the method has no pretraining, needs a domain that is not given, or cannot have
        these sizes.
    """
    if not methods.get(config.method).pretrained:
        raise UserError(
            f"method={config.method!r} has no pretraining; `specialm specialize` trains it on "
            "the specialist text at once."
        )
    methods.check(config, config.method)
    return [one_domain(config)] if methods.aims_at_domain(config, config.method) else []


def one_domain(config: ConfigDict) -> str:
    """The domain that a command works on.

    Raises:
      UserError: none is given.
    """
    if not config.domain:
        raise UserError(
            "config.domain is empty; set --config.domain to one of "
            f"{', '.join(config.data.domains)}."
        )
    return config.domain


def check_training(config: ConfigDict) -> None:
    """Raises UserError for what `train` cannot do on this machine."""
    pretrained(config)
    memory.check_here(config, memory.of_pretraining(config, config.method))


def check_demo(config: ConfigDict) -> None:
    """Raises UserError for what `demo` cannot do on this machine."""
    for method in config.methods:
        methods.check(config, method)
        memory.check_here(config, memory.of_pretraining(config, method))


def check_batches(config: ConfigDict) -> None:
    """Raises UserError for batches of fine-tuning or scoring that do not fit in memory here."""
    memory.check_here(config, memory.of_batches(config))


def check_clusters(config: ConfigDict) -> None:
    """Raises UserError for clusters that a method cannot have, or that do not fit in memory."""
    method = methods.with_clusters(config)
    methods.check(config, method)
    memory.check_here(config, memory.of_clusters(config, method))


def check_command(config: ConfigDict, command: str, devices: int = 0, chip: str = "") -> None:
    """Raises UserError for what `train` or `specialize` cannot do.

    Args:
      devices: on how many accelerators; 0 for this machine.
      chip: see `check_slice`.
    """
    if command == "specialize":
        one_domain(config)
    if devices and command == "train":
        pretrained(config)
    if devices:
        check_slice(config, devices, chip, command == "train")
    elif command == "train":
        check_training(config)
    else:
        check_batches(config)


def check_slice(config: ConfigDict, devices: int, chip: str = "", pretraining: bool = True) -> None:
    """Raises UserError for sizes or a batch that do not divide over so many accelerators, or do
    not fit in their memory.

    It is what `program.make_train_step` and `program.check_batch` say once the devices are there.

    Args:
      chip: one of CHIPS; "" leaves the memory out.
      pretraining: whether its batch is divided too.
    """
    record, model = methods.get(config.method), config.model
    joint = model.num_experts if record.is_mixture else 1
    shape = dict(zip(layout.AXES, layout.axis_sizes(devices, config.mesh, joint), strict=True))
    alone = methods.trains_one_expert(config, config.method)
    batch_size = config.train.batch_size // (model.num_experts if alone else 1)
    experts = 0 if alone or not record.is_mixture else model.num_experts
    if pretraining:
        groups = methods.num_groups(config, config.method) or 1
        layout.check_batch(shape, batch_size, groups, experts)
    for axis, size in _divided(config, experts, pretraining):
        layout.check_size(shape, axis, size)
    layout.check_tokens(shape, (config.train.microbatch or 1) * config.data.context)
    if chip:
        kind, each = CHIPS[chip]
        available = devices * hardware.CHIPS[kind].memory // each
        of_all = memory.of_pretraining(config, config.method)
        needs = of_all if pretraining else memory.of_batches(config)
        memory.check(config, needs, available, f"the memory of {devices} {chip} devices")


def _divided(config: ConfigDict, experts: int, pretraining: bool) -> list[tuple[str, int]]:
    """(logical axis, its size) of what is divided over the devices."""
    model = config.model
    kv = ("kv_heads", model.num_kv_heads) if model.num_kv_heads else ("heads", model.num_heads)
    divided = [("embed", model.d_model), kv, ("mlp", model.d_ff)]
    if methods.get(config.method).is_bank and pretraining:
        divided += [("bank", model.d_ff), ("bank_bias", model.d_model)]
    return [*divided, ("expert", experts)] if experts and pretraining else divided


def devices_of(topology: str, slices: int = 1) -> tuple[int, str]:
    """(devices, chip) of "v5e:16x16", for `check_slice`.

    Raises:
      UserError: not written so.
    """
    chip, _, shape = topology.partition(":")
    sizes = shape.split("x")
    if chip not in CHIPS or not all(size.isdecimal() and int(size) for size in sizes):
        raise UserError(
            f"--topology={topology}: must be CHIP:SHAPE with CHIP one of {', '.join(CHIPS)}, such "
            "as v5e:16x16 or v5p:4x4x4."
        )
    return slices * math.prod(map(int, sizes)) * CHIPS[chip][1], chip
