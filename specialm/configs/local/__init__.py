"""Sizes for a laptop: minutes to hours on two CPU cores."""
