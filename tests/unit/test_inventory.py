"""workers.txt and the cluster that it makes: what is read, and what is refused with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deploy.errors import Mistake, Problem
from deploy.hostfile import parse_workers, read_workers
from deploy.inventory import Inventory, Node, Options, inventory, parse_head
from deploy.sizes import parse_size

from .pace import within_seconds


def problems(text: str) -> list[str]:
    with pytest.raises(Mistake) as caught:
        parse_workers(text, "workers.txt")
    assert {problem.code for problem in caught.value.problems} == {"INVENTORY"}
    return [str(problem) for problem in caught.value.problems]


HOSTS = {
    "10.0.0.7": ("10.0.0.7", "10.0.0.7", None, None),
    "10.0.0.7:22": ("10.0.0.7", "10.0.0.7", None, 22),
    "10.0.0.7:2222": ("10.0.0.7:2222", "10.0.0.7", None, 2222),
    "ubuntu@10.0.0.7": ("10.0.0.7", "10.0.0.7", "ubuntu", None),
    "ubuntu@10.0.0.7:2222": ("10.0.0.7:2222", "10.0.0.7", "ubuntu", 2222),
    "10.0.0.7 ubuntu": ("10.0.0.7", "10.0.0.7", "ubuntu", None),
    "ubuntu@10.0.0.7 ubuntu": ("10.0.0.7", "10.0.0.7", "ubuntu", None),
    "\t10.0.0.7 \t ubuntu\t ": ("10.0.0.7", "10.0.0.7", "ubuntu", None),
    "Web-1.Example.com": ("Web-1.Example.com", "Web-1.Example.com", None, None),
    "web_1": ("web_1", "web_1", None, None),
    "web.": ("web.", "web.", None, None),
    "2001:db8::7": ("2001:db8::7", "2001:db8::7", None, None),
    "[2001:db8::7]": ("2001:db8::7", "2001:db8::7", None, None),
    "[2001:db8::7]:22": ("2001:db8::7", "2001:db8::7", None, 22),
    "u@[2001:db8::7]:2222": ("[2001:db8::7]:2222", "2001:db8::7", "u", 2222),
    "fe80::1%eth0": ("fe80::1%eth0", "fe80::1%eth0", None, None),
    "10.0.0.7# the first": ("10.0.0.7", "10.0.0.7", None, None),
    "10.0.0.7  # Büro, der große": ("10.0.0.7", "10.0.0.7", None, None),
}


@pytest.mark.parametrize("line", HOSTS)
def test_a_host_is_read(line: str) -> None:
    (node,) = parse_workers(line, "workers.txt")
    assert (node.name, node.address, node.user, node.port) == HOSTS[line]
    assert (node.role, node.place, node.local, node.options) == ("worker", "workers.txt:1", False, Options())


NO_HOSTS = {
    "a number too large": ("10.0.0.300", "'10.0.0.300' is neither a host name nor an address"),
    "an address too short": ("10.0.7", "'10.0.7' is neither a host name nor an address"),
    "leading zeros": ("10.0.0.07", "'10.0.0.07' is neither a host name nor an address"),
    "hexadecimal": ("0x7f000001", "'0x7f000001' is neither a host name nor an address"),
    "a shell's command": ("a;reboot", "'a;reboot' is neither a host name nor an address"),
    "a shell's substitution": ("$(reboot)", "'$(reboot)' is neither a host name nor an address"),
    "backticks": ("`reboot`", "'`reboot`' is neither a host name nor an address"),
    "an option of ssh": ("-oProxyCommand=x", "'-oProxyCommand=x' is neither a host name nor an address"),
    "an option as the user": ("-l@10.0.0.7", "'-l' is not a user name"),
    "a password": ("u:hunter2@h", "has a password before its '@': SSH takes a key, so leave it out"),
    "an empty user": ("@10.0.0.7", "'' is not a user name"),
    "no host": ("ubuntu@", "'' is neither a host name nor an address"),
    "two at signs": ("a@b@c", "'a@b' is not a user name"),
    "full-width digits": ("１０.0.0.7", r"'\uff11\uff10.0.0.7' is neither a host name nor an address"),
    "an umlaut": ("büro", r"'b\xfcro' is neither a host name nor an address"),
    "a blank that is none of ASCII": ("a\u00a0b", r"'a\xa0b' is neither a host name nor an address"),
    "port 0": ("a:0", "port '0' is not a whole number from 1 to 65535"),
    "port 65536": ("a:65536", "port '65536' is not a whole number from 1 to 65535"),
    "a port in letters": ("a:ssh", "port 'ssh' is not a whole number from 1 to 65535"),
    "an empty port": ("a:", "port '' is not a whole number from 1 to 65535"),
    "brackets left open": ("[::1", "'[::1' is neither a host name nor an address"),
    "brackets around IPv4": ("[10.0.0.7]:22", "'[10.0.0.7]' is neither a host name nor an address"),
    "something after brackets": ("[::1]x", "'[::1]x' is neither a host name nor an address"),
    "a bad zone": ("fe80::1%a/b", "'fe80::1%a/b' is neither a host name nor an address"),
    "a range": ("10.0.0.[1-50]", "'10.0.0.[1-50]' is a range, and ranges are not read: list one host a line"),
    "a list in braces": ("n{1,2}", "'n{1,2}' is a range, and ranges are not read: list one host a line"),
    "two users": ("a@h b", "'a@h b' names two users"),
    "three words": ("h u x", "'h u x' is more than a host and a user: options stand after '#:'"),
    "an option without its mark": (
        "h gpus=all",
        "'h gpus=all' is more than a host and a user: options stand after '#:'",
    ),
    "a NUL": ("h\0", r"has a control character, '\x00'"),
    "an escape in a comment": ("h # \x1b[2J", r"has a control character, '\x1b'"),
    "a line without end": ("h" * 5000, "is longer than 4096 characters"),
    "options without a host": ("#: gpus=all", "has options, but no host before them"),
    "options in a comment": ("h # old #: gpus=all", "has options inside a comment: they stand right after the host"),
}


@pytest.mark.parametrize("case", NO_HOSTS)
def test_what_is_no_host_is_refused_with_its_line(case: str) -> None:
    line, error = NO_HOSTS[case]
    assert problems(f"good\n{line}\n") == [f"workers.txt:2: {error}"]


def test_all_options_are_read() -> None:
    text = """h #: private=10.0.0.7 num_workers=8 shm_size=1.5g gpus=2 resources='{"ssd": 2.0, "a": 1}' # it's big"""
    (node,) = parse_workers(text, "workers.txt")
    assert node.private == "10.0.0.7"
    assert node.options == Options(num_workers=8, shm_size="1.5g", gpus="2", resources='{"a":1,"ssd":2}')


