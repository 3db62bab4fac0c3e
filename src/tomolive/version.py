"""The version, where even the lowest layer may import it from."""

__version__ = "0.1.0"
