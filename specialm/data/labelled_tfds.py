"""Labelled data sets of TensorFlow Datasets, as rows in the layout of `labelled.py`.

A set is one line of SETS. Names are those of TFDS: those of XTREME (arXiv 2003.11080) and MLQA
(arXiv 1910.07475).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from specialm.common import extras
from specialm.common.errors import UserError
from specialm.common.progress import bar
from specialm.data.field_values import parse_filter


@dataclass(frozen=True)
class Set:
    """A data set.

    Attributes:
      row: (example, language, names of the labels) -> a row.
      languages: whether one example holds all of them.
    """

    row: Callable[[dict, str, list[str]], dict]
    languages: bool = False


def _label(example: dict, names: list[str]) -> str:
    """The label's name, "" for one that nobody gave (-1)."""
    number = int(example["label"])
    return names[number] if number >= 0 else ""


def _english_inference(example: dict, language: str, names: list[str]) -> dict:
    return {
        "text_a": _plain(example["premise"]),
        "text_b": _plain(example["hypothesis"]),
        "label": _label(example, names),
    }


def _parallel_inference(example: dict, language: str, names: list[str]) -> dict:
    """XNLI: a premise {language: text}, a hypothesis as two lists."""
    of = [_plain(each) for each in example["hypothesis"]["language"]]
    texts = dict(zip(of, example["hypothesis"]["translation"], strict=True))
    return {
        "text_a": _plain(example["premise"].get(language, "")),
        "text_b": _plain(texts.get(language, "")),
        "label": _label(example, names),
    }


def _paraphrase(example: dict, language: str, names: list[str]) -> dict:
    return {
        "text_a": _plain(example["sentence1"]),
        "text_b": _plain(example["sentence2"]),
        "label": _label(example, names),
    }


def _answer(example: dict, language: str, names: list[str]) -> dict:
    answers = example["answers"]
    return {
        "context": _plain(example["context"]),
        "question": _plain(example["question"]),
        "answers": {
            "text": [_plain(text) for text in answers["text"]],
            "answer_start": [int(start) for start in answers["answer_start"]],
        },
        "language": language,
    }


def _plain(value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


SETS = {
    "multi_nli": Set(_english_inference),
    "xtreme_xnli": Set(_parallel_inference, languages=True),  # training, machine translations
    "xnli": Set(_parallel_inference, languages=True),  # validation and test
    "xtreme_pawsx": Set(_paraphrase),  # training, machine translations
    "paws_x_wiki": Set(_paraphrase),
    "squad": Set(_answer),
    "mlqa": Set(_answer),  # validation and test
}


def rows(given: str, rest: str) -> Iterator[dict]:
    """The rows of `NAME[:SPLIT][?language=de]`.

    Args:
      given: the option, for errors.
      rest: what follows "tfds:".

    Raises:
      UserError: a set that is not in SETS, or that TFDS does not give; a language is missing.
    """
    rest, wanted = parse_filter(rest)
    name, _, split = rest.rpartition(":")
    if not name or re.fullmatch(r"[0-9*]+(\.[0-9*]+)*", split):
        name, split = rest, "train"
    builder, _, config = name.partition(":")[0].partition("/")
    if builder not in SETS:
        raise UserError(f"{given}: no such task; there are {', '.join(SETS)}.")
    found = SETS[builder]
    language = wanted[1] if wanted and wanted[0] == "language" else ""
    if found.languages != bool(language):
        hint = "say which language, as in ?language=de" if found.languages else "leave out ?"
        raise UserError(f"{given}: {hint}.")
    language = language or (config if re.fullmatch("[a-z]{2}", config) else "en")
    tfds = extras.load("tensorflow_datasets", "seqio", given)
    try:
        examples = tfds.data_source(name, split=split)
    except Exception as error:  # of many kinds: names, splits, the network
        raise UserError(f"{given}: {error}") from error
    features = examples.dataset_info.features
    names = features["label"].names if "label" in features else []
    if found.languages and language not in features["premise"]:
        known = ", ".join(features["premise"])
        raise UserError(f"{given}: no language {language!r}; there are {known}.")
    with bar(len(examples), f"reading {name}", "example") as progress:
        for number in range(len(examples)):
            yield found.row(examples[number], language, names)
            progress.update(1)
