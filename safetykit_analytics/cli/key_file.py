"""The API key in a file."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from safetykit_analytics.cli.terminal import Loudness


def read_key(path: Path, loudness: Loudness) -> str:
    """Read the key, and warn if others can read it too. No message quotes it."""
    key = path.read_text(encoding="utf-8-sig", errors="replace").strip()
    if not key:
        raise typer.BadParameter(f"{path} is empty; expected the API key")
    others = path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)
    if others and os.name == "posix":
        loudness.note(f"warning: others can read the key in {path}; run: chmod 600 {path}")
    return key
