"""The rows of a study, grouped: one value per seed for every cell of the grid.

The grid is method x generic budget x specialist set size x domain x seed. A row is one evaluation:

    method; variant: "" for the main arm, else for example "clustering.k=64"
    domain: a specialist domain, "generic" (held-out generic text) or "macro"
    target: the domain the model is made for, "" for a model shared by all domains
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
from collections.abc import Iterable

import numpy as np

from specialm.evaluation.cost import Cost
from specialm.reports.summary import BASE, GENERIC, MACRO, METHODS, Cell, cell

LARGE = ("llm", "llm_lora")  # too large to serve: a reference, never the best small model
UNPRETRAINED = "slm_nopt"  # its perplexity is so high that gains over the base make no scale
FINETUNED, PRETRAINED = "finetuned", "pretrained"


class Study:
    """The grid's cells. A later row of the same cell and seed replaces an earlier one.

    Attributes:
      methods, domains, seeds, sizes, budgets: what the main arms' rows have, in display order.
      budget: the budget the report dwells on, the largest where the base and another method are
        both fine-tuned, else the largest; None without rows.
      size: the smallest specialist set, None without fine-tuned rows.
      left_out: how many macro rows average over other domains.
    """

    def __init__(self, rows: Iterable[dict]):
        rows = [row for row in rows or () if _finite(row.get("perplexity"))]
        rows = {(*_key(r), r.get("seed"), r.get("target") or ""): r for r in rows}
        domains = {key: set() for key in {k[:5] + k[6:7] for k in rows}}
        for key in rows:
            if key[5] not in (MACRO, GENERIC):
                domains[key[:5] + key[6:7]].add(key[5])
        usual = _usual({key: frozenset(d) for key, d in domains.items()}, rows)
        kept = {
            key: row
            for key, row in rows.items()
            if key[5] != MACRO or domains[key[:5] + key[6:7]] in (set(), usual)
        }
        self.left_out = len(rows) - len(kept)
        self._rows, self._places = {}, {}
        for key, row in kept.items():
            self._rows.setdefault(key[:6], {}).setdefault(key[6], []).append(row)
        for key in self._rows:  # the budgets and sizes of each (method, variant, phase, domain)
            self._places.setdefault((*key[:3], key[5]), []).append(key[3:5])
        main = [key for key in self._rows if key[1] == ""]
        seen = list(dict.fromkeys(key[0] for key in main))
        self.methods = [m for m in METHODS if m in seen] + sorted(set(seen) - set(METHODS))
        self.domains = list(dict.fromkeys(k[5] for k in main if k[5] not in (MACRO, GENERIC)))
        self.seeds = sorted({s for k in main for s in self._rows[k]}, key=str)
        self.sizes = sorted({k[4] for k in main if k[2] == FINETUNED and k[4]})
        self.budgets = sorted({k[3] for k in main if k[3]})
        self.size = self.sizes[0] if self.sizes else None
        self.budget = self._reported_budget()

    @classmethod
    def of(cls, rows) -> "Study":
        """The study of these rows, or the study itself."""
        return rows if isinstance(rows, cls) else cls(rows)

    def _reported_budget(self) -> int | None:
        compared = []
        for budget in self.budgets:
            there = {
                k[0]
                for k in self._rows
                if k[1] == "" and k[2:4] == (FINETUNED, budget) and k[5] == MACRO
            }
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
        by_seed = self._rows[method, variant, phase, *exact[0], domain] if exact else {}
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

    def change(self, method, domain=MACRO, budget=None, size=None, base=BASE, variant="") -> dict:
        """{seed: perplexity / the base's of the same seed - 1}, after fine-tuning."""
        ours = self.values(method, domain, FINETUNED, budget, size, variant)
        theirs = self.values(base, domain, FINETUNED, budget, size)
        return {seed: ours[seed] / theirs[seed] - 1 for seed in ours if seed in theirs}

    def costs(self, method, budget=None, size=None, variant="", phase=FINETUNED):
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
                return tuple(
                    Cost(
                        *(
                            _mean(rows, f"{part}_{field}")
                            for field in ("flops", "tokens", "device_seconds")
                        )
                    )
                    for part in ("generic", "specialise")
                )
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
        return sorted({k[3] for k in self._rows if k[:2] == (method, "")})

    def all_variants(self) -> list[tuple]:
        """(method, variant, budget, size) of the fine-tuned macro rows of all variants."""
        found = {
            (*key[:2], *key[3:5])
            for key in self._rows
            if key[1] and key[2] == FINETUNED and key[5] == MACRO
        }
        return sorted(found)

    def variants(self, setting: str) -> dict:
        """{(method, budget, size): {value: variant}} of the arms that change one setting."""
        found = {}
        for method, variant, _, budget, size, domain in self._rows:
            name, _, value = variant.partition("=")
            if name == setting and domain == MACRO and "," not in value:
                found.setdefault((method, budget, size), {})[value] = variant
        return found


def _key(row: dict) -> tuple:
    return (
        row["method"],
        row.get("variant") or "",
        row.get("phase") or FINETUNED,
        row.get("budget", row.get("train_tokens")) or 0,
        row.get("specialist_tokens") or 0,
        row["domain"],
    )


def _usual(covered: dict, rows: dict) -> frozenset:
    """The set of domains that most macro rows average over."""
    sets = Counter(covered[k[:5] + k[6:7]] for k in rows if k[5] == MACRO)
    sets.pop(frozenset(), None)
    return max(sets, key=lambda s: (sets[s], len(s)), default=frozenset())


def _finite(value) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _mean(rows: list[dict], field: str) -> float:
    values = [row[field] for row in rows if _finite(row.get(field))]
    return float(np.mean(values)) if values else 0.0


def _mean_perplexity(values: list[float]) -> float:
    return values[0] if len(values) == 1 else math.exp(float(np.mean(np.log(values))))
