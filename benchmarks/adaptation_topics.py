"""Labelled tasks from the same book in several languages, for `benchmarks.adaptation_tasks`.

    topic   a passage, and the chapter that it is from
    next    a pair of passages: whether the second one follows the first on its page (`next`), or is
            from another page (`other`)

A passage is some paragraphs of a page in a row. The test is the second halves of the pages that
`specialm adapt` holds out of a language's text, the same in every language; English learns from all
else: a chapter has pages on many matters, of which words of a page that is new say little.
"""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from benchmarks import adaptation_text
from benchmarks.adaptation_text import ENGLISH
from specialm.common.errors import UserError
from specialm.data.corpora import archives
from specialm.data.documents import chance, stable_hash
from specialm.settings import SETTINGS

PASSAGE = 300  # characters, at least
FEWEST = 4  # pages of a chapter
HELD_OUT = SETTINGS["data.specialist_heldout_fraction"].default
HEADING = re.compile(r"(\w+\s)?(\d+\.)+\s")  # "6.2. apt", "Kapitel 6. Wartung"
UP = re.compile(r'<link rel="up" href="([^"]*)"')
MEMBERS = r".*/html/en-US/[^/]*\.html"
TOP = "index"
Pages = dict[str, list[str]]  # page -> its paragraphs


def chapters(ups: dict[str, str]) -> dict[str, str]:
    """{page: chapter}, of {page: the page above it}; chapters of few pages are left out."""
    found = {page: page if up == TOP else up for page, up in ups.items() if page != TOP}
    sizes = {chapter: list(found.values()).count(chapter) for chapter in found.values()}
    return {page: chapter for page, chapter in found.items() if sizes[chapter] >= FEWEST}


def read_chapters(folder: Path) -> dict[str, str]:
    """The same of the package, downloaded into a folder."""
    package = adaptation_text.PACKAGE
    path = archives.download(folder / "downloads", [package])[package.name]
    ups = {}
    with archives.opened(package, path, MEMBERS) as files:
        for name, content in files:
            above = UP.search(content.decode("utf-8", "replace"))
            if above:
                ups[Path(name).stem] = Path(above[1]).stem
    return chapters(ups)


def passages(paragraphs: list[str]) -> list[str]:
    """Paragraphs in a row until there are so many characters; what is left at the end goes. So do
    headings, whose numbers tell the chapter.
    """
    found, current = [], ""
    for paragraph in paragraphs:
        if HEADING.match(paragraph):
            continue
        current = f"{current}\n{paragraph}".strip()
        if len(current) >= PASSAGE:
            found.append(current)
            current = ""
    return found


def is_held_out(page: str) -> bool:
    """Whether `adapt` holds the page out."""
    return stable_hash(page) < HELD_OUT * 2**64


def divided(pages: Pages) -> tuple[Pages, Pages]:
    """What is learnt from, and what is the test."""
    learnt, test = dict(pages), {}
    for page, paragraphs in pages.items():
        if is_held_out(page):
            half = len(paragraphs) // 2
            learnt[page], test[page] = paragraphs[:half], paragraphs[half:]
    return learnt, test


def topic(pages: Pages, chapter_of: dict[str, str]) -> Iterator[dict]:
    """Yields rows: a passage and its chapter."""
    for page, paragraphs in sorted(pages.items()):
        if page in chapter_of:
            for text in passages(paragraphs):
                yield {"text": text, "label": chapter_of[page]}


def following(pages: Pages, chapter_of: dict[str, str]) -> Iterator[dict]:
    """Yields rows: two passages, as many that follow each other as others."""
    texts = {page: passages(found) for page, found in sorted(pages.items()) if page in chapter_of}
    for page, own in texts.items():
        others = [text for other in texts if other != page for text in texts[other]]
        for number, (first, second) in enumerate(zip(own, own[1:], strict=False)):
            yield {"text_a": first, "text_b": second, "label": "next"}
            if others:
                other = others[chance("other passage", f"{page}/{number}") % len(others)]
                yield {"text_a": first, "text_b": other, "label": "other"}


TASKS = {"topic": topic, "next": following}


def check(tasks: list[str]) -> None:
    """Raises UserError for a task that there is not."""
    for task in tasks:
        if task not in TASKS:
            raise UserError(f"--tasks={task}: must be some of {', '.join(TASKS)}.")


def write(folder: Path, task: str, languages: list[str]) -> dict[str, Path]:
    """{"train": English to learn, language: its test}, files of examples of a task; what is there
    already is kept. A chapter that the English training part lacks is in no file.
    """
    places = {name: folder / f"{task}-{name}.jsonl" for name in ("train", ENGLISH, *languages)}
    if all(path.exists() for path in places.values()):
        return places
    pages, chapter_of = adaptation_text.read(folder), read_chapters(folder)
    english = {block for page in pages[ENGLISH].values() for block in page}
    learnt, _ = divided(pages[ENGLISH])
    rows = {"train": list(TASKS[task](learnt, chapter_of))}
    known = {row["label"] for row in rows["train"]}
    for language in (ENGLISH, *languages):
        _, test = divided(pages[language])
        if language != ENGLISH:  # without what the translation has left as it was
            test = {page: [b for b in found if b not in english] for page, found in test.items()}
        rows[language] = [row for row in TASKS[task](test, chapter_of) if row["label"] in known]
    for name, path in places.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows[name])
        path.write_text("".join(lines), "utf-8")
    return places


@functools.cache
def by_words(train: Path, test: Path) -> float | None:
    """Accuracy of logistic regression on TF-IDF of words, for a task of one text: names and
    commands are the same in all languages.
    """
    known, asked = ([json.loads(line) for line in path.open()] for path in (train, test))
    if "text" not in known[0]:
        return None
    model = make_pipeline(
        TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=100.0, max_iter=2000)
    )
    texts, labels = zip(*((row["text"], row["label"]) for row in known), strict=True)
    model.fit(texts, labels)
    return model.score([row["text"] for row in asked], [row["label"] for row in asked])
