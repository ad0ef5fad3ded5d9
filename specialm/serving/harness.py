"""Any dense run folder in lm-evaluation-harness (the package lm-eval), where it is installed:

    import lm_eval
    from specialm.serving import harness

    found = lm_eval.simple_evaluate(harness.language_model(RUN), tasks=["blimp", "arc_easy"])

It needs the datasets of its tasks; `specialm tasks` needs a file only. How texts are scored:
`evaluation/likelihood.py`. A text that is longer than the model's window is scored in windows one
after the other, without overlap, as `specialm evaluate` does.
"""

import importlib
from pathlib import Path
from typing import Any

from specialm.common.errors import UserError
from specialm.evaluation.likelihood import Likelihoods
from specialm.serving import generate
from specialm.serving.decoding.sampling import of
from specialm.training import runs, sharding

TOKENS = 256  # that are drawn where a task does not say how many


def language_model(run: str | Path) -> Any:
    """The dense model in a run folder as an `lm_eval.api.model.LM`.

    Raises:
      UserError: lm-eval is not installed; no run folder, or no causal dense model.
    """
    try:
        base = importlib.import_module("lm_eval.api.model").LM
    except ModuleNotFoundError as error:
        raise UserError(
            f"lm-evaluation-harness is not installed (there is no module {error.name!r}): run "
            "`pip install lm-eval`."
        ) from error
    model = runs.load(Path(run), sharding.make_mesh())
    return type("SpecialmLM", (_Model, base), {})(model)


class _Model:
    """The three requests that the harness makes, besides what its base class has."""

    def __init__(self, model: runs.Model):
        super().__init__()
        self._likelihoods = Likelihoods(model)
        self._vocabulary, self._config = model.vocabulary, self._likelihoods.config
        self._engine = generate.engine(model.params, self._config, model.vocabulary)

    def loglikelihood(self, requests: list) -> list[tuple[float, bool]]:
        """(log p, whether it is what greedy decoding gives) of (context, continuation)."""
        pairs = [request.args for request in requests]
        contexts = [context for context, _ in pairs]
        texts = self._likelihoods.starts(contexts, ["".join(pair) for pair in pairs])
        return [(-each.nats, each.greedy) for each in self._likelihoods.score(texts, "scoring")]

    def loglikelihood_rolling(self, requests: list) -> list[float]:
        """log p of whole texts."""
        texts = self._vocabulary.encode([request.args[0] for request in requests])
        scored = self._likelihoods.score([(tokens, 0) for tokens in texts], "scoring")
        return [-each.nats for each in scored]

    def generate_until(self, requests: list) -> list[str]:
        """What follows (context, {"until", "max_gen_toks", "do_sample", "temperature"}); the
        window slides over long texts.
        """
        return [self._continued(*request.args) for request in requests]

    def _continued(self, context: str, wanted: dict) -> str:
        until = wanted.get("until") or ()
        sampling = of(
            tokens=wanted.get("max_gen_toks", TOKENS),
            temperature=wanted.get("temperature", 1.0) if wanted.get("do_sample") else 0.0,
            stop=(until,) if isinstance(until, str) else tuple(until),
            slide=True,
        )
        ids = generate.encode(self._vocabulary, self._config, context, sampling)
        return generate.complete(self._engine, [ids], sampling)[0].text
