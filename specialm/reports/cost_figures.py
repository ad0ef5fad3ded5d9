"""The figures of a study's total cost: each function gives a chart, None where it has nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specialm.evaluation import cost
from specialm.methods import IMPORTANCE, PROJECTED, UNPRETRAINED
from specialm.reports.charts import Chart, Panel
from specialm.reports.equal_cost import DOMAIN_COUNTS
from specialm.reports.plots import cost_axis, log_x, method_chart, perplexity_panel
from specialm.reports.study_lines import MACRO_PERPLEXITY, over_budgets, total_flops
from specialm.reports.study_rows import FINETUNED, Study
from specialm.reports.styles import INK, style
from specialm.reports.summary import MACRO, label, tokens_text
from specialm.reports.words import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOTAL_COST = "Total cost, FLOPs"


def total_cost(rows) -> Chart | None:
    """Macro perplexity after fine-tuning against C(N), a panel for each number of domains N."""
    study = Study.of(rows)
    panels = [
        perplexity_panel(
            lines, plural(domains, "domain"), (TOTAL_COST, MACRO_PERPLEXITY), study.methods
        )
        for domains in DOMAIN_COUNTS
        if (lines := over_budgets(study, MACRO, FINETUNED, study.size, total_flops(domains)))
    ]
    if not panels:
        return None
    size = f", {tokens_text(study.size, 'specialist')}" if study.size else ""
    return method_chart(
        f"Equal total cost{size}",
        "Everything that was paid, pretraining once and specialisation for each domain: C(N) = "
        "generic + N × specialisation. Lower and further left is better. What is paid for each "
        "domain moves right from panel to panel.",
        panels,
        study.methods,
        share_y=True,
    )


def cost_by_domains(rows) -> Chart | None:
    """C(N) against N at the reported budget and smallest set, and where two methods' costs meet."""
    study = Study.of(rows)
    found = {m: study.costs(m, study.budget, study.size) for m in study.methods}
    costs = {
        m: c
        for m, c in found.items()
        if c and cost.total(*c, domains=1).flops > 0 and m != UNPRETRAINED
    }
    if not costs:
        return None

    def draw(axis: Axes) -> None:
        for method, of in costs.items():
            _draw_cost(axis, method, of, study.methods)
        axis.set(xlabel="Number of domains", ylabel=TOTAL_COST)
        log_x(axis, [1, 2, 5, 10, 20, 50, 100])
        cost_axis(axis)
        if {IMPORTANCE, PROJECTED} <= set(costs):
            _mark_crossover(axis, cost.crossover(costs[IMPORTANCE], costs[PROJECTED]))

    place = f"{tokens_text(study.budget, 'generic')}, {tokens_text(study.size, 'specialist')}"
    return method_chart(
        f"Total cost by number of domains, {place}",
        "The same cost by the number of domains. Dashed lines are methods that pay their "
        "pretraining again for each domain.",
        [Panel(draw)],
        list(costs),
        height=3.0,
    )


def _draw_cost(axis: Axes, method: str, costs: cost.Costs, methods: list[str]) -> None:
    colour, marker = style(method, methods)
    domains = np.arange(1, 101)
    axis.plot(
        domains,
        [cost.total(*costs, domains=int(n)).flops for n in domains],
        color=colour,
        marker=marker,
        markevery=[0, 1, 4, 9, 19, 49, 99],
        label=label(method),
        linestyle="--" if costs[0].flops == 0 else "-",
    )


def _mark_crossover(axis: Axes, domains: int | None) -> None:
    """From so many domains on, if the axis reaches there."""
    if domains is None or domains > 100:
        return
    axis.axvline(domains, color=INK, linewidth=0.8, linestyle=":")
    left = domains < 10  # the lines end high on the right: keep clear of them
    axis.annotate(
        f"from {plural(domains, 'domain')} on\n{label(PROJECTED)} is cheaper\n"
        f"than {label(IMPORTANCE)}",
        (domains, 0.98),
        xycoords=("data", "axes fraction"),
        xytext=(5 if left else -5, 0),
        textcoords="offset points",
        va="top",
        ha="left" if left else "right",
    )
