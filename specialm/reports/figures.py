"""The figures of a study: each takes its rows and gives a matplotlib figure, None without data.

A method has one colour and one marker in all figures. Error bars and bands are the sample
standard deviation over seeds.
"""

from collections.abc import Callable

import numpy as np

from specialm.common.errors import UserError
from specialm.evaluation import cost
from specialm.reports.study_rows import FINETUNED, PRETRAINED, UNPRETRAINED, Study
from specialm.reports.summary import BASE, GENERIC, MACRO, cell, count, label

try:
    from matplotlib import ticker
    from matplotlib.figure import Figure
except ImportError as missing:
    raise UserError(
        "matplotlib is not installed, and the figures of a study need it: "
        "pip install 'specialm[report]'."
    ) from missing

# Okabe and Ito's colours, which the colour-blind can tell apart, then Tol's; markers differ too.
STYLES = {
    "slm": ("#000000", "o"),
    "slm_is": ("#0072B2", "D"),
    "slm_pn": ("#D55E00", "^"),
    "slm_mix": ("#009E73", "s"),
    "slm_hn": ("#E69F00", ">"),
    "soup": ("#56B4E9", "P"),
    "slm_d": ("#CC79A7", "v"),
    "slm_mixed": ("#999933", "<"),
    "slm_nopt": ("#882255", "h"),
    "slm_is_shuffled": ("#44AA99", "d"),
    "llm": ("#777777", "*"),
    "llm_lora": ("#AAAAAA", "X"),
}
OTHERS = (("#332288", "p"), ("#117733", "8"), ("#AA4499", "H"), ("#DDCC77", "1"))
DOMAIN_COUNTS = (1, 5, 20)
WIDE, NARROW = 10.0, 7.5  # inches, of several panels and of one
OFF_SCALE = 1.2  # times the highest of the others: then a reference is a number, not a line
TOTAL_COST = "Total cost, FLOPs"
TOKENS = "Pretraining tokens"
PRETRAINING_COST = "Pretraining cost, FLOPs"


def all_of(rows, settings: dict | None = None) -> dict[str, Figure]:
    """{name: figure} of those that the rows have something for."""
    study = Study.of(rows)
    plots = (
        generic_perplexity,
        before_fine_tuning,
        after_fine_tuning,
        against_set_size,
        total_cost,
        cost_by_domains,
        gain_by_domain,
    )
    drawn = {plot.__name__: plot(study) for plot in plots}
    drawn["number_of_clusters"] = number_of_clusters(study, settings)
    return {name: figure for name, figure in drawn.items() if figure is not None}


def generic_perplexity(rows) -> Figure | None:
    """Perplexity of generic text against pretraining FLOPs, and against tokens."""
    study = Study.of(rows)
    by_flops = _lines(study, GENERIC, PRETRAINED, None, _pretraining_flops)
    by_tokens = _lines(study, GENERIC, PRETRAINED, None, _own_tokens)
    return _panels(
        study,
        [
            (by_flops, "against compute", PRETRAINING_COST, None),
            (by_tokens, "against text", TOKENS, None),
        ],
        "How well generic text is modelled",
        "Perplexity, generic text",
    )


def _own_tokens(study: Study, method: str, budget: int, size) -> float:
    """Tokens that the method's own model was pretrained on."""
    tokens = study.values(method, GENERIC, PRETRAINED, budget, size, field="train_tokens")
    return sum(tokens.values()) / len(tokens)


def before_fine_tuning(rows) -> Figure | None:
    """Macro perplexity before fine-tuning against pretraining cost."""
    study = Study.of(rows)
    lines = _lines(study, MACRO, PRETRAINED, None, _pretraining_flops)
    return _panels(
        study,
        [(lines, "", PRETRAINING_COST, None)],
        "Specialist domains before fine-tuning",
        "Macro perplexity",
    )


