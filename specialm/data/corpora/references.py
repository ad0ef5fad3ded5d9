"""Text of reference works: dictionaries in dictd's format, SWORD's Bibles, Metamath's comments."""

import gzip
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath

from specialm.data.corpora.extractors import numbered, parts
from specialm.data.corpora.pages import Files, unseen
from specialm.data.corpora.prose import pack, tidy
from specialm.data.documents import Document

# ---- Dictionaries --------------------------------------------------------------------------------

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def dictionary(files: Files, marks: str = "") -> Iterator[Document]:
    """Extract from NAME.index and NAME.dict.dz: an entry a line, in the order of the text.

    Args:
      files: of the package.
      marks: what is dropped, a regular expression.
    """
    by_ending = {name.rpartition(".")[2]: content for name, content in files}
    text = gzip.decompress(by_ending["dz"])
    lines = (line.split("\t") for line in by_ending["index"].decode().splitlines())
    places = {(_number(start), _number(size)) for word, start, size in lines if word[:3] != "00-"}
    raw = (text[start : start + size].decode("utf-8", "replace") for start, size in sorted(places))
    entries = (tidy(" ".join(re.sub(marks, " ", entry).split())) for entry in raw)
    worded = (re.sub(r"\s+([.,;:])(?=\s|$)", r"\1", e) for e in entries if len(e) > 40)
    yield from numbered(pack(worded, joiner="\n"))


def _number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = 64 * value + DIGITS.index(digit)
    return value


GCIDE_MARKS = (
    r"\[(1913 Webster|PJC|RDH|AS|WordNet [\d.]+|Century Dict[^\]]*)( ?\+\w+)*\]"  # sources
    r"|\\[^\\\n]{1,40}\\|[{}]"  # pronunciation, references
)
FOLDOC_MARKS = r"\(\d{4}-\d\d-\d\d\)|\(https?:[^)]*\)|<[\w /,]+>|[{}]"


# ---- Bibles and commentaries of SWORD ------------------------------------------------------------


def sword(files: Files, verse: str = "<IIH") -> Iterator[Document]:
    """Extract a Bible or commentary compressed by SWORD; a compressed block is a group.

    `*.?zs` has (offset, size, size unpacked) of each block in `*.?zz`; `*.?zv` has (block, offset,
    size) of each verse's text in its block. Verses may share a text.

    Args:
      files: of the package.
      verse: the format of an entry of `*.?zv`; "<III" for the driver zCom4.
    """
    contents = dict(files)
    for testament in ("ot", "nt"):
        found = {
            name[-1]: content for name, content in contents.items() if f"/{testament}." in name
        }
        blocks = [
            zlib.decompress(found["z"][start : start + size]) if size else b""
            for start, size, _ in struct.iter_unpack("<III", found["s"])
        ]
        texts: dict[int, dict[int, str]] = {}
        for block, start, size in struct.iter_unpack(verse, found["v"]):
            if size:
                text = blocks[block][start : start + size].decode("utf-8", "replace")
                texts.setdefault(block, {})[start] = _without_markup(text)
        for block, verses in sorted(texts.items()):
            lines = (verses[start] for start in sorted(verses))
            yield from parts(f"{testament}-{block:04d}", pack(filter(None, lines), joiner="\n"))


def _without_markup(text: str) -> str:
    text = re.sub(r"(?s)<(note|title)\b[^>]*(?<!/)>.*?</\1>|<RF>.*?<Rf>", " ", text)
    text = re.sub(r"(?i)</p>|<br */?>|<(lb|l|lg|p|CM)\b[^>]*>", "\n", text)
    text = tidy(re.sub(r"<[^>]*>", "", text).replace("¶", ""))
    return re.sub(r" (?=[,;.:](\s|$))", "", re.sub(r"\n+", "\n", text))


# ---- Metamath ------------------------------------------------------------------------------------

CREDITS = re.compile(
    r"\((Contributed|Revised|Proof\s+(shortened|modification|rewritten)|New\s+usage|Moved)[^()]*"
    r"(\([^()]*\)[^()]*)*\)"
)


def metamath(files: Files) -> Iterator[Document]:
    """Extract the comments on theorems, in the order of the databases; formulas stay, in ASCII.

    A document is a group: nearly all of the text is in one database.
    """
    seen: set[str] = set()
    for name, content in files:
        comments = re.findall(r"\$\(\s(.*?)\s\$\)", content.decode("utf-8", "replace"), re.DOTALL)
        texts = (tidy(" ".join(_comment(comment).split())) for comment in comments)
        worded = (text for text in texts if len(text.split()) >= 5 and not _is_header(text))
        for number, text in enumerate(pack(unseen(worded, seen), joiner="\n")):
            place = f"{PurePosixPath(name).stem}/{number:04d}"
            yield Document(place, text, place)


def _comment(text: str) -> str:
    """Return a comment without credits and the marks of labels, references and emphasis."""
    text = re.sub(r"(?s)<HTML>.*?</HTML>|</?[A-Z]+>", " ", CREDITS.sub("", text))
    text = re.sub(r"(?<![`\w])~ ", "", re.sub(r"\[([^\]\s]*)\]", r"\1", text))
    return re.sub(r"(?<!\w)_([\w-]+)_(?!\w)", r"\1", text.replace("`", ""))


def _is_header(text: str) -> bool:
    """Whether a comment is typesetting ($t), a frame of a section, or a proof that is off."""
    return text.startswith("$t") or "#*#*" in text or "$=" in text or "$p" in text or "=-=-" in text
