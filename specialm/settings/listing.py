"""The table of settings as people read it."""

from specialm.common.errors import UserError
from specialm.common.setting import Setting
from specialm.settings import SECTIONS, SETTINGS, of_section, suggestion

MARKDOWN = """# Settings

Every setting with its default and the values that it may have. Any other value is an error that
names the setting, the value and the range, before anything is computed.

`specialm settings --name=train` prints a section. `--config.train.tokens=4e6` sets a value on the
command line, a config file does so for good. A tuple may be written without quotes and brackets:
`--config.domains=med,books`. This page is what `specialm settings --markdown` prints.
"""


def rows(name: str = "") -> list[dict]:
    """One of each setting, for JSON: of all, of a section or the one of this name."""
    return [
        {
            "name": setting.name,
            "default": setting.default,
            "values": setting.range(),
            "help": setting.help,
        }
        for setting in _named(name)
    ]


def text(name: str = "") -> str:
    """The same to read."""
    return "\n".join(
        f"{setting.name} = {setting.default!r}\n    {setting.help}\n    {_values(setting)}"
        for setting in _named(name)
    )


def markdown() -> str:
    """The page docs/settings.md."""
    lines = [MARKDOWN.rstrip()]
    for section, title in SECTIONS.items():
        lines += ["", f"## {section or 'The run'}", "", f"{title}.", ""]
        lines += ["| setting | default | what | values |", "|---|---|---|---|"]
        for setting in of_section(section):
            cells = (setting.help, _values(setting))
            what, values = (cell.replace("|", "\\|") for cell in cells)
            lines.append(f"| `{setting.name}` | `{setting.default!r}` | {what} | {values} |")
    return "\n".join(lines)


def _values(setting: Setting) -> str:
    divided = f"; divides {setting.divides}" if setting.divides else ""
    return f"{setting.range()}{divided}"


def _named(name: str) -> list[Setting]:
    if not name:
        return list(SETTINGS.values())
    if name in SECTIONS:
        return of_section(name)
    if name not in SETTINGS:
        raise UserError(f"--name={name}: there is no such setting or section.{suggestion(name)}")
    return [SETTINGS[name]]
