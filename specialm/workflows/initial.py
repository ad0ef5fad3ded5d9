"""A trained dense model as the start of another pretraining: `specialm train --init=RUN`.

Its sizes and its vocabulary hold; settings that were given and say otherwise are refused. How the
arithmetic is done (`FREE`) and all that is not of the model are the config's own.
"""

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from specialm.common import processes
from specialm.common.errors import UserError
from specialm.common.stages import Stages
from specialm.models import families, transformer
from specialm.training import model_record, rates, runs

FREE = ("dtype", "remat", "attention", "exit_weight")  # fields of the architecture that may change


@dataclass(frozen=True)
class Initial:
    """A dense model that pretraining goes on from.

    Attributes:
      path: its run folder.
      key: identifies its content.
      config: its sizes.
      record: its model.json.
    """

    path: Path
    key: str
    config: transformer.Config
    record: dict

    @property
    def is_open(self) -> bool:
        """Whether it comes from a checkpoint that others trained."""
        return "imported" in self.record

    @property
    def longest(self) -> int:
        """Tokens of the longest window that it can be trained on."""
        if self.config.positions == "learned":
            return self.config.context
        return max(self.config.context, self.record.get("imported", {}).get("context", 0))

    def dense(self, config: ConfigDict) -> transformer.Config:
        """Its architecture, computed as the config says, for the config's windows."""
        learned = self.config.positions == "learned"
        return dataclasses.replace(
            self.config,
            context=self.config.context if learned else config.data.context,
            **{name: config.model[name] for name in FREE},
        )

    def rated(self, train: ConfigDict) -> ConfigDict:
        """The settings of pretraining with the learning rate that it goes on with."""
        changed = copy.deepcopy(train).unlock()
        changed.learning_rate = rates.continued(train, self.config.d_model, self.is_open)
        return changed.lock()


def read(base: Path, key: str, option: str = "init") -> Initial:
    """The model in the run folder `base`.

    Args:
      key: identifies its content.
      option: that it was given with.

    Raises:
      UserError: it is no run folder, or no dense model.
    """
    record = runs.read_record(base)
    if record.get("kind", families.DENSE) != families.DENSE:
        raise UserError(
            f"--{option}={base}: {record['method']} is a {record['kind']}; only a dense model can "
            "be gone on from. Take an expert out with `specialm specialize "
            "--config.finetune.max_steps=0`."
        )
    config = model_record.model_config(base / "model.json", record)
    assert isinstance(config, transformer.Config)
    return Initial(base, key, config, record)


def tell(init: Initial, stages: Stages) -> None:
    """Says what of the preparation depends on the model's vocabulary, if any of it was done."""
    names = {stage.name for stage in stages.done if not stage.reused}
    if any(name.startswith("windows/generic") for name in names):
        processes.tell(
            f"windows were cut with the vocabulary of --init={init.path}. Of a corpus that was "
            "prepared with another one the scans of the documents are used again; windows, and "
            "the embeddings and clusters of their texts, are made anew."
        )
