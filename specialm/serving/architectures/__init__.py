"""Architectures of open checkpoints: one file each, one line of the table.

A record says which config.json our parts can be (what they have not is refused by name), under
which names its tensors stand in the Hugging Face layout and in GGUF, and where each lies in our
parameters. Import writes through the same views that export reads.
"""

from specialm.common.errors import UserError
from specialm.models.config import Config
from specialm.serving.architectures import gpt2, llama, qwen3
from specialm.serving.architectures.record import Architecture

# model_type of a config.json, general.architecture of a GGUF file
ARCHITECTURES: dict[str, Architecture] = {
    "llama": llama.LLAMA,
    "qwen3": qwen3.QWEN3,
    "gpt2": gpt2.GPT2,
}


def get(name: object, where: str) -> Architecture:
    """The architecture of a checkpoint.

    Args:
      where: the file that names it, for the error.

    Raises:
      UserError: it is none of the table.
    """
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise UserError(
            f"{where}: the architecture {name!r} cannot be imported; "
            f"{', '.join(ARCHITECTURES)} can."
        )
    return ARCHITECTURES[name]


def of(config: Config) -> Architecture:
    """The architecture that a model of ours can be exported as.

    Raises:
      UserError: it is none; the settings in the way of each are named.
    """
    reasons = {}
    for name, architecture in ARCHITECTURES.items():
        reasons[name] = architecture.obstacles(config)
        if not reasons[name]:
            return architecture
    text = "; ".join(f"{name} would need {', '.join(need)}" for name, need in reasons.items())
    raise UserError(
        f"no other runtime has this architecture: {text}. Train with such settings, as "
        "configs/local/llama.py has them, or distil into such a model with "
        "`specialm specialize --teacher=RUN`."
    )
