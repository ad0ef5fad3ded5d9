"""Architectures of open checkpoints: one file each, one line of the table.

A record says which config.json our parts can be (what they have not is refused by name), under
which names its tensors stand in the Hugging Face layout and in GGUF, and where each lies in our
parameters. Import writes through the same views that export reads.
"""

from collections.abc import Mapping

from specialm.common.errors import UserError
from specialm.models.config import Config
from specialm.serving.architectures import gemma3, gpt2, llama, qwen3
from specialm.serving.architectures.record import Architecture

# model_type of a config.json
ARCHITECTURES: dict[str, Architecture] = {
    "llama": llama.LLAMA,
    "qwen3": qwen3.QWEN3,
    "gemma3_text": gemma3.GEMMA3,
    "gpt2": gpt2.GPT2,
}
IN_GGUF = {found.in_gguf: found for found in ARCHITECTURES.values()}  # general.architecture


def get(
    name: object, where: str, table: Mapping[str, Architecture] = ARCHITECTURES
) -> Architecture:
    """The architecture of a checkpoint.

    Args:
      where: the file that names it, for the error.
      table: ARCHITECTURES, or IN_GGUF.

    Raises:
      UserError: it is none of the table.
    """
    if not isinstance(name, str) or name not in table:
        raise UserError(
            f"{where}: the architecture {name!r} cannot be imported; {', '.join(table)} can."
        )
    return table[name]


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
