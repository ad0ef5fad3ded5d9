"""What of a domain's text is used, and what keeps the rest out."""

from collections.abc import Mapping

import numpy as np

from specialm.data.store import WindowStore
from specialm.workflows.pipeline import Run

# Split -> (what it is for, the setting that caps it).
SPLITS = {
    "train": ("training", "specialist_tokens"),
    "valid": ("validation", "valid_tokens"),
    "heldout": ("held-out", "heldout_tokens"),
}


def sets(run: Run) -> dict[str, dict]:
    """{domain: "documents" and "bytes" read, how many are "copies" of others, those "skipped" and
    why, "windows" {split: used}, and "splits" {split: windows and documents used and there, and
    the setting that keeps the others out}}.
    """
    return {domain: _set(run, domain, stores) for domain, stores in run.prepared.domains.items()}


def _set(run: Run, domain: str, stores: Mapping[str, WindowStore]) -> dict:
    used = run.prepared.specialist_indices(domain, run.config.data)
    counts = stores["train"].index["counts"]
    keys = [key for store in stores.values() for _, key in store.documents]
    return {
        "documents": counts["documents"],
        "bytes": sum(store.index["bytes"] for store in stores.values()),
        "copies": len(keys) - len(set(keys)),
        "skipped": {
            reason.partition(": ")[2]: count
            for reason, count in counts.items()
            if reason.startswith("skipped")
        },
        "windows": {split: len(indices) for split, indices in used.items()},
        "splits": {split: _split(run, split, stores[split], used[split]) for split in SPLITS},
    }


def _split(run: Run, split: str, store: WindowStore, used_N: np.ndarray) -> dict:
    setting = SPLITS[split][1]
    return {
        "windows": len(used_N),
        "all_windows": len(store),
        "documents": len(np.unique(store.document_N[used_N])),
        "all_documents": len(store.documents),
        "limit": f"data.{setting}={run.config.data[setting]}" if len(used_N) < len(store) else "",
    }


def lines(found: dict[str, dict]) -> list[str]:
    """The same for people.

    Args:
      found: of `sets`.
    """
    return [line for domain, of in found.items() for line in _lines(domain, of)]


def _lines(domain: str, of: dict) -> list[str]:
    skipped = "".join(f"; skipped {count:,}: {reason}" for reason, count in of["skipped"].items())
    printed = [f"{domain}: {of['documents']:,} documents, {of['bytes'] / 1e6:.2f} MB{skipped}"]
    printed += [_split_line(SPLITS[split][0], part) for split, part in of["splits"].items()]
    if of["copies"]:
        printed.append(
            f"  {of['copies']:,} documents have the same text as another one; they stay in"
        )
    return printed


def _split_line(title: str, part: dict) -> str:
    line = (
        f"  {title:10} {part['windows']:>9,} of {part['all_windows']:,} windows, "
        f"{part['documents']:,} of {part['all_documents']:,} documents"
    )
    return f"{line}: no more by {part['limit']} (0 for all)" if part["limit"] else line
