"""A specialist's own vocabulary for a decoder, against fine-tuning with the old one at equal FLOPs.

    python -m benchmarks.adaptation_domains --out=results/adaptation/domains.jsonl
    python -m benchmarks.adaptation_domains ... --models=slm --domains=med --seeds=0 --summary

Models: `slm`, the decoder that benchmarks/adaptation.py pretrains on English, and `open`, an open
checkpoint of 135M parameters. Domains: those of the default corpora, and languages, in which there
is Debian's handbook. A way is a vocabulary and how its rows are learnt: `old` keeps the
model's own; `new` is trained on the domain's text, `extend` is the model's own, fitted to it; rows
are learnt on --share of the tokens through the whole model, MiniJoint's or MiniPost's, or not at
all (`none`), then everything is fine-tuned. All ways of a model spend the FLOPs of fine-tuning with
the old vocabulary on --tokens; MiniPost's layers and pretraining's second head, which serve every
domain, stand beside them. Bits per byte are of the same held-out documents. A killed
run goes on where it was. benchmarks/adaptation_speed.py times the models, writing.
"""

import argparse
import copy
import dataclasses
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks import adaptation, adaptation_text, intervals
from benchmarks import cells as grid
from benchmarks.cells import listed
from specialm.common import code
from specialm.common.errors import UserError
from specialm.common.stages import Stage
from specialm.models import transformer
from specialm.specialize import budget
from specialm.training import rates
from specialm.workflows import (
    adapting,
    adapting_plan,
    finetuning,
    from_checkpoint,
    initial,
    new_rows,
    open_models,
    own_text,
    pipeline,
    stage_keys,
)

