"""The transformer of parts, families of banks, the mixture, LoRA, the vocabulary loss, MiniLM."""
