"""The figures of a study: each function gives a chart of a study, None where it has nothing for it.

A new one is a function here and its name in `study_page.SECTIONS`. A method has one colour and one
marker in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from specialm.methods import BASE, IMPORTANCE, UNPRETRAINED
from specialm.reports.charts import Chart, Panel
from specialm.reports.plots import (
    draw_lines,
    highest_of,
    log_x,
    log_y,
    method_chart,
    off_scale,
    perplexity_panel,
    with_remark,
    zero_line,
)
from specialm.reports.study_lines import (
    MACRO_PERPLEXITY,
    Points,
    over_budgets,
    own_tokens,
    pretraining_flops,
)
from specialm.reports.study_rows import FINETUNED, PRETRAINED, Study
from specialm.reports.styles import PAGE, QUIET, RULE, style
from specialm.reports.summary import GENERIC, MACRO, Cell, cell, count, label, tokens_text
from specialm.reports.words import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOKENS = "Pretraining tokens"
PRETRAINING_COST = "Pretraining cost, FLOPs"


def generic_perplexity(rows) -> Chart | None:
    """Perplexity of generic text against pretraining FLOPs, and against tokens."""
    study = Study.of(rows)
    name = "Perplexity, generic text"
    panels = [
        perplexity_panel(lines, title, (x_name, name), study.methods)
        for x, title, x_name in (
            (pretraining_flops, "against compute", PRETRAINING_COST),
            (own_tokens, "against text", TOKENS),
        )
        if (lines := over_budgets(study, GENERIC, PRETRAINED, None, x))
    ]
    if not panels:
        return None
    return method_chart(
        "How well generic text is modelled",
        "How well each model predicts held-out generic text: lower is better, and further left is "
        "cheaper. On the left against all FLOPs of pretraining, a teacher's included, on the "
        "right against the tokens the model itself was trained on. A method that pretrains for "
        f"each domain ({label(IMPORTANCE)}) stands at the cost of one domain.",
        panels,
        study.methods,
        share_y=True,
    )


def before_fine_tuning(rows) -> Chart | None:
    """Macro perplexity before fine-tuning against pretraining cost."""
    study = Study.of(rows)
    lines = over_budgets(study, MACRO, PRETRAINED, None, pretraining_flops)
    if not lines:
        return None
    names = (PRETRAINING_COST, MACRO_PERPLEXITY)
    return method_chart(
        "Specialist domains before fine-tuning",
        "What pretraining alone gives the domains. Lower is better, and further left is cheaper; "
        f"{label(IMPORTANCE)} has seen no specialist text either, only its cluster histogram.",
        [perplexity_panel(lines, "", names, study.methods)],
        study.methods,
    )


def after_fine_tuning(rows) -> Chart | None:
    """Macro perplexity after fine-tuning against pretraining cost, a panel for each set size."""
    study = Study.of(rows)
    found = {
        size: over_budgets(study, MACRO, FINETUNED, size, pretraining_flops) for size in study.sizes
    }
    found = {size: lines for size, lines in found.items() if lines}
    if not found:
        return None
    highest = max(map(highest_of, found.values()))
    panels = [
        perplexity_panel(
            lines,
            tokens_text(size, "specialist"),
            (PRETRAINING_COST, MACRO_PERPLEXITY),
            study.methods,
            study.cell(UNPRETRAINED, size=size),
            highest,
        )
        for size, lines in found.items()
    ]
    return method_chart(
        "Specialist domains after fine-tuning",
        "The same models after fine-tuning on each domain's training set, a panel for each size "
        "of it. Compare two methods at the same place on the horizontal axis; the cost of "
        "fine-tuning itself is not in it.",
        panels,
        study.methods,
        share_y=True,
    )


def against_set_size(rows) -> Chart | None:
    """Macro perplexity after fine-tuning by set size, and the gain over the base."""
    study = Study.of(rows)
    budget = study.budget
    values = _by_size(study, lambda m, size: study.cell(m, budget=budget, size=size))
    gains = _by_size(study, lambda m, size: _gain(study.change(m, budget=budget, size=size)))
    gains = {m: points for m, points in gains.items() if m not in (BASE, UNPRETRAINED)}
    if not values:
        return None
    hidden = off_scale(values)
    title = with_remark(
        "perplexity", ", ".join(f"{value.mean:,.1f} at {count(size)}" for size, value in hidden)
    )
    panels = [Panel(_draw_sizes(values, study, MACRO_PERPLEXITY), title)]
    if gains:
        name = f"Gain over {label(BASE)}, %"
        panels.append(Panel(_draw_sizes(gains, study, name), f"gain over {label(BASE)}"))
    return method_chart(
        f"The size of the specialist set, at {tokens_text(study.budget, 'generic')}",
        "On the left the perplexity by set size, on the right how much lower it is than "
        f"{label(BASE)}'s with the same text, paired by seed: a falling line says that the method "
        f"matters less the more specialist text there is.",
        panels,
        study.methods,
    )


def _draw_sizes(lines: Mapping[str, Points], study: Study, name: str):
    def draw(axis: Axes) -> None:
        draw_lines(axis, lines, study.methods)
        log_x(axis, [x for points in lines.values() for x, _ in points])
        axis.set(xlabel="Specialist training tokens", ylabel=name)
        if name == MACRO_PERPLEXITY:
            log_y(axis)
        else:
            zero_line(axis, vertical=False)

    return draw


def _by_size(study: Study, value: Callable[[str, int], Cell | None]) -> dict[str, Points]:
    """{method: [(size, value(method, size))]} of what there is."""
    lines = {}
    for method in study.methods:
        points = [(float(n), found) for n in study.sizes if (found := value(method, n))]
        if points:
            lines[method] = points
    return lines


def gain_by_domain(rows) -> Chart | None:
    """Each domain's gain over the base after fine-tuning, a panel for each set size."""
    study = Study.of(rows)
    found = {
        (size, m, d): study.change(m, d, study.budget, size)
        for size in study.sizes
        for m in study.methods
        for d in study.domains
        if m not in (BASE, UNPRETRAINED)
    }
    changes = {key: change for key, change in found.items() if change}
    if not changes:
        return None
    sizes = [s for s in study.sizes if any(key[0] == s for key in changes)]
    methods = [m for m in study.methods if any(key[1] == m for key in changes)]
    domains = [d for d in study.domains if any(key[2] == d for key in changes)]
    panels = [
        Panel(
            _draw_gains(
                {k[1:]: c for k, c in changes.items() if k[0] == size},
                methods,
                domains,
                study.methods,
            ),
            tokens_text(size, "specialist"),
        )
        for size in sizes
    ]
    return Chart(
        f"Gain over {label(BASE)} by domain, at {tokens_text(study.budget, 'generic')}",
        f"How much lower the perplexity is than {label(BASE)}'s after fine-tuning, right of zero "
        "is better. Small dots are seeds, large ones their mean. Domains whose text falls into few "
        "clusters, of low entropy, have most to gain from clusters.",
        panels,
        [label(method) for method in methods],
        height=max(2.0, 0.8 + len(domains) * max(0.35, 0.14 * len(methods))),
    )


