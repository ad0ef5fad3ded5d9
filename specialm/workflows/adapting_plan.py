"""What `specialm adapt` is asked for, and whether a model can be adapted so."""

import dataclasses
from dataclasses import dataclass

import jax

from specialm.common.errors import UserError
from specialm.models import transformer
from specialm.specialize import adaptation, embedding_init
from specialm.workflows.pipeline import Run

VIA = ("full", "mini_joint", "mini_post", "none")
SHALLOW = 3  # MiniPost keeps one in so many layers, as published: 4 of 12


@dataclass(frozen=True)
class Plan:
    """What `specialm adapt` was asked for.

    Attributes:
      via: one of VIA.
      init: one of `embedding_init.RULES`.
      vocabulary: `new` or `extend`.
      layer: of the shallow model; 0 for the one that has a head, or a third of the layers.
      new_layers: of MiniPost.
      tokens: of the target text that rows are learnt on; 0 as `finetune` says.
      mini_tokens: of the source text that MiniPost's layers are trained on; 0 as `finetune` says.
      dictionary: of WECHSEL.
      distill: the weight of matching the old model's likelihoods, see `specialize/aligned.py`.
    """

    via: str = "full"
    init: str = "focus"
    vocabulary: str = "new"
    layer: int = 0
    new_layers: int = 2
    tokens: int = 0
    mini_tokens: int = 0
    dictionary: str = ""
    distill: float = 0.0

    def check(self) -> None:
        """Raises UserError for a value out of range."""
        choices = {"via": VIA, "init": embedding_init.RULES, "vocabulary": ("new", "extend")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UserError(
                    f"--{name}={getattr(self, name)}: must be one of {', '.join(known)}."
                )
        for name in ("layer", "tokens", "mini_tokens"):
            if getattr(self, name) < 0:
                raise UserError(f"--{name}={getattr(self, name)}: must be at least 0.")
        if not 0 <= self.distill <= 1:
            raise UserError(f"--distill={self.distill:g}: must be between 0 and 1.")
        if self.distill and self.via == "none":
            raise UserError(f"--distill={self.distill:g}: --via=none trains nothing.")


def checked(plan: Plan, config: transformer.Config) -> Plan:
    """The plan with the layer that 0 stands for.

    Raises:
      UserError: what it asks for is out of range, or not in a model of these sizes.
    """
    plan.check()
    adaptation.check(config)
    if plan.distill and not config.causal:
        raise UserError(
            f"--distill={plan.distill:g}: a masked model gives a text no probability to match."
        )
    layer = plan.layer
    if layer and plan.via in ("full", "none"):
        raise UserError(f"--layer={layer}: is for --via=mini_joint and mini_post.")
    if plan.via == "mini_joint":
        if not layer and len(config.exits) > 1:
            raise UserError(f"--layer is missing: the model has heads behind {config.exits}.")
        layer = layer or (config.exits or (max(1, config.num_layers // SHALLOW),))[0]
        if layer in config.exits and not config.exit_weight:
            raise UserError(
                f"--layer={layer}: the head behind this layer was never trained "
                "(model.exit_weight=0 in pretraining); use --via=mini_post."
            )
    elif plan.via == "mini_post":
        layer = layer or max(1, config.num_layers // SHALLOW)
    else:
        layer = config.num_layers
    abstract = transformer.abstract(config)
    if plan.via == "mini_post":
        jax.eval_shape(
            lambda params: adaptation.heightened(params, config, layer, plan.new_layers, 0)[0],
            abstract,
        )
    else:
        jax.eval_shape(lambda params: adaptation.shallow(params, config, layer)[0], abstract)
    return dataclasses.replace(plan, layer=layer)


def check_source(run: Run, plan: Plan) -> None:
    """Raises UserError if the source text is needed and not here."""
    asked = f"--via={plan.via}" if plan.via == "mini_post" else ""
    if embedding_init.RULES[plan.init].needs == embedding_init.WORDS:
        asked = asked or f"--init={plan.init}"
    there = {"train", "heldout"} <= run.prepared.generic_splits.keys()
    if asked and not there:
        raise UserError(
            f"{asked}: needs text that the model was pretrained on, and it is not here; give "
            "--generic=corpora:generic, or any other source or path of text."
        )
