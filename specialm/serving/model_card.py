"""The model card of an export: what it is, what it cost, how it scored, how it was verified."""

from specialm.serving.architectures.record import Json
from specialm.training.runs import Model

HF = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("THIS FOLDER")
model = AutoModelForCausalLM.from_pretrained("THIS FOLDER")
ids = tokenizer("The patient", return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(ids, max_new_tokens=40)[0]))
```"""
ONNX = """```python
import numpy, onnxruntime, tokenizers  # of a SentencePiece vocabulary: sentencepiece

session = onnxruntime.InferenceSession("model.onnx")
ids = tokenizers.Tokenizer.from_file("tokenizer.json").encode("The patient").ids
logits, states = session.run(None, {"tokens": numpy.array([ids])})  # float32 [1, L, V], [1, L, D]
```"""
PEFT = """```python
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("THIS FOLDER")  # loads its base too
```"""
GGUF = """```sh
llama-cli -m model-{dtype}.gguf -no-cnv -p "The patient"
```"""


def write(model: Model, about: Json, use: str, dtype: str, report: Json, scores: list[dict]) -> str:
    """The card, Markdown with the metadata that model hubs read.

    Args:
      about: name, licence, library, and of an adapter its base.
      use: how it is run.
      report: of `verify`.
      scores: {set, metric: value}, of the held-out text.
    """
    record, licence = model.record, about["licence"]
    origin = record.get("imported")
    sections = [
        "---\n"
        + f"license: {licence if licence != 'not stated' else 'other'}\n"
        + (f"base_model: {about['base']}\n" if about["base"] else "")
        + f"library_name: {about['library']}\npipeline_tag: text-generation\n---",
        f"# {about['name']}",
        _what(model, origin),
        f"## Use\n\n{use.replace('{dtype}', dtype)}",
        _start(model),
        "## What led to these parameters\n\n" + _table(_ledger(record["ledger"])),
    ]
    if scores:
        sections.append("## Held-out text\n\n" + _table(scores))
    sections += [_data(record, licence), "## Verification\n\n" + verified(report)]
    return "\n\n".join(sections) + "\n"


def _what(model: Model, origin: Json | None) -> str:
    record = model.record
    for_domain = f" for the domain `{record['domain']}`" if record["domain"] else ""
    text = f"A small language model{for_domain}, made with specialm (method `{record['method']}`)."
    if not origin:
        return text
    return (
        f"{text} It starts from {origin['name']} (licence {origin['licence']}, from "
        f"{origin['source'].rpartition('/')[2]}, sha256 {origin['sha256'][:16]}), which was not "
        "trained by specialm: its pretraining is not in the figures below."
    )


def _start(model: Model) -> str:
    vocabulary = model.vocabulary
    name = {i: name for name, i in vocabulary.special.items()}.get(vocabulary.start)
    adds = getattr(vocabulary, "adds_start", False)
    how = "the tokenizer puts it there" if adds else "put it there yourself"
    return f"A text begins with `{name}`, id {vocabulary.start} ({how})."


def _ledger(ledger: list[dict]) -> list[dict]:
    return [
        {
            "phase": entry["phase"],
            "tokens": f"{entry['tokens']:,}",
            "FLOPs": f"{entry['flops']:.2e}" if entry["flops"] else "not counted",
            "seconds": f"{entry['seconds']:,.0f}",
        }
        for entry in ledger
    ]


def _data(record: Json, licence: str) -> str:
    data = record.get("settings", {}).get("data", {})
    lines = [f"- the model it starts from: {licence}"] if record.get("imported") else []
    if not record.get("imported") and data.get("generic"):
        lines.append(f"- generic text: `{_name(data['generic'])}`")
    domain = record["domain"]
    if domain in data.get("domains", {}):
        lines.append(f"- text of `{domain}`: `{_name(data['domains'][domain])}`")
    return (
        "## Data and licences\n\n"
        + "\n".join(lines or ["- not recorded"])
        + "\n\nLicences of `corpora:` sources are in specialm's docs/corpora.md; those of other "
        "sources are for whoever gave them to state."
    )


def _name(spec: str) -> str:
    """A source without the folders that it lies in."""
    scheme, _, place = spec.partition(":")
    return f"{scheme}:{place.rstrip('/').rpartition('/')[2]}"


def verified(report: Json) -> str:
    """What `verify` found, in a sentence."""
    if not report["checked"]:
        return f"Not verified: {report['why']}."
    figures = ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}"
        if isinstance(value, float)
        else f"{name.replace('_', ' ')} {value:,}"
        for name, value in report["figures"].items()
    )
    return f"Run in {report['runtime']}: {figures}."


def _table(rows: list[dict]) -> str:
    heads = list(rows[0]) if rows else []
    lines = [heads, ["---"] * len(heads), *([str(value) for value in row.values()] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
