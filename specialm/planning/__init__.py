"""What a config costs, without running it."""
