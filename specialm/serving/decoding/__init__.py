"""Continuing texts: sampling, programs over a cache, batches of texts that come and go.

`sampling.py` says what is drawn, `draw.py` draws it, `programs.py` is what is compiled, `cache.py`
where each text lies, `text.py` turns tokens into text as they come, `engine.py` runs it all.
"""
