"""How often pretraining will repeat windows: said before it costs, and a part of result rows."""

from dataclasses import dataclass, replace

from specialm import methods
from specialm.clustering.repetition import NEARLY_NEW, Capped, Expected, expected
from specialm.draws import Source, Weighted
from specialm.workflows import likeness, pipeline
from specialm.workflows.pipeline import Run

CAP = "clustering.max_repetitions"


@dataclass(frozen=True)
class Repeats:
    """What to expect of one pretraining.

    Attributes:
      now: with the settings as they are.
      uncapped: without a cap.
      capped: what the cap moved; None for draws that have none.
      context: tokens of a window.
    """

    now: Expected
    uncapped: Expected
    capped: Capped | None
    context: int


def source(run: Run, method: str, domain: str) -> Source:
    """What a method draws from: the clusters that it needs, the weights of its domain."""
    record, config = methods.get(method), run.config
    clusters = run.clusters(method) if methods.num_clusters(config, method) else None
    source = methods.source(method, len(run.generic), clusters)
    if record.draws.by_likeness:
        return replace(
            source,
            likeness=likeness.of(run, domain),
            planned=pipeline.planned_windows(config),
            budget=pipeline.repetition_budget(None, run.cap(), 0.0),
        )
    if record.draws.aims:
        weights = pipeline.weigh(run, domain, method)
        return replace(source, weights=weights, planned=weights.planned_windows)
    trunk = config.train.trunk_fraction if record.trunk else 0.0
    return replace(
        source,
        planned=pipeline.planned_windows(config),
        budget=pipeline.repetition_budget(clusters, run.cap(), trunk),
    )


def of(
    run: Run, method: str, domain: str, seed: int, drawn_from: Source | None = None
) -> Repeats | None:
    """The repetitions of generic windows to expect of a pretraining; None if not known.

    Args:
      drawn_from: its `source`, if that is there already.
    """
    draws, config = methods.get(method).draws, run.config
    drawn_from = drawn_from or source(run, method, domain)
    drawn = draws.drawn(config, drawn_from, seed)
    if drawn is None:
        return None
    windows, capped = _generic_windows(run, method), None
    now = uncapped = expected(*drawn, windows, drawn_from.budget.max_repetitions)
    if isinstance(draws, Weighted) and drawn_from.weights:
        weights = drawn_from.weights
        cap = weights.budget.max_repetitions
        capped = draws.capped(drawn_from, seed)
        plain_K = weights.budget.mixed(draws.rule(weights, seed), weights.generic_counts_K)
        now, uncapped = (expected(p_K, drawn[1], windows, cap) for p_K in (drawn[0], plain_K))
    return Repeats(now, uncapped, capped, config.data.context)


def _generic_windows(run: Run, method: str) -> int:
    """Windows of the generic text that are drawn; without those of a mixture's trunk."""
    train, planned = run.config.train, pipeline.planned_windows(run.config)
    if methods.get(method).trunk:
        return round(planned * (1 - train.trunk_fraction))
    if not methods.mixes(run.config, method):
        return planned
    return round(planned * (1 - train.specialist_fraction * (1 - train.specialist_start)))


def row(run: Run, method: str, domain: str, seed: int) -> dict[str, float]:
    """The fields of a result row: how often the window of a draw is drawn, and those of the most
    drawn cluster; how many equally drawn windows the draws are worth, as a share of the generic
    ones; {} if not known.
    """
    if not methods.get(method).pretrained:
        return {"expected_repetitions": 0.0, "max_repetitions": 0.0, "effective_fraction": 0.0}
    found = of(run, method, domain, seed)
    if not found:
        return {}
    return {
        "expected_repetitions": found.now.mean,
        "max_repetitions": found.now.most,
        "effective_fraction": found.now.draws / found.now.mean / len(run.generic),
    }


def lines(found: Repeats | None, title: str) -> list[str]:
    """For people, before the training starts.

    Args:
      found: None: nothing is said.
      title: what is trained.
    """
    if found is None:
        return []
    now, said = found.now, []
    said.append(
        f"{title}: {now.draws:,} windows to draw; the window of a draw is drawn {now.mean:.3g} "
        f"times in all on average, {now.most:.3g} times in the most drawn cluster; "
        f"{now.above:.1%} of the draws are of windows drawn more than {now.budget:g} times"
    )
    if found.capped and found.capped.moved:
        said += _cap_lines(found, found.capped)
    elif now.mean > NEARLY_NEW:
        said.append(_warning(found))
    return said


def _cap_lines(found: Repeats, capped: Capped) -> list[str]:
    """What the cap changed, and with what it would change nothing."""
    where = ", ".join(f"{share:.1%} to {name}" for name, share in capped.moved.items() if share)
    before, cap = found.uncapped, found.now.budget
    said = [
        f"{CAP}={cap:g} moved {sum(capped.moved.values()):.1%} of the draws: {where}; without it "
        f"{before.mean:.3g} times on average, {before.most:.3g} at most. "
        f"{_help(found, before.most)}"
    ]
    if capped.short:
        said.append(
            f"warning: the generic text is too small for {CAP}={cap:g}: all windows are drawn "
            f"alike, {found.now.most:.3g} times"
        )
    return said


def _warning(found: Repeats) -> str:
    return (
        f"warning: text repeated more than about {NEARLY_NEW:g} times is worth less than new text. "
        f"Set {CAP}={NEARLY_NEW:g}. {_help(found, found.now.mean)}"
    )


def _help(found: Repeats, repetitions: float) -> str:
    """What brings so many repetitions down to the budget."""
    times = repetitions / found.now.budget
    tokens = round(found.now.draws * found.context / times)
    return (
        f"To stay within {found.now.budget:g}: {times:.3g} times as much generic text, or "
        f"train.tokens={tokens}, or fewer clusters"
    )
