"""What of a node's words may reach the terminal."""

from __future__ import annotations

BAR = "    │ "  # before every line but the first: no node can write one that looks like ours


def clean(text: str) -> str:
    """Show control characters of a node's output as what they are: none reaches the terminal."""
    lines = text.rstrip("\n").split("\n")
    return f"\n{BAR}".join("".join(map(visible, line)) for line in lines)


def visible(letter: str) -> str:
    """Show one character."""
    return letter if letter.isprintable() or letter == "\t" else f"\\x{ord(letter):02x}"
