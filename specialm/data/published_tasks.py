"""Registers the Tasks of `published` on import: for `data.seqio_modules` and any seqio trainer.

The environment says where things are: SPECIALM_TEXT, the folder with `c4/en` and `pile`, and
SPECIALM_VOCABULARY, a SentencePiece model. Both may be left out, see `published.register`.
"""

import os

from specialm.data import published

published.register(os.environ.get("SPECIALM_VOCABULARY", ""), os.environ.get("SPECIALM_TEXT", ""))
