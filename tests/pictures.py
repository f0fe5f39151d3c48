"""Pictures of real runs for the manual: `script/pictures`."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.terminal import COLUMNS, Line, text, watch

TOP = Path(__file__).resolve().parents[1]
INVOKE = Path(sys.executable).with_name("invoke")
FOLDER = TOP / "docs" / "pictures"
# The letters are the reader's own: nothing is fetched.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", Console.export_svg.__kwdefaults__["code_format"], flags=re.DOTALL)
COLOURS = {"default": "", "brown": "yellow", "brightblack": "bright_black"}

Until = Callable[[str], bool]


@dataclass(frozen=True)
class Picture:
    """A picture: what is typed, when it is taken if not at the end, and what is done to the hosts around it."""

    name: str
    words: str
    until: Until = lambda _: False
    code: int = 0
    before: str = "true"
    after: str = "true"


def pulling(screen: str) -> bool:
    """Tell whether two rows of a pull are well on their way."""
    shares = [
        float(come) / float(all_) for come, all_ in re.findall(r"([\d.]+)/([\d.]+) MB ", screen.replace(" MB/", "/"))
    ]
    return len(shares) > 1 and min(shares) > 0.3


ON_EACH = "for host in head worker-1 worker-2; do docker exec raydock-sandbox-$host"
NO_IMAGE = (
    f"{ON_EACH} bash -c 'docker rm -f $(docker ps -aq); docker image rm -f $(docker images -q */raydock-example)'; done"
)
ENGINE = "docker exec raydock-sandbox-worker-2 service docker"
PICTURES = (
    Picture("pull", "cluster.pull", pulling, before=NO_IMAGE),
    Picture("start", "cluster.start"),
    Picture("job", "job.run examples/where.py"),
    Picture("failed", "cluster.start", code=3, before=f"{ENGINE} stop", after=f"{ENGINE} start"),
)


def coloured(line: Line) -> Text:
    """Give a line of cells as rich has it."""
    made = Text()
    for column in range(len(text(line))):
        cell = line[column]
        colour = COLOURS.get(cell.fg, cell.fg if cell.fg.isalpha() else f"#{cell.fg}")
        made.append(cell.data, style=" ".join(filter(None, ("bold" if cell.bold else "", colour))))
    return made


def draw(name: str, title: str, lines: Sequence[Line]) -> None:
    """Write a picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    while lines and not text(lines[-1]):
        lines = lines[:-1]
    for line in lines:
        console.print(coloured(line), no_wrap=True, crop=False)
    FOLDER.mkdir(parents=True, exist_ok=True)
    svg = console.export_svg(title=f"$ {title}", code_format=FORMAT, unique_id=name)
    (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")


def take(picture: Picture) -> None:
    """Type what the picture shows, and draw it."""
    subprocess.run(("bash", "-c", picture.before), capture_output=True, check=False)
    seen = watch([str(INVOKE), *picture.words.split()], os.environ, TOP)
    subprocess.run(("bash", "-c", picture.after), capture_output=True, check=False)
    if seen.code != picture.code:
        raise SystemExit(f"invoke {picture.words} ended with {seen.code}\n" + "\n".join(seen.left))
    draw(picture.name, f"invoke {picture.words}", seen.lines(picture.until))
    print(f"docs/pictures/{picture.name}.svg")


def main(names: Sequence[str]) -> None:
    """Take the pictures of these names, or all of them."""
    for picture in PICTURES:
        if not names or picture.name in names:
            take(picture)


if __name__ == "__main__":
    main(sys.argv[1:])