BAD_OPTIONS = {
    "an unknown one": ("num_worker=8", "no option is called 'num_worker'. Did you mean num_workers?"),
    "twice the same": ("gpus=1 gpus=2", "gpus= is there twice"),
    "no value": ("gpus", "'gpus' is no option: write KEY=VALUE, blanks in quotes"),
    "a quote left open": ("resources='{}", """"resources='{}" is no option: write KEY=VALUE, blanks in quotes"""),
    "an empty value": ("gpus=", "gpus='' is not auto, all, none, or a number from 1 to 999"),
    "a name for private": ("private=db", "private='db' is not an IP address"),
    "no interface's address": ("private=0.0.0.0", "private='0.0.0.0' is not the address of one interface"),
    "zero tasks": ("num_workers=0", "num_workers='0' is not a whole number from 1 to 10000"),
    "less than none": ("num_workers=-1", "num_workers='-1' is not a whole number from 1 to 10000"),
    "an exponent": ("num_workers=1e9", "num_workers='1e9' is not a whole number from 1 to 10000"),
    "a full-width digit": ("num_workers=８", r"num_workers='\uff18' is not a whole number from 1 to 10000"),
    "not a number": ("num_workers=NaN", "num_workers='NaN' is not a whole number from 1 to 10000"),
    "a size with more": ("shm_size=8GB;x", "shm_size='8GB;x' is not a size such as 8G, 512M or 1.5g"),
    "a size without unit": ("shm_size=8", "shm_size='8' is less than 64M, which Docker gives without being asked"),
    "half a GPU": ("gpus=0.5", "gpus='0.5' is not auto, all, none, or a number from 1 to 999"),
    "resources that are no JSON": ("resources=ssd", "resources='ssd' is not JSON"),
    "resources too deep": (f"resources='{'[' * 4000}'", f"resources='{'[' * 57}...' is not JSON"),
    "resources in a list": ("resources='[1]'", """resources='[1]' is not a JSON object such as {"ssd": 1}"""),
    "a resource of Ray's": (
        """resources='{"CPU": 1}'""",
        """resources='{"CPU": 1}' has 'CPU', which is no name for a resource of one's own""",
    ),
    "a resource twice": (
        """resources='{"a": 1, "a": 2}'""",
        """resources='{"a": 1, "a": 2}' names a resource twice""",
    ),
    "half a resource": (
        """resources='{"a": 0.5}'""",
        """resources='{"a": 0.5}' has a quantity that is not a whole number from 1 to 1000000000""",
    ),
    "a resource that is true": (
        """resources='{"a": true}'""",
        """resources='{"a": true}' has a quantity that is not a whole number from 1 to 1000000000""",
    ),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_a_bad_option_is_refused_with_its_line(case: str) -> None:
    options, error = BAD_OPTIONS[case]
    assert problems(f"h #: {options}") == [f"workers.txt:1: {error}"]


def test_every_mistake_of_a_file_is_told_in_its_order() -> None:
    text = "web\n10.0.0.300\nh #: gpus=x shm_size=0\nWEB.\n-x\n"
    assert [line.partition(": ")[0] for line in problems(text)] == [
        "workers.txt:2",
        "workers.txt:3",
        "workers.txt:3",
        "workers.txt:4",
        "workers.txt:5",
    ]


SAME_HOST = {
    "case": ("Web.example.com", "web.Example.com"),
    "the last dot": ("web", "web."),
    "the port that is the default": ("web", "web:22"),
    "another user": ("a@web", "b@web"),
    "forms of an IPv6 address": ("2001:db8::7", "[2001:0DB8:0:0::7]:22"),
    "IPv4 as IPv6": ("10.0.0.7", "::ffff:10.0.0.7"),
}


@pytest.mark.parametrize("case", SAME_HOST)
def test_a_host_named_twice_is_told_with_both_lines(case: str) -> None:
    first, second = SAME_HOST[case]
    (problem,) = problems(f"# workers\n{first}\n\n{second}\n")
    assert re.fullmatch(r"workers.txt:4: '.*' is at workers.txt:2 already. Keep one of the two", problem)


def test_two_ports_of_one_address_are_two_hosts() -> None:
    assert [node.name for node in parse_workers("127.0.0.1:2201\n127.0.0.1:2202", "w")] == [
        "127.0.0.1:2201",
        "127.0.0.1:2202",
    ]


def test_a_private_address_is_of_one_host() -> None:
    assert problems("a #: private=10.0.0.7\nb #: private=10.0.0.7\n") == [
        "workers.txt:2: private=10.0.0.7 is at workers.txt:1 already. Keep one of the two"
    ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a\nb\n", id="plain"),
        pytest.param("a\nb", id="without a last line's end"),
        pytest.param("a\r\nb\r\n", id="from Windows"),
        pytest.param("a\rb\n", id="with mixed ends"),
        pytest.param("\ufeffa\nb\n", id="with a BOM"),
        pytest.param("\n  \n# c\n\t#d\na # x\n\n#u@x:22 #: gpus=all\nb\n", id="with blanks and comments"),
    ],
)
def test_lines_are_read_however_they_end(text: str) -> None:
    assert [node.name for node in parse_workers(text, "w")] == ["a", "b"]


