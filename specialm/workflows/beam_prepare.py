"""Preparation as Apache Beam pipelines: the stages of `specialm prepare`, with the same bytes.

    python -m specialm.workflows.beam_prepare --config=FILE --workdir=DIR --runner=DirectRunner

Reading, tokenising, cutting, embedding and assigning are cut into pieces (see `pieces`), and one
pipeline has the runner's workers compute each set of them. Training the vocabulary and the fits of
the encoder and of k-means run where this is started. `specialm train` with the same work folder
finds all stages finished. docs/scaling.md has the runners' flags.

Apache Beam has an environment of its own, without TensorFlow (`make test-beam` builds it), so
nothing imported here may need TensorFlow.
"""

import collections
import json
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm import methods
from specialm.common.errors import UserError
from specialm.common.stages import Stages
from specialm.data import pieces
from specialm.data.prepare import Prepared, prepare

NAMESPACE = "specialm"  # of the counters
OWN = {"workdir": "", "part_bytes": str(pieces.PART_BYTES)}  # options that are not Beam's


class Runner:
    """Has pieces computed by a Beam runner: `each` is one pipeline.

    Attributes:
      counters: title -> what its pipelines counted, pieces written and reused among it. An estimate
        on runners that repeat work; the stores' own counts are exact.

    Raises:
      UserError: Apache Beam is not installed.
    """

    def __init__(self, arguments: Sequence[str] = ()):
        try:
            from apache_beam.options.pipeline_options import PipelineOptions
        except ImportError as error:
            raise UserError(
                "Apache Beam is not installed here; it has an environment of its own: "
                "pip install -r constraints-beam.txt in the folder of specialm's source."
            ) from error
        self._options = PipelineOptions(list(arguments))
        self.counters: dict[str, collections.Counter] = {}

    def each(self, title: str, folder: Path, items: Sequence, make: pieces.WritePiece) -> None:
        """Makes folder/00000, folder/00001, ... from the items, those that are not there yet."""
        missing = [
            (number, item)
            for number, item in enumerate(items)
            if not pieces.piece_path(folder, number).exists()
        ]
        counted = self.counters.setdefault(title, collections.Counter())
        if len(missing) < len(items):
            counted["pieces reused"] += len(items) - len(missing)
        if missing:
            counted.update(self._run(title, folder, missing, make))
        print(
            f"  {title}: " + ", ".join(f"{n:,} {what}" for what, n in sorted(counted.items())),
            file=sys.stderr,
            flush=True,
        )

    def _run(
        self, title: str, folder: Path, items: list, make: pieces.WritePiece
    ) -> dict[str, int]:
        """The counters of one pipeline."""
        import apache_beam as beam

        pipeline = beam.Pipeline(options=self._options)
        _ = (
            pipeline
            | beam.Create(items)
            | beam.Reshuffle()
            | title >> beam.Map(partial(_make, folder, make))
        )
        try:
            result = pipeline.run()
            result.wait_until_finish()
        except Exception as error:
            message = _message(error)
            if message:
                raise UserError(message) from error
            raise
        return {
            counter.key.metric.name: counter.committed or counter.attempted
            for counter in result.metrics().query()["counters"]
            if counter.key.metric.namespace == NAMESPACE
        }


def _make(folder: Path, make: pieces.WritePiece, item: tuple) -> None:
    """Runs on a worker."""
    from apache_beam.metrics import Metrics

    number, value = item
    counts = pieces.write_once(pieces.piece_path(folder, number), make, value)
    for name, count in counts.items():
        Metrics.counter(NAMESPACE, name).inc(int(count))


def _message(error: Exception) -> str:
    """The message of a worker's UserError; "" for any other error."""
    text = (
        str(error)
        if isinstance(error, UserError)
        else str(error).partition("specialm.common.errors.UserError: ")[2]
    )
    return re.split(r" \[while running|\n", text)[0]


def run(
    config: ConfigDict, workdir: Path, runner: Runner, part_bytes: int = pieces.PART_BYTES
) -> Prepared:
    """All stages of `specialm prepare` for the generic set and the config's domains.

    Raises:
      UserError: see `prepare` and `cluster`.
    """
    from specialm.clustering import clusters as clustering

    engine = pieces.InPieces(runner.each, part_bytes)
    stages = Stages(workdir.resolve())
    domains = [config.domain] if config.domain else list(config.domains or config.data.domains)
    prepared = prepare(config, stages, domains, engine)
    method = methods.with_clusters(config)
    k, setting = methods.get(method).draws.clusters(config)
    clustering.cluster(config, stages, prepared, k, setting, engine.rows)
    return prepared


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0, or 2 when the user has to change something."""
    try:
        config, options, beam_arguments = _parse(list(sys.argv[1:] if argv is None else argv))
        runner = Runner(beam_arguments)
        prepared = run(config, Path(options["workdir"]), runner, int(options["part_bytes"]))
    except UserError as error:
        print(f"beam_prepare: {error}", file=sys.stderr)
        return 2
    print(
        json.dumps(
            {
                "counters": runner.counters,
                "generic": prepared.generic
                and {
                    key: prepared.generic.index[key]
                    for key in ("windows", "documents", "tokens", "bytes")
                },
            },
            indent=1,
        )
    )
    return 0


def _parse(argv: list[str]) -> tuple[ConfigDict, dict, list[str]]:
    """(config, our options, Beam's arguments)"""
    config_path, overrides, options, others = "", [], dict(OWN), []
    for word in argv:
        name, _, value = word.removeprefix("--").partition("=")
        if name == "config":
            config_path = value
        elif name.startswith("config."):
            overrides.append(word)
        elif name in options:
            options[name] = value
        else:
            others.append(word)
    if not config_path:
        raise UserError("--config is missing; for example --config=configs/local/slm.py.")
    if not options["part_bytes"].isdigit() or not int(options["part_bytes"]):
        raise UserError(f"--part_bytes={options['part_bytes']}: must be a number above 0.")
    options["workdir"] = options["workdir"] or f"runs/{Path(config_path).stem}"
    return config_lib.load(config_path, overrides), options, others


if __name__ == "__main__":
    sys.exit(main())
