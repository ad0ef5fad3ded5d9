"""Commands on the folder of a model: ask it, serve it, make another of it, write it elsewhere."""

import sys
from pathlib import Path

from specialm import command_inputs as inputs
from specialm import config as config_lib
from specialm.common import runtime
from specialm.common.errors import UserError
from specialm.models import quantization
from specialm.planning import precheck


def generate(config_path: str, overrides: list[str], options: dict):
    """Continues a prompt."""
    inputs.need_checkpoint(options)
    config = config_lib.load(config_path, overrides) if config_path else None
    inputs.join_alone("generate")
    from specialm.serving import continuing
    from specialm.training import runs, sharding
    from specialm.workflows import from_checkpoint, listing, trust

    path = listing.resolve(options["checkpoint"])
    if not options["trust"]:
        trust.check_links(path)
    if config is None:
        config = from_checkpoint.load(path, overrides, trusted=options["trust"], must_carry=False)
    prompts = continuing.prompts(options["prompt"], options["prompts"])
    out = None if options["json"] else sys.stdout
    made = continuing.run(
        runs.load(path, sharding.make_mesh()), prompts, config, options["chat"], out
    )
    return {"checkpoint": str(path), **made}, ""


def serve(config_path: str, overrides: list[str], options: dict):
    """Models with OpenAI's interface and a page, until a signal comes."""
    from specialm.serving.server.limits import Limits

    if not options["checkpoint"] and not options["bundle"]:
        raise UserError(
            "--checkpoint is missing: the folder of a trained model; give it again for more."
        )
    if bool(options["bundle"]) != bool(options["domains"]):
        raise UserError(
            "--bundle and --domains go together: a bundle, and what `specialm specialize --bundle "
            "--sources` wrote of its domains."
        )
    inputs.join_alone("serve")
    from specialm.serving import serve as serve_lib
    from specialm.workflows import listing, mixes, trust

    token = serve_lib.token_of(options["token_file"])
    serve_lib.check_address(options["host"], options["port"], token)
    paths = [listing.resolve(path) for path in options["checkpoint"]]
    for path in paths:
        if not options["trust"]:
            trust.check_links(path)
    given = {name: options[name] for name in ("rows", "waiting", "tokens", "seconds", "held")}
    for name, value in given.items():
        if value < 1:
            raise UserError(f"--{name}={value}: must be at least 1.")
    address = (options["host"], options["port"], token)
    of_bundles = mixes.of_bundles(options["bundle"], options["domains"], options["trust"])
    serve_lib.serve(paths, *address, Limits(**given), of_bundles, serve_lib.announce)
    return {"checkpoints": [str(path) for path in (*paths, *of_bundles)]}, "The server has ended."


def bundle(config_path: str, overrides: list[str], options: dict):
    """A model with all that specialising it takes, in one folder."""
    from specialm.common import files

    if config_path:
        raise UserError(f"--config={config_path}: a bundle has the settings of its checkpoint.")
    inputs.need_checkpoint(options, "the folder of a pretrained bank or mixture.")
    files.check_new_folder("to", options["to"])
    inputs.join_alone("bundle")
    from specialm.workflows import bundles, from_checkpoint

    base = inputs.other_model("checkpoint", options["checkpoint"], options["trust"])
    assert base is not None
    config = from_checkpoint.load(base, overrides, trusted=options["trust"])
    result = bundles.write(base, options["to"], config)
    return result, bundles.summary(result)


def import_model(config_path: str, overrides: list[str], options: dict):
    """An open checkpoint as a run folder."""
    inputs.join_alone("import")
    from specialm.workflows import open_models

    given = {name: options[name] for name in ("hf", "gguf", "model")}
    workdir = Path(options["workdir"] or "runs/open")
    stage = open_models.import_model(given, workdir, options["context"])
    result = {"checkpoint": str(stage.path), "reused": stage.reused, **stage.result}
    return result, open_models.summary(stage)


def _need_from(config_path: str, options: dict, instead: str) -> None:
    """Raises UserError for a config, and without a model to go on from."""
    if config_path:
        raise UserError(f"--config={config_path}: {instead}")
    if not options["from"]:
        raise UserError("--from is missing: the folder of a dense model.")


def init_model(config_path: str, overrides: list[str], options: dict):
    """A model of other sizes."""
    _need_from(config_path, options, "init takes sizes as --config.model.d_model=288.")
    noise = inputs.number("noise", options["noise"])
    inputs.join_alone("init")
    from specialm.workflows import initial, resizing, stage_keys

    path = inputs.other_model("from", options["from"], options["trust"])
    assert path is not None
    base = initial.read(path, stage_keys.checkpoint_key(path), "from")
    target = resizing.target_sizes(base.config, overrides)
    workdir = Path(options["workdir"] or "runs/sizes")
    stage = resizing.resize(base, options["method"], target, noise, workdir)
    result = {"checkpoint": str(stage.path), "reused": stage.reused, **stage.result}
    return result, resizing.summary(stage)


