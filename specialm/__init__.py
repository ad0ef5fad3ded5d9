"""specialm: small specialised language models from generic text and a little specialist text.

Suffixes of names are shapes, a letter for each axis: `x_BxLxD` is [B, L, D]. docs/letters.md is the
full key.

    A head size      B batch, rows of a block   C features       D dimensions   E teacher's d_model
    F d_ff           G groups of a batch        H heads          I inputs       J key-value heads
    K clusters       L tokens of a window       M sample         N windows      O outputs
    P nodes          Q queries                  R rank (LoRA)    S bank layers  T tokens
    U hidden units   V vocabulary               W group windows  Y layers       Z batch * heads
    a candidates     b children of a node       c chunks         d documents    g device's groups
    h bank's rank    j shingles                 k experts        m code         n devices
    p nodes trained  q queries of a KV head     r buffer's rows  s blocks       t chunk's tokens
    v stored pieces  w slice of weights         z keys of a block, or of a cache
"""

__version__ = "0.1.0"
__all__ = ["ImportanceWeights", "load"]


def __getattr__(name: str):
    """What __all__ names, without JAX for those who do not use it."""
    if name == "load":
        from specialm.api import load

        return load
    if name == "ImportanceWeights":
        from specialm.importance import ImportanceWeights

        return ImportanceWeights
    raise AttributeError(f"module 'specialm' has no attribute {name!r}")
