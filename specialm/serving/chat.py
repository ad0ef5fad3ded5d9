"""Conversations as the tokens that a chat model was tuned on, by the template of its vocabulary."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from specialm.common.errors import UserError
from specialm.data.vocabularies import Vocabulary

# In front of the second character of a special token's name in what people write, while the
# template is filled in: what they write never becomes a special token. No text has it: it is a
# noncharacter, which Unicode keeps for such uses.
MARK = "\ufdd0"


def encode(vocabulary: Vocabulary, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """The token ids of a conversation, up to where the assistant's next turn begins; nothing
    stands before them.

    Args:
      messages: {"role": ..., "content": ...} each.

    Raises:
      UserError: there is no template, it refuses these messages, or it cannot be filled in.
    """
    names = sorted(vocabulary.special, key=len, reverse=True)
    text = _render(vocabulary, [_guarded(message, names) for message in messages])
    parts = re.split(f"({'|'.join(map(re.escape, names))})", text) if names else [text]
    ids: list[int] = []
    for part in parts:
        if part in vocabulary.special:
            ids.append(vocabulary.special[part])
        elif part:
            ids += vocabulary.encode([part.replace(MARK, "")])[0]
    return ids


def _guarded(message: Mapping[str, str], names: list[str]) -> dict[str, str]:
    def guard(text: str) -> str:
        text = text.replace(MARK, "")
        for name in names:
            text = text.replace(name, name[:1] + MARK + name[1:])
        return text

    return {key: guard(value) for key, value in message.items()}


def _render(vocabulary: Vocabulary, messages: list[dict[str, str]]) -> str:
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if vocabulary.chat_template is None:
        raise UserError("messages: this model has no chat template; give a prompt instead.")

    def refuse(reason: str):
        raise UserError(f"messages: the model's chat template refuses them: {reason}")

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": refuse, "strftime_now": datetime.now().strftime}
    try:
        return environment.from_string(vocabulary.chat_template).render(
            messages=messages, add_generation_prompt=True, **_names(vocabulary)
        )
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise UserError(
            f"messages: the model's chat template cannot be filled in ({error})."
        ) from error


def _names(vocabulary: Vocabulary) -> dict[str, str]:
    """bos_token, eos_token, ...: what templates of Hugging Face's layout ask for."""
    roles = ("bos_token", "eos_token", "unk_token", "pad_token")
    config = getattr(vocabulary, "config", {})
    given = {role: config.get(role) for role in roles}
    return {
        role: token["content"] if isinstance(token, dict) else token
        for role, token in given.items()
        if token
    }
