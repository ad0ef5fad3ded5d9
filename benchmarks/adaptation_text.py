"""The same book in several languages, for `benchmarks.adaptation`: Debian's handbook.

The Debian Administrator's Handbook (GPL-2+ or CC-BY-SA-3.0) comes as one package of HTML pages in
26 languages, not all of them whole. A page is a document, and of the same name in every language,
so that the same pages are held out in all. What a translation has left in English, word for word,
is dropped.
"""

import collections
import json
import re
from pathlib import Path

from specialm.common.errors import UserError
from specialm.data.corpora import archives, debian_packages
from specialm.data.corpora.pages import html_blocks

PACKAGE = debian_packages.PACKAGES["debian-handbook"]
MEMBERS = r".*/html/[a-z]{2}-[A-Z]{2}/[^/]*\.html"
PATH = re.compile(r".*/html/([a-z]{2})-([A-Z]{2})/([^/]*)\.html")
ENGLISH = "en"
# Those that are translated as a whole; Russian, Arabic and Persian, Japanese and Chinese in scripts
# of their own.
LANGUAGES = ("de", "fr", "es", "it", "pt", "nb", "ca", "id", "ru", "ar", "fa", "ja", "zh")
SHORT, SMALL = 20, 300  # characters of a block, bytes of a page


def check(languages: list[str]) -> None:
    """Raises UserError for a language that the book is not in. English is one: a new vocabulary for
    the old language shows what the vocabulary alone costs.
    """
    for language in languages:
        if language not in (ENGLISH, *LANGUAGES):
            raise UserError(
                f"--languages={language}: the handbook is translated into {', '.join(LANGUAGES)}."
            )


def blocks(page: str) -> list[str]:
    """The paragraphs of a page, each once."""
    texts = (text for _, text in html_blocks(page))
    return list(dict.fromkeys(text for text in texts if len(text) >= SHORT))


def documents(pages: dict[str, dict[str, list[str]]]) -> dict[str, list[dict]]:
    """{language: rows of JSON}, of {language: {page: its paragraphs}}."""
    english = {block for page in pages[ENGLISH].values() for block in page}
    made = collections.defaultdict(list)
    for language, of in sorted(pages.items()):
        for name, found in sorted(of.items()):
            kept = [b for b in found if language == ENGLISH or b not in english]
            text = "\n\n".join(kept)
            if len(text.encode()) >= SMALL:
                made[language].append({"id": f"{language}/{name}", "group": name, "text": text})
    return dict(made)


def read(folder: Path) -> dict[str, dict[str, list[str]]]:
    """{language: {page: its paragraphs}} of the package, downloaded into a folder."""
    path = archives.download(folder / "downloads", [PACKAGE])[PACKAGE.name]
    found: dict[str, dict[str, list[str]]] = collections.defaultdict(dict)
    with archives.opened(PACKAGE, path, MEMBERS) as files:
        for name, content in files:
            language, _, page = PATH.fullmatch(name).groups()
            if language in (ENGLISH, *LANGUAGES) and "/zh-TW/" not in name:
                found[language][page] = blocks(content.decode("utf-8", "replace"))
    return found


def fetch(folder: Path, languages: list[str]) -> dict[str, Path]:
    """{language: file of JSON lines}, of English and these; what is there already is kept."""
    check(languages)
    paths = {language: folder / f"{language}.jsonl" for language in (ENGLISH, *languages)}
    if not all(path.exists() for path in paths.values()):
        made = documents(read(folder))
        for language, path in paths.items():
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in made[language])
            path.write_text("".join(lines), "utf-8")
    return paths
