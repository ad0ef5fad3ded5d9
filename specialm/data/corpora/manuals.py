"""Text of manuals: man pages (man and mdoc macros), Perl's POD, the comments of TypeScript."""

import gzip
import html
import re
import shlex
from collections.abc import Iterator

from specialm.data.corpora.extractors import parts
from specialm.data.corpora.pages import Files, is_prose, unseen
from specialm.data.corpora.prose import pack, paragraphs, tidy
from specialm.data.documents import Document

# ---- Man pages -----------------------------------------------------------------------------------

ESCAPES = {
    r"\-": "-", r"\e": "\\", r"\ ": " ", r"\~": " ", r"\0": " ", r"\&": "", r"\|": "", r"\^": "",
    r"\%": "", r"\/": "", r"\,": "", r"\c": "", r"\:": "", r"\(em": "—", r"\(en": "–",
    r"\(aq": "'", r"\(dq": '"', r"\(cq": "’", r"\(oq": "‘", r"\(lq": "“", r"\(rq": "”",
    r"\(ga": "`", r"\(ha": "^", r"\(ti": "~", r"\(bu": "•", r"\(mu": "×", r"\(co": "©",
    r"\(<=": "≤", r"\(>=": "≥", r"\(+-": "±", r"\(->": "→", r"\(bv": "|", r"\(ba": "|",
    r"\(rs": "\\", r"\`": "`", r"\'": "´", r"\*(Lt": "<", r"\*(Gt": ">", r"\*(lq": "“",
    r"\*(rq": "”", r"\*(C+": "C++", r"\*(--": "—", r"\*(L\"": '"', r"\*(R\"": '"',
    r"\*(C`": "", r"\*(C'": "",
}  # fmt: skip
FONTS = re.compile(r"\\f(\[\w*\]|\(\w\w|.)|\\s[+-]?\d+|\\[hvkw]'[^']*'|\\m\[\w*\]")
ESCAPE = re.compile(r"\\\*?\(..|\\\*?\[[^\]]*\]|\\.")
HIDDEN = {"nf": "fi", "EX": "EE", "TS": "TE", "EQ": "EN", "Bd": "Ed", "Vb": "Ve", "de": "."}
ENDS = frozenset(
    "PP P LP TP TQ IP HP Pp It sp br RS RE Bl El Lp SH SS Sh Ss fi EE TE EN Ed Ve UE ME".split()
)
ALTERNATING = frozenset("BR RB BI IB IR RI SB".split())
LEFT_OUT_SECTIONS = re.compile(
    r"(?i)(library|synopsis|authors?|copyrights?|colophon|see also|history|attributes|"
    r"standards|conforming to|versions|reporting bugs|name)$"
)


def man_pages(files: Files) -> Iterator[Document]:
    """Extract man pages, each a group; a paragraph that occurred before is dropped."""
    seen: set[str] = set()
    for name, content in files:
        text = _unpacked(content).decode("utf-8", "replace")
        blocks = unseen(filter(is_prose, man_paragraphs(text)), seen)
        yield from parts(name.removesuffix(".gz"), pack(blocks))


def _unpacked(content: bytes) -> bytes:
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def man_paragraphs(page: str) -> Iterator[str]:
    """Yield the paragraphs of a page in `man` or `mdoc` macros, without literal text."""
    block: list[str] = []
    hidden = ""  # the request that ends what is passed over
    own_name = ""  # what .Nm stands for
    in_section = True
    for raw in page.splitlines():
        line = re.sub(r'(^|\s*)\\".*', "", raw)
        request, _, rest = line[1:].strip().partition(" ") if line[:1] in ".'" else ("", "", "")
        if hidden:
            hidden = "" if request == hidden else hidden
            continue
        if request in ENDS or request in HIDDEN or (not line.strip() and not request):
            yield _joined(block)
            block = []
        if request in HIDDEN and (request != "Bd" or re.search("-(literal|unfilled)", rest)):
            hidden = HIDDEN[request]
        elif request in ("SH", "Sh"):
            in_section = not LEFT_OUT_SECTIONS.match(" ".join(_words(rest)))
        elif in_section:
            if request == "Nm":
                own_name = own_name or rest.split(" ")[0]
            block.append(_line(request, rest, own_name) if request else _plain(line))
    yield _joined(block)


def _joined(block: list[str]) -> str:
    return re.sub(r" +(?=[.,;:!?)]( |$))", "", tidy(" ".join(block)))


def _plain(text: str) -> str:
    return ESCAPE.sub(lambda match: ESCAPES.get(match[0], ""), FONTS.sub("", text))


def _words(rest: str) -> list[str]:
    try:
        words = shlex.split(rest.replace("\\", "\\\\").replace("'", "\\'"))
    except ValueError:  # an open quotation mark
        words = rest.replace('"', "").split()
    return [_plain(word) for word in words]


def _line(request: str, rest: str, own_name: str) -> str:
    """Return the text of a line that begins with a macro."""
    words = _words(rest)
    if request in ALTERNATING:
        return "".join(words)
    if request in ("B", "I", "SM", "UR", "MT"):
        return " ".join(words)
    if request == "IP":
        return words[0] if words else ""
    if request in MDOC:
        return _mdoc([request, *words], own_name)
    return _mdoc(words, own_name) if request == "It" else ""


