"""The models of a server, by name: those of run folders, and those of the domains of bundles."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from specialm.common.errors import UserError
from specialm.serving.server.banks import Bank
from specialm.serving.server.limits import Refused
from specialm.serving.server.served import Served

SHOWN = 20  # names in a message


class Models:
    """Those of a server; the first one is the default.

    Args:
      models: of run folders.
      banks: whose domains are models, named BANK/DOMAIN.
    """

    def __init__(self, models: Sequence[Served], banks: Sequence[Bank] = ()):
        self._models, self._banks = {model.name: model for model in models}, banks
        self._listed = {name: model.to_json() for name, model in self._models.items()}
        for bank in banks:
            self._listed |= bank.listed()

    @property
    def listed(self) -> dict[str, dict]:
        """{name: what clients are told of it} of every model, in memory or not."""
        return self._listed

    def about(self, name: str) -> dict:
        """What clients are told of a model.

        Raises:
          Refused: there is none (404).
        """
        if name not in self._listed:
            raise self._unknown(name)
        return self._listed[name]

    async def get(self, name: str) -> Served:
        """The model of this name; "" for the first.

        Raises:
          Refused: there is none (404); others of its bank are at work (503).
        """
        name = name or next(iter(self._listed))
        if name in self._models:
            return self._models[name]
        for bank in self._banks:
            domain = name.removeprefix(f"{bank.name}/")
            if name in self._listed and domain != name:
                if held := bank.held(domain):
                    return held
                return await asyncio.to_thread(bank.get, domain)
        raise self._unknown(name)

    def _unknown(self, name: str) -> Refused:
        names = list(self._listed)
        more = f" and {len(names) - SHOWN} more (/v1/models)" if len(names) > SHOWN else ""
        there = f"there are {', '.join(names[:SHOWN])}{more}"
        return Refused(404, f"no model {name!r}; {there}.", "model")

    def start(self) -> None:
        """Begins to work."""
        for model in self._models.values():
            model.worker.start()

    def stop(self) -> None:
        """Ends all threads."""
        for model in (
            *self._models.values(),
            *(m for bank in self._banks for m in bank.in_memory()),
        ):
            model.worker.stop()

    def groups(self) -> dict[str, Callable[[], Sequence[Served]]]:
        """{name: () -> the models in memory} of each run folder and each bundle."""
        alone: dict[str, Callable[[], Sequence[Served]]] = {
            name: partial(list, [model]) for name, model in self._models.items()
        }
        return {**alone, **{bank.name: bank.in_memory for bank in self._banks}}


def names_of(paths: list[str]) -> list[str]:
    """A name for each run folder: the last part of its path, with a number if it is there twice.

    Raises:
      UserError: there is none.
    """
    if not paths:
        raise UserError("--checkpoint is missing: the folder of a trained model.")
    names: list[str] = []
    for path in paths:
        name, count = path.rstrip("/").rpartition("/")[2], 1
        while (unique := name if count == 1 else f"{name}-{count}") in names:
            count += 1
        names.append(unique)
    return names