FILES = {
    "empty": (b"", "lists no host. List one host a line, as in: ubuntu@10.0.0.7"),
    "only comments": (b"# none\n", "lists no host. List one host a line, as in: ubuntu@10.0.0.7"),
    "UTF-16": ("a\n".encode("utf-16"), "cannot be read: it is UTF-16; save it as UTF-8."),
    "Latin-1": ("büro\n".encode("latin-1"), r"1: 'b\\xfcro' is neither a host name nor an address"),
    "NUL": (b"a\nb\0\n", r"2: has a control character, '\x00'"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_lists_nothing_is_refused(case: str, tmp_path: Path) -> None:
    content, error = FILES[case]
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(Mistake, match=re.escape(error)):
        read_workers(tmp_path / "w", "workers.txt")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"^conf/w: cannot be read: No such file or directory\. List one host a line"):
        read_workers(tmp_path / "w", "conf/w")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="cannot be read: it is not a file"):
        read_workers(tmp_path)


@pytest.mark.parametrize(
    ("value", "address", "user", "port", "local"),
    [
        ("local", "localhost", None, None, True),
        ("ubuntu@10.0.0.5", "10.0.0.5", "ubuntu", None, False),
        ("ubuntu@head.example.com:2222", "head.example.com", "ubuntu", 2222, False),
        ("[::1]:2222", "::1", None, 2222, False),
    ],
)
def test_the_head_is_this_machine_or_a_host(
    value: str, address: str, user: str | None, port: int | None, local: bool
) -> None:
    head = Node("head", address, role="head", user=user, port=port, place=".env:3", local=local)
    assert parse_head(value, ".env:3") == head


