"""From a pretrained bank or mixture to one domain's fine-tuned small model, as stages.

An expert is projected once into a plain dense checkpoint; from there on it is like any other SLM.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from specialm import methods
from specialm.clustering import saved_clusters
from specialm.clustering.clusters import assign_heldout
from specialm.common import processes
from specialm.common.errors import UserError
from specialm.common.stages import Stage, digest
from specialm.models import families, transformer
from specialm.specialize import choice, finetune
from specialm.training import adapters as adapters_lib
from specialm.training import origin, runs, scoring
from specialm.workflows import finetuning, pipeline
from specialm.workflows.pipeline import Run

KINDS = (families.BANK, families.MIXTURE)


def specialize(
    run: Run,
    base: Path,
    domain: str,
    seed: int,
    key: str,
    teacher: finetuning.Teacher | None = None,
) -> Stage:
    """The fine-tuned small model of a domain, from any pretrained model.

    Args:
      key: identifies the content of `base`.
      teacher: a model fine-tuned on the same domain, to distil from.

    Raises:
      UserError: a teacher while several experts are to be fine-tuned; see `take` and
        `finetuning.finetune`.
    """
    if _is_dense(base) and run.config.expert.index < 0:
        return finetuning.finetune(run, base, domain, seed, key, teacher=teacher)
    _check_experts(base)
    how = run.config.expert.choice
    if run.config.expert.index < 0 and how in (choice.HALVING, choice.FINETUNE_ALL):
        if teacher:
            others = f"{choice.FREQUENT}, {choice.LOSS} or {choice.HISTOGRAM}"
            raise UserError(
                f"expert.choice={how!r} fine-tunes several experts, which works "
                f"without a teacher only; set expert.choice to {others}."
            )
        return _search(run, base, domain, seed, key, how)
    one = take(run, base, domain, key)
    return finetuning.finetune(
        run, one.path, domain, seed, one.fingerprint, _label(run), teacher=teacher
    )


def taken(run: Run, base: Path, domain: str, key: str, stage: Stage) -> Stage | None:
    """The stage of the expert that was fine-tuned; None for a dense model.

    Args:
      base, domain, key: as `specialize` had them.
      stage: that it returned.
    """
    if _is_dense(base) and run.config.expert.index < 0:
        return None
    expert = stage.result.get("expert")
    if expert is None:  # not one of several that were fine-tuned
        return take(run, base, domain, key)
    k = len(runs.load_experts(base).probability_k)
    return _project(run, base, key, choice.one_hot(expert, k), f"expert{expert}", domain)


def _is_dense(base: Path) -> bool:
    return runs.read_record(base).get("kind", families.DENSE) == families.DENSE


def _check_experts(base: Path) -> None:
    """Raises UserError for a model that holds no experts."""
    if _is_dense(base):
        raise UserError(
            f"--checkpoint={base}: {runs.read_record(base)['method']} is one dense model, with no "
            "experts to choose from."
        )


def take(run: Run, base: Path, domain: str, key: str) -> Stage:
    """A plain dense checkpoint of the expert that `expert.choice` (or `expert.index`) names.

    Raises:
      UserError: a dense model; `expert.index` out of range; the clusters are not those of the
        checkpoint.
    """
    _check_experts(base)
    settings, (histogram_k, known) = run.config.expert, _histogram(run, base, domain)
    k = len(histogram_k)
    if settings.index >= 0:
        if settings.index >= k:
            raise UserError(f"expert.index={settings.index}: {base} has the experts 0 to {k - 1}.")
        return _project(run, base, key, choice.one_hot(settings.index, k), _label(run), domain)
    by_histogram = settings.choice in (choice.HISTOGRAM, methods.SOUP)
    if by_histogram or _reads_histograms(base):
        return _project(run, base, key, histogram_k, _label(run), domain)
    if settings.choice == choice.FREQUENT:
        expert = choice.most_frequent(histogram_k, known.probability_k)
        return _project(run, base, key, choice.one_hot(expert, k), _label(run), domain)
    judged = _losses(run, base, domain, key)
    expert = _ranked(judged, known)[0]
    spent = [_entry(judged, choice.LOSS)]
    return _project(run, base, key, choice.one_hot(expert, k), _label(run), domain, spent)


def _reads_histograms(base: Path) -> bool:
    """Whether a bank computes one model for a histogram, not an expert for each cluster."""
    record = runs.read_record(base)
    if record["kind"] != families.BANK:
        return False
    return families.get(record["model"]["family"]).features == families.HISTOGRAM


def _label(run: Run) -> str:
    settings = run.config.expert
    return f"expert{settings.index}" if settings.index >= 0 else settings.choice


def _histogram(run: Run, base: Path, domain: str) -> tuple[np.ndarray, runs.Experts]:
    """float64 [k]: shares of the clusters in the specialist training set; what `base` knows."""
    record, known = runs.read_record(base), runs.load_experts(base)
    if run.base:
        cluster_N, fingerprint = saved_clusters.assign(
            base, run.config, run.stages, run.prepared, domain
        )
    else:
        clusters = run.clusters(record["method"])
        cluster_N, fingerprint = clusters.domains[domain], clusters.fingerprint
    if fingerprint != known.clusters:
        raise UserError(
            f"--checkpoint={base} was trained on other clusters than those of this config "
            f"(model.num_experts={run.config.model.num_experts} and the settings under data and "
            f"clustering); it has {len(known.probability_k)} experts. Use the config it was "
            "trained with."
        )
    return np.bincount(cluster_N, minlength=len(known.probability_k)) / len(cluster_N), known


def _projection(run: Run, model: runs.Model, known: runs.Experts) -> Callable:
    """histogram_k -> the dense parameters of that histogram, on the devices of the run."""
    jitted = jax.jit(
        lambda params, histogram_k: families.expert(
            model.config, params, known.features_kxC, histogram_k
        ),
        out_shardings=runs.layout(families.dense(model.config), run.mesh),
    )
    return lambda histogram_k: jitted(model.params, histogram_k)


def _project(
    run: Run,
    base: Path,
    key: str,
    histogram_k: np.ndarray,
    label: str,
    domain: str,
    spent: Sequence[dict] = (),
) -> Stage:
    """A run folder with the dense model of a histogram. spent: entries for the ledger."""
    record = runs.read_record(base)
    inputs = {
        "base": key,
        "histogram": digest(histogram_k),
        "domain": domain,
        "spent": [entry["phase"] for entry in spent],
    }

    def work(path: Path) -> dict:
        started = time.perf_counter()
        model, known = runs.load(base, run.mesh, KINDS), runs.load_experts(base)
        params = _projection(run, model, known)(histogram_k)
        runs.save(path, params)
        runs.describe(
            path,
            families.dense(model.config),
            model.vocabulary,
            record["method"],
            domain,
            record["seed"],
            [*record["ledger"], *spent],
            origin.inherited(base, path),
        )
        expert = int(np.argmax(histogram_k)) if np.max(histogram_k) == 1 else None
        return {
            "expert": expert,
            "histogram": [float(p) for p in histogram_k],
            "seconds": time.perf_counter() - started,
        }

    return run.stages.run(f"experts/{record['method']}-{label}-{domain}", inputs, work, on_all=True)


def _losses(run: Run, base: Path, domain: str, key: str) -> Stage:
    """Nats per token of every expert on the specialist training set, with what that cost."""
    specialist = pipeline.specialist(run, domain)
    inputs = {
        "base": key,
        "store": specialist.train_store.fingerprint,
        "windows": digest(specialist.train_indices),
        **pipeline.scoring_inputs(run),
    }

    def work(path: Path) -> dict:
        started = time.perf_counter()
        model, known = runs.load(base, run.mesh, KINDS), runs.load_experts(base)
        config, k = families.dense(model.config), len(known.probability_k)
        scored = _score_experts(
            run,
            model,
            known,
            specialist.train_store,
            [specialist.train_indices] * k,
            f"on {domain}",
        )
        nats = [score.nll_per_token for score in scored.values()]
        tokens = k * len(specialist.train_indices) * config.context
        return {
            "nll": nats,
            "tokens": tokens,
            "flops": tokens * transformer.flops_per_token(config, train=False),
            "seconds": time.perf_counter() - started,
        }

    return run.stages.run(f"losses/{base.name}-{domain}", inputs, work, on_all=True)


def score_generic(run: Run, base: Path, key: str, label: str) -> scoring.Score:
    """The held-out generic text under a pretrained model: each window by the expert of its own
    cluster, as in training.
    """
    record = runs.read_record(base)
    if record["kind"] == families.DENSE:
        return pipeline.score_heldout(run, base, ["generic"], key, label)["generic"]
    clusters, store = run.clusters(record["method"]), run.generic_heldout
    cluster_N = assign_heldout(run.stages, run.prepared, clusters)
    used = store.subset(run.config.data.heldout_tokens)
    inputs = {
        "base": key,
        "store": store.fingerprint,
        "windows": digest(used),
        "clusters": digest(cluster_N),
        **pipeline.scoring_inputs(run),
    }

    def work(path: Path) -> dict:
        model, known = runs.load(base, run.mesh, KINDS), runs.load_experts(base)
        scored = _score_experts(
            run,
            model,
            known,
            store,
            [used[cluster_N[used] == expert] for expert in range(len(known.probability_k))],
            "on generic text",
        )
        return {
            name: sum(getattr(part, name) for part in scored.values())
            for name in ("nll", "tokens", "bytes", "windows")
        }

    return scoring.Score(**run.stages.run(f"scores/{label}", inputs, work, on_all=True).result)


def _score_experts(
    run: Run,
    model: runs.Model,
    known: runs.Experts,
    store,
    indices_kxN: list[np.ndarray],
    title: str,
) -> dict[int, scoring.Score]:
    """Each expert that has any windows on its own windows of a store."""
    k = len(indices_kxN)
    score_step = pipeline.make_score_step(run, model.config)
    projected = _projection(run, model, known)
    return {
        expert: scoring.score(
            score_step,
            projected(choice.one_hot(expert, k)),
            store,
            indices_N,
            run.config.evaluate.batch_size,
            run.mesh,
            f"expert {expert} of {k} {title}",
        )
        for expert, indices_N in enumerate(indices_kxN)
        if len(indices_N)
    }


def _ranked(judged: Stage, known: runs.Experts) -> list[int]:
    """The trained experts, the lowest loss first."""
    order = np.argsort(judged.result["nll"], kind="stable")
    return [int(expert) for expert in order if known.probability_k[expert] > 0]


def _entry(stage: Stage, how: str) -> dict:
    return {
        "phase": "selected",
        "choice": how,
        **{name: stage.result[name] for name in ("tokens", "flops", "seconds")},
    }


def _search(run: Run, base: Path, domain: str, seed: int, key: str, how: str) -> Stage:
    """Fine-tunes several experts and keeps the best; all that was spent is in its ledger."""
    known = _histogram(run, base, domain)[1]
    k, spent = len(known.probability_k), []
    trained = [expert for expert in range(k) if known.probability_k[expert] > 0]
    tuned: dict[int, Stage] = {}

    def tune(expert: int, max_steps: int = 0) -> Stage:
        start = tuned.get(expert) or _project(
            run, base, key, choice.one_hot(expert, k), f"expert{expert}", domain
        )
        steps = f"steps{max_steps}" if max_steps else ""
        label = "-".join(filter(None, [how, f"expert{expert}", steps]))
        tuned[expert] = finetuning.finetune(
            run, start.path, domain, seed, start.fingerprint, label, max_steps
        )
        spent.append((expert, tuned[expert]))
        return tuned[expert]

    entries = []
    if how == choice.HALVING:
        judged = _losses(run, base, domain, key)
        entries.append(_entry(judged, choice.LOSS))
        steps = run.config.expert.halving_steps
        rounds = choice.halve(
            _ranked(judged, known), lambda expert, _: tune(expert, steps).result["valid_nll"]
        )
        best = rounds[-1][0]
        tune(best)
    else:
        best = min(trained, key=lambda expert: tune(expert).result["valid_nll"])
    entries += [_entry(stage, how) for expert, stage in spent if expert != best]
    candidates = [stage.fingerprint for _, stage in spent]
    return _keep(run, tuned[best], best, entries, candidates, domain, how, key, seed)


def _keep(
    run: Run,
    stage: Stage,
    expert: int,
    entries: list[dict],
    candidates: list[str],
    domain: str,
    how: str,
    key: str,
    seed: int,
) -> Stage:
    """A copy of the best model whose ledger holds what the others cost.

    Args:
      entries: of the ledger, for them.
      candidates: fingerprints of all that were fine-tuned.
    """
    record = runs.read_record(stage.path)
    inputs = {"base": key, "best": stage.fingerprint, "choice": how}

    def work(path: Path) -> dict:
        if processes.is_first():
            shutil.copytree(stage.path / "checkpoints", path / "checkpoints", dirs_exist_ok=True)
            shutil.copyfile(stage.path / "metrics.jsonl", path / "metrics.jsonl")
        model = runs.load(stage.path, run.mesh)
        runs.describe(
            path,
            model.config,
            model.vocabulary,
            record["method"],
            domain,
            seed,
            [*record["ledger"], *entries],
            {**origin.inherited(stage.path, path), **adapters_lib.copied(stage.path, path)},
        )
        return {**stage.result, "expert": expert, "candidates": candidates}

    adapters = finetune.adapters(run.config.finetune)
    title = "-".join(filter(None, [record["method"], adapters, how, domain]))
    return run.stages.run(f"finetuned/{title}-seed{seed}", inputs, work, on_all=True)
