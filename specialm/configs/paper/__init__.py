"""The published sizes, for accelerators."""