def adapt(config_path: str, overrides: list[str], options: dict):
    """A model with a vocabulary for another text."""
    _need_from(config_path, options, "adapt has the settings of the model in --from.")
    inputs.join_alone("adapt")
    from specialm.workflows import (
        adapting,
        adapting_plan,
        from_checkpoint,
        initial,
        own_text,
        stage_keys,
    )

    path = inputs.other_model("from", options["from"], options["trust"])
    assert path is not None
    base = initial.read(path, stage_keys.checkpoint_key(path), "from")
    names = ("via", "init", "vocabulary", "layer", "new_layers", "tokens", "mini_tokens")
    plan = adapting_plan.Plan(
        **{name: options[name] for name in names},
        dictionary=options["dictionary"],
        distill=inputs.number("distill", options["distill"]),
    )
    adapting_plan.checked(plan, base.config)
    source, given = options["source"], own_text.given(overrides)
    config = from_checkpoint.load(path, overrides, source, options["trust"], name=options["name"])
    precheck.check_batches(config)
    domain = precheck.one_domain(config)
    workdir = Path(options["workdir"] or f"runs/{domain}")
    run = from_checkpoint.open_run(
        config, workdir, [domain], path, options["trust"], options["generic"], trained=True
    )
    made = adapting.adapt(run, base, plan, source, given)
    return made.to_json(), made.text()


def transfer(config_path: str, overrides: list[str], options: dict):
    """A task learnt with a head, and asked in another language."""
    _need_from(config_path, options, "transfer has the settings of the model in --from.")
    inputs.join_alone("transfer")
    from specialm.common.stages import Stages
    from specialm.models import transformer
    from specialm.training import sharding
    from specialm.workflows import (
        from_checkpoint,
        initial,
        own_text,
        stage_keys,
        transferring,
        transferring_task,
    )

    path = inputs.other_model("from", options["from"], options["trust"])
    assert path is not None
    adapted = inputs.other_model("adapted", options["adapted"], options["trust"])
    base = initial.read(path, stage_keys.checkpoint_key(path), "from")
    asked = transferring_task.Asked(
        options["task"], options["valid"], options["test"], options["length"]
    )
    if adapted and not asked.tests:
        raise UserError(f"--adapted={options['adapted']}: needs --test=FILE in its language.")
    config = from_checkpoint.load(path, overrides, trusted=options["trust"])
    precheck.check_batches(config)
    mesh = sharding.make_mesh(
        config.finetune.batch_size, layout=config.mesh, params=transformer.num_params(base.config)
    )
    made = transferring.transfer(
        config,
        own_text.given(overrides),
        base,
        adapted,
        transferring_task.read(asked, base.config),
        Stages(Path(options["workdir"] or "runs/tasks")),
        mesh,
    )
    return made.to_json(), made.text()


def quantize(config_path: str, overrides: list[str], options: dict):
    """A model in fewer bits, with what that costs."""
    inputs.need_checkpoint(options)
    quantization.check_bits("--bits", options["bits"])
    inputs.join_alone("quantize")
    run, base = inputs.open_run(config_path, overrides, options, every_domain=True)
    from specialm.workflows import heldout, quantizing, stage_keys

    key, sets = stage_keys.checkpoint_key(base), heldout.sets(run)
    stage = quantizing.quantize(base, key, options["bits"], run.stages)
    before = heldout.scores(run, base, key, sets)
    after = heldout.scores(run, stage.path, stage.fingerprint, sets)
    result = {"checkpoint": str(stage.path), "reused": stage.reused, **stage.result}
    return result | {"before": before, "heldout": after}, quantizing.summary(stage, before, after)


def export(config_path: str, overrides: list[str], options: dict):
    """A model for another program."""
    inputs.need_checkpoint(options)
    inputs.join_alone("export")
    from specialm.serving import exporting
    from specialm.training import runs, sharding
    from specialm.workflows import listing, trust

    exporting.check_options(options["to"], options["format"], options["dtype"])
    path = listing.resolve(options["checkpoint"])
    if not options["trust"]:
        trust.check_links(path)
    model = runs.load(path, sharding.make_mesh())
    scores = listing.held_out_rows(path)
    result = exporting.export(
        model, Path(options["to"]), options["format"], options["dtype"], scores, options["base"]
    )
    return {"checkpoint": str(path), **result}, exporting.summary(result)


def list_models(config_path: str, overrides: list[str], options: dict):
    """The models below a folder."""
    runtime.join_processes()
    from specialm.workflows import listing

    root = Path(options["workdir"] or "runs")
    models = listing.find(root)
    text = listing.table(models) if models else f"{root}: no models there."
    return {"models": [model.to_json() for model in models]}, text
