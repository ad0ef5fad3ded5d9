"""What a page is made of, and what demo and study have in common: key of methods, provenance."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from specialm import methods
from specialm.reports.charts import Chart
from specialm.reports.summary import label
from specialm.reports.tables import Table
from specialm.reports.words import plain


@dataclass(frozen=True)
class Choice:
    """Tables of which the reader chooses one; on paper all are shown.

    Attributes:
      name: of the choice, unique in the page.
      tables: [(name, table)], the first is shown at first.
      labels: {name of a table: text of its button}.
    """

    name: str
    tables: Sequence[tuple[str, Table]]
    labels: dict[str, str]


@dataclass(frozen=True)
class Key:
    """The methods with their marks and descriptions: [(method, label, description)]."""

    entries: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Cards:
    """Clusters with sample texts: {domain: its clusters, each a dict of texts}."""

    groups: dict[str, list[dict]]


@dataclass(frozen=True)
class Provenance:
    """Machine, command, settings and versions."""

    machine: str
    command: str
    lists: dict[str, dict[str, str]]


Part = Chart | Table | Choice | Key | Cards | Provenance


@dataclass(frozen=True)
class Section:
    """A part of the page under one heading.

    Attributes:
      name: unique in the page.
      title: the heading.
      parts: [(name, part)]; the names are those of files.
      note: under the heading.
    """

    name: str
    title: str
    parts: Sequence[tuple[str, Part]]
    note: str = ""


@dataclass(frozen=True)
class Report:
    """All that a page says.

    Attributes:
      title: the heading.
      facts: on when and how much was run.
      names: all methods, in display order.
      question: that was asked.
      answer: sentences, the most important first.
      findings: [(kind: yes | no | open, mark, sentence)].
      remark: under the answer.
      warning: what is missing.
      sections: those that have something.
    """

    title: str
    facts: Sequence[str]
    names: Sequence[str]
    question: str = ""
    answer: Sequence[str] = ()
    findings: Sequence[tuple[str, str, str]] = ()
    remark: str = ""
    warning: str = ""
    sections: Sequence[Section] = field(default=())

    def charts(self) -> dict[str, Chart]:
        """{name: chart} of all sections."""
        return {
            name: part
            for section in self.sections
            for name, part in section.parts
            if isinstance(part, Chart)
        }

    def tables(self) -> dict[str, Table]:
        """{name: table} of all sections, those of a choice under both names."""
        found: dict[str, Table] = {}
        for section in self.sections:
            for name, part in section.parts:
                if isinstance(part, Table):
                    found[name] = part
                elif isinstance(part, Choice):
                    found |= {f"{name}_{of}": table for of, table in part.tables}
        return found


def sections(table: dict[str, tuple], make) -> list[Section]:
    """The sections that have something.

    Args:
      table: {name: (title, functions)}; a function gives a part or None, its name is the part's.
      make: calls a function with what it needs.
    """
    found = []
    for name, (title, functions) in table.items():
        parts = [(function.__name__, make(function)) for function in functions]
        parts = [(of, part) for of, part in parts if part is not None]
        found += [Section(name, title, parts)] if parts else []
    return found


def key(names: Sequence[str]) -> Key | None:
    """What the known methods are."""
    known = [record for record in map(methods.find, names) if record]
    return Key([(m.name, label(m.name), m.description) for m in known]) if known else None


def provenance(record: dict) -> Provenance | None:
    """Where, how and with what a run record was made."""
    units = {"cores": "{} cores", "memory_gb": "{} GB of memory"}
    machine = record.get("machine") or {}
    lists = {
        title: {str(name): plain(value) for name, value in record[key].items()}
        for key, title in (("settings", "Settings"), ("versions", "Versions"))
        if record.get(key)
    }
    found = Provenance(
        ", ".join(units.get(name, "{}").format(plain(value)) for name, value in machine.items()),
        str(record.get("command") or ""),
        lists,
    )
    return found if found.machine or found.command or found.lists else None
