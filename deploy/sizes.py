"""Sizes as people and Docker write them: `8G`, `512M`, `1.5g`, plain bytes."""

from __future__ import annotations

import re
from decimal import Decimal

FORM = re.compile(r"(?P<number>[0-9]{1,20}(?:\.[0-9]{1,9})?)(?P<unit>[kmgtp]?)(?:(?<=[kmgtp])i?b|b)?", re.IGNORECASE)
UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
LARGEST = 2**50
SMALLEST_SHM = 2**26
SMALLEST_MEMORY = 6 * 2**20


def parse_size(text: str) -> int:
    """Give a size in bytes; a `ValueError` says what is wrong with it."""
    if not (found := FORM.fullmatch(text)):
        raise ValueError("is not a size such as 8G, 512M or 1.5g")
    size = int(Decimal(found["number"]) * UNITS[found["unit"].lower()])
    if not 1 <= size <= LARGEST:
        raise ValueError("is not from 1 byte to 1P")
    return size


def say_size(size: int) -> str:
    """Say a size in bytes as disks are sold: `1.5 GB`, `640 MB`."""
    return f"{size / 10**9:.1f} GB" if size >= 10**9 else f"{size // 10**6} MB"


def memory(text: str) -> str:
    """Give a container's limit of memory as it is written, if Docker takes so little."""
    if parse_size(text) < SMALLEST_MEMORY:
        raise ValueError("is less than 6M, the least that Docker takes")
    return text


def shm_size(text: str) -> str:
    """Give a size of shared memory as it is written, if it is not less than Docker's own default."""
    if parse_size(text) < SMALLEST_SHM:
        raise ValueError("is less than 64M, which Docker gives without being asked")
    return text
