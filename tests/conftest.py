"""Settings of all tests: two CPU devices, quiet, reproducible; a small real text to work on."""

import os
import tempfile

_CACHE = tempfile.TemporaryDirectory(prefix="specialm-tests-")  # compiled programs, this run only
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
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


CONTEXT = 16


@pytest.fixture(scope="session")
def store(vocabulary, real_documents, tmp_path_factory):
    """A window store of the real documents, 16 tokens a window, in several shards."""
    return build_store(tmp_path_factory.mktemp("store") / "s", vocabulary, real_documents[:120])


def build_store(path, vocabulary, texts):
    """Writes a store with one document for each text and opens it."""
    import collections

    from specialm.data.sources import Document
    from specialm.data.store import StoreWriter, WindowStore
    from specialm.data.windows import cut

    encoded = vocabulary.encode(texts)
    cuts = [cut(Document(f"d{i}", text, f"d{i}"), tokens, vocabulary, CONTEXT)
            for i, (text, tokens) in enumerate(zip(texts, encoded, strict=True))]
    settings = {"context": CONTEXT, "vocabulary_sha256": vocabulary.sha256}
    StoreWriter(path, settings, 20_000).write(cuts, collections.Counter())
    return WindowStore(path, vocabulary.sha256)


@pytest.fixture(scope="session")
def tiny_model(vocabulary):
    """Sizes of a model that trains in seconds."""
    from specialm.models import transformer

    return transformer.Config(vocab_size=vocabulary.size, context=CONTEXT, num_layers=2,
                              d_model=16, num_heads=2, d_ff=32)


@pytest.fixture
def tiny_train():
    """Training settings for 24 steps of 8 windows."""
    from specialm import config

    train = config.default().train
    train.tokens, train.batch_size = 24 * 8 * CONTEXT, 8
    train.warmup_steps, train.log_every, train.checkpoint_every = 4, 4, 8
    train.tensorboard = False
    return train
