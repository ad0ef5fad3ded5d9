"""Whether an exported model is the same in the program that is to run it: token ids, logits.

What is compared is the files, read back by our own import. Without the program nothing is checked,
and the report says so.
"""

import importlib
import importlib.util
import json
import tempfile
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np

from specialm.common.errors import UserError
from specialm.data.vocabularies import Vocabulary
from specialm.models import transformer
from specialm.models.config import Config
from specialm.serving import gguf_files, huggingface
from specialm.serving.architectures.record import Json
from specialm.serving.foreign import Foreign
from specialm.serving.nasty import nasty_strings

STRINGS = 2_000  # whose ids are compared
TOKENS, PREFIXES, SHOWN = 256, 16, 50  # of real text; continued; candidates of each continuation
LOGITS = 2e-3  # largest difference from transformers, in float32
# Of log probabilities from llama.cpp, which also rounds what it multiplies by such matrices;
# improbable tokens then differ by more. SmolLM2-135M: 3e-4, 0.01 and 0.22.
PROBABLE = 0.01
LOG_PROBABILITIES = {"f32": 1e-2, "f16": 5e-2, "q8_0": 0.5, "q4_0": 0.5}
EXTRA = "install specialm's extra 'runtimes' and export again"


def _missing(*modules: str) -> Json | None:
    """A report, if one of the modules is not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            return {"checked": False, "why": f"{module} is not installed; {EXTRA}"}
    return None


def real_text() -> str:
    """Code and prose: this package's own."""
    return "".join(path.read_text("utf-8") for path in sorted(Path(__file__).parent.glob("*.py")))


def _inputs(vocabulary: Vocabulary, context: int) -> np.ndarray:
    """int32 [1, L]: the beginning of real text."""
    (ids,) = vocabulary.encode([real_text()[: 8 * TOKENS]])
    return np.array([[vocabulary.start, *ids][: min(TOKENS, context)]], np.int32)


def _our_logits(found: Foreign, inputs_1xL: np.ndarray) -> np.ndarray:
    config = found.sizes()
    return _logits(found.load(config), inputs_1xL, config)


def _logits(params: Any, inputs_1xL: np.ndarray, config: Config) -> np.ndarray:
    params = jax.tree.map(jax.numpy.asarray, params)
    return np.asarray(transformer.logits(params, jax.numpy.asarray(inputs_1xL), config))


def with_transformers(folder: Path) -> Json:
    """Runs a Hugging Face folder in transformers.

    Raises:
      UserError: it has other ids or logits.
    """
    missing = _missing("torch", "transformers")
    if missing:
        return missing
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = huggingface.open_folder(folder, scratch, stack)
        inputs_1xL = _inputs(found.vocabulary, found.sizes().context)
        ours = _our_logits(found, inputs_1xL)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        figures = _compare_ids(
            found,
            nasty_strings(STRINGS),
            lambda text: tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
                "input_ids"
            ],
        )
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    figures |= _compare_logits(ours, _torch_logits(model, inputs_1xL))
    runtime = f"transformers {transformers.__version__}, torch {torch.__version__}"
    return {"checked": True, "runtime": runtime, "figures": figures}


def _torch_logits(model: Any, inputs_1xL: np.ndarray) -> np.ndarray:
    torch: Any = importlib.import_module("torch")
    with torch.no_grad():
        return model.eval()(torch.from_numpy(inputs_1xL).long()).logits.numpy()


def _compare_logits(ours: np.ndarray, theirs: np.ndarray) -> Json:
    figures = {
        "tokens_of_text": int(ours.shape[1]),
        "largest_difference_of_logits": float(np.abs(ours - theirs).max()),
    }
    _check(figures, "largest_difference_of_logits", LOGITS)
    return figures


def with_peft(
    folder: Path, base: Path, params: Any, config: Config, vocabulary: Vocabulary
) -> Json:
    """Runs an adapter in peft, on its base in the Hugging Face layout.

    Args:
      params: ours, of base and adapter together.

    Raises:
      UserError: it has other logits.
    """
    missing = _missing("torch", "transformers", "peft")
    if missing:
        return missing
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    peft: Any = importlib.import_module("peft")
    inputs_1xL = _inputs(vocabulary, config.context)
    ours = _logits(params, inputs_1xL, config)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    theirs = _torch_logits(peft.PeftModel.from_pretrained(model, str(folder)), inputs_1xL)
    runtime = f"peft {peft.__version__}, transformers {transformers.__version__}"
    figures = _compare_logits(ours, theirs)
    return {"checked": True, "runtime": runtime, "figures": figures}


