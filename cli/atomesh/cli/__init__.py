"""The command line: one file per verb, heavy imports only inside the verb that needs them."""

from atomesh.cli._app import main

__all__ = ["main"]
