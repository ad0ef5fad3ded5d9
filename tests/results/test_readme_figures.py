"""Every figure of README.md and results/README.md that a claim names follows from committed rows,
and so does every cell of the tables of perplexities.
"""

import re

import numpy as np
import pytest
from claims import CLAIMS
from claims.claim import BANK, BANK50, DEMO, RESULTS, ROOT, of, rows, spread
from claims.studies import LARGE, LONG, SMALL, study


def text(file):
    """With plain minus signs and without the marks of bold type, on one line."""
    content = (ROOT / file).read_text().replace("−", "-").replace("**", "").replace("* ", " ")
    return " ".join(content.split())


def check(shown, value, what):
    """The number as it is shown is the value, rounded."""
    decimals = len(shown.partition(".")[2])
    assert float(shown.replace(",", "")) == pytest.approx(
        value, abs=0.5 * 10**-decimals * (1 + 1e-6)
    ), what


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.pattern[:50])
def test_a_sentence_is_what_the_rows_say(claim):
    found = re.findall(claim.pattern, text(claim.file))
    assert len(found) == 1, f"{claim.file} says it {len(found)} times: {claim.pattern}"
    shown = found[0] if isinstance(found[0], tuple) else (found[0],)
    values = claim.numbers()
    assert len(values) == len(shown)
    for number, value in zip(shown, values, strict=True):
        check(number.rstrip(".,"), value, claim.pattern)


def tables(title):
    """The tables of a section of results/README.md: [[cells]] each."""
    content = (ROOT / RESULTS).read_text().replace("−", "-").replace("**", "")
    section = content[content.index(title) :]
    section = section[: section.index("\n## ", 5) if "\n## " in section[5:] else len(section)]
    found, table = [], []
    for line in section.splitlines():
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
        elif table:
            found.append(table)
            table = []
    return [*found, table] if table else found


COLUMNS = {"books": "books", "ency": "ency", "med": "med", "macro": "macro"}
PHASES = {"after fine-tuning": "finetuned", "before fine-tuning": "pretrained"}


def check_methods(table, file, **where):
    """A table of methods down and domains across, in phases."""
    header, phase, cells = table[0], "", 0
    for line in table[2:]:
        phase = PHASES.get(line[0], phase)
        method = re.match(r"`(\w+)`", line[0])
        if not method:
            continue
        for name, cell in zip(header[1:], line[1:], strict=True):
            if not cell:
                continue
            spec = dict(method=method[1], phase=phase, **where)
            field = "bits_per_byte" if "bits" in name else "perplexity"
            domain = name if name in COLUMNS else "macro"
            values = of(file, field, domain=domain, **spec)
            if "against" in name:
                base = of(file, domain="macro", **{**spec, "method": "slm"})
                values = [100 * (a / b - 1) for a, b in zip(values, base, strict=True)]
            numbers = re.findall(r"-?[\d.]+", cell)
            wanted = spread(values) if len(numbers) == 2 else [np.mean(values)]
            for number, value in zip(numbers, wanted, strict=True):
                check(number, value, (file, line[0], name))
            cells += 1
    return cells


def test_the_table_of_the_demo():
    (table,) = tables("## Does importance sampling help")
    assert check_methods(table, DEMO) == 34


def test_the_tables_of_the_banks():
    first, second, *_ = tables("## One set of parameters")
    assert check_methods(first, BANK) == 10 * 4 + 8
    assert check_methods(second, BANK50) == 6 * 4 + 4


def test_the_table_of_choices():
    table, method, cells = tables("### What it depends on")[0], "", 0
    for line in table[2:]:
        if named := re.fullmatch(r"`(slm_\w+)`", line[0]):
            method = named[1]
            continue
        choice = re.search(r"\(`(\w+)`\)", line[0])[1]
        for domain, cell in zip(table[0][1:], line[1:], strict=True):
            where = dict(method=method, choice=choice, domain=domain, phase="finetuned")
            check(cell, of("bank/choice.jsonl", **where)[0], where)
            cells += 1
    assert cells == 8 * 4


def test_the_tables_of_rates_and_groups():
    rates, groups = tables("### What it depends on")[1:3]
    for line in rates[2:]:
        for rate, cell in zip((2e-3, 4e-3, 8e-3), line[1:], strict=True):
            where = dict(method=line[0].strip("`"), learning_rate=rate, domain="ency")
            before, after = cell.split(" / ")
            check(before, of("bank/rates.jsonl", phase="pretrained", **where)[0], where)
            check(after, of("bank/rates.jsonl", phase="finetuned", **where)[0], where)
    for number, cell in zip(groups[0][1:], groups[2][1:], strict=True):
        where = dict(groups=int(number), domain="ency")
        before, after = cell.split(" / ")
        check(before, of("bank/groups.jsonl", phase="pretrained", **where)[0], where)
        check(after, of("bank/groups.jsonl", phase="finetuned", **where)[0], where)


def test_the_table_of_the_study():
    (table,) = tables("## Every baseline at equal cost")
    cells = 0
    for line in table[2:]:
        method = re.match(r"`(\w+)`", line[0])[1]
        for place, cell in enumerate(line[3:]):
            if not cell:
                continue
            phase = "finetuned" if place > 1 else "pretrained"
            found = study().values(
                method,
                "generic" if place == 0 else "macro",
                phase,
                None if method == "slm_nopt" else LONG,
                {2: SMALL, 3: LARGE}.get(place),
            )
            numbers = re.findall(r"[\d.]+", cell)
            values = list(found.values())
            wanted = spread(values) if len(numbers) == 2 else [np.mean(values)]
            for number, value in zip(numbers, wanted, strict=True):
                check(number, value, (method, place))
            cells += 1
    assert cells == 4 * 4 + 2 + 2 + 4 + 2


def test_the_table_of_encoders():
    (table,) = tables("## Which sentence encoder")
    phase = ""
    for line in table[2:]:
        phase = PHASES.get(line[0], phase)
        if not line[0].startswith("`"):
            continue
        file = "encoders/minilm.jsonl" if "MiniLM" in line[0] else "encoders/tfidf_svd.jsonl"
        check_methods([table[0], table[1], [next(k for k in PHASES if PHASES[k] == phase)] + [""] * 5,
                       line], file)  # fmt: skip


def test_rows_are_read():
    assert len(rows(DEMO)) == 72
