"""What the engine's streams and its errors say, and what becomes of them."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any, cast

import pytest
import requests
import urllib3

from deploy.channel.api import common_version
from deploy.channel.endings import ending
from deploy.engine.archive import context, only_file, secret_file
from deploy.engine.failures import BASE, CONTAINER, REGISTRY, failure, timed_out
from deploy.engine.images import build_failure, split
from deploy.engine.streams import BuildLog, Progress, error_of, frames, plain, records
from deploy.errors import Failure
from deploy.progress import Amount, News, Output
from deploy.reading import Fields


class Body:
    """A response of which the body comes in these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.raw, self._pieces = self, iter(pieces)

    def read1(self, size: int) -> bytes:
        piece = next(self._pieces, b"")
        assert len(piece) <= size
        return piece


def body(*pieces: bytes) -> requests.Response:
    return cast("requests.Response", Body(*pieces))


@pytest.mark.parametrize(
    "pieces",
    [
        (b'{"a":1}\r\n{"b":2}\r\n',),
        (b'{"a":1}{"b":2}',),
        (b'{"a"', b':1}\n{"', b'b":2}'),
        (b"\n", b'{"a":1}\n', b"\n\n", b'{"b":2}'),
    ],
    ids=["lines", "without-ends", "torn", "blank"],
)
def test_records_are_read_however_they_are_cut(pieces: tuple[bytes, ...]) -> None:
    assert [one.of for one in records(body(*pieces))] == [{"a": 1}, {"b": 2}]


def test_a_character_that_is_torn_apart_is_put_together() -> None:
    whole = json.dumps({"stream": "naïve ✓"}, ensure_ascii=False).encode()
    pieces = [bytes([byte]) for byte in whole]
    assert [one.of for one in records(body(*pieces))] == [{"stream": "naïve ✓"}]


def test_a_record_without_end_is_given_up() -> None:
    endless = (b'{"stream": "', *[b"x" * 100_000] * 500)
    with pytest.raises(ConnectionError, match="has more than 1 MB"):
        list(records(body(*endless)))


def test_a_frame_that_says_it_is_huge_is_not_waited_for() -> None:
    with pytest.raises(ConnectionError, match="has 4000000000 bytes"):
        list(frames(body(b"\1\0\0\0" + (4_000_000_000).to_bytes(4, "big"))))


def test_of_a_builds_line_without_end_only_the_beginning_is_kept() -> None:
    said: list[News] = []
    log = BuildLog(said.append)
    for _ in range(100):
        log.see(Fields({"stream": "x" * 100_000}))
    log.end()
    assert [len(one.text) for one in said if isinstance(one, Output)] == [8 * 1024]


def test_a_stream_that_breaks_off_is_no_normal_end() -> None:
    with pytest.raises(ConnectionError, match="ends in the middle"):
        list(records(body(b'{"a":1}\n{"b"')))


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ({"status": "Pulling"}, ""),
        ({"errorDetail": {"message": "denied"}, "error": "denied"}, "denied"),
        ({"error": "denied"}, "denied"),
        ({"errorDetail": {"code": 1}, "error": "exit 1"}, "exit 1"),
    ],
)
def test_an_error_inside_a_200_is_an_error(record: dict[str, Any], error: str) -> None:
    assert error_of(Fields(record)) == error


def layer(name: str, status: str, current: int = 0, total: int = 0) -> Fields:
    detail = {"current": current, "total": total} if total else {}
    return Fields({"id": name * 12, "status": status, "progressDetail": detail})


def test_layers_are_told_as_one_amount_five_times_a_second() -> None:
    said: list[News] = []
    clock = iter([0.0, 0.0, 0.04, 0.08, 0.24, 0.24, 0.28, 3.6, 3.6]).__next__
    progress = Progress(said.append, clock)
    progress.see(layer("a", "Pulling fs layer"))
    progress.see(layer("b", "Already exists"))
    progress.see(layer("a", "Downloading", 10_000_000, 80_000_000))
    progress.see(layer("a", "Downloading", 40_000_000, 80_000_000))
    progress.see(layer("a", "Downloading", 60_000_000, 80_000_000))
    progress.see(layer("a", "Extracting", 1_000, 80_000_000))
    progress.see(Fields({"status": "Digest: sha256:…"}))
    progress.see(Fields({"id": "latest", "status": "Pulling from x"}))
    assert said == [
        Amount("0 of 1 layers"),
        Amount("1 of 2 layers", 40_000_000, 80_000_000),
        Amount("1 of 2 layers", 60_000_000, 80_000_000),
    ]


def test_a_layer_of_which_nothing_has_come_has_no_number() -> None:
    said: list[News] = []
    Progress(said.append).see(
        Fields({"id": "a" * 12, "status": "Pushing", "progressDetail": {"total": 5_000_000}, "progress": "[>  ]"})
    )
    assert said == [Amount("0 of 1 layers", 0, 5_000_000)]