# What mdoc's macros put around their words (mdoc(7)): before and after.
MDOC: dict[str, tuple[str, str]] = dict.fromkeys(
    "Ar Pa Va Vt Fa Dv Ev Er Em Sy Li Cm Ic Nm Ad An Cd Ms Tn No Lk Mt Ft Fd Nx Fx Ox Bx Ux At "
    "Xr Fl Fn Nd St Bsx Dl D1 Sx Xo Xc".split(),
    ("", ""),
)
MDOC |= {
    "Op": ("[", "]"), "Dq": ("“", "”"), "Sq": ("‘", "’"), "Qq": ('"', '"'), "Ql": ("‘", "’"),
    "Pq": ("(", ")"), "Bq": ("[", "]"), "Aq": ("<", ">"), "Brq": ("{", "}"),
}  # fmt: skip
NAMES = {"Fx": "FreeBSD", "Nx": "NetBSD", "Ox": "OpenBSD", "Bx": "BSD", "Ux": "UNIX", "At": "UNIX"}
CLOSING = frozenset(".,;:?!)]")


def _mdoc(words: list[str], own_name: str) -> str:
    """Return the text of a line of mdoc macros and their words."""
    text, macro, closing, glue = "", "", "", True
    for place, word in enumerate(words):
        if word in MDOC:
            macro = word
            opening, end = MDOC[macro]
            if opening:
                text, glue, closing = f"{text}{'' if glue else ' '}{opening}", True, end + closing
            last = place + 1 == len(words) or words[place + 1] in CLOSING
            word = NAMES.get(macro) or (own_name if macro == "Nm" and last else "")
            word = word or ("-" if macro == "Fl" and last else "")
            if not word:
                continue
        elif word in ("Ns", "Ap", "Pf"):
            text, glue = f"{text}'" if word == "Ap" else text, True
            continue
        elif word in CLOSING:
            text, closing, glue = f"{text}{closing}{word}", "", False
            continue
        elif macro == "Fl":
            word = f"-{word}"
        elif macro == "Fn":
            word, macro = f"{word}()", ""
        elif macro == "Xr" and word.isalnum() and word[0].isdigit() and text:
            text, macro = f"{text}({word})", ""
            continue
        text, glue = f"{text}{'' if glue or word == '|' and not text else ' '}{word}", False
    return text + closing


# ---- POD -----------------------------------------------------------------------------------------

POD_CODE = re.compile(r"([A-Z])(?:<(?!<)([^<>]*)>|<<+\s(.*?)\s>>+)", re.DOTALL)
POD_CHARACTERS = {"lt": "<", "gt": ">", "verbar": "|", "sol": "/"}


def pods(files: Files) -> Iterator[Document]:
    """Extract Perl's documentation, a file a group, without its code."""
    seen: set[str] = set()
    for name, content in files:
        blocks = unseen(pod_prose(_unpacked(content).decode("utf-8", "replace")), seen)
        yield from parts(name.removesuffix(".pod"), pack(blocks))


def pod_prose(text: str) -> Iterator[str]:
    """Yield the paragraphs that are sentences, and the headings in front of them."""
    heading, end = "", ""  # `end` begins the command that ends what is passed over
    for paragraph in paragraphs(text):
        if end and not paragraph.startswith(end):
            continue
        name, _, rest = paragraph.partition(" ") if paragraph[0] == "=" else ("", "", paragraph)
        end = {"=begin": "=end", "=cut": "="}.get(name.strip(), "")
        block = tidy(" ".join(_pod_plain(rest).split()))
        if name.startswith("=head"):
            heading = block
        elif name in ("", "=item") and not rest[:1].isspace() and is_prose(block):
            yield from filter(None, (heading, block))
            heading = ""


def _pod_plain(text: str) -> str:
    """Return a text without formatting codes, from the innermost outwards."""
    for _ in range(5):
        text, count = POD_CODE.subn(_pod_code, text)
        if not count:
            break
    return text


def _pod_code(match: re.Match) -> str:
    letter, text = match[1], match[2] if match[2] is not None else match[3]
    if letter == "L":
        shown, bar, _ = text.partition("|")
        return shown if bar else re.sub(r'(?s)^[\w:]*/"?(.*?)"?$', r"\1", shown)
    if letter == "E":
        return POD_CHARACTERS.get(text, html.unescape(f"&{text};"))
    return "" if letter in "XZ" else text


# ---- TypeScript ----------------------------------------------------------------------------------


def typescript_comments(files: Files) -> Iterator[Document]:
    """Extract the documentation in comments of declarations; a file is a group."""
    seen: set[str] = set()
    for name, content in files:
        comments = re.findall(r"/\*\*\s(.*?)\*/", content.decode("utf-8", "replace"), re.DOTALL)
        texts = (re.sub(r"(?m)^\s*\* ?", "", comment) for comment in comments)
        blocks = (tidy(" ".join(html.unescape(text).split())) for text in texts)
        yield from parts(name.removesuffix(".d.ts"), pack(unseen(filter(is_prose, blocks), seen)))
