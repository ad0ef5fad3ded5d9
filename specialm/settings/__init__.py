"""The table of all settings: name, default, what it is, and the values that it may have.

A new setting is one row in the file of its section. Nothing heavy is imported. docs/settings.md is
printed from the table (`specialm settings --markdown`).
"""

from specialm.common.setting import Setting, near
from specialm.settings import clustering, data, finetune, model, run, study, train

SECTIONS = {
    "": "What `train`, `specialize`, `evaluate` and `demo` work on",
    "data": "Text, vocabulary and windows",
    "clustering": "Embeddings, clusters and importance weights",
    "model": "Sizes and architecture",
    "train": "Pretraining",
    "mesh": "Devices along the axes of the mesh; all others are along `data`, copies of the model",
    "finetune": "Fine-tuning and distillation",
    "expert": "How `specialize` takes one model out of a bank or a mixture",
    "study": "What `study` compares",
    "evaluate": "Scoring",
    "generate": "Continuing a text",
}

SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for part in (
        run.RUN,
        data.DATA,
        clustering.CLUSTERING,
        model.MODEL,
        train.TRAIN,
        train.MESH,
        finetune.FINETUNE,
        finetune.EXPERT,
        study.STUDY,
        study.USE,
    )
    for setting in part
}


def of_section(section: str) -> list[Setting]:
    """The settings of one of SECTIONS."""
    return [setting for setting in SETTINGS.values() if setting.section == section]


def suggestion(name: str) -> str:
    """ " Did you mean 'model.d_model'?" for a misspelt dotted name, or ""."""
    section, dot, field = name.rpartition(".")
    if section in SECTIONS:
        hint = near(field, [setting.field for setting in of_section(section)])
        return hint and hint.replace("mean '", f"mean '{section}{dot}")
    return near(name, [*SETTINGS, *(each for each in SECTIONS if each)])
