"""The command line: :func:`main`, and a module a command."""

from .main import main

__all__ = ["main"]
