"""specialm: small specialised language models from generic text and a little specialist text."""

__version__ = "0.1.0"