def test_the_last_amount_tells_that_all_layers_are_there() -> None:
    said: list[News] = []
    progress = Progress(said.append, lambda: 0.0)
    progress.see(layer("a", "Downloading", 1_000_000, 5_000_000))
    progress.see(layer("a", "Download complete"))
    progress.see(layer("a", "Pull complete"))
    progress.tell()
    progress.tell()
    assert said[-1] == Amount("1 of 1 layers", 5_000_000, 5_000_000)
    assert said.count(said[-1]) == 1


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ("\x1b[91mwarning\x1b[0m", "warning"),
        ("10 %\r50 %\r100 %", "100 %"),
        ("done\r", "done"),
        ("  indented  ", "  indented"),
        ("\x1b[2K\x1b[1;32mok", "ok"),
    ],
)
def test_a_line_is_what_a_terminal_leaves_of_it(raw: str, line: str) -> None:
    assert plain(raw) == line


def test_a_build_is_told_line_by_line_without_the_builders_chatter() -> None:
    said: list[News] = []
    log = BuildLog(said.append)
    for text in (
        "Step 1/2 : FROM x\n",
        " ---> 12ab\n",
        "Step 2/2 : RUN y\n",
        " ---> Running in ab\n",
        "he",
        "llo\nlast",
    ):
        log.see(Fields({"stream": text}))
    log.end()
    assert said == ["Step 1/2 : FROM x", "Step 2/2 : RUN y", Output("hello"), Output("last")]
    assert (log.step, log.command, log.tail) == ("2/2", "RUN y", ("hello", "last"))


def test_a_failing_step_is_told_with_its_number_its_command_and_its_last_30_lines() -> None:
    log = BuildLog(lambda _: None)
    log.see(
        Fields({"stream": "Step 1/3 : FROM x\nof step 1\nStep 2/3 : RUN make\n" + "".join(f"{n}\n" for n in range(40))})
    )
    failed = build_failure(log, "app", "The command '/bin/sh -c make' returned a non-zero code: 2")
    first, *tail = failed.error.split("\n")
    assert failed.code == "BUILD_FAILED"
    assert first == "Step 2/3 : RUN make: returned a non-zero code: 2"
    assert tail == [str(n) for n in range(10, 40)]


@pytest.mark.parametrize(
    ("command", "error", "code"),
    [
        ("FROM ray-project/deploy", "pull access denied for ray-project/deploy, repository does not exist or may "
         "require 'docker login': denied: requested access to the resource is denied", "BASE_IMAGE_ABSENT"),
        ("FROM r.example/x", 'Get "https://r.example/v2/": dial tcp: lookup r.example: no such host',
         "REGISTRY_UNREACHABLE"),
        ("RUN curl https://r.example", "dial tcp: lookup r.example: no such host", "BUILD_FAILED"),
        ("RUN fallocate -l 1T x", "write /x: no space left on device", "DISK_FULL"),
    ],
)  # fmt: skip
def test_a_failing_step_has_the_code_of_what_failed(command: str, error: str, code: str) -> None:
    log = BuildLog(lambda _: None)
    log.see(Fields({"stream": f"Step 1/1 : {command}\n"}))
    assert build_failure(log, "app", error).code == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no basic auth credentials", "REGISTRY_AUTH"),
        ("unauthorized: authentication required", "REGISTRY_AUTH"),
        ("denied: Your authorization token has expired. Reauthenticate and try again.", "REGISTRY_AUTH"),
        ('Get "https://r/v2/": x509: certificate signed by unknown authority', "REGISTRY_TLS"),
        ("http: server gave HTTP response to HTTPS client", "REGISTRY_TLS"),
        ("dial tcp 10.0.0.1:443: connect: connection refused", "REGISTRY_UNREACHABLE"),
        ("dial tcp: lookup r.example on 10.0.0.2:53: no such host", "REGISTRY_UNREACHABLE"),
        ("net/http: TLS handshake timeout", "REGISTRY_UNREACHABLE"),
        ("request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)",
         "REGISTRY_UNREACHABLE"),
        ("manifest for r/x:y not found: manifest unknown: manifest unknown", "IMAGE_NOT_FOUND"),
        ("manifest for unauthorized/x509:denied not found", "IMAGE_NOT_FOUND"),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "IMAGE_WRONG_ARCH"),
        ("name unknown: The repository with name 'x' does not exist in the registry", "IMAGE_NOT_FOUND"),
        ("write /var/lib/docker/tmp/x: no space left on device", "DISK_FULL"),
        ("open /var/lib/docker/tmp/x: permission denied", "PULL_FAILED"),
        ("filesystem layer verification failed for digest sha256:aa", "DIGEST_MISMATCH"),
        ("toomanyrequests: You have reached your pull rate limit.", "PULL_FAILED"),
    ],
)  # fmt: skip
def test_a_registrys_refusal_has_the_code_of_its_cause(text: str, code: str) -> None:
    assert failure("pull r/x:y", text, REGISTRY, otherwise="PULL_FAILED").code == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('Conflict. The container name "/raydock-ray-head" is already in use by container "12ab"', "NAME_CONFLICT"),
        ("No such image: r/x:y", "IMAGE_NOT_FOUND"),
        ('invalid CapDrop: unknown capability: "CAP_ALL"', "HARDENING_REFUSED"),
        ("OCI runtime create failed: unable to start: seccomp: prctl: operation not permitted", "HARDENING_REFUSED"),
        ('could not select device driver "" with capabilities: [[gpu]]', "DOCKER_FAILED"),
        ("No such container: x", "DOCKER_FAILED"),
    ],
)
def test_a_containers_refusal_has_the_code_of_its_cause(text: str, code: str) -> None:
    assert failure("create x", text, CONTAINER).code == code