def _draw_gains(
    changes: Mapping[tuple[str, str], dict],
    methods: list[str],
    domains: list[str],
    names: list[str],
):
    """A row of dots for each method within each domain's band."""

    def draw(axis: Axes) -> None:
        for i, method in enumerate(methods):
            shift = 0.8 * ((len(methods) - 1) / 2 - i) / len(methods)
            here = {
                shift - y: changes[method, domain]
                for y, domain in enumerate(domains)
                if (method, domain) in changes
            }
            _gain_dots(axis, method, here, names)
        _domain_axis(axis, domains)

    return draw


def _domain_axis(axis: Axes, domains: list[str]) -> None:
    """A row for each domain, the first one on top, with a line at no gain."""
    zero_line(axis)
    axis.set(xlabel=f"Lower perplexity than {label(BASE)}, %")
    axis.set_yticks([-y for y in range(len(domains))], [short(domain) for domain in domains])
    axis.tick_params(axis="y", length=0)
    axis.grid(False, axis="y")
    axis.set_ylim(-len(domains) + 0.5, 0.5)
    for y in range(len(domains) - 1):
        axis.axhline(-y - 0.5, color=RULE, linewidth=0.8)


def _gain_dots(axis: Axes, method: str, changes: Mapping[float, dict], names: list[str]) -> None:
    """A large dot for the mean, a small one for each seed; changes are {y: {seed: change}}."""
    colour, marker = style(method, names)
    for y, change in changes.items():
        gains = [-100 * value for value in change.values()]
        axis.plot(gains, [y] * len(gains), ".", color=colour, markersize=3)
        axis.plot([np.mean(gains)], [y], marker, color=colour, label=label(method))


