"""Terms of distillation beside the teacher's distributions, by name: what else is to be alike.

A term is one line of the table. It gives each token a number that is added to its loss, times the
weight that `finetune.distill_terms` says.
"""

from specialm.common.errors import UserError
from specialm.specialize.terms import hidden, relations
from specialm.specialize.terms.record import Seen, Term, Wanted  # noqa: F401

# finetune.distill_terms -> what is compared
TERMS: dict[str, Term] = {
    "hidden": Term(hidden.loss, hidden.check),
    **{
        name: Term(relations.loss(*parts), relations.check)
        for name, parts in relations.RELATIONS.items()
    },
}


def parse(texts: tuple[str, ...]) -> dict[str, float]:
    """{name: weight} of `finetune.distill_terms`.

    Raises:
      UserError: an unknown term, the same twice, or a weight that is not above 0.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            weight = float(number) if number else 1.0
        except ValueError:
            weight = 0.0
        if name not in TERMS or name in found or not 0 < weight < float("inf"):
            raise UserError(
                f"finetune.distill_terms={tuple(texts)}: {text!r} must be NAME or NAME=WEIGHT, "
                f"each NAME once and one of {', '.join(TERMS)}, WEIGHT above 0."
            )
        found[name] = weight
    return found
