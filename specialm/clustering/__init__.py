"""Encoders, embeddings on disk, k-means, trees of clusters and importance weights."""
