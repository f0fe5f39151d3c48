"""ssh_config is read as ssh itself reads it, the files that it includes among it."""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from paramiko.config import SSHConfig
from paramiko.ssh_exception import ConfigParseError

from deploy import ssh, ssh_config
from deploy.errors import Failure, Mistake
from deploy.ssh_config import OpenSshConfig, read_ssh_config
from deploy.ssh_lines import expanded

HOSTS = ("alpha", "beta", "10.0.0.7", "Alpha")


def make(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


# What is compared, and what it is where nothing says it.
COMPARED = {"user": "", "port": "22", "hostname": "", "identitiesonly": "no", "hostkeyalias": ""}


def ours(file: Path, host: str) -> dict[str, str]:
    config = OpenSshConfig()
    config.parse(expanded(file))
    found = config.lookup(host)
    values = {key: str(found.get(key, usual)) for key, usual in COMPARED.items()}
    return values | {"hostname": values["hostname"].lower()}  # so ssh shows most


def theirs(file: Path, host: str) -> dict[str, str]:
    said = subprocess.run(["ssh", "-G", "-F", file, host], check=True, capture_output=True, text=True).stdout
    found = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    return {key: found.get(key, usual) for key, usual in COMPARED.items()}


HEADS = st.sampled_from(
    [
        *("Host *", "Host alpha", "Host 10.*", "Host !beta *", "Host beta # alpha"),
        *("Match originalhost beta,alpha", "Match all", "Match originalhost alpha # beta"),
        *("Match host beta", "Match Host alpha.x", "Match !Host alpha", "Match host 10.0.0.9 all"),
        *("Match host BETA,Alpha.X", "Match originalhost ALPHA", "Host Alpha", "Match originalhost !Alpha,*"),
        *(
            "Match localuser nobody",
            "Match !localuser No*",
            'Match exec "[ %n = Alpha ]"',
            'Match exec "[ %n%% = alpha%% -a %h = a%%h%n ]"',
            "Match host a%halpha",
        ),
        *("Match Exec false", "Match exec true host alpha.x,beta", "Match final host alpha.x"),
        *("Host alpha.x", "Match final all", 'Match final exec "[ %h = alpha ]"'),
    ]
)
LINES = st.one_of(
    HEADS,
    st.integers(1000, 1020).map(lambda port: f"  Port {port}"),
    st.sampled_from(["  User ann", "\tuser=bob", '  User "cy"', "# Include here", ""]),
    st.sampled_from(
        [
            *("HostName a%%h%h", "HostName %h.x", "HostName 10.0.0.9 # %h", "HostName BETA", "HostName ALPHA.x"),
            *("IdentitiesOnly true", "HostKeyAlias web # x"),
        ]
    ),
    st.sampled_from(["Include {}/b", "include {}/b {}/c", "  Include {}/none*", "Include {}/[bc]"]),
)
FILES = st.lists(LINES, max_size=8).map("\n".join)


@given(top=FILES, inner=FILES, innermost=st.lists(LINES.filter(lambda line: "nclude" not in line)).map("\n".join))
@example(top="Host alpha\nHostName 10.0.0.9\nHost 10.*\nUser ann\nMatch final all\nPort 1001", inner="", innermost="")
@example(top="Host alpha\nHostName BETA\nMatch final all\nHost beta\nPort 1001", inner="", innermost="")
@example(top="Match final all\nHost alpha\nHostKeyAlias web", inner="", innermost="")
@example(top='Match final exec "[ %h = alpha ]"\nHostName %h.x\nPort 1001', inner="", innermost="")
@example(
    top="Host alpha\nHostName 10.0.0.9\nMatch final originalhost alpha\nInclude {}/b",
    inner="Host 10.*\nPort 1001",
    innermost="",
)
@example(top="Host Alpha\nInclude {}/b", inner="Host *\nPort 1001", innermost="")
@example(top="Match host beta\nInclude {}/b\nPort 1000", inner="HostName x\nHost *\nUser ann", innermost="")
def test_every_host_has_what_ssh_gives_it(
    tmp_path_factory: pytest.TempPathFactory, top: str, inner: str, innermost: str
) -> None:
    folder = tmp_path_factory.mktemp("ssh")
    inner = "\n".join(line.replace("/b", "/c").replace("[bc]", "c") for line in inner.split("\n"))
    texts = {"config": f"{top}\nHost *\n  User last", "b": inner, "c": innermost}
    make(folder, {name: text.replace("{}", str(folder)) for name, text in texts.items()})
    for host in HOSTS:
        found = theirs(folder / "config", host)
        assert ours(folder / "config", host) == found | {"hostname": found["hostname"].lower()}


# What follows `Match`, and whether that is read here; else it is refused.
ASKED = {
    "host 'alpha'": False,
    "!host 'alpha'": False,
    "!host alpha\\": False,
    'host "alpha"': True,
    '"host" alpha': True,
    "!host alpha#x": True,
    "all # 'x'": True,
    "# all": False,
    "all all": False,
    "host=alpha": False,
    'host "beta"alpha': False,
    "exec ''": False,
    "exec '[ a ]'": False,
    "exec #x": False,
    'exec "#x"': False,
    'exec ""': False,
    "exec \"[ '%h' = alpha ]\"": True,
    "exec \"[ 'a\\\\b' = 'a\\b' ]\"": True,
    "!exec \"[ 'a\\\\b' = 'a\\b' ]\"": True,
    'exec "[ \\"a\\" = a ]"': False,
    'exec "true" # "x"': True,
    '"exec" "true # x" host "alpha"': True,
}


@pytest.mark.parametrize(("asked", "read"), ASKED.items(), ids=ASKED)
def test_what_match_asks_holds_where_it_does_to_ssh_or_is_refused(asked: str, read: bool, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(f"Match {asked}\n  Port 7\nMatch all\n  User last\n")
    if read:
        assert ours(file, "alpha") == theirs(file, "alpha")
    else:
        with pytest.raises(Mistake, match=rf"^{file}:1: Match"):
            ours(file, "alpha")


TRUST = ("UserKnownHostsFile", "GlobalKnownHostsFile", "RevokedHostKeys")


def files_of_ours(file: Path, option: str) -> str | None:
    config = SSHConfig()
    try:
        config.parse(expanded(file))
    except (Mistake, ConfigParseError):
        return "refused"
    value = config.lookup("alpha").get(option.lower())
    return None if value is None else " ".join(shlex.split(value))


def files_of_theirs(file: Path | str, option: str) -> str | None:
    ran = subprocess.run(["ssh", "-G", "-F", file, "alpha"], check=False, capture_output=True, text=True)
    found = dict(line.split(" ", 1) for line in ran.stdout.split("\n") if " " in line)
    return "refused" if ran.returncode else found.get(option.lower())


@pytest.fixture(scope="module")
def usual() -> dict[str, str | None]:
    return {option: files_of_theirs("/dev/null", option) for option in TRUST}


@given(option=st.sampled_from(TRUST), value=st.text("""ab"'"'\\ \t#""", max_size=12), mark=st.sampled_from(" ="))
@example(option="UserKnownHostsFile", value='"/x/a" "/x/b"', mark=" ")
@example(option="UserKnownHostsFile", value='"/x/my known"', mark="=")
@example(option="GlobalKnownHostsFile", value='a "b c" # "d', mark=" ")
@example(option="GlobalKnownHostsFile", value="~/'a b' \0 'c", mark=" ")
@example(option="RevokedHostKeys", value="'a b'", mark=" ")
def test_the_files_that_say_whom_to_trust_are_those_that_ssh_reads(
    tmp_path_factory: pytest.TempPathFactory, usual: dict[str, str | None], option: str, value: str, mark: str
) -> None:
    file = tmp_path_factory.mktemp("ssh") / "config"
    file.write_text(f"{option}{mark}{value}\n")
    theirs = files_of_theirs(file, option)
    assert (files_of_ours(file, option) or usual[option]) == theirs


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ssh_config, "SYSTEM", tmp_path / "etc/ssh_config")
    return tmp_path


def test_names_without_a_folder_are_looked_for_beside_the_first_file(home: Path) -> None:
    make(
        home,
        {
            ".ssh/config": "Include config.d/*\nHost *\n  Port 3\n",
            ".ssh/config.d/10": "Host alpha\n  User ann\n  Include more\n",
            ".ssh/config.d/.20.swp": "User nobody\n",
            ".ssh/config.d/20": "User bob\nInclude ~/elsewhere\n",
            ".ssh/more": "Port 1\n",
            "elsewhere": "Host beta\nPort 2\n",
            "etc/ssh_config": "Include own.conf\nUser last\nPort 9\n",
            "etc/own.conf": "HostKeyAlias web\n",
        },
    )
    found = {host: read_ssh_config().lookup(host) for host in HOSTS}
    assert [(one["user"], one["port"], one["hostkeyalias"]) for one in found.values()] == [
        ("ann", "1", "web"),
        ("bob", "2", "web"),
        ("bob", "3", "web"),
        ("bob", "3", "web"),
    ]


REFUSED = {
    "a quote that is not closed": ({".ssh/config": 'Host "a\n'}, ".ssh/config:1: cannot be understood: no closing"),
    "an open quote of a command": ({".ssh/config": 'ProxyCommand nc "a\n'}, ".ssh/config:1: cannot be understood: no"),
    "no command at all": ({".ssh/config": "ProxyCommand =\n"}, ".ssh/config:1: proxycommand names no command"),
    "no jump host, and a remark": (
        {".ssh/config": "Host x\nProxyJump none # x\n"},
        ".ssh/config:2: ssh takes none # x for the name of a jump host",
    ),
    "no jump host, in quotes": ({".ssh/config": 'ProxyJump "none"\n'}, '.ssh/config:1: ssh takes "none" for the name'),
    "a line that is none": ({".ssh/config": "Port 1\nnonsense\n"}, ".ssh/config: cannot be understood: Unparsable"),
    "files without end": ({".ssh/config": "\nInclude config\n"}, ".ssh/config:2: files include each other, 16 deep"),
    "a variable": ({".ssh/config": "Include ${HOME}/x\n"}, ".ssh/config:1: Include: variables in ${HOME}/x are not"),
    "a home of nobody": ({".ssh/config": "Include ~nonesuch/x\n"}, ".ssh/config:1: Include: there is no user for ~"),
    "two files where one is": (
        {".ssh/config": "RevokedHostKeys a b\n"},
        ".ssh/config:1: revokedhostkeys has something",
    ),
    "a file that is not named": ({".ssh/config": 'UserKnownHostsFile a ""\n'}, ".ssh/config:1: userknownhostsfile has"),
    "an open quote of another host": (
        {".ssh/config": 'Host x\nUserKnownHostsFile "a b\n'},
        '.ssh/config:2: cannot be understood: no closing "',
    ),
    "a question of newer ssh": ({".ssh/config": "Match tagged x\n"}, ".ssh/config:1: Match tagged is not read here"),
    "a login": ({".ssh/config": "Match user ann\n"}, ".ssh/config:1: Match user is not read here"),
    "a port": ({".ssh/config": 'Match exec "[ %%p%p = %%p7 ]"\n'}, ".ssh/config:1: %p in Match exec is not read here"),
    "a login that a command is told": (
        {".ssh/config": "Host x\nMatch host x !Exec %r\n"},
        ".ssh/config:2: %r in Match exec is not read here",
    ),
    "what is never so": ({".ssh/config": "Match !all\n"}, ".ssh/config:1: Match !all is not read here"),
    "nothing but a remark": ({".ssh/config": "\nMatch # all\n"}, ".ssh/config:2: Match asks nothing"),
    "more than all": ({".ssh/config": "Match all host x\n"}, ".ssh/config:1: Match all stands before host"),
    "no name": ({".ssh/config": 'Match host ""\n'}, ".ssh/config:1: Match host does not say what"),
    "single quotes": ({".ssh/config": "Match !host 'x'\n"}, ".ssh/config:1: Match: 'x' is not read here"),
    "a backslash": ({".ssh/config": "Match !host x\\\n"}, ".ssh/config:1: Match: x\\ is not read here"),
    "a set of characters": ({".ssh/config": "Host web[1]\n"}, ".ssh/config:1: the pattern web[1] is not read"),
    "a folder": ({".ssh/config": "Include d\n", ".ssh/d/x": ""}, ".ssh/d: cannot be read: Is a directory"),
}


@pytest.mark.parametrize(("files", "told"), REFUSED.values(), ids=REFUSED)
def test_what_ssh_would_understand_otherwise_is_told_with_its_place(
    home: Path, files: dict[str, str], told: str
) -> None:
    make(home, files)
    with pytest.raises(Mistake) as raised:
        read_ssh_config()
    assert str(raised.value).startswith(f"{home}/{told}")


@pytest.mark.parametrize("value", ["yes", "always", '"TRUE" # no', "none"])
@pytest.mark.parametrize("block", ["Host a*", "Match final host alpha"])
def test_a_name_that_ssh_would_look_for_is_the_nodes_failure(home: Path, block: str, value: str) -> None:
    make(home, {".ssh/config": f"{block}\n  CanonicalizeHostname {value}\n  CanonicalDomains example.invalid\n"})
    config = read_ssh_config()
    assert config.lookup("beta")["hostname"] == "beta"
    with pytest.raises(Failure, match="CanonicalizeHostname of ssh_config for alpha is not read here") as raised:
        config.lookup("alpha")
    assert raised.value.code == "CONFIG"


@pytest.mark.parametrize("value", ["no", "False", "NO # yes"])
def test_a_name_that_ssh_does_not_look_for_is_as_it_is_told(home: Path, value: str) -> None:
    make(home, {".ssh/config": f"CanonicalizeHostname {value}\nHostName x\nCanonicalizeHostname yes\n"})
    assert read_ssh_config().lookup("alpha")["hostname"] == "x"


@pytest.mark.parametrize("name", [".ssh/config", ".ssh/inner"])
def test_a_file_that_others_may_change_is_not_taken(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(home, {".ssh/config": "Include inner\n", ".ssh/inner": "User ann\n"})
    (home / name).chmod(0o664)
    monkeypatch.setattr("deploy.files.is_own_group", lambda _gid: True)
    assert read_ssh_config().lookup("alpha")["user"] == "ann"
    monkeypatch.setattr("deploy.files.is_own_group", lambda _gid: False)
    with pytest.raises(Mistake, match=rf"chmod go-w {home}/{name}"):
        read_ssh_config()


def test_a_lone_cr_ends_no_remark(home: Path) -> None:
    make(home, {".ssh/config": "# x\rUser ann\x0cUser ann\nPort 5\r\n"})
    found = read_ssh_config().lookup("alpha")
    assert ("user" in found, found["port"]) == (False, "5")


def test_no_jump_host_is_none(home: Path) -> None:
    make(home, {".ssh/config": "Host alpha\n  ProxyJump = None \nHost *\n  ProxyJump far\n"})
    found = {host: read_ssh_config().lookup(host).get("proxyjump") for host in HOSTS}
    assert found == {"alpha": None, "beta": "far", "10.0.0.7": "far", "Alpha": "far"}


def test_what_is_no_port_is_run(home: Path) -> None:
    make(home, {".ssh/config": 'Match exec "[ %%p = %%%%p ] || [ %n = alpha ]"\n  Port 7\n'})
    assert read_ssh_config().lookup("alpha")["port"] == "7"


def test_a_command_that_does_not_end_is_the_nodes_failure_and_runs_where_it_is_asked(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_config, "EXEC_TIMEOUT", 0.2)
    make(home, {".ssh/config": 'Match host alpha exec "sleep 5"\n  Port 7\n'})
    config = read_ssh_config()
    assert "port" not in config.lookup("beta")
    with pytest.raises(Failure, match="Match exec sleep 5"):
        config.lookup("alpha")


@pytest.mark.parametrize("shell", ["/bin/bash", None])
def test_what_match_exec_asks_is_run_by_the_operators_shell(
    shell: str | None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shell:
        monkeypatch.setenv("SHELL", shell)
    else:
        monkeypatch.delenv("SHELL", raising=False)
    make(home, {".ssh/config": f'Match exec "echo $0 > {home}/ran"\n  Port 7\n'})
    assert read_ssh_config().lookup("alpha")["port"] == "7"
    assert (home / "ran").read_text() == f"{shell or '/bin/sh'}\n"


def test_what_match_exec_leaves_running_is_not_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_config, "EXEC_TIMEOUT", 2)
    make(home, {".ssh/config": 'Match exec "sleep 4 & exit 0"\n  Port 7\n'})
    assert read_ssh_config().lookup("alpha")["port"] == "7"


def test_the_operator_is_who_runs_it_whatever_logname_says(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    make(home, {".ssh/config": "Match localuser somebody-else\n  Port 7\n"})
    assert "port" not in read_ssh_config().lookup("alpha")
    ssh.configuration.cache_clear()
    assert ssh.configuration().user == pwd.getpwuid(os.getuid()).pw_name
