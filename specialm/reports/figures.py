"""The figures of a study: a new one is a function and an entry in `FIGURES`.

Each function takes a study (or its rows) and gives a matplotlib figure, None without data. A method
has one colour and one marker in all of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from specialm.evaluation import cost
from specialm.methods import BASE, IMPORTANCE, PROJECTED, UNPRETRAINED
from specialm.reports.markup import plural
from specialm.reports.plots import (
    BLACK,
    TOKENS,
    Axes,
    Figure,
    Panel,
    draw,
    log_x,
    log_y,
    new_figure,
    off_scale,
    perplexity_panels,
    remark,
    with_legend,
)
from specialm.reports.study_lines import (
    Points,
    over_budgets,
    own_tokens,
    pretraining_flops,
    total_flops,
)
from specialm.reports.study_rows import FINETUNED, PRETRAINED, Study
from specialm.reports.styles import style
from specialm.reports.summary import GENERIC, MACRO, Cell, cell, count, label, tokens_text

DOMAIN_COUNTS = (1, 5, 20)
TOTAL_COST = "Total cost, FLOPs"
PRETRAINING_COST = "Pretraining cost, FLOPs"
MACRO_PERPLEXITY = "Macro perplexity"


@dataclass(frozen=True)
class StudyFigure:
    """A figure of the report, with its section's title and how to read it."""

    draw: Callable[[Study], Figure | None]
    title: str
    reading: str


