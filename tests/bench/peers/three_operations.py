"""Three commands on every host by pyinfra."""

from pyinfra.operations import server  # type: ignore[import-not-found]  # in a .venv of the peers' own

for number in (1, 2, 3):
    server.shell(name=f"step {number}", commands=["true"])
