"""Which committed results were made by other code than this?

    python -m benchmarks.stale              # every file of rows: its commit, what has changed since
    python -m benchmarks.stale --markdown   # the table of results/README.md

Two answers. What is known to move figures is in `specialm/common/code.py`, `CHANGES`: rows made
before such a change are told here and in results/README.md, and a test holds the two together.
And of rows whose commit is in this repository, which rooms of the code differ now: most such
differences move nothing, so no test fails for them.
"""

import argparse
import io
import json
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from specialm.common import code

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
EVERYTHING = frozenset(code.PARTS)
START, END = "<!-- made by: python -m benchmarks.stale --markdown -->", "<!-- end -->"


@dataclass(frozen=True)
class Rows:
    """A committed file of rows.

    Attributes:
      depends: on which of `code.PARTS`.
      commit: of rows that do not say it themselves: the one that they came with.
      changes: likewise, how many of `code.CHANGES` their code had.
    """

    depends: frozenset[str]
    commit: str = ""
    changes: int = 0


TEXT_AND_CLUSTERS = frozenset({"text", "clusters"})
FILES = {
    "demo/results.jsonl": Rows(TEXT_AND_CLUSTERS | {"control"}, "46aa534", 1),
    "demo/baselines.jsonl": Rows(frozenset({"text"}), "fb54fa0", 2),
    "recipe/results.jsonl": Rows(TEXT_AND_CLUSTERS),
    "recipe/seven.jsonl": Rows(TEXT_AND_CLUSTERS),
    "recipe/wide.jsonl": Rows(TEXT_AND_CLUSTERS),
    "recipe/wide_is.jsonl": Rows(TEXT_AND_CLUSTERS),
    "recipe/positions.jsonl": Rows(TEXT_AND_CLUSTERS),
    "recipe/fast_table.jsonl": Rows(TEXT_AND_CLUSTERS),
    "recipe/uniform.jsonl": Rows(TEXT_AND_CLUSTERS),
    "recipe/long.jsonl": Rows(TEXT_AND_CLUSTERS),
    "recipe/choices.jsonl": Rows(TEXT_AND_CLUSTERS),
    "recipe/four_million.jsonl": Rows(TEXT_AND_CLUSTERS),
    "recipe/step.jsonl": Rows(frozenset()),
    "recipe/cap8.jsonl": Rows(TEXT_AND_CLUSTERS),
    "ladder/rows.jsonl": Rows(frozenset({"text"})),
    "bank/results.jsonl": Rows(TEXT_AND_CLUSTERS, "241cc63"),
    "bank/tokens50k.jsonl": Rows(TEXT_AND_CLUSTERS, "241cc63"),
    "bank/choice.jsonl": Rows(TEXT_AND_CLUSTERS, "560b591"),
    "bank/rates.jsonl": Rows(TEXT_AND_CLUSTERS, "526899c"),
    "bank/groups.jsonl": Rows(TEXT_AND_CLUSTERS, "560b591"),
    "bank/updates.jsonl": Rows(TEXT_AND_CLUSTERS),
    "bank/families.jsonl": Rows(frozenset()),
    "bank/moments.jsonl": Rows(frozenset()),
    "bank/every.jsonl": Rows(frozenset()),
    "study/results.jsonl": Rows(TEXT_AND_CLUSTERS | {"cost"}, "af7ba22"),
    "study/rates.jsonl": Rows(TEXT_AND_CLUSTERS | {"cost"}, "af7ba22"),
    "repetition/rows.jsonl": Rows(TEXT_AND_CLUSTERS, changes=1),
    "repetition/grid.jsonl": Rows(TEXT_AND_CLUSTERS),
    "repetition/proxy.jsonl": Rows(TEXT_AND_CLUSTERS, "96c8f0d", 1),
    "architecture/rows.jsonl": Rows(TEXT_AND_CLUSTERS, "5c8093e", 1),
    "encoders/minilm.jsonl": Rows(TEXT_AND_CLUSTERS, "48e4440"),
    "encoders/tfidf_svd.jsonl": Rows(TEXT_AND_CLUSTERS, "48e4440"),
    "forecasts/rows.jsonl": Rows(frozenset()),
    "forecasts/trained.jsonl": Rows(TEXT_AND_CLUSTERS),
    "scaling/slices.jsonl": Rows(frozenset({"exchange"})),
    "device/rows.jsonl": Rows(frozenset()),
    "open_model/rows.jsonl": Rows(TEXT_AND_CLUSTERS),
    "open_model/step.jsonl": Rows(frozenset()),
    "weights/rules.jsonl": Rows(TEXT_AND_CLUSTERS),
    "bundle/rows.jsonl": Rows(TEXT_AND_CLUSTERS, "06dd798", 2),
    "golf/rows.jsonl": Rows(frozenset({"text"})),
    "golf/tricks.jsonl": Rows(frozenset({"text"})),
    "tiny/rows.jsonl": Rows(frozenset({"text"})),
    "tiny/wide.jsonl": Rows(frozenset({"text"})),
    "tiny/long.jsonl": Rows(frozenset({"text"})),
    "tiny/speed.jsonl": Rows(frozenset()),
    "adaptation/rows.jsonl": Rows(frozenset({"text"})),
    "adaptation/domains.jsonl": Rows(frozenset({"text"})),
    "adaptation/tokens.jsonl": Rows(frozenset({"text"})),
    "adaptation/tasks.jsonl": Rows(frozenset({"text"})),
    "adaptation/tasks_rate.jsonl": Rows(frozenset({"text"})),
    "adaptation/speed.jsonl": Rows(frozenset()),
    "adaptation/whole_rate.jsonl": Rows(frozenset({"text"})),
    "adaptation/omp64.jsonl": Rows(frozenset({"text"})),
    "generate/rows.jsonl": Rows(frozenset(), "63c4ae0"),
    "generate/server.jsonl": Rows(frozenset(), "63c4ae0"),
}


