"""Text: sources, vocabularies, windows and their store, samplers, seqio Tasks."""
