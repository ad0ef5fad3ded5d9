"""The text of `finetune.lora_targets`; read before JAX is imported, so nothing here needs it."""

from specialm.common.errors import UserError

SETTING = "finetune.lora_targets"


def read(text: str, rank: int) -> list[tuple[str, int]]:
    """[(pattern, rank)].

    Args:
      rank: finetune.lora_rank, of a pattern that names none.

    Raises:
      UserError: not NAME=RANK, comma, and so on; LoRA is off.
    """
    if not rank:
        raise UserError(
            f"{SETTING}={text!r}: LoRA is off; set finetune.lora_rank, the rank of names without "
            "one."
        )
    found = []
    for part in text.split(","):
        pattern, equals, number = (word.strip() for word in part.partition("="))
        if not pattern or (equals and not (number.isascii() and number.isdecimal())):
            raise UserError(
                f"{SETTING}={text!r}: {part.strip()!r} is not NAME=RANK; write it as in "
                "'q=16,v=16,mlp.*=4'."
            )
        found.append((pattern, int(number) if equals else rank))
    return found
