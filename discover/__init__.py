"""Automated circuit discovery by exact path patching."""

__version__ = "0.1.0"
