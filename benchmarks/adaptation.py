"""Quality against compute of the ways to a new language, on real text in several languages.

    python -m benchmarks.adaptation --out=results/adaptation/rows.jsonl     # the whole grid
    python -m benchmarks.adaptation ... --languages=ru --kinds=decoder --seeds=0 --summary

For each kind of model (decoder, masked) and seed a model is pretrained on English with its last
head alone, and one with a second head behind --layer; for each language it gets a vocabulary of the
same size, every rule's rows without training, and rows that are learnt through the whole model,
MiniJoint's and MiniPost's, on so many tokens; beside them a model of the same size from scratch,
and the whole model trained on with its old vocabulary. Every cell is one JSON line of --out with
bits per byte on held-out pages (of masked models those of the pseudo-likelihood, one token in seven
hidden at once), which are the same in all languages, and what it cost; models are stages of the
work folder. A killed run goes on where it was. The text is that of benchmarks/adaptation_text.py
and the default corpora.
"""

import argparse
import copy
import dataclasses
import runpy
import shutil
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path

import jax
from ml_collections import ConfigDict

from benchmarks import adaptation_text, adaptation_words
from benchmarks import cells as grid
from benchmarks.adaptation_summary import summary
from benchmarks.cells import listed
from specialm.common import code, runtime

runtime.configure()

from specialm import config as config_lib  # noqa: E402
from specialm.common.errors import UserError  # noqa: E402
from specialm.common.stages import Stage, Stages  # noqa: E402
from specialm.models import transformer  # noqa: E402
from specialm.specialize import budget, finetune, tuning_step  # noqa: E402
from specialm.training import objectives, runs, sharding  # noqa: E402
from specialm.workflows import (  # noqa: E402
    adapting,
    adapting_plan,
    finetuning,
    from_checkpoint,
    initial,
    own_text,
    pipeline,
    pretraining,
)

ROOT = Path(__file__).parents[1]
KINDS = {
    "decoder": (),
    "masked": ("model.causal=False", "train.objective=masked", "evaluate.hidden_every=7"),
}
MODEL = ("model.num_layers=6", "model.d_model=128", "model.d_ff=512", "model.num_heads=4")
# By validation text: of pretraining on 0.6M tokens (Muon at 8e-3 and 16e-3, AdamW at 8e-3, which is
# worse by far), and of rows of Russian on 0.125M (4e-3 to 32e-3).
RECIPE = (
    "train.optimizer=muon",
    "train.batch_size=32",
    "train.learning_rate=16e-3",
    "train.tokens=4_000_000",
)
TOKENS = {  # of the target text
    "full": (125_000, 500_000),
    "mini_joint": (125_000, 500_000, 1_000_000),
    "mini_post": (125_000, 500_000, 1_000_000),
    "scratch": (500_000,),
    "old": (500_000,),
}
RULES = ("random", "overlap", "subword_mean", "fvt", "focus", "omp", "wechsel")
INIT = "focus"  # of rows that are learnt


@dataclasses.dataclass(frozen=True)
class Cell:
    """One line of the rows: `via` is one of `adapting_plan.VIA`, scratch, or old."""

    kind: str
    seed: int
    language: str
    via: str
    init: str
    tokens: int


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """All cells, those that share models after each other."""
    for kind in options.kinds:
        for seed in options.seeds:
            for language in options.languages:
                for rule in options.rules:
                    yield Cell(kind, seed, language, "none", rule, 0)
                for via in options.via:
                    init = INIT if via in adapting_plan.VIA else ""
                    for tokens in options.tokens or TOKENS[via]:
                        yield Cell(kind, seed, language, via, init, tokens)


def work_of(cell: Cell) -> float:
    """Roughly how long a cell takes, in tokens."""
    return cell.tokens + 50_000


