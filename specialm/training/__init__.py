"""Steps, loop, optimizer, sharding, checkpoints, metrics and scoring."""
