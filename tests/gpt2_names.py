"""The parameters of a GPT-2-type model under the names that the reference formulas use."""

from types import SimpleNamespace


def named(params):
    """embedding, position, norm_scale, norm_bias and layers, with norm1_scale, qkv, up and so on."""
    layers = params["layers"]
    norms = {
        f"{norm}_{name}": layers[norm][name] for norm in ("norm1", "norm2") for name in layers[norm]
    }
    norm = params["heads"]["last"]["norm"]
    return SimpleNamespace(
        embedding=params["embed"]["tokens"],
        position=params["position"]["table"],
        layers=SimpleNamespace(**norms, **layers["attention"], **layers["mlp"]),
        norm_scale=norm["scale"],
        norm_bias=norm["bias"],
    )
