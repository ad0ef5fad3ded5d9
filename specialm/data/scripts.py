"""What the units of a text are: its words, or character n-grams where words are not separated.

Chinese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan set no spaces between words, so that a run
of letters is a sentence, not a word. A text most of whose letters are of such scripts is taken as a
sequence of atoms, each letter of these scripts and each word of others, without spaces and
punctuation. Its units are n-grams of atoms; for TF-IDF n-grams of letters, and the words. Which
script prevails decides on n: a word has about 1.5 to 2 characters in Chinese and Japanese, 4 to 5
letters in the others.

Korean sets spaces, and so do the scripts of India: their words are words, with their vowel signs.
"""

import functools
import itertools
import re
import unicodedata

# The blocks of The Unicode Standard 15, chapters 16 (Southeast Asia) and 18 (East Asia).
IDEOGRAPHS = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U000323af"
)
SYLLABLES = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e80-\u0edf\u0f40-\u0fbc\u1000-\u109f\u1780-\u17d3\uaa60-\uaa7f"
)
IDEOGRAPH = re.compile(f"[{IDEOGRAPHS}]")
SYLLABLE = re.compile(f"[{SYLLABLES}]")
ANY = re.compile(f"[{IDEOGRAPHS}{SYLLABLES}]")
LETTER = re.compile(r"[^\W\d_]")
PLAIN_WORD = re.compile(r"\w+")
TERM = re.compile(r"\b\w\w+\b")  # scikit-learn's words: of at least two characters

# Atoms of a unit: of contamination checks (five units that overlap are a shingle, which then has 8
# and 20 characters, some five words as elsewhere), of TF-IDF (about a word).
SHINGLE_ATOMS = {IDEOGRAPH: 4, SYLLABLE: 16}
TERM_ATOMS = {IDEOGRAPH: 2, SYLLABLE: 4}


@functools.cache
def _marks() -> str:
    """Combining marks and joiners, as a part of a character class: they belong to words."""
    codes = [*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)]
    marks = [code for code in codes if unicodedata.category(chr(code)).startswith("M")]
    return "".join(map(chr, marks)) + "\u200c\u200d"


@functools.cache
def _word() -> re.Pattern:
    return re.compile(rf"\w[\w{_marks()}]*")


@functools.cache
def _atom() -> re.Pattern:
    letters = IDEOGRAPHS + SYLLABLES
    other = rf"(?![{letters}])"
    return re.compile(rf"[{letters}]|{other}\w(?:{other}[\w{_marks()}])*")


def unspaced(text: str) -> re.Pattern | None:
    """Return the script without spaces that most letters of a text are of, or None."""
    if text.isascii() or not ANY.search(text):
        return None
    ideographs, syllables = (len(kind.findall(text)) for kind in (IDEOGRAPH, SYLLABLE))
    marks = sum(unicodedata.category(mark).startswith("M") for mark in SYLLABLE.findall(text))
    if 2 * (ideographs + syllables) <= len(LETTER.findall(text)) + marks:
        return None
    return IDEOGRAPH if ideographs >= syllables else SYLLABLE


def words(text: str) -> list[str]:
    """Return the lower-cased words of a text, or its n-grams of SHINGLE_ATOMS (see above)."""
    text = text.casefold()
    if text.isascii():
        return PLAIN_WORD.findall(text)
    text = unicodedata.normalize("NFC", text)
    script = unspaced(text)
    if script is None:
        return _word().findall(text)
    return _grams(_atom().findall(text), SHINGLE_ATOMS[script])


def terms(text: str) -> list[str]:
    """Return the terms of TF-IDF: lower-cased words of at least two characters, or n-grams."""
    text = text.lower()
    if text.isascii():
        return TERM.findall(text)
    text = unicodedata.normalize("NFC", text)
    script = unspaced(text)
    if script is None:
        return [word for word in _word().findall(text) if len(word) > 1]
    return _words_and_grams(_atom().findall(text), TERM_ATOMS[script])


def _words_and_grams(atoms: list[str], size: int) -> list[str]:
    """Return the words of other scripts, and of the letters between them all sequences."""
    found: list[str] = []
    for of_word, group in itertools.groupby(atoms, lambda atom: not ANY.match(atom)):
        run = list(group)
        found += [word for word in run if len(word) > 1] if of_word else _grams(run, size)
    return found


def _grams(atoms: list[str], size: int) -> list[str]:
    """Return all sequences of `size` atoms; of fewer the whole, of none nothing."""
    if not atoms:
        return []
    count = max(len(atoms) - size + 1, 1)
    return [_joined(atoms[start : start + size]) for start in range(count)]


def _joined(atoms: list[str]) -> str:
    """Return atoms as one text, words of other scripts with a space between them."""
    joined = atoms[0]
    for before, atom in zip(atoms, atoms[1:], strict=False):
        both_words = not ANY.match(before) and not ANY.match(atom)
        joined += " " * both_words + atom
    return joined
