"""Projected networks (SLM-pn, arXiv 2402.01093 section 3): coefficients are a product of matrices.

Features p over the k clusters (one-hot for a cluster), c = p E M_l: the paper's
"W[a,b] = sum_q sum_r E[i,q] M_l[q,r] T_l[a,b,r]".
"""

import jax
import jax.numpy as jnp
import numpy as np

from specialm.models.families.record import Family, register
from specialm.models.tensors import MIXER, Tensor

NAME = "projected"


def _mixer(config) -> dict[str, Tensor]:
    k, m, h, s = config.num_experts, config.code, config.rank, len(config.layers)

    def code(key, shape):
        """[1 | spread * code]: one entry for each of the first m - 1 experts, then pairs."""
        codes_kxm = np.zeros(shape, np.float32)
        codes_kxm[:, 0] = 1
        for expert in range(k if m > 1 else 0):
            turn, place = divmod(expert, m - 1)
            codes_kxm[expert, 1 + place] += config.spread / 2
            codes_kxm[expert, 1 + (place + turn) % (m - 1)] += config.spread / 2
        return jnp.asarray(codes_kxm)

    def mix(key, shape):
        mix_mxh = np.zeros((m, h), np.float32)
        mix_mxh[0, 0] = 1
        for entry in range(1, m if h > 1 else 1):
            mix_mxh[entry, 1 + (entry - 1) % (h - 1)] = 1
        return jnp.broadcast_to(mix_mxh, shape)

    return {
        "code": Tensor((k, m), (None, None), code, group=MIXER),
        "mix": Tensor((s, m, h), ("layers", None, None), mix, group=MIXER),
    }


def _coefficients(mixer: dict, features_Gxk: jax.Array, config) -> jax.Array:
    return jnp.einsum("Gm,Smh->GSh", features_Gxk @ mixer["code"], mixer["mix"])


register(Family(NAME, _mixer, _coefficients))
