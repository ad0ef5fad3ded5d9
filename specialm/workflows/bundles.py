"""Bundles: a pretrained model with all that specialising it takes, in one folder to copy.

A bundle is a run folder, so that every command that takes one takes it as well. Beyond what a run
folder has

    BUNDLE/bundle.json       what is in it, for people and for a version that reads another format
    BUNDLE/clusters/minilm/  the sentence encoder's weights, if it is MiniLM
    BUNDLE/verified.json     size and digest of every file below it

it has parameters without the state of an optimiser, and names no place outside of itself: neither
where the generic windows lie nor texts of domains other than the default corpora.
"""

import os
import shutil
from pathlib import Path

from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm.clustering import saved_clusters
from specialm.common import files, manifest, shapes
from specialm.common.errors import UserError
from specialm.data.sources import WITHHELD
from specialm.models import families
from specialm.training import origin, runs, sharding
from specialm.workflows import trust

FILE, FORMAT = "bundle.json", 1


def write(base: Path, target: str, config: ConfigDict) -> dict:
    """Writes the bundle of the model in the run folder `base`; returns what is in it.

    Args:
      target: a folder that is not there yet, or empty.
      config: that `base` carries, see `from_checkpoint.load`.

    Raises:
      UserError: there is something in `target`; `base` is damaged, or it has experts and no
        clusters; the weights of its encoder are not here.
    """
    files.check_new_folder("to", target)
    model = runs.load(base, sharding.make_mesh(), families.KINDS)
    final = Path(target)
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        about = _about(model)
        if families.kind(model.config) != families.DENSE:
            runs.save_experts(partial, runs.load_experts(base))
            about["encoder"] = saved_clusters.copy_with_encoder(base, partial, config.clustering)
        runs.save(partial, model.params)
        record = model.record
        runs.describe(
            partial,
            model.config,
            model.vocabulary,
            record["method"],
            record["domain"],
            record["seed"],
            record["ledger"],
            {**origin.imported(record), "settings": _settings(config, record["settings"])},
        )
        files.write_json(partial / FILE, about)
        manifest.write(partial, every=True)
        os.replace(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sizes = [size for size, _ in (manifest.read(final) or {})["files"].values()]
    return {"bundle": str(final), **about, "files": len(sizes), "bytes": sum(sizes)}


def _about(model: runs.Model) -> dict:
    dense = families.dense(model.config)
    return {
        "format": FORMAT,
        "method": model.record["method"],
        "kind": families.kind(model.config),
        "experts": getattr(model.config, "num_experts", 1),
        "parameters": families.num_params(model.config),
        "parameters_of_a_domain": families.num_params(dense),
        "context": dense.context,
        "vocabulary": model.vocabulary.size,
    }


def _settings(config: ConfigDict, saved: dict) -> dict:
    """The settings without places of this machine, and without texts that only it has.

    Args:
      config: the settings of the run.
      saved: as its `model.json` has them.
    """
    default = config_lib.default()
    kept = trust.without_others(ConfigDict(config.to_dict()), default)
    domains = {name: spec for name, spec in kept.data.domains.items() if not _is_withheld(spec)}
    kept.data.domains = ConfigDict(domains or default.data.domains)
    if _is_withheld(kept.data.generic):
        kept.data.generic = default.data.generic
    kept.domain = kept.domain if kept.domain in kept.data.domains else ""
    kept.domains = tuple(name for name in kept.domains if name in kept.data.domains)
    for name in trust.MODULES:  # whoever opens it decides whether they are imported
        section, _, field = name.rpartition(".")
        of = saved.get(section, {}) if section else saved
        (kept[section] if section else kept)[field] = tuple(of.get(field, ()))
    return dict(kept.to_dict())


def _is_withheld(spec: str) -> bool:
    return spec.startswith(WITHHELD)


def find(given: str, trusted: bool = False) -> Path:
    """The folder of a bundle all of whose files are as they were written.

    Args:
      trusted: whether links may lead out of it.

    Raises:
      UserError: no bundle, one of another format, or a file that is missing or differs.
    """
    path = Path(given).expanduser()
    if not (path / FILE).is_file() or not (path / manifest.NAME).is_file():
        raise UserError(
            f"--bundle={given}: no {FILE} with {manifest.NAME} there; give the folder that "
            "`specialm bundle` wrote (a run folder is given with --checkpoint)."
        )
    if not trusted:
        trust.check_links(path)
    manifest.check(path)
    about = files.read_json(path / FILE)
    wrong = shapes.problem(about, {"format": shapes.WHOLE})
    if not wrong and about["format"] != FORMAT:
        wrong = f"has format={about['format']}, this version reads {FORMAT}"
    if wrong:
        raise UserError(f"{path / FILE}: {wrong}; write the bundle again with this version.")
    return path


def summary(result: dict) -> str:
    """What was written, for people."""
    experts = f"{result['experts']} experts, " if result["experts"] > 1 else ""
    encoder = f", encoder {result['encoder']}" if "encoder" in result else ""
    return (
        f"{result['bundle']}: {result['method']}, {experts}{result['parameters']:,} parameters "
        f"({result['parameters_of_a_domain']:,} of a domain's model){encoder}; "
        f"{result['files']} files, {result['bytes'] / 1e6:.1f} MB"
    )
