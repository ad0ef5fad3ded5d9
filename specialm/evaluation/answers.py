"""Answers to questions compared with the right ones: exact match and F1 of words.

As MLQA compares them (arXiv 1910.07475, section 5.1, and its script `mlqa_evaluation_v1.py`), which
does for several languages what SQuAD (arXiv 1606.05250, section 6.1) does for English: lower case,
no punctuation of any script, no articles of the language, single spaces; Chinese characters are
words of their own. Of an answer that several people gave the best match counts.
"""

import collections
import re
import string
import unicodedata
from collections.abc import Sequence

ARTICLES = {
    "en": r"\b(a|an|the)\b",
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "vi": r"\b(của|là|cái|chiếc|những)\b",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "ar": r"\sال^|ال",
}
CHARACTERS = {"zh": re.compile("([\u4e00-\u9fa5])")}  # languages whose characters are words
DEFAULT = "en"


def words(text: str, language: str = DEFAULT) -> list[str]:
    """The words of an answer that are compared.

    Args:
      language: "" for English; one without an entry here has no articles, as Hindi and Chinese.
    """
    language = language or DEFAULT
    kept = "".join(letter for letter in text.lower() if not _is_punctuation(letter))
    if language in ARTICLES:
        kept = re.sub(ARTICLES[language], " ", kept)
    if language in CHARACTERS:
        kept = CHARACTERS[language].sub(r" \1 ", kept)
    return kept.split()


def _is_punctuation(letter: str) -> bool:
    return letter in string.punctuation or unicodedata.category(letter).startswith("P")


def exact(given: str, right: Sequence[str], language: str = DEFAULT) -> bool:
    """Whether the words are those of one of the right answers, in their order."""
    return any(words(given, language) == words(each, language) for each in right)


def f1(given: str, right: Sequence[str], language: str = DEFAULT) -> float:
    """The harmonic mean of precision and recall of words, that of the best right answer."""
    return max(_f1(words(given, language), words(each, language)) for each in right)


def _f1(given: list[str], right: list[str]) -> float:
    same = sum((collections.Counter(given) & collections.Counter(right)).values())
    return 2 * same / (len(given) + len(right)) if same else 0.0
