"""Pieces of shell that more than one line of the manual is made of."""

from __future__ import annotations

import shlex

AS_ROOT = 'as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }'
APT_LOCK = 120  # seconds that apt waits for somebody else's lock
APT = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", f"DPkg::Lock::Timeout={APT_LOCK}", "-y")


def apt_install(*packages: str) -> str:
    """Write the installation of packages; the package lists are fetched only where one is not found."""
    install = f"as_root {shlex.join((*APT, 'install', *packages))}"
    return f"{install} || {{ as_root {shlex.join((*APT, 'update'))}; {install}; }}"
