"""Words of English and of other languages in pairs, for the rule `wechsel`, from FreeDict.

They come as Debian packages (GPL), each a file of entries: a headword with its pronunciation,
lines of translations, and indented ones with notes and examples.
"""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from specialm.common.errors import UserError
from specialm.data.corpora import archives
from specialm.data.corpora.catalogue import DebianPackage

VERSION = "2022.04.21-1"
PINS = {  # language -> (its name there, sha256)
    "de": ("deu", "e85da1519a4d5efdbd7a5a169e828b97920f91e899f45d56fd5b2266a05b5906"),
    "fr": ("fra", "b8db6774b640ae8a372bee119b4304d88e6fd471a283d1326d7ec0abcc8b930e"),
    "ru": ("rus", "0683c8eda017ff1082815c3bd918a7c9f1516b18621fcdf0ef46a9a1b9d61ea3"),
}
MEMBERS = r".*\.dict\.dz"
HEAD = re.compile(r"(\S+) /[^/]+/.*")
PUT_ASIDE = re.compile(r"<[^>]*>|\[[^\]]*\]|\([^)]*\)|^\d+\.")  # grammar, fields, remarks, numbers


def package(language: str) -> DebianPackage:
    """The dictionary from English.

    Raises:
      UserError: there is none.
    """
    if language not in PINS:
        raise UserError(
            f"--languages={language}: no dictionary from English is known for --rules=wechsel; "
            f"there are those of {', '.join(PINS)}."
        )
    name, digest = PINS[language]
    name = f"dict-freedict-eng-{name}"
    return DebianPackage(name, VERSION, f"{name}_{VERSION}_all.deb", digest)


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yields (English word, word) of single words that translate each other."""
    head = ""
    for line in text.splitlines():
        if found := HEAD.fullmatch(line):
            head = found[1]
        elif not line.strip() or (" /" in line and line.rstrip().endswith("/")):
            head = ""  # an entry has ended, or one of several words begins
        elif head and not line.startswith(" "):
            for part in PUT_ASIDE.sub("", line).split(","):
                if len(part.split()) == 1:
                    yield head, part.strip()


def fetch(folder: Path, language: str) -> Path:
    """A file with lines ENGLISH, tab, WORD, made once."""
    path = folder / f"words-{language}.tsv"
    if not path.exists():
        asked = package(language)
        archive = archives.download(folder / "downloads", [asked])[asked.name]
        with archives.opened(asked, archive, MEMBERS) as files:
            (text,) = [gzip.decompress(content).decode("utf-8", "replace") for _, content in files]
        lines = dict.fromkeys(f"{english}\t{word}\n" for english, word in pairs(text))
        path.write_text("".join(lines), "utf-8")
    return path
