"""Sizes and architecture. The rows of the architecture are the fields of `models/config.py`."""

from specialm.common.setting import Setting, settings_of
from specialm.models.config import Config as Architecture

MODEL = (
    Setting("model.num_layers", 4, "layers", least=1),
    Setting("model.d_model", 64, "width", least=1),
    Setting(
        "model.num_heads",
        4,
        "attention heads",
        least=1,
        divides="model.d_model",
        unless="model.head_size",
    ),
    Setting("model.d_ff", 256, "hidden units of an MLP", least=1),
    *settings_of(Architecture, "model"),
    Setting(
        "model.num_experts",
        16,
        "banks and mixtures: k, how many small models are held at once, as many clusters",
        least=1,
    ),
    Setting("model.bank_size", 0, "h: sets of MLP weights in a bank; 0 for num_experts", least=0),
    Setting(
        "model.code_size", 0, "slm_pn: m, size of an expert's code; 0 for num_experts", least=0
    ),
    Setting(
        "model.bank_layers",
        (),
        "the layers whose MLPs are in the bank, counted from 0; () for all. Where model.share says "
        "that layers share MLPs, these sets of weights",
        of=int,
        least=0,
    ),
    Setting(
        "model.mixer_hidden",
        64,
        "slm_hn, soup: hidden units of the network of coefficients",
        least=1,
    ),
    Setting(
        "model.spread",
        0.5,
        "of the coefficients of all but the first of the bank's weights",
        least=0,
    ),
    Setting("model.only_expert", -1, "slm_mix: trains this expert alone; -1 for all", least=-1),
)
