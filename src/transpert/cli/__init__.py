"""The same verbs from a shell."""

from transpert.cli.main import app

__all__ = ["app"]