class Models:
    """The pretrained models and opened texts that cells share."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.work = options, Path(options.workdir)
        self.stages = Stages(self.work / "models", quiet=True)
        self._bases: dict[tuple, Stage] = {}

    @cached_property
    def texts(self) -> dict[str, Path]:
        """The book, {language: file of JSON lines}."""
        return adaptation_text.fetch(self.work / "text", self.options.languages)

    def dictionary(self, language: str) -> str:
        """From English."""
        return str(adaptation_words.fetch(self.work / "text", language))

    def source(self) -> str:
        """English: the default corpora, with the book."""
        folder = self.work / "text" / "source"
        if self.options.source:
            return self.options.source
        if not folder.exists():
            from specialm.data.corpora import widen

            root = Path(self.options.corpora)
            widen.fetch(root, ["generic"])
            made = folder.with_suffix(".part")
            shutil.rmtree(made, ignore_errors=True)
            shutil.copytree(root / "generic", made)
            shutil.copyfile(self.texts[adaptation_text.ENGLISH], made / "handbook.jsonl")
            made.rename(folder)
        return f"jsonl:{folder}"

    def config(self, kind: str, seed: int, joint: bool) -> ConfigDict:
        """Of a pretrained model."""
        path = ROOT / "configs" / "local" / "slm.py"
        config = runpy.run_path(str(path))["get_config"]()
        config.title, config.seed = "adaptation", seed
        config.data.generic = self.source()
        config.data.vocabulary_size = 2048
        config.finetune.learning_rate = 0.0
        config.train.tensorboard = False
        exits = (f"model.exits=({self.options.layer},)",) if joint else ()
        for change in (*MODEL, *RECIPE, *KINDS[kind], *exits, *self.options.set):
            config_lib.override(config, change)
        config_lib.check(config)
        return config.lock()

    def base(self, kind: str, seed: int, joint: bool) -> Stage:
        """The model that was pretrained on English, with a second head or without."""
        key = (kind, seed, joint)
        if key not in self._bases:
            config = self.config(kind, seed, joint)
            run = pipeline.open_run(config, self.stages.root, [], ("slm",), self.stages)
            self._bases[key] = pretraining.pretrain(run, "slm", "", seed)
        return self._bases[key]

    def mesh(self, config: ConfigDict) -> jax.sharding.Mesh:
        """The devices that a model learns a task on."""
        return sharding.make_mesh(config.finetune.batch_size, layout=config.mesh)

    def opened(self, base: Stage, cell: Cell) -> pipeline.Run:
        """The text of a language, cut with the model's own vocabulary."""
        source = f"jsonl:{self.texts[cell.language]}"
        config = from_checkpoint.load(base.path, (), source, trusted=True, name=cell.language)
        changed = copy.deepcopy(config).unlock()
        batch = changed.finetune.batch_size * changed.data.context
        changed.seed, changed.finetune.patience = cell.seed, 0
        # The same of every budget, so that MiniPost's shallow model serves all.
        changed.finetune.eval_every = max(1, self.options.every // batch)
        limited = budget.for_tokens(changed.lock(), cell.tokens)
        return from_checkpoint.open_run(
            limited, self.stages.root, [cell.language], base.path, trusted=True
        )


def adapted(cell: Cell, models: Models) -> tuple[pipeline.Run, initial.Initial, adapting.Adapted]:
    """The text cut with the old vocabulary, the pretrained model, what `cell.via` makes of it."""
    base = models.base(cell.kind, cell.seed, cell.via == "mini_joint")
    model = initial.read(base.path, base.fingerprint, "from")
    via = cell.via if cell.via in adapting_plan.VIA else "none"
    layer = models.options.layer if via.startswith("mini") else 0
    plan = adapting_plan.Plan(
        via,
        cell.init or "random",
        layer=layer,
        tokens=cell.tokens,
        mini_tokens=models.options.mini_tokens,
        dictionary=models.dictionary(cell.language) if cell.init == "wechsel" else "",
    )
    run = models.opened(base, cell)
    return run, model, adapting.adapt(run, model, plan, "", {own_text.PACE})


def row(cell: Cell, models: Models) -> dict:
    """Trains and scores; what is done already is reused."""
    run, model, made = adapted(cell, models)
    if cell.via == "old":
        return _facts(cell, *_old(run, made.run, model, cell))
    more = {"before": made.before.bits_per_byte, "tokens_saved": made.tokens_saved}
    if cell.via == "scratch":
        return _facts(cell, *_scratch(made.run, model, cell)) | more
    return _facts(cell, made.stage, made.after.bits_per_byte) | more


def _facts(cell: Cell, stage: Stage, bits: float) -> dict:
    found = stage.result
    return {
        **dataclasses.asdict(cell),
        "bits_per_byte": bits,
        "flops": found["flops"] - found.get("valid_flops", 0),
        "one_off_flops": found.get("one_off_flops", 0),
        "seconds": found["seconds"],
        **code.made_by([stage]),
    }


def _old(
    run: pipeline.Run, new: pipeline.Run, base: initial.Initial, cell: Cell
) -> tuple[Stage, float]:
    """The whole model trained on with its own vocabulary, and its bits on the documents that are
    scored with the new one.
    """
    stage = finetuning.finetune(run, base.path, cell.language, cell.seed, base.key)
    store = run.prepared.domains[cell.language]["heldout"]
    same = pipeline.same_documents(store, *pipeline.heldout(new, cell.language))
    return stage, _bits(run, stage, cell, {cell.language: same})


def _scratch(run: pipeline.Run, base: initial.Initial, cell: Cell) -> tuple[Stage, float]:
    """A model of the same sizes with the new vocabulary, from random parameters."""
    config, vocabulary = run.config, run.prepared.vocabulary
    part = pipeline.specialist(run, cell.language)
    sizes = dataclasses.replace(base.config, vocab_size=vocabulary.size, exits=())
    tune = finetune.for_set(config.train, config.finetune, part, True)
    inputs = {"store": part.train_store.fingerprint, "seed": cell.seed, "tune": tune.to_dict()}
    inputs |= {"model": dataclasses.asdict(sizes), "train": config.train.to_dict()}

    def work(path: Path) -> dict:
        params = transformer.init(sizes, jax.random.key(cell.seed))
        entry = finetune.fit(
            path,
            sizes,
            tuning_step.everything(sizes, params),
            objectives.make(config.train.objective, sizes),
            part,
            config.train,
            tune,
            cell.seed,
            run.mesh,
            f"from scratch on {cell.language}",
        )
        runs.describe(path, sizes, vocabulary, "slm", cell.language, cell.seed, [entry])
        return entry

    stage = run.stages.run(f"finetuned/scratch-{cell.language}-seed{cell.seed}", inputs, work)
    return stage, _bits(run, stage, cell)


def _bits(run: pipeline.Run, stage: Stage, cell: Cell, windows=None) -> float:
    label, key = stage.path.name, stage.fingerprint
    found = pipeline.score_heldout(run, stage.path, [cell.language], key, label, windows)
    return found[cell.language].bits_per_byte


def parser(text: str, rows: str, languages: bool = True) -> argparse.ArgumentParser:
    """The options that such a grid has.

    Args:
      text: its first line says what the program does.
      rows: the name of the file that is written.
      languages: whether it is about new languages, with --kinds and --every.
    """
    made = argparse.ArgumentParser(description=text.splitlines()[0])
    made.add_argument("--workdir", default="runs/adaptation")
    made.add_argument("--out", default=f"runs/adaptation/{rows}")
    made.add_argument("--corpora", default="data/corpora", help="where specialm fetch put them")
    made.add_argument("--source", default="", help="English text instead of them and the book")
    made.add_argument("--languages", type=listed(str), default=["de", "fr", "ru"])
    made.add_argument("--seeds", type=listed(int), default=[0, 1, 2])
    made.add_argument("--layer", type=int, default=2, help="of the shallow model's head")
    made.add_argument("--mini_tokens", type=int, default=1_000_000, help="of MiniPost's layers")
    made.add_argument("--set", action="append", default=[], help="FIELD=VALUE of the config")
    made.add_argument("--summary", action="store_true", help="only of the rows that are there")
    if languages:
        made.add_argument("--kinds", type=listed(str), default=list(KINDS))
        made.add_argument("--every", type=int, default=62_500, help="tokens a validation")
    return made


def check(options: argparse.Namespace, choices: dict[str, Collection[str]]) -> None:
    """Raises UserError for a language that there is not, or another choice."""
    adaptation_text.check(options.languages)
    for name, known in choices.items():
        for value in getattr(options, name):
            if value not in known:
                raise UserError(f"--{name}={value}: must be one of {', '.join(known)}.")


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    """The options.

    Raises:
      UserError: a language, a kind, a way or a rule that there is not.
    """
    made = parser(__doc__, "rows.jsonl")
    made.add_argument("--via", type=listed(str), default=list(TOKENS))
    made.add_argument("--rules", type=listed(str), default=list(RULES))
    made.add_argument("--tokens", type=listed(int), default=[], help="instead of each way's own")
    options = made.parse_args(argv)
    check(options, {"kinds": KINDS, "via": TOKENS, "rules": RULES})
    return options


def main(argv: list[str] | None = None) -> None:
    options = parsed(argv)
    models = Models(options)
    grid.main(options, cells, lambda cell: row(cell, models), summary, "bits_per_byte", work_of)


if __name__ == "__main__":
    main()
