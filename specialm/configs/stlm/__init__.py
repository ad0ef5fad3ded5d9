"""Super tiny language models: twins with and without a vocabulary of vectors."""
