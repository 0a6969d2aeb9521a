"""The command line: one file per group of verbs."""

from typing import Any

HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
"""Settings of every command."""