def after_fine_tuning(rows) -> Figure | None:
    """Macro perplexity after fine-tuning against pretraining cost, a panel for each set size."""
    study = Study.of(rows)
    panels = []
    for size in study.sizes:
        lines = _lines(study, MACRO, FINETUNED, size, _pretraining_flops)
        panels.append(
            (
                lines,
                f"{count(size)} specialist tokens",
                PRETRAINING_COST,
                study.cell(UNPRETRAINED, size=size),
            )
        )
    return _panels(study, panels, "Specialist domains after fine-tuning", "Macro perplexity")


def against_set_size(rows) -> Figure | None:
    """Macro perplexity after fine-tuning by set size, and the gain over the base."""
    study = Study.of(rows)
    values, gains = {}, {}
    for method in study.methods:
        for size in study.sizes:
            found = study.cell(method, budget=study.budget, size=size)
            change = study.change(method, budget=study.budget, size=size)
            values.setdefault(method, []).extend([(size, found)] if found else [])
            if change and method not in (BASE, UNPRETRAINED):
                gains.setdefault(method, []).append((size, _gain(change)))
    values = {m: points for m, points in values.items() if points}
    if not values:
        return None
    off = _off_scale(values)
    figure, axes = _figure(
        1, 2 if gains else 1, f"The size of the specialist set, at {_budget(study)}"
    )
    for axis, lines, name in zip(
        axes, (values, gains), ("Macro perplexity", f"Gain over {label(BASE)}, %"), strict=False
    ):
        _draw(axis, lines, study.methods)
        _log(axis.xaxis, [x for points in lines.values() for x, _ in points])
        axis.set(xlabel="Specialist training tokens", ylabel=name)
    _log_y(axes[0])
    if off:
        _remark(axes[0], ", ".join(f"{found.mean:,.1f} at {count(size)}" for size, found in off))
    if gains:
        axes[1].axhline(0, color="#000000", linewidth=0.8)
    return _with_legend(figure, axes, study.methods)


def _off_scale(lines: dict) -> list:
    """Takes the unpretrained model's line out if it would squeeze all others together."""
    others = [c.mean for m, points in lines.items() if m != UNPRETRAINED for _, c in points]
    mine = lines.get(UNPRETRAINED, [])
    if not others or max((c.mean for _, c in mine), default=0) <= OFF_SCALE * max(others):
        return []
    return lines.pop(UNPRETRAINED)


def _remark(axis, text: str) -> None:
    """What is off the scale, as a line of the panel's title: it can cover nothing there."""
    lines = [axis.get_title(), f"({label(UNPRETRAINED)}, off the scale: {text})"]
    axis.set_title("\n".join(filter(None, lines)), fontsize=10)


def total_cost(rows) -> Figure | None:
    """Macro perplexity after fine-tuning against C(N), a panel for each number of domains N."""
    study = Study.of(rows)
    panels = []
    for domains in DOMAIN_COUNTS:
        lines = _lines(
            study,
            MACRO,
            FINETUNED,
            study.size,
            lambda *at, n=domains: _flops(at, lambda c: cost.total(*c, n).flops),
        )
        panels.append((lines, f"{domains} domain{'s' * (domains > 1)}", TOTAL_COST, None))
    size = f", {count(study.size)} specialist tokens" if study.size else ""
    return _panels(study, panels, f"Equal total cost{size}", "Macro perplexity")


