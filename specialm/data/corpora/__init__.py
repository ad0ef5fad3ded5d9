"""The default corpora: their catalogue, their download and the extraction of their text."""