OPEN = "smollm2-135m"
DOMAINS = ("med", "de")
OLD = "old"
WAYS = {
    "slm": (OLD, "new none", "new full", "new mini_joint", "new mini_post"),
    "open": (OLD, "extend none", "extend full", "new none", "new full", "new mini_post"),
}
TOKENS = {"slm": 500_000, "open": 50_000}
NEW_SIZE = {"slm": 0, "open": 8192}  # tokens of a new vocabulary; 0: as many as the old one
LIMITS = {  # of what is read without training: a pass of the open model is slow
    "slm": (),
    "open": ("data.valid_tokens=4000", "data.heldout_tokens=16000"),
}
INITS = {"new": "focus", "extend": "subword_mean"}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One line of the rows. `tokens`: of fine-tuning with the old vocabulary."""

    model: str
    domain: str
    way: str
    seed: int
    tokens: int

    @property
    def vocabulary(self) -> str:
        """`old`, `new` or `extend`."""
        return self.way.split()[0]

    @property
    def via(self) -> str:
        """How rows are learnt."""
        return self.way.split()[-1]


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """All cells, those that share models after each other."""
    for model in options.models:
        for seed in options.seeds:
            for domain in options.domains:
                for way in options.ways or WAYS[model]:
                    yield Cell(model, domain, way, seed, options.tokens or TOKENS[model])


def base_of(cell: Cell, models: adaptation.Models) -> initial.Initial:
    """The trained model that all starts from."""
    if cell.model == "slm":
        stage = models.base("decoder", cell.seed, cell.via == "mini_joint")
        return initial.read(stage.path, stage.fingerprint, "from")
    path = open_models.import_model({"model": OPEN}, models.stages.root, 0).path
    return initial.read(path, stage_keys.checkpoint_key(path), "from")


def opened(
    cell: Cell, base: initial.Initial, models: adaptation.Models, size: int = 0
) -> pipeline.Run:
    """The domain's text, cut with the model's own vocabulary.

    Args:
      size: of a new vocabulary; 0 is the model's own.
    """
    source = f"jsonl:{_text(cell.domain, models)}"
    config = from_checkpoint.load(base.path, (), source, trusted=True, name=cell.domain)
    config = copy.deepcopy(config).unlock()
    config.seed, config.data.specialist_tokens = cell.seed, 0
    config.finetune.patience = 0
    config.finetune.eval_every = budget.for_tokens(config, cell.tokens / 8).finetune.max_steps
    config.data.vocabulary_size = size or config.data.vocabulary_size
    for change in (*LIMITS[cell.model], *models.options.set):
        adaptation.config_lib.override(config, change)
    generic = models.source() if cell.via == "mini_post" else ""
    return from_checkpoint.open_run(
        config.lock(), models.stages.root, [cell.domain], base.path, True, generic, trained=True
    )


def _text(domain: str, models: adaptation.Models) -> Path:
    if domain in adaptation_text.LANGUAGES:
        return adaptation_text.fetch(models.work / "text", [domain])[domain]
    return Path(models.options.corpora) / "domains" / f"{domain}.jsonl"


def row(cell: Cell, models: adaptation.Models) -> dict:
    """Adapts, fine-tunes and scores; what is done already is reused."""
    base = base_of(cell, models)
    size = NEW_SIZE[cell.model] if cell.vocabulary == "new" else 0
    run = opened(cell, base, models, size)
    alone = dataclasses.replace(base.config, exits=())  # the last head
    flops = cell.tokens * transformer.flops_per_token(alone, train=True)
    spent, once = 0.0, 0.0
    start, path, key = base.config, base.path, base.key
    stages: list[Stage] = []
    cut = pipeline.heldout(run, cell.domain)
    if cell.vocabulary != OLD:
        made = adapting.adapt(run, base, _plan(cell, models), "", _given(size))
        spent, once = (made.stage.result[name] for name in ("flops", "one_off_flops"))
        spent -= made.stage.result.get("valid_flops", 0)
        path, key, run = made.stage.path, made.stage.fingerprint, made.run
        start = initial.read(path, key).config
        stages.append(made.stage)
    left = _limited(run, (flops - spent) / transformer.flops_per_token(start, train=True), cell)
    tuned = finetuning.finetune(left, path, cell.domain, cell.seed, key)
    stages.append(tuned)
    store = run.prepared.domains[cell.domain]["heldout"]
    same = {cell.domain: pipeline.same_documents(store, *cut)}  # those that the old one reads
    before, after = (
        pipeline.score_heldout(run, of, [cell.domain], made_by, of.name, same)[cell.domain]
        for of, made_by in ((path, key), (tuned.path, tuned.fingerprint))
    )
    return {
        **dataclasses.asdict(cell),
        "vocabulary_size": start.vocab_size,
        "heldout_tokens": after.tokens,
        "heldout_bytes": after.bytes,
        "adapted": before.bits_per_byte,
        "bits_per_byte": after.bits_per_byte,
        "rows_flops": spent,
        "flops": spent + tuned.result["flops"] - tuned.result["valid_flops"],
        "one_off_flops": once,
        "seconds": sum(stage.seconds for stage in stages),
        "run": str(tuned.path.relative_to(models.stages.root)),
        **code.made_by(stages),
    }


def _plan(cell: Cell, models: adaptation.Models) -> adapting_plan.Plan:
    options = models.options
    shallow = cell.via.startswith("mini")
    return adapting_plan.Plan(
        cell.via,
        INITS[cell.vocabulary],
        cell.vocabulary,
        layer=options.layer if shallow and cell.model == "slm" else 0,
        tokens=0 if cell.via == "none" else round(cell.tokens * options.share),
        mini_tokens=min(options.mini_tokens, cell.tokens),
    )


def _given(size: int) -> set[str]:
    """Names of the settings that the benchmark has set."""
    return {own_text.PACE, *([new_rows.SIZE] if size else [])}


def _limited(run: pipeline.Run, tokens: float, cell: Cell) -> pipeline.Run:
    """The run with fine-tuning on so many tokens, at one rate for every vocabulary: by default it
    depends on how many tokens a text has.
    """
    config = copy.deepcopy(budget.for_tokens(run.config, tokens)).unlock()
    if cell.model == "slm":
        config.finetune.learning_rate = config.train.learning_rate / rates.FEWER
    return dataclasses.replace(run, config=config.lock())


def summary(rows: list[dict]) -> list[str]:
    """A table as Markdown: means over seeds, differences to the old vocabulary of the same seed."""
    lines = ["| model | domain | way | vocabulary | tokens saved | bits per byte | against old |"]
    lines[0] += " FLOPs | once | rows |"
    lines.append("|---" * 10 + "|")
    old = {(r["model"], r["domain"], r["seed"], r["tokens"]): r for r in rows if r["way"] == OLD}
    for (model, domain, way), found in grid.by(rows, "model", "domain", "way").items():
        pairs = [
            (line, old[key])
            for line in found
            if (key := (model, domain, line["seed"], line["tokens"])) in old
        ]
        saved = [1 - line["heldout_tokens"] / of["heldout_tokens"] for line, of in pairs]
        more = [line["bits_per_byte"] - of["bits_per_byte"] for line, of in pairs]
        cells = [
            f"{found[0]['vocabulary_size']:,}",
            f"{statistics.mean(saved):.1%}" if pairs else "",
            f"{statistics.mean(line['bits_per_byte'] for line in found):.4f}",
            "" if way == OLD or not pairs else intervals.shown(more, "+.4f"),
            f"{statistics.mean(line['flops'] for line in found):.3g}",
            f"{statistics.mean(line['one_off_flops'] for line in found):.3g}",
            str(len(found)),
        ]
        lines.append(f"| {model} | {domain} | {way} | " + " | ".join(cells) + " |")
    return lines


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    """The options.

    Raises:
      UserError: a model or a way that there is not, or a share out of range.
    """
    made = adaptation.parser(__doc__, "domains.jsonl", languages=False)
    made.set_defaults(seeds=[0])
    made.add_argument("--models", type=listed(str), default=list(WAYS))
    made.add_argument("--domains", type=listed(str), default=list(DOMAINS))
    made.add_argument("--ways", type=listed(str), default=[], help="instead of all of a model's")
    made.add_argument("--tokens", type=int, default=0, help="instead of each model's own")
    made.add_argument("--share", type=float, default=0.5, help="of the tokens, for rows alone")
    options = made.parse_args(argv)
    known = {way for ways in WAYS.values() for way in ways}
    adaptation.check(options, {"models": WAYS, "ways": known})
    if not 0 < options.share < 1:
        raise UserError(f"--share={options.share:g}: must be between 0 and 1.")
    return options


def work_of(cell: Cell) -> float:
    """Roughly how long a cell takes, in FLOPs."""
    return cell.tokens * (8e8 if cell.model == "open" else 1e7)


def main(argv: list[str] | None = None) -> None:
    options = parsed(argv)
    models = adaptation.Models(options)
    grid.main(options, cells, lambda cell: row(cell, models), summary, "bits_per_byte", work_of)


if __name__ == "__main__":
    main()
