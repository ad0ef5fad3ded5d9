"""What makes a site of the repository's pages: MkDocs calls the functions that begin with `on_`.

Pages stay where people on a code host look for them; those outside of docs/ are added here. Links
between pages become links of the site; a link to a source file leads to the repository, as far as
`url` in setup.cfg says where that is, and is plain text otherwise.
"""

import ast
import configparser
import os
import re
import sys
from pathlib import Path, PurePosixPath

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
# Pages outside of docs/: their place in the repository -> in the site.
ELSEWHERE = {
    "results/README.md": "results.md",
    "notebooks/README.md": "notebooks.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
HOME = {"README.md": "index.md"}  # the README's links lead to the site's first page
PICTURES = (".svg", ".png")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
CODE = re.compile(r"(^```.*?^```\s*$|^~~~.*?^~~~\s*$)", re.M | re.S)
# Rooms of the package without a page: configs are files to read, commands have one of their help.
NOT_SHOWN = ("configs", "commands", "__main__")


def repository() -> str:
    """Where the project is published, without a slash at the end; "" if setup.cfg says nothing."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config["metadata"].get("url", "").removesuffix(".git").rstrip("/")


def on_config(config):
    """The repository's link at the top, if there is one; the rooms of the reference."""
    config.repo_url = repository() or None
    sys.path.insert(0, str(ROOT))  # the reference of commands is made of their table
    part = next(of["Reference"] for of in config.nav if "Reference" in of)
    rooms = [{room: f"reference/{room}.md"} for room in _rooms()]
    part[-1] = {"Python": ["reference/index.md", *rooms]}
    return config


def on_files(files: Files, config) -> Files:
    """Adds the pages that are elsewhere, their pictures, and the reference."""
    for source, target in ELSEWHERE.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    for place in pictures():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / place)))
    for name, text in reference().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def pictures() -> list[str]:
    """The pictures outside of docs/ that the pages link to, from the repository's root."""
    found = set()
    for page in [*map(ROOT.joinpath, ELSEWHERE), *(ROOT / "docs").glob("*.md")]:
        for _, _, link in LINK.findall(page.read_text(encoding="utf-8")):
            place = _place(page.relative_to(ROOT).as_posix(), link.partition("#")[0])
            if place and place.endswith(PICTURES) and (ROOT / place).is_file():
                found.add(place)
    return sorted(place for place in found if not place.startswith("docs/"))


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Turns every link to where it leads in the site."""
    target = page.file.src_uri
    source = next((of for of, to in ELSEWHERE.items() if to == target), f"docs/{target}")
    parts = CODE.split(markdown)
    return "".join(
        part if i % 2 else LINK.sub(lambda found: _turned(found, source, target), part)
        for i, part in enumerate(parts)
    )


def _turned(found: re.Match, source: str, target: str) -> str:
    """A link of the page `source` of the repository as the page `target` of the site has it."""
    mark, text, link = found.groups()
    path, hash_mark, anchor = link.partition("#")
    if ":" in link or not path or source.startswith("docs/reference/"):
        return found[0]
    place = _place(source, path)
    if place in ELSEWHERE or place in HOME or (place or "").startswith("docs/"):
        to = {**ELSEWHERE, **HOME}.get(place, place.removeprefix("docs/"))
        if to.endswith(".md") or (ROOT / "docs" / to).suffix in PICTURES:
            return f"{mark}[{text}]({_relative(to, target)}{hash_mark}{anchor})"
    if place and place.endswith(PICTURES) and mark:
        return f"{mark}[{text}]({_relative(place, target)})"
    if place is None or not (ROOT / place).exists():
        return found[0]  # MkDocs says that it leads nowhere
    base = repository()
    kind = "tree" if (ROOT / place).is_dir() else "blob"
    return f"[{text}]({base}/{kind}/main/{place})" if base else text


def _place(source: str, path: str) -> str | None:
    """Where a relative link of a page leads, from the repository's root; None for outside of it."""
    joined = os.path.normpath(PurePosixPath(source).parent / path)
    return None if joined.startswith("..") else joined


def _relative(to: str, target: str) -> str:
    return os.path.relpath(to, PurePosixPath(target).parent)


def reference() -> dict[str, str]:
    """{name: Markdown} of the pages below reference/."""
    rooms = _rooms()
    pages = {"commands": _commands(), "index": _index(rooms)}
    for room, modules in rooms.items():
        title = "specialm" if room == "specialm" else f"specialm.{room}"
        blocks = [f"::: {module}" for module in modules]
        pages[room] = "\n\n".join([f"# {title}", _first_line(room), *blocks]) + "\n"
    return pages


def _rooms() -> dict[str, list[str]]:
    """{room: its modules} of the package."""
    rooms: dict[str, list[str]] = {}
    for path in sorted((ROOT / "specialm").rglob("*.py")):
        parts = path.relative_to(ROOT / "specialm").with_suffix("").parts
        if parts[0] not in NOT_SHOWN and path.name != "__init__.py":
            rooms.setdefault(parts[0] if len(parts) > 1 else "specialm", []).append(
                ".".join(("specialm", *parts))
            )
    return rooms


def _commands() -> str:
    """Every command's help, of the table of commands."""
    from specialm import cli
    from specialm.command_table import COMMANDS

    lines = ["# Commands", "", "What `specialm COMMAND --help` prints.", ""]
    for name, command in COMMANDS.items():
        text = cli._parser(name, command, []).format_help().rstrip()
        lines += [f"## {name}", "", f"{command.summary[0].upper()}{command.summary[1:]}.", ""]
        lines += ["```text", text, "```", ""]
    return "\n".join(lines)


def _index(rooms: dict[str, list[str]]) -> str:
    lines = [
        "# Python",
        "",
        "Every public function and class, by room; a room imports from those below it only "
        "([design](../design.md)). What most people need is [In Python](../api.md).",
        "",
        "| room | what is in it |",
        "|---|---|",
    ]
    for room in rooms:
        lines.append(f"| [`{room}`]({room}.md) | {_first_line(room)} |")
    return "\n".join(lines) + "\n"


def _first_line(room: str) -> str:
    """The first sentence of a room's own docstring."""
    folder = ROOT / "specialm" if room == "specialm" else ROOT / "specialm" / room
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())