def with_onnxruntime(path: Path, params: Any, config: Config, vocabulary: Vocabulary) -> Json:
    """Runs an ONNX file in ONNX Runtime.

    Args:
      params: ours.

    Raises:
      UserError: it has other logits.
    """
    missing = _missing("onnxruntime")
    if missing:
        return missing
    onnxruntime: Any = importlib.import_module("onnxruntime")
    inputs_1xL = _inputs(vocabulary, config.context)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(["logits"], {"tokens": inputs_1xL.astype(np.int64)})
    figures = _compare_logits(_logits(params, inputs_1xL, config), theirs)
    runtime = f"ONNX Runtime {onnxruntime.__version__}"
    return {"checked": True, "runtime": runtime, "figures": figures}


def with_llama_cpp(folder: Path, dtype: str) -> Json:
    """Runs a GGUF file in llama.cpp.

    Raises:
      UserError: it has other ids or probabilities.
    """
    missing = _missing("xllamacpp")
    if missing:
        return missing
    from importlib.metadata import version

    (path,) = folder.glob("*.gguf")
    with tempfile.TemporaryDirectory() as scratch:
        found = gguf_files.open_file(path, Path(scratch))
        inputs_1xL = _inputs(found.vocabulary, found.sizes().context)
        ours = _our_logits(found, inputs_1xL)[0]
        ask = _server(path, inputs_1xL.size + 8)
        # What a vocabulary does to other texts (it normalises, or lacks letters of bytes) is not
        # what llama.cpp does.
        texts = [text for text in nasty_strings(STRINGS) if not found.vocabulary.changes(text)]
        figures = _compare_ids(
            found,
            texts,
            lambda text: ask(
                "/tokenize", {"content": text, "add_special": False, "parse_special": False}
            )["tokens"],
        )
    difference, compared = 0.0, 0
    for length in np.unique(np.linspace(1, inputs_1xL.size - 1, PREFIXES, dtype=int)):
        wanted = np.asarray(jax.nn.log_softmax(ours[length - 1]))
        candidates = _candidates(ask, inputs_1xL[0, :length].tolist())
        compared += bool(candidates)
        for token in candidates:
            logprob = float(wanted[token["id"]])
            if logprob > np.log(PROBABLE):
                difference = max(difference, abs(token["logprob"] - logprob))
    figures |= {
        "strings_left_out_as_the_vocabulary_changes_them": STRINGS - len(texts),
        "continuations_of_text": compared,
        "largest_difference_of_log_probabilities": difference,
    }
    _check(figures, "largest_difference_of_log_probabilities", LOG_PROBABILITIES[dtype])
    return {
        "checked": True,
        "runtime": f"llama.cpp (xllamacpp {version('xllamacpp')})",
        "figures": figures,
    }


def _server(path: Path, context: int) -> Callable[[str, Json], Json]:
    """llama.cpp with a model: (place, question) -> answer; it ends with the last reference."""
    xllamacpp: Any = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup = context, 1, False
    # Rounds as little as it can, so that a difference is one of the files.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(params)

    def ask(place: str, question: Json) -> Json:
        request = urllib.request.Request(
            server.listening_address + place,
            json.dumps(question).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 (our own server)
            return json.loads(answer.read())

    return ask


def _candidates(ask: Callable[[str, Json], Json], prompt: list[int]) -> list[Json]:
    """The likeliest next tokens, {"id", "logprob"} each; none where the likeliest of all is a part
    of a character or the end, of which llama.cpp's server says nothing.
    """
    question = {"prompt": prompt, "n_predict": 1, "temperature": 0, "n_probs": SHOWN}
    found = ask("/completion", question).get("completion_probabilities") or [{}]
    return found[0].get("top_logprobs", [])


def _compare_ids(
    found: Foreign, texts: list[str], theirs: Callable[[str], list[int]]
) -> dict[str, Any]:
    """Figures of the comparison.

    Raises:
      UserError: the ids of a text differ; it is shown.
    """
    for text, ours in zip(texts, found.vocabulary.encode(texts), strict=True):
        other = list(theirs(text))
        if other != ours:
            raise UserError(
                f"the exported tokenizer gives other ids in the program that is to run it: "
                f"{text!r} is {other[:12]} there, {ours[:12]} here; nothing was exported."
            )
    return {"strings_with_equal_ids": len(texts)}


def _check(figures: dict[str, Any], name: str, most: float) -> None:
    if not figures[name] <= most:
        raise UserError(
            f"the exported model computes something else in the program that is to run it: "
            f"{name.replace('_', ' ')} {figures[name]:.2g}, more than {most:g}; nothing was "
            "exported."
        )
