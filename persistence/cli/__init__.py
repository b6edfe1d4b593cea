"""The command line, one file a command."""

from persistence.cli.app import main

__all__ = ["main"]
