"""The configs that come with specialm; `--config=local/slm_is` names one from any folder."""
