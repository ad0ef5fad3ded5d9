"""Settings of all tests: CPU, quiet, reproducible, and a small real text to work on."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("SPECIALM_PROGRESS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import inspect  # noqa: E402
import json  # noqa: E402

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

hypothesis.settings.register_profile("specialm", deadline=None, print_blob=True, max_examples=30)
hypothesis.settings.load_profile("specialm")


@pytest.fixture(scope="session")
def real_documents() -> list[str]:
    """Real technical prose: the docstrings of NumPy's public functions, about 1 MB."""
    texts, seen = [], set()
    for module in (np, np.linalg, np.fft, np.random, np.ma, np.polynomial, np.char):
        for name in sorted(dir(module)):
            text = inspect.getdoc(getattr(module, name))
            if text and len(text) > 200 and text not in seen:
                seen.add(text)
                texts.append(text)
    return texts


@pytest.fixture(scope="session")
def vocabulary(real_documents, tmp_path_factory):
    """A vocabulary of 512 pieces trained on `real_documents`."""
    from specialm.data import vocabularies

    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.model"
    return vocabularies.train(real_documents, path, 512)


@pytest.fixture
def write_jsonl():
    """(path, lines) -> path: writes dicts as JSON lines."""
    def write(path, lines):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    return write
