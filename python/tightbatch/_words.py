"""Words of reprs and messages."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Write a number and what is counted: "1 row", "2 rows"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