@pytest.mark.parametrize("value", ["", "10.0.0.300", "u@", "ssh://u@h", "-x", "local:22:33", "a b"])
def test_what_is_no_head_is_refused(value: str) -> None:
    with pytest.raises(Mistake, match=r"^\.env:3: HEAD: .* Write HEAD=local, or HEAD=user@host\[:port\]$"):
        parse_head(value, ".env:3")


def cluster(head: str, workers: str, *, user: str | None = None, port: int | None = None) -> Inventory:
    return inventory(parse_head(head), parse_workers(workers, "w"), user=user, port=port)


CLASHES = {
    "the head's address": ("u@10.0.0.5", "10.0.0.5", None, "'10.0.0.5' is the head (HEAD) already"),
    "the head's name": ("local", "head", None, "the name 'head' is the head (HEAD) already"),
    "this machine, which is the head": ("local", "localhost", None, "'localhost' is the head (HEAD) already"),
    "this machine by address": ("local", "u@127.0.0.1:22", None, "'127.0.0.1' is the head (HEAD) already"),
    "the same by the default port": ("u@h:2222", "h", 2222, "'h' is the head (HEAD) already"),
}


@pytest.mark.parametrize("case", CLASHES)
def test_no_worker_is_the_head_as_well(case: str) -> None:
    head, workers, port, error = CLASHES[case]
    with pytest.raises(Mistake, match=re.escape(f"w:1: {error}. Keep one of the two")):
        cluster(head, workers, port=port)


def test_another_port_of_this_machine_is_another_host() -> None:
    assert [node.name for node in cluster("local", "127.0.0.1:2201\n").nodes] == ["head", "127.0.0.1:2201"]


def test_user_and_port_hold_where_a_node_names_none() -> None:
    found = cluster("h", "a\nb:22\nc@d", user="ubuntu", port=2222)
    assert [(node.name, node.user, node.port) for node in found.nodes] == [
        ("head", "ubuntu", 2222),
        ("a", "ubuntu", 2222),
        ("b", "ubuntu", 22),
        ("d", "c", 2222),
    ]


def test_the_local_head_is_not_logged_in_to() -> None:
    head = cluster("local", "a", user="ubuntu", port=2222).head
    assert (head.user, head.port) == (None, None)


SELECTED = {
    "one": ("web", {"web"}),
    "several": ("web, 10.0.0.7:2222", {"web", "10.0.0.7:2222"}),
    "a list of them": (["web", "head,web"], {"web", "head"}),
    "in other letters": ("WEB.", {"web"}),
    "with the port that is the default": ("web:22", {"web"}),
    "an IPv6 address in another form": ("[2001:0db8::7]", {"2001:db8::7"}),
    "all": (None, {"head", "web", "10.0.0.7:2222", "2001:db8::7"}),
}


@pytest.mark.parametrize("case", SELECTED)
def test_nodes_are_selected_by_name(case: str) -> None:
    names, expected = SELECTED[case]
    assert cluster("local", "web\n10.0.0.7:2222\n2001:db8::7").select(names) == expected


def test_unknown_names_are_told_with_the_nearest() -> None:
    with pytest.raises(Mistake) as caught:
        cluster("local", "web-1\nweb-2").select("wbe-1,web-2,zz")
    assert caught.value.problems == (
        Problem("USAGE", "'wbe-1' is no node of this cluster", "Did you mean web-1?", "--only"),
        Problem("USAGE", "'zz' is no node of this cluster", "There are: head, web-1, web-2", "--only"),
    )


@pytest.mark.parametrize("names", ["", " , ", []], ids=["empty", "only commas", "no names"])
def test_nothing_named_never_means_all(names: str | list[str]) -> None:
    with pytest.raises(Mistake, match="--only: names no node"):
        cluster("local", "web").select(names)