def cost_by_domains(rows) -> Figure | None:
    """C(N) against N at the reported budget and smallest set, and where SLM-is meets SLM-pn."""
    study = Study.of(rows)
    costs = {m: study.costs(m, study.budget, study.size) for m in study.methods}
    costs = {
        m: c for m, c in costs.items() if c and cost.total(*c, 1).flops > 0 and m != UNPRETRAINED
    }
    if not costs:
        return None
    figure, (axis,) = _figure(
        1,
        1,
        f"Total cost by number of domains\n{_budget(study)}, {count(study.size)} specialist tokens",
    )
    domains = np.arange(1, 101)
    for method, (once, each) in costs.items():
        colour, marker = style(method, study.methods)
        axis.plot(
            domains,
            [cost.total(once, each, int(n)).flops for n in domains],
            color=colour,
            marker=marker,
            markevery=[0, 1, 4, 9, 19, 49, 99],
            label=label(method),
            linestyle="--" if once.flops == 0 else "-",
        )
    meeting = (
        cost.crossover(costs["slm_is"], costs["slm_pn"])
        if {"slm_is", "slm_pn"} <= set(costs)
        else None
    )
    axis.set(xlabel="Number of domains", ylabel=TOTAL_COST, yscale="log")
    _log(axis.xaxis, [1, 2, 5, 10, 20, 50, 100])
    if meeting and meeting <= domains[-1]:
        axis.axvline(meeting, color="#000000", linewidth=0.8, linestyle=":")
        left = meeting < 10  # the lines end high on the right: keep clear of them
        axis.annotate(
            f"from {meeting} domain{'s' * (meeting > 1)} on\nSLM-pn is cheaper\nthan SLM-is",
            (meeting, 0.98),
            xycoords=("data", "axes fraction"),
            xytext=(5 if left else -5, 0),
            textcoords="offset points",
            fontsize=9,
            va="top",
            ha="left" if left else "right",
        )
    return _with_legend(figure, [axis], costs)


def gain_by_domain(rows) -> Figure | None:
    """Each domain's gain over the base after fine-tuning, a panel for each set size."""
    study = Study.of(rows)
    gains = {
        (size, m, d): study.change(m, d, study.budget, size)
        for size in study.sizes
        for m in study.methods
        for d in study.domains
        if m not in (BASE, UNPRETRAINED)
    }
    gains = {key: change for key, change in gains.items() if change}
    if not gains:
        return None
    sizes = [s for s in study.sizes if any(key[0] == s for key in gains)]
    methods = [m for m in study.methods if any(key[1] == m for key in gains)]
    domains = [d for d in study.domains if any(key[2] == d for key in gains)]
    height = max(2.8, 1.8 + len(domains) * max(0.35, 0.13 * len(methods)))
    figure, axes = _figure(
        1, len(sizes), f"Gain over {label(BASE)} by domain, at {_budget(study)}", height, share=True
    )
    place = {d: -i for i, d in enumerate(domains)}
    for axis, size in zip(axes, sizes, strict=True):
        for i, method in enumerate(methods):
            _gain_dots(
                axis,
                study,
                method,
                {d: gains.get((size, method, d)) for d in domains},
                place,
                0.8 * ((len(methods) - 1) / 2 - i) / len(methods),
            )
        axis.axvline(0, color="#000000", linewidth=0.8)
        axis.set(
            title=f"{count(size)} specialist tokens",
            xlabel=f"Lower perplexity than {label(BASE)}, %",
        )
        axis.set_yticks(list(place.values()), list(place))
        axis.tick_params(axis="y", length=0)
        axis.grid(False, axis="y")
        axis.set_ylim(-len(domains) + 0.5, 0.5)
        for y in list(place.values())[:-1]:
            axis.axhline(y - 0.5, color="#DDDDDD", linewidth=0.8)
    axes[0].set_ylabel("Specialist domain")
    return _with_legend(figure, axes, methods)


def _gain_dots(axis, study: Study, method: str, changes: dict, place: dict, shift: float) -> None:
    """A large dot for the mean, a small one for each seed."""
    colour, marker = style(method, study.methods)
    for domain, change in changes.items():
        if change:
            y = place[domain] + shift
            gains = [-100 * value for value in change.values()]
            axis.plot(gains, [y] * len(gains), ".", color=colour, alpha=0.5, markersize=4)
            axis.plot([np.mean(gains)], [y], marker, color=colour, label=label(method))