def test_a_failure_tells_the_action_and_the_engines_own_words() -> None:
    failed = failure("pull r/x:y", "something\n  else", BASE, otherwise="PULL_FAILED")
    assert str(failed) == "pull r/x:y: something else"


def test_a_time_out_in_a_body_is_a_time_out() -> None:
    inside = urllib3.exceptions.ReadTimeoutError(cast("Any", None), "/", "Read timed out.")
    assert timed_out(requests.ConnectionError(inside))
    assert not timed_out(requests.ConnectionError("refused"))


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ("bash: line 1: docker: command not found", 127, "DOCKER_ABSENT"),
        ("sh: 1: docker: not found", 127, "DOCKER_ABSENT"),
        ("", 127, "DOCKER_ABSENT"),
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", 1,
         "DOCKER_DOWN"),
        ("dial unix /var/run/docker.sock: connect: no such file or directory", 1, "DOCKER_DOWN"),
        ("dial unix /var/run/docker.sock: connect: permission denied", 1, "DOCKER_PERMISSION"),
        ("Got permission denied while trying to connect to the Docker daemon socket", 1, "DOCKER_PERMISSION"),
        ("sudo: a password is required", 1, "DOCKER_PERMISSION"),
        ("docker: 'system dial-stdio' is not a docker command.", 1, "API_TOO_OLD"),
        ("", 0, "DOCKER_DOWN"),
        ("", -1, "SSH_LOST"),
    ],
)  # fmt: skip
def test_a_dial_command_that_ends_says_why(said: str, status: int, code: str) -> None:
    assert ending(said, status).code == code


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [("1.41", "1.12", "1.41"), ("1.24", "1.12", "1.24"), ("1.52", "1.44", "1.45"), ("1.9", "1.0", "")],
    ids=["older-than-ours", "oldest", "newer-than-ours", "too-old"],
)
def test_the_newest_version_that_both_know_is_spoken(newest: str, oldest: str, spoken: str) -> None:
    if spoken:
        assert common_version(newest, oldest) == spoken
        return
    with pytest.raises(Failure) as refused:
        common_version(newest, oldest)
    assert refused.value.code == "API_TOO_OLD"


def test_an_engine_that_wants_a_newer_version_than_ours_is_refused() -> None:
    with pytest.raises(Failure, match=r"wants API 1\.99"):
        common_version("1.120", "1.99")


def test_output_is_taken_out_of_its_frames() -> None:
    raw = b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x03err"
    assert list(frames(body(raw))) == [(1, b"out"), (2, b"err")]


@pytest.mark.parametrize("cut", [4, 10])
def test_output_that_breaks_off_is_no_normal_end(cut: int) -> None:
    with pytest.raises(OSError, match="ends in the middle"):
        list(frames(body(b"\x01\0\0\0\0\0\0\x03out"[:cut])))


@pytest.mark.parametrize(
    ("image", "repository", "tag"),
    [
        ("ubuntu", "ubuntu", "latest"),
        ("r.example:5000/x", "r.example:5000/x", "latest"),
        ("r.example:5000/x:y", "r.example:5000/x", "y"),
        ("r.example/x@sha256:ab", "r.example/x", "sha256:ab"),
        ("r.example:5000/x:y@sha256:ab", "r.example:5000/x", "sha256:ab"),
    ],
)
def test_a_name_is_a_repository_and_a_tag_or_a_digest(image: str, repository: str, tag: str) -> None:
    assert split(image) == (repository, tag)


def test_a_context_has_scripts_that_run_and_no_time_that_a_zip_refuses() -> None:
    with context({"Dockerfile": b"FROM x", "a/run.sh": b"#!/bin/sh\n"}) as file, tarfile.open(fileobj=file) as archive:
        members = archive.getmembers()
    assert [(member.name, member.mode, member.uid) for member in members] == [
        ("Dockerfile", 0o644, 0),
        ("a/run.sh", 0o755, 0),
    ]
    assert all(member.mtime > 315_532_800 for member in members)


def test_a_secret_file_is_its_users_alone() -> None:
    with secret_file("token", b"planted", 1000) as file:
        whole = file.read()
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        (member,) = archive.getmembers()
    assert (member.mode, member.uid, member.gid) == (0o600, 1000, 0)
    assert only_file([whole[:700], whole[700:]]) == b"planted"
