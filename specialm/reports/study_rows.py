"""The rows of a study, grouped: one value per seed for every cell of the grid.

The grid is method x generic budget x specialist set size x domain x seed. A row is one evaluation:

    method; variant: "" for the main arm, else for example "clustering.k=64"
    domain: a specialist domain, "generic" (held-out generic text) or "macro"
    target: the domain that the model is for, "" for a model shared by all domains
    phase: pretrained | finetuned;  seed
    budget: generic budget, counted in tokens of the base method (0: no pretraining); without it
        train_tokens stands for it
    train_tokens: pretraining tokens of the method's own model
    specialist_tokens: nominal size of the specialist set, one number for all domains
    nll_per_token (nats), perplexity, bits_per_byte
    generic_ and specialise_ flops, tokens, device_seconds: of the chain that led to the model
    steps, best_step: of fine-tuning

The study may be incomplete. A macro row that averages over other domains than most of them do is
left out, since it cannot be compared.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from specialm import methods
from specialm.evaluation.cost import Cost, Costs
from specialm.reports.summary import BASE, GENERIC, MACRO, Cell, cell, in_order

FINETUNED, PRETRAINED = "finetuned", "pretrained"


class Place(NamedTuple):
    """Where a row stands in the grid, but for its seed."""

    method: str
    variant: str
    phase: str
    budget: int
    size: int
    domain: str


Key = tuple[Place, Any, str]  # of a row: place, seed, target


def is_large(method: str) -> bool:
    """Whether it is too large to serve: a reference, never the best small model."""
    record = methods.find(method)
    return record is not None and record.large


class Study:
    """The grid's cells. A later row of the same cell and seed replaces an earlier one.

    Attributes:
      settings: of the main arm: {"clustering.k": 256, "model.num_experts": 16}.
      methods, domains, seeds, sizes, budgets: what the main arms' rows have, in display order.
      budget: the budget the report dwells on, the largest where the base and another method are
        both fine-tuned, else the largest; None without rows.
      size: the smallest specialist set, None without fine-tuned rows.
      left_out: how many macro rows average over other domains.
    """

    def __init__(self, rows: Iterable[dict] | None, settings: Mapping | None = None):
        self.settings = dict(settings or {})
        self._rows: dict[Place, dict[Any, list[dict]]] = {}
        self._places: dict[tuple[str, str, str, str], list[tuple[int, int]]] = {}
        self.left_out = self._add(rows or ())
        main = [place for place in self._rows if place.variant == ""]
        self.methods = in_order(sorted({place.method for place in main}))
        domains = dict.fromkeys(place.domain for place in main)
        self.domains = [d for d in domains if d not in (MACRO, GENERIC)]
        self.seeds = sorted({seed for place in main for seed in self._rows[place]}, key=str)
        self.sizes = sorted({p.size for p in main if p.phase == FINETUNED and p.size})
        self.budgets = sorted({place.budget for place in main if place.budget})
        self.size = self.sizes[0] if self.sizes else None
        self.budget = self._reported_budget()

    def _add(self, rows: Iterable[dict]) -> int:
        """Groups the rows that can be compared; returns how many cannot."""
        found = {
            (_place(row), row.get("seed"), row.get("target") or ""): row
            for row in rows
            if _finite(row.get("perplexity"))
        }
        others = _other_averages(found)
        for (place, seed, target), row in found.items():
            if (place, seed, target) not in others:
                self._rows.setdefault(place, {}).setdefault(seed, []).append(row)
        for place in self._rows:
            at = (*place[:3], place.domain)
            self._places.setdefault(at, []).append((place.budget, place.size))
        return len(others)

    @classmethod
    def of(cls, rows: "Study | Iterable[dict] | None", settings: Mapping | None = None) -> "Study":
        """The study of these rows, or the study itself."""
        return rows if isinstance(rows, Study) else cls(rows, settings)

    def _reported_budget(self) -> int | None:
        compared = []
        for budget in self.budgets:
            at = ("", FINETUNED, budget, MACRO)
            there = {p.method for p in self._rows if (*p[1:4], p.domain) == at}
            compared += [budget] if BASE in there and len(there) > 1 else []
        return max(compared or self.budgets, default=None)

    def cell_rows(
        self, method, domain=MACRO, phase=FINETUNED, budget=None, size=None, variant=""
    ) -> dict:
        """{seed: rows} of a cell; several rows where each domain's model has its own.

        A method without pretraining stands at every budget. Before fine-tuning, a cell of no
        such size is the one that names no size, else that of the smallest set.
        """
        places = self._places.get((method, variant, phase, domain), ())
        at = [p for p in places if p[0] == budget] or [p for p in places if p[0] == 0]
        exact = [p for p in at if p[1] == size]
        if not exact and phase == PRETRAINED:
            exact = sorted(at)[:1]
        place = Place(method, variant, phase, *exact[0], domain) if exact else None
        by_seed = self._rows[place] if place else {}
        return {seed: by_seed[seed] for seed in sorted(by_seed, key=str)}

    def values(
        self,
        method,
        domain=MACRO,
        phase=FINETUNED,
        budget=None,
        size=None,
        variant="",
        field="perplexity",
    ) -> dict:
        """{seed: value}; perplexities of several models are averaged as losses."""
        rows = self.cell_rows(method, domain, phase, budget, size, variant)
        found = {
            seed: [r[field] for r in several if _finite(r.get(field))]
            for seed, several in rows.items()
        }
        mean = _mean_perplexity if field == "perplexity" else np.mean
        return {seed: float(mean(values)) for seed, values in found.items() if values}

    def cell(
        self,
        method,
        domain=MACRO,
        phase=FINETUNED,
        budget=None,
        size=None,
        variant="",
        field="perplexity",
    ) -> Cell | None:
        """Mean and sample standard deviation over seeds."""
        return cell(self.values(method, domain, phase, budget, size, variant, field))

    def change(self, method, domain=MACRO, budget=None, size=None, base=BASE) -> dict:
        """{seed: perplexity / the base's of the same seed - 1}, after fine-tuning."""
        ours = self.values(method, domain, FINETUNED, budget, size)
        theirs = self.values(base, domain, FINETUNED, budget, size)
        return {seed: ours[seed] / theirs[seed] - 1 for seed in ours if seed in theirs}

    def costs(self, method, budget=None, size=None, variant="", phase=FINETUNED) -> Costs | None:
        """(generic, specialisation for one domain), means over domains and seeds; or None.

        The domains' own rows are asked first, the macro row where they say nothing.
        """
        for domains in (self.domains, [MACRO], [GENERIC]):
            rows = [
                row
                for domain in domains
                for several in self.cell_rows(method, domain, phase, budget, size, variant).values()
                for row in several
                if _finite(row.get("generic_flops"))
            ]
            if rows:
                return _mean_cost(rows, "generic"), _mean_cost(rows, "specialise")
        return None

    def budgets_of(self, method, domain=MACRO, phase=FINETUNED, size=None) -> list[int]:
        """The budgets at which the main arm has such a cell."""
        places = self._places.get((method, "", phase, domain), ())
        return [
            b
            for b in self.budgets
            if any(place[0] == b for place in places)
            and self.cell_rows(method, domain, phase, b, size)
        ]

    def budgets_of_any(self, method) -> list[int]:
        """The budgets of the main arm's rows of any kind; 0 stands for no pretraining."""
        return sorted({p.budget for p in self._rows if (p.method, p.variant) == (method, "")})

    def all_variants(self) -> list[tuple[str, str, int, int]]:
        """(method, variant, budget, size) of the fine-tuned macro rows of all variants."""
        found = {
            (p.method, p.variant, p.budget, p.size)
            for p in self._rows
            if p.variant and (p.phase, p.domain) == (FINETUNED, MACRO)
        }
        return sorted(found)

    def variants(self, setting: str) -> dict[tuple[str, int, int], dict[str, str]]:
        """{(method, budget, size): {value: variant}} of the arms that change one setting."""
        found: dict[tuple[str, int, int], dict[str, str]] = {}
        for method, variant, _, budget, size, domain in self._rows:
            name, _, value = variant.partition("=")
            if name == setting and domain == MACRO and "," not in value:
                found.setdefault((method, budget, size), {})[value] = variant
        return found


def _place(row: dict) -> Place:
    return Place(
        row["method"],
        row.get("variant") or "",
        row.get("phase") or FINETUNED,
        row.get("budget", row.get("train_tokens")) or 0,
        row.get("specialist_tokens") or 0,
        row["domain"],
    )


def _other_averages(keys: Iterable[Key]) -> set[Key]:
    """The macro rows that average over other domains than most of them do."""
    keys = list(keys)
    domains: dict[tuple, set[str]] = {}  # of each cell and seed
    for place, seed, _ in keys:
        covered = domains.setdefault((*place[:5], seed), set())
        if place.domain not in (MACRO, GENERIC):
            covered.add(place.domain)
    macros = {
        key: frozenset(domains[*key[0][:5], key[1]]) for key in keys if key[0].domain == MACRO
    }
    sets = Counter(covered for covered in macros.values() if covered)
    usual = max(sets, key=lambda covered: (sets[covered], len(covered)), default=frozenset())
    return {key for key, covered in macros.items() if covered and covered != usual}


def _finite(value) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _mean_cost(rows: list[dict], part: str) -> Cost:
    return Cost(*(_mean(rows, f"{part}_{f}") for f in ("flops", "tokens", "device_seconds")))


def _mean(rows: list[dict], field: str) -> float:
    values = [row[field] for row in rows if _finite(row.get(field))]
    return float(np.mean(values)) if values else 0.0


def _mean_perplexity(values: list[float]) -> float:
    return values[0] if len(values) == 1 else math.exp(float(np.mean(np.log(values))))
