"""What `import specialm` offers: a model from a run folder, in a few lines of Python.

>>> import specialm
>>> model = specialm.load(RUN)  # the run folder of a dense model
>>> scores = model.score(["one text", "another"])
>>> scores.bytes.tolist()
[8, 7]
>>> scores.bits_per_byte > 0
True
>>> model.generate("one text", tokens=4).startswith("one text")
True
>>> model.embed(["one text", "another"]).shape == (2, model.config.d_model)
True
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from specialm.common.errors import UserError
from specialm.data.vocabularies import Vocabulary
from specialm.models import families
from specialm.models.config import Config
from specialm.training import runs

BATCH = 8  # windows that are scored at a time


@dataclass(frozen=True)
class Scores:
    """Of texts, one number each."""

    nats: np.ndarray  # float64 [d]: -log p of the tokens, the end of the document among them
    bytes: np.ndarray  # int64 [d]: of the text in UTF-8
    tokens: np.ndarray  # int64 [d]

    @property
    def bits_per_byte(self) -> float:
        """Of all texts together: comparable between vocabularies."""
        return float(self.nats.sum() / np.log(2) / self.bytes.sum())


class LanguageModel:
    """A dense model of a run folder."""

    def __init__(self, model: runs.Model):
        self._model = model

    def __repr__(self) -> str:
        return f"<specialm model {self.path.name}>"

    @property
    def path(self) -> Path:
        """The run folder."""
        return self._model.path

    @property
    def config(self) -> Config:
        """Sizes and architecture."""
        return families.dense(self._model.config)

    @property
    def vocabulary(self) -> Vocabulary:
        """Text <-> ids."""
        return self._model.vocabulary

    @property
    def record(self) -> dict:
        """What `model.json` holds: settings, origin, ledger."""
        return self._model.record

    def generate(
        self,
        prompt: str | Sequence[str],
        tokens: int = 64,
        temperature: float = 0.0,
        top_k: int = 40,
        seed: int = 0,
        **sampling,
    ):
        """`prompt` and what follows it: at most `tokens` tokens, up to the end of the document; of
        a list of prompts a list, each as it would be alone.

        Args:
          temperature: 0 takes the likeliest token.
          sampling: top_p, min_p, repetition_penalty, stop, slide; see
            `specialm.serving.decoding.sampling.Sampling`.

        Raises:
          UserError: a value out of range, a prompt that is too long, or the model is not causal.
        """
        given = [prompt] if isinstance(prompt, str) else [*prompt]
        made = self.complete(given, tokens, temperature, top_k, seed, **sampling)
        texts = [text + each.text for text, each in zip(given, made, strict=True)]
        return texts[0] if isinstance(prompt, str) else texts

    def complete(
        self,
        prompts: Sequence[str],
        tokens: int = 64,
        temperature: float = 0.0,
        top_k: int = 40,
        seed: int = 0,
        **sampling,
    ):
        """As `generate`, but a list of `Completion`: the text without its prompt, its tokens with
        their log-probabilities, and why it ends.
        """
        from specialm.serving import generate
        from specialm.serving.decoding.sampling import of

        wanted = of(tokens=tokens, temperature=temperature, top_k=top_k, seed=seed, **sampling)
        ids = [generate.encode(self.vocabulary, self.config, text, wanted) for text in prompts]
        return generate.complete(self._engine, ids, wanted)

    def stream(self, prompt: str, **sampling) -> Iterator[str]:
        """What follows `prompt`, as it comes, in whole characters; arguments as of `generate`."""
        from specialm.serving import generate
        from specialm.serving.decoding.sampling import of

        wanted = of(**sampling)
        ids = generate.encode(self.vocabulary, self.config, prompt, wanted)
        # An engine of its own: other texts may be wanted before this one ends.
        engine = generate.engine(self._model.params, self.config, self.vocabulary)
        return (delta.text for _, delta in generate.stream(engine, ids, wanted) if delta.text)

    def chat(self, messages: Sequence[Mapping[str, str]], **sampling) -> str:
        """The assistant's next turn in a conversation, by the model's chat template.

        Args:
          messages: [{"role": "user", "content": "..."}, ...].
          sampling: as of `generate`.

        Raises:
          UserError: the model has no chat template, or it refuses these messages.
        """
        from specialm.serving import chat, generate
        from specialm.serving.decoding.sampling import of

        ids = chat.encode(self.vocabulary, messages)
        return generate.complete(self._engine, [ids], of(**sampling), bare=True)[0].text

    @cached_property
    def _engine(self):
        from specialm.serving import generate

        return generate.engine(self._model.params, self.config, self.vocabulary)

    def score(self, texts: Sequence[str]) -> Scores:
        """-log p of each text, cut into windows of `config.context` tokens as in evaluation.

        Raises:
          UserError: `texts` is one text, or the model is not causal.
        """
        if isinstance(texts, str):
            raise UserError("score: takes a list of texts; put a single one into a list.")
        if not self.config.causal:
            raise UserError("model.causal=False: only causal models give a text a probability.")
        encoded = [[*tokens, self.vocabulary.eos] for tokens in self.vocabulary.encode([*texts])]
        context = self.config.context
        windows = [
            (i, tokens[first : first + context])
            for i, tokens in enumerate(encoded)
            for first in range(0, len(tokens), context)
        ]
        nats_d = np.zeros(len(encoded))
        for start in range(0, len(windows), BATCH):
            part = windows[start : start + BATCH]
            of_windows = self._nats([tokens for _, tokens in part])
            np.add.at(nats_d, [i for i, _ in part], of_windows)
        sizes = [len(text.encode()) for text in texts]
        counts = [len(tokens) for tokens in encoded]
        return Scores(nats_d, np.array(sizes, np.int64), np.array(counts, np.int64))

    def _nats(self, windows: list[list[int]]) -> np.ndarray:
        """float64 [B] of at most BATCH windows."""
        shape = (BATCH, self.config.context)
        targets_BxL = np.zeros(shape, np.int32)
        mask_BxL = np.zeros(shape, np.float32)
        for row, tokens in enumerate(windows):
            targets_BxL[row, : len(tokens)] = tokens
            mask_BxL[row, : len(tokens)] = 1
        inputs_BxL = np.full(shape, self.vocabulary.start, np.int32)
        inputs_BxL[:, 1:] = targets_BxL[:, :-1]
        nll_BxL = self._token_nll(self._model.params, inputs_BxL, targets_BxL)
        return np.asarray(nll_BxL * mask_BxL, np.float64).sum(1)[: len(windows)]

    @cached_property
    def _token_nll(self):
        import jax

        from specialm.models import transformer

        config = self.config

        def token_nll(params, inputs_BxL, targets_BxL):
            return transformer.token_nll(params, inputs_BxL, targets_BxL, config)

        return jax.jit(token_nll)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [d, D]: of each text the mean of its tokens' final states, what the head reads.

        A text is cut into windows of `config.context` - 1 tokens after `vocabulary.start`, which
        is left out of the mean; an empty text has the state of that one.

        Raises:
          UserError: `texts` is one text.
        """
        if isinstance(texts, str):
            raise UserError("embed: takes a list of texts; put a single one into a list.")
        encoded, room = self.vocabulary.encode([*texts]), self.config.context - 1
        windows = [
            (i, tokens[first : first + room])
            for i, tokens in enumerate(encoded)
            for first in range(0, max(len(tokens), 1), room)
        ]
        sum_dxD = np.zeros((len(encoded), self.config.d_model))
        for start in range(0, len(windows), BATCH):
            part = windows[start : start + BATCH]
            np.add.at(sum_dxD, [i for i, _ in part], self._summed([tokens for _, tokens in part]))
        count_d = np.array([max(len(tokens), 1) for tokens in encoded])
        return (sum_dxD / count_d[:, None]).astype(np.float32)

    def _summed(self, windows: list[list[int]]) -> np.ndarray:
        """float64 [B, D]: the sum of the final states of at most BATCH windows."""
        shape = (BATCH, self.config.context)
        inputs_BxL = np.full(shape, self.vocabulary.start, np.int32)
        there_BxL, counted_BxL = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for row, tokens in enumerate(windows):
            inputs_BxL[row, 1 : 1 + len(tokens)] = tokens
            there_BxL[row, : 1 + len(tokens)] = 1
            counted_BxL[row, min(1, len(tokens)) : 1 + len(tokens)] = 1
        states_BxLxD = self._states(self._model.params, inputs_BxL, there_BxL)
        states_BxLxD = np.asarray(states_BxLxD, np.float64)
        return np.einsum("BLD,BL->BD", states_BxLxD, counted_BxL)[: len(windows)]

    @cached_property
    def _states(self):
        import jax

        from specialm.models import transformer

        config = self.config

        def states(params, inputs_BxL, there_BxL):
            found = transformer.hidden(params, inputs_BxL, config, mask_BxL=there_BxL)
            return found[transformer.LAST].reshape(*inputs_BxL.shape, config.d_model)

        return jax.jit(states)

    def export(
        self,
        to: str | Path,
        format: str = "hf",  # noqa: A002
        dtype: str = "f32",
        base: str = "",
    ) -> dict:
        """Writes the model for another program; see docs/open_models.md.

        Args:
          to: a folder that is not there yet.
          format: "hf", "gguf", "onnx", or "peft" for the adapters of a model that LoRA tuned.
          dtype: f32, f16 or bf16 (hf, peft); f32, f16, q8_0 or q4_0 (gguf); f32 (onnx).
          base: of "peft": folder or name of the base model.

        Raises:
          UserError: what the format does not hold, with the way out.
        """
        from specialm.serving import exporting

        return exporting.export(self._model, Path(to), format, dtype, base=base)


def load(run: str | Path) -> LanguageModel:
    """The dense model in a run folder that `train`, `specialize` or `import` wrote.

    Raises:
      UserError: no run folder, or one with several experts.
    """
    from specialm.training import sharding

    return LanguageModel(runs.load(Path(run), sharding.make_mesh()))