def number_of_clusters(rows, settings: dict | None = None) -> Figure | None:
    """Macro perplexity before and after fine-tuning by the number of clusters or experts.

    `settings` says what the main arm has: {"clustering.k": 256, "model.num_experts": 16}.
    """
    study = Study.of(rows)
    panels = []
    for setting, name in (("clustering.k", "Clusters"), ("model.num_experts", "Experts")):
        arms = _arms(study, setting, (settings or {}).get(setting))
        if arms:
            panels.append((name, arms))
    if not panels:
        return None
    figure, axes = _figure(1, len(panels), "The number of clusters")
    for axis, (name, arms) in zip(axes, panels, strict=True):
        at = set()
        for method, (budget, size, variants) in arms.items():
            at.add(f"{count(budget)} generic, {count(size)} specialist tokens")
            for phase in (PRETRAINED, FINETUNED):
                points = [
                    (float(k), study.cell(method, MACRO, phase, budget, size, variants[k]))
                    for k in sorted(variants, key=float)
                ]
                points = [(k, found) for k, found in points if found]
                _draw(
                    axis,
                    {method: points} if points else {},
                    study.methods,
                    hollow=phase == PRETRAINED,
                )
        _log(axis.xaxis, sorted({float(k) for _, _, v in arms.values() for k in v}), base=2)
        axis.set(xlabel=name, ylabel="Macro perplexity", title="\n".join(sorted(at)))
        _log_y(axis)
    axes[0].plot([], [], "--o", color="#555555", markerfacecolor="white", label="no fine-tuning")
    return _with_legend(figure, axes, [m for _, arms in panels for m in arms])


def _arms(study: Study, setting: str, main: float | None) -> dict:
    """{method: (budget, size, {value: variant})}: the place with the most variants, then tokens."""
    places = study.variants(setting)
    arms = {}
    for method in dict.fromkeys(key[0] for key in places):
        mine = {
            key[1:]: {k: v for k, v in found.items() if _is_number(k)}
            for key, found in places.items()
            if key[0] == method
        }
        sized = {at: v for at, v in mine.items() if at[1]} or mine
        at = max(sized, key=lambda at: (len(sized[at]), at[0], -at[1]))
        if sized[at]:
            extra = (
                {str(main): ""}
                if main is not None and study.cell(method, budget=at[0], size=at[1])
                else {}
            )
            arms[method] = (*at, {**sized[at], **extra})
    return arms


def style(method: str, methods: list[str]) -> tuple[str, str]:
    """(colour, marker): a known method's own, an unknown one's by its place among the unknown."""
    if method in STYLES:
        return STYLES[method]
    unknown = sorted(m for m in methods if m not in STYLES)
    return OTHERS[unknown.index(method) % len(OTHERS)]


def _lines(study: Study, domain: str, phase: str, size: int | None, x: Callable) -> dict:
    """{method: [(x, Cell)]} over the budgets; x(study, method, budget, size), None for no point."""
    lines = {}
    for method in study.methods:
        points = [
            (x(study, method, budget, size), study.cell(method, domain, phase, budget, size))
            for budget in study.budgets_of(method, domain, phase, size)
        ]
        points = sorted(((at, c) for at, c in points if at and c), key=lambda point: point[0])
        if points:
            lines[method] = points
    return lines


def _pretraining_flops(study: Study, method: str, budget: int, size: int | None) -> float | None:
    """FLOPs of generic pretraining; where there is none, of one domain's own pretraining."""
    phases = (FINETUNED, PRETRAINED) if size else (PRETRAINED, FINETUNED)
    costs = {phase: study.costs(method, budget, size, phase=phase) for phase in phases}
    once = [c[0].flops for c in costs.values() if c and c[0].flops]
    own = [costs[phase][1].flops for phase in (PRETRAINED, FINETUNED) if costs[phase]]
    return next(iter(once + own), None)


def _flops(at: tuple, measure: Callable) -> float | None:
    study, *place = at
    costs = study.costs(*place)
    return measure(costs) if costs else None