def test_ten_thousand_lines_take_less_than_a_second() -> None:
    text = "\n".join(f"ubuntu@node-{number}.example.com:22  #: num_workers=8 gpus=all" for number in range(10_000))
    with within_seconds(1):
        assert len(parse_workers(text, "w")) == 10_000


def test_a_line_of_ten_megabytes_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"a" * 10_000_000)
    with within_seconds(1), pytest.raises(Mistake, match="longer than 4096 characters"):
        read_workers(tmp_path / "w")


MANY = {
    "wrong in another way each": lambda number: f"h{number} #: option{number}=x gpus=many",
    "the same host": lambda _: "web",
    "neither host nor address": lambda number: f"10.0.0.{number + 300}",
}


@pytest.mark.parametrize("case", MANY)
def test_of_a_file_that_is_no_list_of_hosts_the_first_thousand_mistakes_are_told_in_less_than_a_second(
    case: str,
) -> None:
    text = "\n".join(map(MANY[case], range(12_000)))
    with within_seconds(1):
        told = problems(text)
    assert len(told) == 1001
    assert told[-1].endswith(": and more: these are the first 1000 mistakes")


@pytest.mark.parametrize("text", ["a\n" * 12_001, "\n" * 10_000_000], ids=["hosts", "nothing"])
def test_more_lines_than_anybody_has_hosts_are_refused_at_once(text: str) -> None:
    with within_seconds(1):
        told = problems(text)
    assert told == ["workers.txt: has more than 12000 lines. List one host a line, as in: ubuntu@10.0.0.7"]


# What people type, and what they should not: pieces of good lines, and of bad ones.
PIECES = st.sampled_from(
    [
        "a",
        "web-1",
        "10.0.0.7",
        "::1",
        "[::1]",
        ":22",
        ":0",
        "@",
        "ubuntu",
        "#",
        "#:",
        " ",
        "\t",
        "\n",
        "\r\n",
        "=",
        "gpus",
    ]
    + [
        "gpus=all",
        "shm_size=8G",
        "resources=",
        "'",
        '"',
        '{"a": 1}',
        "[1-9]",
        "$(x)",
        ";",
        "-o",
        "%",
        "%eth0",
        "\0",
        "é",
    ]
)
TEXTS = st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=25).map("".join))
SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:%-]*|::[0-9a-fA-F:.]*(%[A-Za-z0-9_.-]+)?")  # with a zone, too


def outcome(text: str) -> tuple[Node, ...] | Mistake:
    try:
        return parse_workers(text, "w")
    except Mistake as mistake:
        return mistake


@example("::%0")
@given(TEXTS)
def test_whatever_is_written_is_read_or_refused_and_nothing_reaches_a_shell(text: str) -> None:
    found = outcome(text)
    if isinstance(found, Mistake):
        assert all(problem.place.startswith("w") and problem.error.isprintable() for problem in found.problems)
        return
    for node in found:
        assert SAFE.fullmatch(node.address)
        assert node.user is None or SAFE.fullmatch(node.user)


HOST_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?(\.[a-z]{2,6}){0,2}", fullmatch=True)
ADDRESSES = st.one_of(HOST_NAMES, st.ip_addresses().map(str))
PORTS = st.none() | st.integers(1, 65535)


@given(st.none() | st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), ADDRESSES, PORTS)
def test_what_is_written_down_is_what_is_read(user: str | None, address: str, port: int | None) -> None:
    host = f"[{address}]" if ":" in address and port else address
    line = f"{user}@" * (user is not None) + host + (f":{port}" if port else "")
    (node,) = parse_workers(line, "w")
    assert (node.user, node.address, node.port) == (user, address, port)
    assert Inventory(parse_head("local"), (node,)).select(node.name) == {node.name}


@pytest.mark.parametrize(
    ("text", "size"),
    [("8G", 8 * 2**30), ("512M", 2**29), ("1.5g", 3 * 2**29), ("1073741824", 2**30), ("8GiB", 2**33), ("64kb", 2**16)]
    + [("10b", 10), ("1t", 2**40), ("0.5k", 512)],
)
def test_sizes_are_read_as_docker_reads_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "0", "0.0G", "-1G", "NaN", "inf", "8GB;x", "８G", "8 G", "1e9", "G", "1.G", ".5G", "8ib", "2000000T", "+1"],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_size(text)
