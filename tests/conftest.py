"""Settings of all tests: two CPU devices, quiet, reproducible; a small real text to work on."""

import os
import tempfile

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share what the process before them made
    # Compiled programs, of this run only.
    _CACHE = tempfile.TemporaryDirectory(prefix="specialm-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Little is computed in tests: compiling fast matters more than code that is fast. The last two halve
# the processor's time for a training step: LLVM gets less code, and in one piece.
QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count=2 {QUICK}")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ.setdefault("SPECIALM_PROGRESS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import gc  # noqa: E402
import inspect  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

hypothesis.settings.register_profile("specialm", deadline=None, print_blob=True, max_examples=30)
hypothesis.settings.load_profile("specialm")
pytest_plugins = ("launch_helpers",)  # the fixture `fakes`

STARTED = time.monotonic()


def pytest_addoption(parser):
    parser.addoption(
        "--slow_minutes",
        type=float,
        default=0.0,
        help="slow tests that would begin later are skipped and say so; 0 for no limit",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    minutes = item.config.getoption("--slow_minutes")
    if minutes and item.get_closest_marker("slow") and time.monotonic() > STARTED + 60 * minutes:
        pytest.skip(f"--slow_minutes={minutes:g} are over")


MAPS = Path("/proc/self/maps")
MOST_MAPS = 8_000


@pytest.fixture(autouse=True, scope="module")
def _few_programs():
    """Frees compiled programs between files: each has memory maps of its own, and a process that
    has 65,530 of them (Linux's default) dies with a segmentation fault."""
    yield
    if "jax" in sys.modules and MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        sys.modules["jax"].clear_caches()
        gc.collect()


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

    return vocabularies.train(real_documents, tmp_path_factory.mktemp("vocabulary"), 512)


@pytest.fixture(scope="session")
def bpe_vocabulary(real_documents, tmp_path_factory):
    """Byte-level BPE of 512 tokens trained on `real_documents`."""
    from specialm.data import vocabularies

    return vocabularies.train(real_documents, tmp_path_factory.mktemp("bpe"), 512, "bpe")


@pytest.fixture(scope="session")
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
    cuts = [
        cut(Document(f"d{i}", text, f"d{i}"), tokens, vocabulary, CONTEXT)
        for i, (text, tokens) in enumerate(zip(texts, encoded, strict=True))
    ]
    settings = {"context": CONTEXT, "vocabulary_sha256": vocabulary.sha256}
    StoreWriter(path, settings, 20_000).write(cuts, collections.Counter())
    return WindowStore(path, vocabulary.sha256)


@pytest.fixture(scope="session")
def tiny_model(vocabulary):
    """Sizes of a model that trains in seconds."""
    from specialm.models import transformer

    return transformer.Config(
        vocab_size=vocabulary.size, context=CONTEXT, num_layers=2, d_model=16, num_heads=2, d_ff=32
    )


@pytest.fixture
def tiny_train():
    """Training settings for 24 steps of 8 windows."""
    from specialm import config

    train = config.default().train
    train.tokens, train.batch_size = 24 * 8 * CONTEXT, 8
    train.warmup_steps, train.log_every, train.checkpoint_every = 4, 4, 8
    train.tensorboard = False
    return train


BANK_CONFIG = """
from ml_collections import ConfigDict
from specialm.config import default

def get_config():
    config = default()
    data = config.data
    data.generic = "jsonl:{root}/generic.jsonl"
    data.domains = ConfigDict(dict(linalg="jsonl:{root}/linalg.jsonl"))
    data.context, data.vocabulary_size, data.generic_heldout_fraction = 16, 400, 0.1
    data.specialist_tokens, data.valid_tokens, data.heldout_tokens = 1000, 500, 1000
    config.method = "slm_pn"
    config.clustering.encoder, config.clustering.dim, config.clustering.iterations = (
        "tfidf_svd", 8, 5)
    config.model.num_layers, config.model.d_model, config.model.num_heads = 1, 8, 2
    config.model.d_ff, config.model.num_experts, config.model.mixer_hidden = 16, 4, 8
    config.train.batch_size, config.train.tokens, config.train.groups = 8, 20 * 8 * 16, 2
    config.train.warmup_steps, config.train.tensorboard = 3, False
    config.finetune.max_steps, config.finetune.eval_every, config.finetune.batch_size = 4, 2, 8
    config.expert.choice = "soup"
    return config
"""


def write_docstrings(root, generic=80, linalg=80):
    """root/generic.jsonl, docstrings of NumPy, and root/linalg.jsonl, those of linalg and fft; as
    many of each as given."""
    for name, modules, count in (
        ("generic", (np,), generic),
        ("linalg", (np.linalg, np.fft), linalg),
    ):
        texts = {inspect.getdoc(getattr(module, n)) for module in modules for n in dir(module)}
        texts = sorted(text for text in texts if text and 200 < len(text) < 3000)
        (root / f"{name}.jsonl").write_text(
            "".join(
                json.dumps({"id": f"{name}/{i}", "text": text}) + "\n"
                for i, text in enumerate(texts[:count])
            )
        )


@pytest.fixture(scope="session")
def bank(tmp_path_factory):
    """A small bank with all that it was made of: root/config.py, root/generic.jsonl,
    root/linalg.jsonl, the work folder root/run, and `root/bank`, a link to its run folder."""
    from specialm import cli

    root = tmp_path_factory.mktemp("bank")
    write_docstrings(root)
    (root / "config.py").write_text(BANK_CONFIG.format(root=root))
    assert cli.main(["train", f"--config={root / 'config.py'}", f"--workdir={root / 'run'}"]) == 0
    (made,) = (root / "run" / "pretrained").glob("slm_pn-*")
    (root / "bank").symlink_to(made)
    return root


@pytest.fixture
def notes(tmp_path):
    """A folder of a user's own: 30 texts, one of them deeper, and three files that are none."""
    folder = tmp_path / "My Notes"
    (folder / "more").mkdir(parents=True)
    texts = sorted({inspect.getdoc(getattr(np.ma, name)) or "" for name in dir(np.ma)}, key=len)
    for i, text in enumerate(texts[-60:-30]):
        (folder / ("more" if i == 7 else "") / f"{i}.txt").write_text(text)
    (folder / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (folder / "zeros.bin").write_bytes(bytes(9))  # valid UTF-8
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    return folder