def _panels(study: Study, panels: list, title: str, y_name: str) -> Figure | None:
    """Panels (lines, title, x name, the unpretrained model's Cell) on one perplexity axis."""
    panels = [panel for panel in panels if panel[0]]
    if not panels:
        return None
    figure, axes = _figure(1, len(panels), title, share=True)
    highest = max(c.mean for lines, *_ in panels for points in lines.values() for _, c in points)
    for axis, (lines, name, x_name, reference) in zip(axes, panels, strict=True):
        _draw(axis, lines, study.methods)
        axis.set(title=name, xlabel=x_name, xscale="log")
        x = [at for points in lines.values() for at, _ in points]
        if x_name == TOKENS:
            _log(axis.xaxis, x)
        elif max(x) < 100 * min(x):  # two labels a decade, and a decade at least
            middle = np.sqrt(min(x) * max(x))
            if max(x) < 12 * min(x):
                axis.set_xlim(middle / 4, middle * 4)
            axis.xaxis.set_major_locator(ticker.LogLocator(10, (1, 3)))
            axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        if reference and reference.mean > OFF_SCALE * highest:
            _remark(axis, f"{reference.mean:,.1f}")
        elif reference:
            axis.axhline(
                reference.mean,
                color=STYLES[UNPRETRAINED][0],
                linestyle="-.",
                label=label(UNPRETRAINED),
            )
    axes[0].set_ylabel(y_name)
    _log_y(axes[0])
    return _with_legend(figure, axes, study.methods)


def _draw(axis, lines: dict, methods: list[str], hollow: bool = False) -> None:
    """A line with error bars for each method; dashed and hollow for what is not the main one."""
    for method, points in lines.items():
        colour, marker = style(method, methods)
        sd = [found.sd or 0.0 for _, found in points]
        axis.errorbar(
            [x for x, _ in points],
            [found.mean for _, found in points],
            yerr=sd if any(sd) else None,
            color=colour,
            marker=marker,
            capsize=2.5,
            linestyle="--" if hollow else "-",
            label=None if hollow else label(method),
            markerfacecolor="white" if hollow else colour,
        )


def _figure(rows: int, columns: int, title: str, height: float = 4.6, share: bool = False):
    """A figure of page width, or narrower for one panel, and its axes."""
    figure = Figure(figsize=(NARROW if columns == 1 else WIDE, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=share).ravel()
    figure.suptitle(title, fontsize=13, fontweight="bold")
    for axis in axes:
        axis.grid(True, color="#E5E5E5", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def _with_legend(figure: Figure, axes: list, methods) -> Figure:
    """One legend below all panels, in the methods' order."""
    handles = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    names = [n for n in dict.fromkeys(map(label, methods)) if n in handles]
    names += [n for n in handles if n not in names]
    columns = 6 if figure.get_figwidth() > NARROW else 4
    figure.legend(
        [handles[n] for n in names],
        names,
        loc="outside lower center",
        frameon=False,
        ncols=min(columns, len(names)),
    )
    return figure


def _log(axis, at: list, base: int = 10) -> None:
    """A logarithmic x axis with ticks at these values."""
    axis.axes.set_xscale("log", base=base)
    ticks = sorted(set(at))
    axis.set_ticks(ticks, [count(x) for x in ticks])
    axis.set_minor_locator(ticker.NullLocator())


def _log_y(axis) -> None:
    """A logarithmic y axis whose ticks are plain numbers, several also within a decade."""
    axis.set_yscale("log")
    plain = ticker.FuncFormatter(lambda y, _: f"{y:,.6g}")
    low, high = axis.get_ylim()
    wide = high / low > 8
    axis.yaxis.set_major_locator(
        ticker.LogLocator(10, (1, 2, 5)) if wide else ticker.MaxNLocator(7, steps=[1, 2, 5, 10])
    )
    axis.yaxis.set_major_formatter(plain)
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())
    if not wide:
        axis.yaxis.set_minor_locator(ticker.NullLocator())


def _gain(change: dict):
    return cell([-100 * value for value in change.values()])


def _budget(study: Study) -> str:
    return f"{count(study.budget)} generic tokens" if study.budget else "no generic tokens"


def _is_number(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False
