"""Text of games: what their characters say, and descriptions of their worlds."""

import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from specialm.data.corpora.extractors import parts
from specialm.data.corpora.pages import Files, is_prose, unseen
from specialm.data.corpora.prose import pack, paragraphs, tidy
from specialm.data.documents import Document

WESNOTH = re.compile(r'_\s*"((?:[^"]|"")*)"')  # a translatable string of a scenario


def wesnoth(files: Files) -> Iterator[Document]:
    """Extract what is said and narrated in the scenarios, in order; a scenario is a group."""
    seen: set[str] = set()
    for name, content in files:
        found = WESNOTH.findall(content.decode("utf-8", "replace"))
        lines = (tidy(re.sub(r"<[^>]*>", "", text.replace('""', '"'))) for text in found)
        spoken = (" ".join(line.split()) for line in lines if len(line.split()) > 2)
        path = PurePosixPath(name)
        group = f"{path.parent.parent.name}/{path.stem}"
        yield from parts(group, pack(unseen(spoken, seen), joiner="\n"))


def endless_sky(files: Files) -> Iterator[Document]:
    """Extract the conversations of the missions; a mission is a group."""
    seen: set[str] = set()
    for name, content in files:
        missions = re.split(r"(?m)^(?=mission )", content.decode("utf-8", "replace"))
        for number, mission in enumerate(missions):
            lines = (_spoken(line) for line in re.findall(r"`([^`\n]+)`", mission))
            blocks = unseen((line for line in lines if len(line.split()) > 2), seen)
            title = f"{PurePosixPath(name).stem}/{number:03d}"
            yield from parts(title.replace(" ", "-"), pack(blocks, joiner="\n"))


def _spoken(line: str) -> str:
    return re.sub(r"<(\w+)[^>]*>", r"\1", tidy(line))


DESCRIPTIONS = frozenset(("description",))
SAID = frozenset(("dynamic_line", "text", "yes", "no", "responses", "and"))


def cataclysm_talk(files: Files) -> Iterator[Document]:
    """Extract what characters say and may be answered; a file is a group."""
    seen: set[str] = set()
    for name, content in files:
        lines = [
            _talk(line)
            for entry in _entries(content)
            if isinstance(entry, dict) and entry.get("type") in ("talk_topic", "snippet")
            for line in _strings(entry, SAID)
        ]
        spoken = unseen((line for line in lines if len(line.split()) > 2), seen)
        yield from parts(str(PurePosixPath(name).with_suffix("")), pack(spoken, joiner="\n"))


def cataclysm_descriptions(files: Files) -> Iterator[Document]:
    """Extract the descriptions of things, creatures and traits; a file is a group."""
    seen: set[str] = set()
    for name, content in files:
        lines = (_talk(text) for text in _strings(_entries(content), DESCRIPTIONS))
        worded = unseen(filter(is_prose, lines), seen)
        yield from parts(str(PurePosixPath(name).with_suffix("")), pack(worded, joiner="\n"))


def _entries(content: bytes) -> list:
    try:
        entries = json.loads(content)
    except ValueError:
        return []  # a few files have comments
    return entries if isinstance(entries, list) else [entries]


def _strings(tree: object, keys: frozenset[str], inside: bool = False) -> Iterator[str]:
    """Yield the strings below any of the keys; {"str": "..."} is a string, too."""
    if isinstance(tree, str):
        if inside:
            yield tree
    elif isinstance(tree, list):
        for item in tree:
            yield from _strings(item, keys, inside)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if key in keys or (inside and key in ("str", "str_sp")):
                yield from _strings(value, keys, True)
            elif isinstance(value, dict | list):
                yield from _strings(value, keys)


def _talk(line: str) -> str:
    line = re.sub(r"</?(color|good|bad|info|neutral)\w*>", "", line.lstrip("&"))
    return tidy(re.sub(r"<(\w+?)(_name)?>", r"\1", line)).replace("\n", " ")


def crawl(files: Files) -> Iterator[Document]:
    """Extract descriptions: entries between lines of %%%%, their first line the name."""
    seen: set[str] = set()
    for name, content in files:
        entries = re.split(r"(?m)^%%%%$", content.decode("utf-8", "replace"))
        texts = (_description(entry) for entry in entries)
        yield from parts(PurePosixPath(name).stem, pack(unseen(filter(None, texts), seen)))


def _description(entry: str) -> str:
    lines = [line for line in entry.splitlines() if not line.startswith(("#", ":"))]
    text = "\n".join(lines).strip()
    title, _, rest = text.partition("\n")
    blocks = [tidy(" ".join(block.split())) for block in paragraphs(rest)]
    worded = [block for block in blocks if is_prose(block) and "{{" not in block]
    return "\n".join([title.strip(), *worded]) if worded else ""
