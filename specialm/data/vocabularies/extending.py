"""An old byte-level BPE vocabulary fitted to another text: merges that are learnt on it are added,
tokens that it does not use are removed (Purason et al., arXiv 2512.03989).
"""

import collections
import heapq
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from specialm.common.errors import UserError
from specialm.common.files import write_bytes, write_json
from specialm.data.vocabularies.interface import Vocabulary
from specialm.data.vocabularies.tokenizer_json import BYTE_LETTERS, CONFIG_FILE, FILE, TokenizerJson

Pair = tuple[str, str]
Words = Sequence[tuple[list[str], int]]  # the tokens of each different word, how often it comes
LEAST = 2  # occurrences of a pair that is merged


def extend(vocabulary: Vocabulary, texts: Iterable[str], folder: Path, size: int) -> TokenizerJson:
    """Write the vocabulary fitted to `texts` into a folder; read it.

    Merges are added as long as there is room: for each new token above `size` a leaf goes (a token
    that no merge is made of) that the text does not use. Tokens that stay keep their ids, and new
    ones take those that are free.

    Args:
      vocabulary: byte-level BPE.
      texts: what it is fitted to.
      folder: of the new vocabulary.
      size: ids; at least those of the old one.

    Raises:
      UserError: another kind of vocabulary, a smaller size, or too little text for a larger one.

    """
    if not isinstance(vocabulary, TokenizerJson) or not vocabulary.is_byte_level_bpe:
        raise UserError(
            f"--vocabulary=extend: {vocabulary.path} is no byte-level BPE, whose merges can be "
            "continued; use --vocabulary=new."
        )
    if size < vocabulary.size:
        raise UserError(
            f"data.vocabulary_size={size}: --vocabulary=extend keeps the old vocabulary's "
            f"{vocabulary.size} ids; ask for at least as many, or train a smaller one with "
            "--vocabulary=new."
        )
    words = list(vocabulary.words(texts))
    layout = json.loads(json.dumps(vocabulary.layout))
    model = layout["model"]
    added = {token["content"]: token["id"] for token in layout.get("added_tokens") or ()}
    old = [_pair(merge) for merge in model["merges"]]
    used = {token for tokens, _ in words for token in tokens}
    leaves = unused_leaves(model["vocab"], old, {*used, *added, *BYTE_LETTERS})
    taken = {*model["vocab"].values(), *added.values()}
    free = [i for i in range(size) if i not in taken]
    new = continued_merges(words, len(free) + len(leaves), model["vocab"])
    again = {left + right for left, right in new}.intersection(leaves)
    if again:  # they stay, so that there is less room
        leaves = [name for name in leaves if name not in again]
        new = continued_merges(words, len(free) + len(leaves), model["vocab"])
    names = dict.fromkeys(left + right for left, right in new)
    fresh = [name for name in names if name not in model["vocab"]]
    if len(fresh) < len(free):
        raise UserError(
            f"data.vocabulary_size={size}: at most {size - len(free) + len(fresh)} for this text: "
            f"then no pair of tokens comes {LEAST} times. Give more text or ask for fewer."
        )
    gone = leaves[: len(fresh) - len(free)]
    free += [model["vocab"].pop(name) for name in gone]
    model["vocab"] |= dict(zip(fresh, free, strict=True))
    kept = [pair for pair in old if not {*pair, "".join(pair)} & set(gone)]
    model["merges"] = [list(pair) for pair in (*kept, *new)]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG_FILE, vocabulary.config)
    write_bytes(folder / FILE, json.dumps(layout, indent=1).encode())
    return TokenizerJson(folder / FILE)


def _pair(merge: str | Sequence[str]) -> Pair:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def unused_leaves(vocab: Mapping[str, int], merges: Sequence[Pair], used: set[str]) -> list[str]:
    """The tokens that can go, one after the other: not used, and part of no merge whose token is
    still there. Of several the one that was learnt last goes first.
    """
    parts = collections.Counter(part for pair in merges for part in set(pair))
    made = collections.defaultdict(list)
    for pair in merges:
        made[pair[0] + pair[1]].append(pair)
    left = [(-i, name) for name, i in vocab.items() if name not in used and not parts[name]]
    heapq.heapify(left)
    gone: list[str] = []
    while left:
        _, name = heapq.heappop(left)
        gone.append(name)
        for pair in made[name]:
            for part in set(pair):
                parts[part] -= 1
                if not parts[part] and part not in used and part in vocab:
                    heapq.heappush(left, (-vocab[part], part))
    return gone


def continued_merges(words: Words, count: int, known: Collection[str]) -> list[Pair]:
    """The merges that BPE goes on with (Sennrich et al., arXiv 1508.07909, section 3.2): of the
    pairs of neighbours always the most frequent one, of equal ones the first by name, until `count`
    tokens that are not known have come of it, or no pair comes LEAST times.
    """
    parts = [list(tokens) for tokens, _ in words]
    pairs: collections.Counter[Pair] = collections.Counter()
    where: dict[Pair, set[int]] = collections.defaultdict(set)

    def add(number: int, sign: int) -> set[Pair]:
        """Counts the pairs of a word in or out."""
        found = list(zip(parts[number], parts[number][1:], strict=False))
        for pair in found:
            pairs[pair] += sign * words[number][1]
            if sign > 0:
                where[pair].add(number)
        return set(found)

    for number in range(len(words)):
        add(number, 1)
    heap = [(-times, pair) for pair, times in pairs.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    fresh: set[str] = set()
    while heap and len(fresh) < count:
        times, pair = heapq.heappop(heap)
        if -times != pairs[pair]:  # counted anew since
            if pairs[pair] >= LEAST:
                heapq.heappush(heap, (-pairs[pair], pair))
            continue
        if -times < LEAST:
            break
        merges.append(pair)
        if pair[0] + pair[1] not in known:
            fresh.add(pair[0] + pair[1])
        changed: set[Pair] = set()
        for number in sorted(where.pop(pair)):
            if pair not in zip(parts[number], parts[number][1:], strict=False):
                continue
            add(number, -1)
            parts[number] = merged(parts[number], pair)
            changed |= add(number, 1)
        for other in changed:
            heapq.heappush(heap, (-pairs[other], other))
    return merges


def merged(tokens: list[str], pair: Pair) -> list[str]:
    """The tokens with this pair as one, from the left."""
    found: list[str] = []
    i = 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            found.append(pair[0] + pair[1])
            i += 2
        else:
            found.append(tokens[i])
            i += 1
    return found
