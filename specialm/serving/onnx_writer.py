"""A dense model of any parts as an ONNX graph: tokens [B, L] -> logits [B, L, V] and the final
states [B, L, D], in float32, without a cache of keys and values.

The graph is written node by node with the package `onnx`, from the parts that `models/parts` has:
a function here for each. Operators are those of opset 20 (https://onnx.ai/onnx/operators/). (The
converter jax2onnx 0.17 cannot be installed beside training: it needs orbax-checkpoint below 0.12.)
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from specialm.common import extras
from specialm.models.config import Config
from specialm.models.operations import MASKED
from specialm.models.parts.attention import local_layers

EXTRA, OPSET, IR = "onnx", 20, 10
EMBEDDERS = ("tokens", "scaled_tokens")  # that have a graph
FILE, DATA = "model.onnx", "model.onnx.data"
IN_ONE_FILE = 1 << 30  # bytes of parameters; protobuf holds no 2 GB


def package() -> Any:
    """The package `onnx`."""
    return extras.load("onnx", EXTRA, "writing ONNX")


class Graph:
    """Nodes and constants under way. `graph.MatMul(a, b)` adds a node, returns its result's name.

    Arguments are names of results, or arrays and numbers, which become constants.
    """

    def __init__(self) -> None:
        self._onnx = package()
        self.nodes: list = []
        self.constants: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        self._arrays: list[np.ndarray] = []  # kept, so that their ids stay theirs

    def __getattr__(self, kind: str):
        def add(*inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
            names = [self._name(each) for each in inputs]
            made = [f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
            self.nodes.append(self._onnx.helper.make_node(kind, names, made, **attributes))
            return made if outputs > 1 else made[0]

        return add

    def _name(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        if id(value) not in self._names or not isinstance(value, np.ndarray):
            kind = np.int64 if np.asarray(value).dtype.kind == "i" else np.float32
            name = f"constant_{len(self.constants)}"
            array = np.asarray(value, kind)
            self.constants[name] = self._onnx.numpy_helper.from_array(array, name)
            if isinstance(value, np.ndarray):
                self._names[id(value)] = name
                self._arrays.append(value)
            return name
        return self._names[id(value)]

    def model(self, outputs: dict[str, tuple], config: Config) -> Any:
        """The ModelProto of `tokens` -> these results.

        Args:
          outputs: {name: (result, size of its last axis)}.
        """
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        for name, (result, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [result], [name]))
        described = [
            helper.make_tensor_value_info(name, kinds.FLOAT, ["batch", "length", size])
            for name, (_, size) in outputs.items()
        ]
        tokens = helper.make_tensor_value_info("tokens", kinds.INT64, ["batch", "length"])
        graph = helper.make_graph(
            self.nodes, "specialm", [tokens], described, list(self.constants.values())
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR)


def write(folder: Path, config: Config, params: Any) -> None:
    """Writes model.onnx (and model.onnx.data beside it for large models).

    Args:
      params: ours, NumPy arrays.

    Raises:
      UserError: the package `onnx` is not installed.
    """
    graph = Graph()
    states = _states(graph, config, params)
    last = params["heads"]["last"]
    matrix_VxD = last["out"] if "out" in last else params["embed"]["tokens"]
    logits = graph.MatMul(states, graph.Transpose(matrix_VxD, perm=[1, 0]))
    outputs = {"logits": (logits, config.vocab_size), "states": (states, config.d_model)}
    model = graph.model(outputs, config)
    size = sum(4 * leaf.size for leaf in _leaves(params))
    large = {"save_as_external_data": True, "location": DATA} if size > IN_ONE_FILE else {}
    package().save_model(model, str(folder / FILE), **large)
    package().checker.check_model(str(folder / FILE))


def _leaves(tree: Any) -> list[np.ndarray]:
    return (
        [x for part in tree.values() for x in _leaves(part)] if isinstance(tree, dict) else [tree]
    )


def _states(graph: Graph, config: Config, params: Any) -> str:
    """[B, L, D]: what the head reads."""
    x = graph.Gather(params["embed"]["tokens"], "tokens")
    if config.embedder == "scaled_tokens":
        x = graph.Mul(x, math.sqrt(config.d_model))
    length = graph.Gather(graph.Shape("tokens"), 1)
    place_L = graph.Range(0, length, 1)
    if config.positions == "learned":
        x = graph.Add(x, graph.Gather(params["position"]["table"], place_L))
    is_local_Y = local_layers(config)
    places = {False: _places(graph, config, place_L, False)}
    if is_local_Y is not None:
        places[True] = _places(graph, config, place_L, True)
    for y in range(config.num_layers):
        w = _layer(params["layers"], y)
        is_local = bool(is_local_Y is not None and is_local_Y[y])
        mixed = _attention(graph, config, w["attention"], _norm(graph, config, w["norm1"], x),
                           *places[is_local])  # fmt: skip
        x = graph.Add(x, _result(graph, config, w, "post_norm1", mixed))
        changed = _mlp(graph, config, w["mlp"], _norm(graph, config, w["norm2"], x))
        x = graph.Add(x, _result(graph, config, w, "post_norm2", changed))
    return _norm(graph, config, params["heads"]["last"]["norm"], x)


def _layer(tree: Any, y: int) -> Any:
    if isinstance(tree, dict):
        return {name: _layer(part, y) for name, part in tree.items()}
    return tree[y]


def _result(graph: Graph, config: Config, w: Any, name: str, x: str) -> str:
    return _norm(graph, config, w[name], x) if config.post_norms else x


def _norm(graph: Graph, config: Config, weights: Any, x: str) -> str:
    if config.norm == "layernorm" and "bias" in weights:
        return graph.LayerNormalization(
            x, weights["scale"], weights["bias"], axis=-1, epsilon=config.norm_epsilon
        )
    square = graph.ReduceMean(graph.Mul(x, x), [-1], keepdims=1)
    root = graph.Sqrt(graph.Add(square, config.norm_epsilon))
    scale = weights["scale"] + 1 if config.norm == "rmsnorm_plus1" else weights["scale"]
    return graph.Mul(graph.Div(x, root), scale)


def _places(graph: Graph, config: Config, place_L: str, is_local: bool) -> tuple:
    """((cos, sin) of rotary positions or None, mask [L, L] of what is seen or None)."""
    turns = None
    if config.positions == "rope":
        base = config.local_rope_base if is_local else config.rope_base
        factor = 1.0 if is_local else config.rope_factor
        size = config.size_of_head
        frequency = np.float32(base) ** (-np.arange(0, size, 2, dtype=np.float32) / size)
        place_Lx1x1 = graph.Unsqueeze(graph.Cast(place_L, to=1), [1, 2])
        angle = graph.Mul(graph.Div(place_Lx1x1, factor), frequency)
        turns = graph.Cos(angle), graph.Sin(angle)
    if not config.causal:
        return turns, None
    distance_LxL = graph.Sub(graph.Unsqueeze(place_L, [1]), graph.Unsqueeze(place_L, [0]))
    seen_LxL = graph.GreaterOrEqual(distance_LxL, 0)
    if is_local:
        seen_LxL = graph.And(seen_LxL, graph.Less(distance_LxL, config.sliding_window))
    return turns, seen_LxL


def _rotated(graph: Graph, x_BxLxHxA: str, cos: str, sin: str) -> str:
    low, high = graph.Split(x_BxLxHxA, outputs=2, axis=-1, num_outputs=2)
    turned = (
        graph.Sub(graph.Mul(low, cos), graph.Mul(high, sin)),
        graph.Add(graph.Mul(high, cos), graph.Mul(low, sin)),
    )
    return graph.Concat(*turned, axis=-1)


def _attention(
    graph: Graph, config: Config, w: Any, x_BxLxD: str, turns: tuple | None, seen_LxL: str | None
) -> str:
    heads, groups, size = config.num_heads, config.kv_heads, config.size_of_head
    queries, parts = heads // groups, {"q": slice(0, -2), "k": slice(-2, -1), "v": slice(-1, None)}

    def project(name: str) -> str:
        """[B, L, heads, A]; of queries group after group."""
        matrix = w["qkv"][:, parts[name]].swapaxes(1, 2).reshape(config.d_model, -1)
        x = graph.MatMul(x_BxLxD, np.ascontiguousarray(matrix))
        if "qkv_bias" in w:
            x = graph.Add(x, w["qkv_bias"][parts[name]].swapaxes(0, 1).reshape(-1))
        x = graph.Reshape(x, [0, 0, heads if name == "q" else groups, size])
        if name != "v" and config.qk_norm:
            x = _norm(graph, config, w[f"{name}_norm"], x)
        return _rotated(graph, x, *turns) if name != "v" and turns else x

    q = graph.Reshape(project("q"), [0, 0, groups, queries, size])
    q_BxJxqxLxA = graph.Transpose(q, perm=[0, 2, 3, 1, 4])
    k_BxJx1xAxL = graph.Unsqueeze(graph.Transpose(project("k"), perm=[0, 2, 3, 1]), [2])
    v_BxJx1xLxA = graph.Unsqueeze(graph.Transpose(project("v"), perm=[0, 2, 1, 3]), [2])
    scores = graph.MatMul(q_BxJxqxLxA, k_BxJx1xAxL)
    scores = graph.Mul(scores, (config.query_scalar or size) ** -0.5)
    if seen_LxL is not None:
        scores = graph.Where(seen_LxL, scores, MASKED)
    mixed = graph.MatMul(graph.Softmax(scores, axis=-1), v_BxJx1xLxA)
    mixed_BxLxD = graph.Reshape(graph.Transpose(mixed, perm=[0, 3, 1, 2, 4]), [0, 0, heads * size])
    return _with_bias(
        graph, graph.MatMul(mixed_BxLxD, w["out"].reshape(-1, config.d_model)), w, "out"
    )


def _with_bias(graph: Graph, x: str, w: Any, name: str, part: Any = ()) -> str:
    bias = w.get(f"{name}_bias")
    return x if bias is None else graph.Add(x, bias[part])


def _mlp(graph: Graph, config: Config, w: Any, x: str) -> str:
    def up(part: Any = ()) -> str:
        matrix = np.ascontiguousarray(w["up"][(slice(None), *part)])
        return _with_bias(graph, graph.MatMul(x, matrix), w, "up", part)

    hidden = ACTIVATIONS[config.mlp](graph, up)
    return _with_bias(graph, graph.MatMul(hidden, w["down"]), w, "down")


def _gelu(graph: Graph, x: str) -> str:
    return graph.Gelu(x, approximate="tanh")


def _silu(graph: Graph, x: str) -> str:
    return graph.Mul(x, graph.Sigmoid(x))


# model.mlp -> (graph, (part,) of the first map -> its result) -> what the second map reads
ACTIVATIONS = {
    "gelu": lambda graph, up: _gelu(graph, up()),
    "geglu": lambda graph, up: graph.Mul(_gelu(graph, up((0,))), up((1,))),
    "swiglu": lambda graph, up: graph.Mul(_silu(graph, up((0,))), up((1,))),
}
