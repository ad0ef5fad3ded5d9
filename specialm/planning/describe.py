"""Plans and scores for people, and as JSON."""

from specialm.evaluation import cost
from specialm.planning import evidence
from specialm.planning.domain_text import DomainText
from specialm.planning.recommendations import Forecast, Plan, label

HEAD = f"{'method':18} {'bits/byte':>9} {'80%':>13} {'95%':>13} {'best':>5} {'tokens':>8}"
COSTS = f" {'once':>9} {'a domain':>9} {'C(N)':>9}"


def to_json(plan: Plan, text: DomainText) -> dict:
    """All of a plan; costs in FLOPs."""
    asked = plan.asked
    return {
        "domain": text.name,
        "asked": {
            "inference_params": asked.params,
            "domains": asked.domains,
            "budget_flops": asked.budget,
            "generic_tokens": asked.generic_tokens,
            "positions": "learned" if asked.learned else "rope",
        },
        "source": {
            "documents": text.documents,
            "train_bytes": text.train_bytes,
            "train_tokens": round(text.train_bytes / evidence.BYTES_PER_TOKEN),
            "heldout_bytes": text.heldout_bytes,
            "ngram_bits_per_byte": asked.own,
            "ngram_with_generic_bits_per_byte": asked.mixed or None,
        },
        "proxies": plan.proxies,
        "forecasts": [_forecast(each, asked.domains) for each in plan.forecasts],
        "recommended": plan.recommended,
        "not_distinguishable": plan.alike,
        "break_even": {
            "once": plan.once,
            "each": plan.each,
            "better_from_domains": plan.crossover,
            "cheaper_from_domains": plan.cheaper,
        },
    }


def _forecast(each: Forecast, domains: int) -> dict:
    one = each.candidate
    return {
        "method": one.method,
        "bits_per_byte": each.bits_per_byte or None,
        **{f"interval_{level}": list(sides) for level, sides in each.intervals.items()},
        "probability_best": each.best,
        "served": one.served,
        "params": one.params,
        "tokens": one.tokens,
        "repetitions": one.repetitions,
        "generic_flops": one.generic.flops,
        "special_flops": one.special.flops,
        "total_flops": cost.total(*one.costs, domains).flops,
        "studies": one.studies,
        "unknown": list(one.unknown),
        "beyond": list(one.beyond),
    }


def table(plan: Plan, text: DomainText) -> str:
    """For a terminal."""
    asked = plan.asked
    n_gram = f"an n-gram model of it alone: {asked.own:.2f} bits per byte"
    if asked.mixed:
        n_gram += f", with the generic text {asked.mixed:.2f}"
    lines = [
        f"{text.name}: {text.documents:,} documents, {text.train_bytes:,} bytes to train on (some "
        f"{text.train_bytes / evidence.BYTES_PER_TOKEN:,.0f} tokens); {n_gram}.",
        f"{asked.params:,.0f} parameters served, domains: {asked.domains}, "
        f"{asked.budget:.3g} FLOPs in all, {asked.generic_tokens:,.0f} generic tokens"
        + (f"; {plan.proxies} rows of your own." if plan.proxies else "."),
        "",
        HEAD + COSTS,
    ]
    lines += [_line(each, asked.domains) for each in plan.forecasts if not each.candidate.unknown]
    unknown = [each.candidate for each in plan.forecasts if each.candidate.unknown]
    lines += [f"{label(one.method):18} not known: {'; '.join(one.unknown)}" for one in unknown]
    costs = "Costs in FLOPs: C(N) = once + N times a domain."
    return "\n".join([*lines, "", costs, *_conclusion(plan)])


def _line(each: Forecast, domains: int) -> str:
    one, (low, high), (lowest, highest) = each.candidate, *each.intervals.values()
    large = "" if one.served else "   too large to serve"
    return (
        f"{label(one.method):18} {each.bits_per_byte:9.3f} {low:6.3f}-{high:.3f} "
        f"{lowest:7.3f}-{highest:.3f} {each.best:5.0%} {one.tokens / 1e6:7,.2f}M"
        f" {one.generic.flops:9.2g} {one.special.flops:9.2g}"
        f" {cost.total(*one.costs, domains).flops:9.2g}{large}"
    )


def _conclusion(plan: Plan) -> list[str]:
    lines = []
    if not plan.recommended:
        lines.append("No recommendation: none of these is known at such a setting.")
    else:
        first = next(f for f in plan.forecasts if f.candidate.method == plan.recommended)
        why = f"lowest forecast, best with a probability of {first.best:.0%}"
        lines.append(f"Recommended: {label(plan.recommended)} ({why}).")
        if plan.alike:
            names = ", ".join(label(name) for name in plan.alike)
            lines.append(f"Not distinguishable from it by these rows: {names}.")
    if plan.once and plan.each:
        lines.append(_break_even(plan))
    beyond: dict[str, str] = {}  # what it is, in the first words -> the whole text of one method
    for each in plan.forecasts:
        for text in each.candidate.beyond:
            beyond.setdefault(text.partition(" (")[2] + text.split(" ")[0], text)
    lines += [f"Beyond the rows, so less sure: {text}." for text in beyond.values()]
    if plan.recommended and not plan.proxies:
        lines.append(
            "Intervals are wide as nothing was trained on this domain; what methods have in common "
            "cancels between them. A small run of your own narrows them: --proxies."
        )
    return lines


def _break_even(plan: Plan) -> str:
    each, once = label(plan.each), label(plan.once)
    better = (
        f"from {plan.crossover} domains on" if plan.crossover else "for no number of domains known"
    )
    cheaper = f"cheaper from {plan.cheaper} on" if plan.cheaper else "never cheaper"
    return (
        f"{once}, which is pretrained once, is forecast better than {each}, pretrained for each "
        f"domain, {better} at this budget; at as many tokens a model it is {cheaper}."
    )


def scores(found: dict) -> str:
    """The score of a registered forecast, for a terminal."""
    lines = [
        f"{found['domain']}, registered {found['registered']}",
        f"{'method':18} {'forecast':>8} {'95%':>13} {'measured':>8} {'error':>7} inside",
    ]
    for each in found["methods"]:
        low, high = each["interval_95"]
        inside = "80%" if each["inside_80"] else "95%" if each["inside_95"] else "no"
        lines.append(
            f"{label(each['method']):18} {each['forecast']:8.3f} {low:6.3f}-{high:.3f} "
            f"{each['measured']:8.3f} {each['error']:+7.1%} {inside}"
            + "".join(f"\n  not as planned: {note}" for note in each["notes"])
        )
    if found["regret"] is None:
        lines.append(f"{found['recommended'] or 'Nothing'} was recommended and not trained.")
    else:
        lines.append(
            f"Recommended: {label(found['recommended'])}; best: {label(found['best'])}; regret "
            f"{found['regret']:.2%}."
        )
    return "\n".join(lines)
