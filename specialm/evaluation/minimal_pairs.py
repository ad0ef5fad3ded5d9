"""Minimal pairs of our own, made of templates: pairs of English sentences that differ in one point,
one of them wrong, in the manner of BLiMP (Warstadt et al., arXiv 1912.00582).

They need no download. 12 phenomena of 50 pairs each, always the same ones; words are common ones.
"""

import itertools
import random
from collections.abc import Iterator

from specialm.evaluation.questions import Question

PAIRS = 50  # of each phenomenon
NOUNS = (  # singular, plural: people
    ("teacher", "teachers"),
    ("doctor", "doctors"),
    ("student", "students"),
    ("child", "children"),
    ("friend", "friends"),
    ("author", "authors"),
    ("worker", "workers"),
    ("king", "kings"),
    ("soldier", "soldiers"),
    ("farmer", "farmers"),
)
THINGS = (
    ("book", "books"),
    ("house", "houses"),
    ("letter", "letters"),
    ("table", "tables"),
    ("picture", "pictures"),
    ("machine", "machines"),
    ("river", "rivers"),
    ("story", "stories"),
)
VERBS = (  # of a singular, of a plural subject
    ("works", "work"),
    ("sleeps", "sleep"),
    ("speaks", "speak"),
    ("waits", "wait"),
    ("laughs", "laugh"),
    ("writes", "write"),
)
ADJECTIVES = ("old", "new", "large", "small", "good", "strange")
PARTICIPLES = (  # participle, past
    ("written", "wrote"),
    ("seen", "saw"),
    ("taken", "took"),
    ("given", "gave"),
    ("chosen", "chose"),
    ("forgotten", "forgot"),
    ("stolen", "stole"),
    ("drawn", "drew"),
)
TIMES = (  # base form, past
    ("walk", "walked"),
    ("work", "worked"),
    ("wait", "waited"),
    ("sleep", "slept"),
    ("write", "wrote"),
    ("speak", "spoke"),
)
GENDERED = (
    ("man", "himself"),
    ("woman", "herself"),
    ("boy", "himself"),
    ("girl", "herself"),
    ("king", "himself"),
    ("queen", "herself"),
    ("brother", "himself"),
    ("sister", "herself"),
    ("father", "himself"),
    ("mother", "herself"),
)
HURTS = ("hurt", "saw", "helped", "blamed", "taught", "asked")
PRONOUNS = (("he", "him"), ("she", "her"), ("they", "them"), ("we", "us"), ("I", "me"))
VOWELS = ("apple", "egg", "island", "engine", "author", "uncle", "office", "answer")
CONSONANTS = ("book", "dog", "garden", "table", "doctor", "letter", "window", "river")
PLACES = ("in the house", "near the river", "in the city", "at the door", "in the garden")

Pairs = Iterator[tuple[str, str]]  # good, bad


def _agreement() -> Pairs:
    for noun, verb, number in itertools.product(NOUNS, VERBS, (0, 1)):
        yield tuple(f"The {noun[number]} {verb[n]}." for n in (number, 1 - number))  # type: ignore


def _agreement_across_phrase() -> Pairs:
    for noun, other, adjective, number in itertools.product(NOUNS, THINGS, ADJECTIVES, (0, 1)):
        start = f"The {noun[number]} near the {other[1 - number]}"
        be = ("is", "are")
        yield f"{start} {be[number]} {adjective}.", f"{start} {be[1 - number]} {adjective}."


def _agreement_across_clause() -> Pairs:
    for noun, other, adjective, number in itertools.product(NOUNS, NOUNS, ADJECTIVES, (0, 1)):
        if noun != other:
            start = f"The {noun[number]} that the {other[1 - number]} saw"
            be = ("was", "were")
            yield f"{start} {be[number]} {adjective}.", f"{start} {be[1 - number]} {adjective}."


def _determiner() -> Pairs:
    words = itertools.product(NOUNS, THINGS, (("this", "these"), ("that", "those")), (0, 1))
    for noun, thing, pair, number in words:
        start = f"The {noun[0]} saw"
        yield (
            f"{start} {pair[number]} {thing[number]}.",
            f"{start} {pair[1 - number]} {thing[number]}.",
        )


def _determiner_with_adjective() -> Pairs:
    words = itertools.product(THINGS, ADJECTIVES, (("this", "these"), ("that", "those")), (0, 1))
    for thing, adjective, pair, number in words:
        rest = f"{adjective} {thing[number]}"
        yield f"They found {pair[number]} {rest}.", f"They found {pair[1 - number]} {rest}."


def _reflexive() -> Pairs:
    other = {"himself": "herself", "herself": "himself"}
    for (noun, self), verb in itertools.product(GENDERED, HURTS):
        yield f"The {noun} {verb} {self}.", f"The {noun} {verb} {other[self]}."


def _negative_polarity() -> Pairs:
    for noun, thing, verb in itertools.product(NOUNS, THINGS, PARTICIPLES[1:4]):
        rest = f"{noun[0]} has ever {verb[0]} the {thing[0]}."
        yield f"No {rest}", f"This {rest}"


def _participle() -> Pairs:
    for noun, thing, (participle, past) in itertools.product(NOUNS, THINGS, PARTICIPLES):
        yield tuple(  # type: ignore
            f"The {noun[0]} has {verb} the {thing[0]}." for verb in (participle, past)
        )


def _pronoun() -> Pairs:
    for (subject, thing), noun, verb in itertools.product(PRONOUNS, NOUNS, HURTS):
        yield (
            f"Yesterday {subject} {verb} the {noun[0]}.",
            f"Yesterday {thing} {verb} the {noun[0]}.",
        )


def _existential() -> Pairs:
    for thing, place, number in itertools.product(THINGS + NOUNS, PLACES, (0, 1)):
        what = ("a " if number == 0 else "many ") + thing[number]
        be = ("is", "are")
        yield f"There {be[number]} {what} {place}.", f"There {be[1 - number]} {what} {place}."


def _article() -> Pairs:
    for noun, (word, right) in itertools.product(
        NOUNS, [(word, "an") for word in VOWELS] + [(word, "a") for word in CONSONANTS]
    ):
        wrong = "a" if right == "an" else "an"
        yield f"The {noun[0]} saw {right} {word}.", f"The {noun[0]} saw {wrong} {word}."


def _tense() -> Pairs:
    for noun, (base, past), place in itertools.product(NOUNS, TIMES, PLACES):
        start = f"Yesterday the {noun[0]}"
        yield f"{start} {past} {place}.", f"{start} will {base} {place}."


PHENOMENA = {
    "agreement": _agreement,
    "agreement across a phrase": _agreement_across_phrase,
    "agreement across a clause": _agreement_across_clause,
    "determiner": _determiner,
    "determiner with adjective": _determiner_with_adjective,
    "reflexive": _reflexive,
    "negative polarity": _negative_polarity,
    "participle": _participle,
    "pronoun": _pronoun,
    "existential": _existential,
    "article": _article,
    "tense": _tense,
}


def make() -> list[Question]:
    """The pairs of all phenomena, as questions whose group is the phenomenon."""
    return [
        Question((("", good), ("", bad)), 0, name)
        for name, pairs in PHENOMENA.items()
        for good, bad in random.Random(0).sample(list(pairs()), PAIRS)
    ]