def number_of_clusters(rows) -> Chart | None:
    """Macro perplexity before and after fine-tuning by the number of clusters or experts."""
    study = Study.of(rows)
    found = {
        name: _arms(study, setting)
        for setting, name in (("clustering.k", "Clusters"), ("model.num_experts", "Experts"))
    }
    panels = {name: arms for name, arms in found.items() if arms}
    if not panels:
        return None
    return method_chart(
        "The number of clusters",
        "The same method with another number of clusters or experts, before (dashed, hollow) and "
        "after fine-tuning (filled).",
        [Panel(_draw_arms(study, arms, name), _arms_title(arms)) for name, arms in panels.items()],
        [m for arms in panels.values() for m in arms],
    )


Arm = tuple[int, int, dict[float, str]]  # budget, size, {value of the setting: variant}


def _arms_title(arms: Mapping[str, Arm]) -> str:
    at = {
        f"{count(budget)} generic, {tokens_text(size, 'specialist')}"
        for budget, size, _ in arms.values()
    }
    return "\n".join(sorted(at))


def _draw_arms(study: Study, arms: Mapping[str, Arm], name: str):
    def draw(axis: Axes) -> None:
        for method, (budget, size, variants) in arms.items():
            for phase in (PRETRAINED, FINETUNED):
                points = [
                    (k, value)
                    for k in sorted(variants)
                    if (value := study.cell(method, MACRO, phase, budget, size, variants[k]))
                ]
                lines = {method: points} if points else {}
                draw_lines(axis, lines, study.methods, hollow=phase == PRETRAINED)
        axis.plot([], [], "--o", color=QUIET, markerfacecolor=PAGE, label="no fine-tuning")
        log_x(axis, [k for _, _, variants in arms.values() for k in variants], base=2)
        axis.set(xlabel=name, ylabel=MACRO_PERPLEXITY)
        log_y(axis)

    return draw


def _arms(study: Study, setting: str) -> dict[str, Arm]:
    """{method: arm} at the place with the most variants, then tokens; the main arm is one."""
    places: dict[str, dict[tuple[int, int], dict[float, str]]] = {}
    for (method, *at), found in study.variants(setting).items():
        numbers = {float(value): v for value, v in found.items() if _is_number(value)}
        places.setdefault(method, {})[at[0], at[1]] = numbers
    main, arms = study.settings.get(setting), {}
    for method, sets in places.items():
        sized = {at: numbers for at, numbers in sets.items() if at[1]} or sets
        budget, size = max(sized, key=lambda at: (len(sized[at]), at[0], -at[1]))  # noqa: B023
        variants = sized[budget, size]
        if variants:
            if main is not None and study.cell(method, budget=budget, size=size):
                variants = {**variants, float(main): ""}
            arms[method] = budget, size, variants
    return arms


def _gain(change: dict) -> Cell | None:
    return cell([-100 * value for value in change.values()])


def _is_number(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False
