"""What of a node's words may reach the terminal."""

from __future__ import annotations


def clean(text: str) -> str:
    """Show control characters of a node's output as what they are: none reaches the terminal."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else f"\\x{ord(letter):02x}" for letter in text)
