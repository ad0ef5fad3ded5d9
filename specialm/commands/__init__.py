"""What each subcommand of `specialm` does: (config path, overrides, options) -> (JSON, text)."""