def all_of(rows, settings: Mapping | None = None) -> dict[str, Figure]:
    """{name: figure} of those that the rows have something for."""
    study = Study.of(rows, settings)
    drawn = {name: figure.draw(study) for name, figure in FIGURES.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def generic_perplexity(rows) -> Figure | None:
    """Perplexity of generic text against pretraining FLOPs, and against tokens."""
    study = Study.of(rows)
    by_flops = over_budgets(study, GENERIC, PRETRAINED, None, pretraining_flops)
    by_tokens = over_budgets(study, GENERIC, PRETRAINED, None, own_tokens)
    return perplexity_panels(
        [
            Panel(by_flops, "against compute", PRETRAINING_COST),
            Panel(by_tokens, "against text", TOKENS),
        ],
        "How well generic text is modelled",
        "Perplexity, generic text",
        study.methods,
    )


def before_fine_tuning(rows) -> Figure | None:
    """Macro perplexity before fine-tuning against pretraining cost."""
    study = Study.of(rows)
    lines = over_budgets(study, MACRO, PRETRAINED, None, pretraining_flops)
    title = "Specialist domains before fine-tuning"
    panels = [Panel(lines, "", PRETRAINING_COST)]
    return perplexity_panels(panels, title, MACRO_PERPLEXITY, study.methods)


def after_fine_tuning(rows) -> Figure | None:
    """Macro perplexity after fine-tuning against pretraining cost, a panel for each set size."""
    study = Study.of(rows)
    panels = [
        Panel(
            over_budgets(study, MACRO, FINETUNED, size, pretraining_flops),
            tokens_text(size, "specialist"),
            PRETRAINING_COST,
            study.cell(UNPRETRAINED, size=size),
        )
        for size in study.sizes
    ]
    title = "Specialist domains after fine-tuning"
    return perplexity_panels(panels, title, MACRO_PERPLEXITY, study.methods)


def against_set_size(rows) -> Figure | None:
    """Macro perplexity after fine-tuning by set size, and the gain over the base."""
    study = Study.of(rows)
    budget = study.budget
    values = _by_size(study, lambda m, size: study.cell(m, budget=budget, size=size))
    gains = _by_size(study, lambda m, size: _gain(study.change(m, budget=budget, size=size)))
    gains = {m: points for m, points in gains.items() if m not in (BASE, UNPRETRAINED)}
    if not values:
        return None
    hidden = off_scale(values)
    title = f"The size of the specialist set, at {tokens_text(study.budget, 'generic')}"
    figure, axes = new_figure(2 if gains else 1, title)
    names = (MACRO_PERPLEXITY, f"Gain over {label(BASE)}, %")
    for axis, lines, name in zip(axes, (values, gains), names, strict=False):
        draw(axis, lines, study.methods)
        log_x(axis, [x for points in lines.values() for x, _ in points])
        axis.set(xlabel="Specialist training tokens", ylabel=name)
    log_y(axes[0])
    if hidden:
        remark(axes[0], ", ".join(f"{value.mean:,.1f} at {count(size)}" for size, value in hidden))
    if gains:
        axes[1].axhline(0, color=BLACK, linewidth=0.8)
    return with_legend(figure, axes, study.methods)


def _by_size(study: Study, value: Callable[[str, int], Cell | None]) -> dict[str, Points]:
    """{method: [(size, value(method, size))]} of what there is."""
    lines = {}
    for method in study.methods:
        points = [(float(n), found) for n in study.sizes if (found := value(method, n))]
        if points:
            lines[method] = points
    return lines


def total_cost(rows) -> Figure | None:
    """Macro perplexity after fine-tuning against C(N), a panel for each number of domains N."""
    study = Study.of(rows)
    panels = [
        Panel(
            over_budgets(study, MACRO, FINETUNED, study.size, total_flops(domains)),
            plural(domains, "domain"),
            TOTAL_COST,
        )
        for domains in DOMAIN_COUNTS
    ]
    size = f", {tokens_text(study.size, 'specialist')}" if study.size else ""
    return perplexity_panels(panels, f"Equal total cost{size}", MACRO_PERPLEXITY, study.methods)


def cost_by_domains(rows) -> Figure | None:
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
    place = f"{tokens_text(study.budget, 'generic')}, {tokens_text(study.size, 'specialist')}"
    figure, (axis,) = new_figure(1, f"Total cost by number of domains\n{place}")
    for method, of in costs.items():
        _draw_cost(axis, method, of, study.methods)
    axis.set(xlabel="Number of domains", ylabel=TOTAL_COST, yscale="log")
    log_x(axis, [1, 2, 5, 10, 20, 50, 100])
    if {IMPORTANCE, PROJECTED} <= set(costs):
        _mark_crossover(axis, cost.crossover(costs[IMPORTANCE], costs[PROJECTED]))
    return with_legend(figure, [axis], costs)


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
    axis.axvline(domains, color=BLACK, linewidth=0.8, linestyle=":")
    left = domains < 10  # the lines end high on the right: keep clear of them
    axis.annotate(
        f"from {plural(domains, 'domain')} on\n{label(PROJECTED)} is cheaper\n"
        f"than {label(IMPORTANCE)}",
        (domains, 0.98),
        xycoords=("data", "axes fraction"),
        xytext=(5 if left else -5, 0),
        textcoords="offset points",
        fontsize=9,
        va="top",
        ha="left" if left else "right",
    )


def gain_by_domain(rows) -> Figure | None:
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
    height = max(2.8, 1.8 + len(domains) * max(0.35, 0.13 * len(methods)))
    title = f"Gain over {label(BASE)} by domain, at {tokens_text(study.budget, 'generic')}"
    figure, axes = new_figure(len(sizes), title, height, share=True)
    for axis, size in zip(axes, sizes, strict=True):
        for i, method in enumerate(methods):
            shift = 0.8 * ((len(methods) - 1) / 2 - i) / len(methods)
            here = {
                shift - y: changes[size, method, d]
                for y, d in enumerate(domains)
                if (size, method, d) in changes
            }
            _gain_dots(axis, method, here, study.methods)
        _domain_axis(axis, domains, tokens_text(size, "specialist"))
    axes[0].set_ylabel("Specialist domain")
    return with_legend(figure, axes, methods)


def _domain_axis(axis: Axes, domains: list[str], title: str) -> None:
    """A row for each domain, the first one on top, with a line at no gain."""
    axis.axvline(0, color=BLACK, linewidth=0.8)
    axis.set(title=title, xlabel=f"Lower perplexity than {label(BASE)}, %")
    axis.set_yticks([-y for y in range(len(domains))], domains)
    axis.tick_params(axis="y", length=0)
    axis.grid(False, axis="y")
    axis.set_ylim(-len(domains) + 0.5, 0.5)
    for y in range(len(domains) - 1):
        axis.axhline(-y - 0.5, color="#DDDDDD", linewidth=0.8)


def _gain_dots(axis: Axes, method: str, changes: Mapping[float, dict], methods: list[str]) -> None:
    """A large dot for the mean, a small one for each seed; changes are {y: {seed: change}}."""
    colour, marker = style(method, methods)
    for y, change in changes.items():
        gains = [-100 * value for value in change.values()]
        axis.plot(gains, [y] * len(gains), ".", color=colour, alpha=0.5, markersize=4)
        axis.plot([np.mean(gains)], [y], marker, color=colour, label=label(method))


def number_of_clusters(rows) -> Figure | None:
    """Macro perplexity before and after fine-tuning by the number of clusters or experts."""
    study = Study.of(rows)
    found = {
        name: _arms(study, setting)
        for setting, name in (("clustering.k", "Clusters"), ("model.num_experts", "Experts"))
    }
    panels = {name: arms for name, arms in found.items() if arms}
    if not panels:
        return None
    figure, axes = new_figure(len(panels), "The number of clusters")
    for axis, (name, arms) in zip(axes, panels.items(), strict=True):
        _draw_arms(axis, study, arms)
        axis.set(xlabel=name, ylabel=MACRO_PERPLEXITY)
        log_y(axis)
    axes[0].plot([], [], "--o", color="#555555", markerfacecolor="white", label="no fine-tuning")
    return with_legend(figure, axes, [m for arms in panels.values() for m in arms])


Arm = tuple[int, int, dict[float, str]]  # budget, size, {value of the setting: variant}


def _draw_arms(axis: Axes, study: Study, arms: Mapping[str, Arm]) -> None:
    at = set()
    for method, (budget, size, variants) in arms.items():
        at.add(f"{count(budget)} generic, {tokens_text(size, 'specialist')}")
        for phase in (PRETRAINED, FINETUNED):
            points = [
                (k, value)
                for k in sorted(variants)
                if (value := study.cell(method, MACRO, phase, budget, size, variants[k]))
            ]
            lines = {method: points} if points else {}
            draw(axis, lines, study.methods, hollow=phase == PRETRAINED)
    log_x(axis, [k for _, _, variants in arms.values() for k in variants], base=2)
    axis.set_title("\n".join(sorted(at)))


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


_BASE, _SAMPLED = label(BASE), label(IMPORTANCE)

FIGURES = {
    "generic_perplexity": StudyFigure(
        generic_perplexity,
        "Generic text",
        "How well each model predicts held-out generic text: lower is better, and further left is "
        "cheaper. On the left against all FLOPs of pretraining, a teacher's included, on the "
        "right against the tokens the model itself was trained on. A method that pretrains for "
        f"each domain ({_SAMPLED}) stands at the cost of one domain.",
    ),
    "before_fine_tuning": StudyFigure(
        before_fine_tuning,
        "Specialist domains before fine-tuning",
        "What pretraining alone gives the domains. The axes are as above; "
        f"{_SAMPLED} has seen no specialist text either, only its cluster histogram.",
    ),
    "after_fine_tuning": StudyFigure(
        after_fine_tuning,
        "Specialist domains after fine-tuning",
        "The same models after fine-tuning on each domain's training set, a panel for each size "
        "of it. Compare two methods at the same place on the horizontal axis; the cost of "
        "fine-tuning itself is not in it.",
    ),
    "against_set_size": StudyFigure(
        against_set_size,
        "More specialist text",
        "On the left the perplexity by set size, on the right how much lower it is than "
        f"{_BASE}'s with the same text, paired by seed: a falling line says that the method "
        "matters less the more specialist text there is.",
    ),
    "total_cost": StudyFigure(
        total_cost,
        "Equal total cost",
        "Everything that was paid, pretraining once and specialisation for each domain: C(N) = "
        "generic + N × specialisation. Lower and further left is better. What is paid for each "
        "domain moves right from panel to panel.",
    ),
    "cost_by_domains": StudyFigure(
        cost_by_domains,
        "How many domains",
        "The same cost by the number of domains. Dashed lines are methods that pay their "
        "pretraining again for each domain.",
    ),
    "gain_by_domain": StudyFigure(
        gain_by_domain,
        "Domain by domain",
        f"How much lower the perplexity is than {_BASE}'s after fine-tuning, right of zero is "
        "better. Small dots are seeds, large ones their mean. Domains whose text falls into few "
        "clusters, of low entropy, have most to gain from clusters.",
    ),
    "number_of_clusters": StudyFigure(
        number_of_clusters,
        "Clusters and experts",
        "The same method with another number of clusters or experts, before (dashed, hollow) and "
        "after fine-tuning (filled).",
    ),
}
