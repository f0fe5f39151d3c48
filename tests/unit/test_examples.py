"""The examples that people copy name everything there is, with its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.hostfile import OPTIONS, read_workers
from deploy.settings import DEFAULT_WORKERS_FILE, KEYS, Settings, load, read

TOP = Path(__file__).resolve().parents[2]
DEFAULT = Settings()
SETTING = re.compile(r"#(?P<key>[A-Z_]+)=(?P<value>.*)")


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return (TOP / ".env.example").read_text(encoding="utf-8").splitlines()


def test_env_example_names_every_setting_once_and_no_other(lines: list[str]) -> None:
    named = [found["key"] for line in lines if (found := SETTING.fullmatch(line))]
    assert sorted(named) == sorted(KEYS)


def test_env_example_sets_nothing_until_a_line_is_uncommented(lines: list[str]) -> None:
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_env_example_tells_each_setting_in_a_comment_right_above_it(lines: list[str]) -> None:
    above = {
        found["key"]: before for before, line in zip(lines, lines[1:], strict=False) if (found := SETTING.match(line))
    }
    assert [key for key, comment in above.items() if not re.match(r"# \S", comment)] == []


def test_env_example_shows_the_defaults(lines: list[str], tmp_path: Path) -> None:
    text = "\n".join(re.sub(SETTING, r"\g<key>=\g<value>", line) for line in lines)
    (tmp_path / ".env").write_text(text, encoding="utf-8")
    (tmp_path / DEFAULT_WORKERS_FILE).write_text("10.0.0.7\n", encoding="utf-8")
    loaded, default = load(tmp_path, {}), Settings()
    assert {key: getattr(loaded, key.lower()) for key in KEYS} == {key: getattr(default, key.lower()) for key in KEYS}


ROW = re.compile(r"\| `(?P<key>[A-Z_]+)` \| (?:`(?P<value>[^`|]+)`)? ?\| (?P<what>[^|]+) \|")


def test_the_readme_has_a_row_for_every_setting_with_its_default(tmp_path: Path) -> None:
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    rows = [found for line in readme.splitlines() if (found := ROW.fullmatch(line))]
    assert sorted(row["key"] for row in rows) == sorted(KEYS)
    for row in rows:
        default = getattr(DEFAULT, row["key"].lower())
        set_to_it = read(tmp_path, {row["key"]: row["value"]} if row["value"] else {}).settings
        assert (row["key"], getattr(set_to_it, row["key"].lower())) == (row["key"], default)
        assert (row["key"], bool(row["value"])) == (row["key"], default not in (None, ()))


def test_the_readme_names_every_option_of_a_worker() -> None:
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    assert [option for option in OPTIONS if f"`{option}=`" not in readme] == []


def test_a_copy_of_env_example_with_what_it_says_to_fill_in_is_a_good_file(lines: list[str], tmp_path: Path) -> None:
    values = {
        "HEAD": "ubuntu@10.0.0.5",
        "MY_PROJECT_URL": "https://git.example.com/app.git",
        "MY_PROJECT_INSTALLATION_SCRIPT": "pip install .",
        "REGION": "us-west-2",
    }
    told = [found[1] for line in lines if (found := re.match(r"#   ([A-Z_]+)  +\S", line))]
    assert told == list(values)
    filled = (f"{key}={values[key]}" if (key := line[1:].partition("=")[0]) in values else line for line in lines)
    (tmp_path / ".env").write_text("\n".join(filled), encoding="utf-8")
    settings = load(tmp_path, {})
    assert {key: getattr(settings, key.lower()) for key in values} == values


def test_workers_example_is_a_good_file() -> None:
    nodes = read_workers(TOP / "workers.txt.example")
    assert [node.name for node in nodes] == [
        "10.0.0.7",
        "10.0.0.8",
        "worker-3.example.com:2222",
        "2001:db8::9",
        "203.0.113.7",
    ]


def test_workers_example_uses_and_tells_every_option() -> None:
    text = (TOP / "workers.txt.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^#   (\w+)=  +\S", text, re.MULTILINE)) == set(OPTIONS)
    used = next(line for line in text.splitlines() if "#:" in line and not line.startswith("#"))
    assert [option for option in OPTIONS if f" {option}=" not in used] == []