@dataclass(frozen=True)
class Found:
    """What is known of a file.

    Attributes:
      commits: of its rows.
      codes: digests, as far as rows have them.
      since: what is known to have moved them since.
    """

    commits: list[str]
    codes: list[str]
    since: list[code.Change]


def look(name: str, results: Path = RESULTS) -> Found:
    """Reads a file of rows.

    Args:
      name: of `FILES`.
      results: the folder.
    """
    known, rows = FILES[name], _rows(results / name)
    changes = min((row.get("changes", known.changes) for row in rows), default=0)
    since = [change for change in code.CHANGES[changes:] if change.moves in known.depends]
    commits = {row.get("commit", known.commit) for row in rows}
    return Found(sorted(commits), sorted({row["code"] for row in rows if "code" in row}), since)


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(results: Path = RESULTS) -> str:
    """The table of results/README.md."""
    lines = ["| rows | commit | what has changed since |", "|---|---|---|"]
    for name in FILES:
        found = look(name, results)
        since = "; ".join(change.name for change in found.since) or "nothing known"
        commits = ", ".join(f"`{commit}`" for commit in found.commits)
        lines.append(f"| [{name}]({name}) | {commits} | {since} |")
    return "\n".join(lines)


def rooms_since(commit: str) -> list[str] | None:
    """The rooms whose statements differ from those of a commit; None if it is not here."""
    words = ["git", "archive", commit.removesuffix("+"), "specialm"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True)
    if done.returncode:
        return None
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        before = Path(folder) / "specialm"
        return [
            room
            for room in code.ROOMS
            if not (before / room).exists() or code.digest(before, room) != code.digest(room=room)
        ]


def main() -> None:
    """Prints what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markdown", action="store_true")
    if parser.parse_args().markdown:
        print(table())
        return
    rooms: dict[str, list[str] | None] = {}
    for name in FILES:
        found = look(name)
        if found.codes == [code.digest()]:
            print(f"{name}: made by this code")
            continue
        print(f"{name}: {', '.join(found.commits)}")
        for change in found.since:
            print(f"  moved since: {change.name}")
        for commit in found.commits:
            if commit not in rooms:
                rooms[commit] = rooms_since(commit)
            differ = rooms[commit]
            told = "not in this repository" if differ is None else ", ".join(differ) or "nothing"
            print(f"  other statements since {commit}: {told}")


if __name__ == "__main__":
    main()
