"""I: images, registry, AWS."""

from __future__ import annotations

import re
import secrets
import shutil
from contextlib import ExitStack
from datetime import timedelta

from tests.faults.bench import Bench
from tests.faults.registry import IMMUTABLE, registry_proxy
from tests.faults.registry import PORT as PROXY_PORT
from tests.faults.row import Fault, row
from tests.hosts.observer import INVOKE, NO_ENGINE, TOP, Done, command
from tests.planted import REGISTRY_TOKEN

REGISTRY_PORT = 443


@row(
    "I1",
    "the registry cannot be reached from one worker",
    task=("cluster.pull",),
    exit=3,
    code="REGISTRY_UNREACHABLE",
    bench="B",
    quick=True,
    converge=("cluster.pull",),
)
def no_registry_for_one(bench: Bench) -> Fault:
    digest = bench.invoke("cluster.pull", "--json", exit=0).report["image"]
    runs = bench.worker.containers()[bench.container(bench.worker)]["Id"]
    bench.worker.docker("rmi", "--force", digest)
    with bench.worker.is_refused(REGISTRY_PORT):
        yield
    assert bench.worker.containers(running=True)[bench.container(bench.worker)]["Id"] == runs


@row(
    "I5",
    "a tag that the registry does not have",
    task=("cluster.start", "--image", "123456789012.dkr.ecr.us-west-2.amazonaws.com/raydock-stub:nosuch"),
    exit=1,
    code="IMAGE_NOT_FOUND",
    told_of="head",
    sick=("all",),
    bench="B",
)
def no_such_tag(bench: Bench) -> Fault:
    runs = bench.sandbox.running()
    yield
    assert bench.sandbox.running() == runs


@row(
    "I13",
    "no AWS credentials",
    task=("publish",),
    running=None,
    exit=6,
    code="AWS_NO_CREDS",
    told_of="head",
    bench="B",
    converge=("publish",),
)
def no_credentials(bench: Bench) -> Fault:
    with bench.settings(AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None):
        done = yield
    assert "AWS_PROFILE" in done.err


@row(
    "I14",
    "another region, in which there is no such repository",
    task=("cluster.pull",),
    running=False,
    exit=1,
    code="IMAGE_NOT_FOUND",
    told_of="head",
    sick=("all",),
    bench="B",
    converge=("cluster.pull",),
)
def another_region(bench: Bench) -> Fault:
    with bench.settings(REGION="eu-central-1"):
        done = yield
        assert "in eu-central-1" in done.err


def forgets(bench: Bench) -> str:
    """Have one worker without the image, and give its name."""
    digest = str(bench.invoke("cluster.pull", "--json", exit=0).report["image"])
    bench.worker.docker("rmi", "--force", digest)
    return digest


def registry_of(bench: Bench) -> str:
    """Name the registry's host."""
    return bench.worker.run("ls", "/etc/docker/certs.d").strip()


@row(
    "I2",
    "one worker does not know who signed for the registry, whose certificate has ended, or is for another host",
    task=("cluster.pull",),
    exit=3,
    code="REGISTRY_TLS",
    bench="B",
    converge=("cluster.pull",),
)
def unknown_authority(bench: Bench) -> Fault:
    forgets(bench)
    place = f"/etc/docker/certs.d/{registry_of(bench)}"
    bench.worker.shell(f"mkdir -p /root/nobody && mount --bind /root/nobody {place}")
    try:
        done = yield
    finally:
        bench.worker.run("umount", place)
    assert "insecure" not in done.err
    with registry_proxy(bench, bench.worker) as proxy:
        for host, ends, cause in (
            (registry_of(bench), timedelta(days=-1), "certificate has expired"),
            ("elsewhere.example.com", timedelta(days=1), "certificate is valid for elsewhere.example.com"),
        ):
            proxy.shows(host, ends=ends)
            other = bench.invoke("cluster.pull", "--json", exit=3)
            assert other.node(bench.worker.node)["code"] == "REGISTRY_TLS"
            assert cause in other.err
            assert "insecure" not in other.err


@row(
    "I3",
    "the registry refuses the login",
    task=("cluster.pull",),
    running=False,
    exit=6,
    code="REGISTRY_AUTH",
    told_of="head",
    sick=("all",),
    bench="B",
    converge=("cluster.pull",),
)
def refused_login(bench: Bench) -> Fault:
    with bench.services.file("/srv/tls/htpasswd", "AWS:$2y$05$nobodyhasthispasswordxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"):
        yield
    name = "raydock-stub-refused"
    with bench.another_image(name, f"RUN echo {secrets.token_hex(4)} > /opt/another"):
        bench.invoke("publish", exit=0)
        with registry_proxy(bench, bench.worker) as proxy:
            proxy.answers("GET", "/v2/.*/manifests/", 403, "DENIED", "requested access to the resource is denied")
            refused = bench.invoke("cluster.pull", "--json")
    assert (refused.code, refused.node(bench.worker.node)["code"]) == (6, "REGISTRY_AUTH")
    assert name in refused.err
    assert bench.worker.attempt("ls", "/root/.docker", "/home/ubuntu/.docker").out == ""


@row(
    "I6",
    "a pull fails where an older image bears the tag",
    task=("cluster.start",),
    running=False,
    exit=3,
    code="REGISTRY_UNREACHABLE",
    bench="B",
)
def stale_tag(bench: Bench) -> Fault:
    repository = forgets(bench).partition("@")[0]
    bench.worker.docker("tag", "decoy:1", f"{repository}:latest")
    with bench.worker.is_refused(REGISTRY_PORT):
        yield
    assert bench.container(bench.worker) not in bench.worker.containers()
    bench.worker.docker("rmi", f"{repository}:latest")
    cut_in_the_middle(bench)


def cut_in_the_middle(bench: Bench) -> None:
    """Have the way to the registry go while a layer comes, where an older image has the tag."""
    name = "raydock-stub-cut"
    bench.invoke("cluster.stop", exit=0)  # else the wanted image is the running head's

    def layer_comes() -> bool:
        return bool(bench.worker.look("find", "/var/lib/docker", "-name", "GetImageBlob*").out)

    heavy = f"RUN : {secrets.token_hex(4)}; head -c 60000000 /dev/urandom > /opt/heavy"
    with bench.another_image(name, heavy):
        repository = bench.invoke("publish", "--json", exit=0).report["uri"].rpartition(":")[0]
        bench.worker.docker("tag", "decoy:1", f"{repository}:latest")
        with registry_proxy(bench, bench.worker) as proxy, ExitStack() as healing:
            proxy.dawdles("/blobs/")
            cut = bench.worker.is_refused(int(PROXY_PORT))
            with bench.meanwhile(layer_comes, lambda: healing.enter_context(cut)):
                done = bench.invoke("cluster.pull", "--json", exit=3)
        assert done.node(bench.worker.node)["code"] == "REGISTRY_UNREACHABLE"
        assert bench.worker.docker("images", "-q", f"{repository}:latest") == bench.worker.docker(
            "images", "-q", "decoy:1"
        )
        healed = bench.invoke("cluster.pull", "--json", exit=0).report
        bench.worker.docker("image", "inspect", healed["image"])
        bench.worker.docker("rmi", f"{repository}:latest")


BLOBS = "/var/lib/registry/docker/registry/v2/blobs/sha256"
REPOSITORIES = "/var/lib/registry/docker/registry/v2/repositories"


@row(
    "I8",
    "the way to the registry is lost in a push",
    task=("publish",),
    running=None,
    exit=1,
    code="REGISTRY_UNREACHABLE",
    told_of="head",
    bench="B",
    within=60,
    converge=("publish",),
)
def lost_in_a_push(bench: Bench) -> Fault:
    name = "raydock-stub-pushed"

    def layer_comes() -> bool:
        return bench.services.attempt("bash", "-c", f"ls {REPOSITORIES}/{name}/_uploads/*/data").code == 0

    with bench.another_image(name, "RUN head -c 100000000 /dev/urandom > /opt/heavy"):
        with ExitStack() as healing:
            cut = bench.head.is_refused(REGISTRY_PORT)
            with bench.meanwhile(layer_comes, lambda: healing.enter_context(cut)):
                yield
        bench.invoke("publish", exit=0)
    refused_by_the_registry(bench, name)


def refused_by_the_registry(bench: Bench, name: str) -> None:
    """Have a registry that fails when `latest` is put, and one in which it may not move."""

    def latest() -> str:
        return bench.services.shell(f"cat {REPOSITORIES}/{name}/_manifests/tags/latest/current/link")

    there = latest()
    with bench.another_image(name, "RUN echo another > /opt/other"), registry_proxy(bench, bench.head) as proxy:
        put = ("PUT", "/manifests/latest$")
        proxy.answers(*put, 500, "UNKNOWN", "the disk is full")
        done = bench.invoke("publish", "--json", exit=1)
        assert done.report["errors"][0]["code"] == "PUSH_FAILED"
        assert "500 Internal Server Error" in done.err
        assert latest() == there
        proxy.answers(*put, 400, "TAG_INVALID", IMMUTABLE)
        done = bench.invoke("publish", "--json", exit=0)
        assert f"IMAGE={done.report['uri']}" in done.err
        assert done.report["tags"] == [done.report["uri"].rpartition(":")[2]]
        assert latest() == there
        again = bench.invoke("publish", exit=0).err
        assert "publish.image: nothing to do" in again
        assert re.search(r"next: IMAGE=\S+ ENVIRONMENT=\S+ invoke cluster.setup cluster.start", again)
    with bench.another_image(name, "RUN echo third > /opt/other"), registry_proxy(bench, bench.head) as proxy:
        # The image's own tag, as where another image has been published under it.
        proxy.answers("PUT", "/manifests/(?!latest|sha256)", 400, "TAG_INVALID", IMMUTABLE)
        done = bench.invoke("publish", "--json", exit=1)
        assert done.report["errors"][0]["code"] == "TAG_IMMUTABLE"
        assert latest() == there


@row(
    "I9",
    "a layer that is damaged in the registry",
    task=("cluster.pull",),
    running=False,
    exit=3,
    code="DIGEST_MISMATCH",
    told_of="nobody",
    sick=("workers",),
    bench="B",
    converge=("cluster.pull",),
)
def damaged_layer(bench: Bench) -> Fault:
    name = "raydock-stub-damaged"
    with bench.another_image(name, "RUN head -c 2000000 /dev/urandom > /opt/heavy"):
        bench.invoke("publish", exit=0)
        ours, others = (
            set(bench.services.shell(f"ls {REPOSITORIES}/{one}/_layers/sha256").split())
            for one in (name, "raydock-stub")
        )
        blobs = [f"{BLOBS}/{one[:2]}/{one}/data" for one in ours - others]
        # Beside its layer only its configuration is its own, which is smaller.
        largest = bench.services.shell(f"ls -S {' '.join(blobs)} | head -n 1").strip()
        bench.services.shell(f"cp {largest} /srv/kept; printf XXXX | dd of={largest} bs=1 seek=100000 conv=notrunc")
        try:
            yield
        finally:
            bench.services.shell(f"cp /srv/kept {largest}; rm /srv/kept")
        bench.worker.docker("image", "inspect", bench.invoke("cluster.pull", "--json", exit=0).report["image"])


@row(
    "I10",
    "a step of the build fails",
    task=("build",),
    running=None,
    exit=1,
    code="BUILD_FAILED",
    told_of="head",
    bench="B",
    within=60,
)
def failing_build(bench: Bench) -> Fault:
    changes = {"APP_TAG": "raydock-broken", "BASE_IMAGE": bench.values["APP_TAG"]}
    with bench.settings(MY_PROJECT_INSTALLATION_SCRIPT="echo what is wrong; exit 3", **changes):
        done = yield
        with bench.settings(MY_PROJECT_INSTALLATION_SCRIPT="echo waits for ever; sleep 1000", BUILD_IDLE="3s"):
            hung = bench.invoke("build", exit=1)
    assert "what is wrong" in done.err
    assert "it said nothing for 3 s" in hung.err
    assert "waits for ever" in hung.err
    assert bench.head.attempt("docker", "image", "inspect", "raydock-broken").code


@row(
    "I11",
    "an image for another architecture",
    task=("cluster.pull",),
    running=False,
    exit=1,
    code="IMAGE_WRONG_ARCH",
    told_of="all",
    bench="B",
    converge=("cluster.pull",),
)
def another_architecture(bench: Bench) -> Fault:
    name = "raydock-stub-arm"
    bench.head.shell(
        f"tar c -C /etc hostname | docker import - {name} && docker save {name}"
        """ | sed 's/"architecture":"amd64"/"architecture":"arm64"/' | docker load"""
    )
    with bench.settings(APP_TAG=name, REPOSITORY_NAME=name):
        bench.invoke("publish", exit=0)
        done = yield
    assert "linux/arm64" in done.err


@row(
    "I12",
    "a git URL with a password, a script with such a URL, and a secret ARG of the template",
    task=("build",),
    running=None,
    exit=2,
    code="CONFIG",
    told_of="nobody",
    bench="B",
    within=3,
)
def password_in_a_url(bench: Bench) -> Fault:
    secret = bench.secrets["the git token"] = "canary-of-git-0123456789"
    with bench.settings(MY_PROJECT_URL=f"https://somebody:{secret}@git.example.com/app.git"):
        done = yield
    assert "MY_PROJECT_URL" in done.err
    with bench.settings(MY_PROJECT_INSTALLATION_SCRIPT=f"pip install git+https://u:{secret}@git.example.com/app.git"):
        refused = bench.invoke("build", "--json", exit=2)
    assert "MY_PROJECT_INSTALLATION_SCRIPT" in refused.err
    in_the_template = secret_in_the_template(bench, secret)
    assert {error["code"] for error in in_the_template.report["errors"]} == {"TEMPLATE"}
    for other in (refused, in_the_template):
        assert secret not in other.err + other.out
    # With git's own helper for the token, and all the other secrets there, the image has none: O5 looks at what is new.
    good = {"APP_TAG": "raydock-secret", "BASE_IMAGE": bench.values["APP_TAG"]}
    with bench.settings(MY_PROJECT_INSTALLATION_SCRIPT=f"echo {secrets.token_hex(4)} >/opt/built", **good):
        bench.invoke("build", exit=0)


def secret_in_the_template(bench: Bench, secret: str) -> Done:
    """Build with a template that gives a secret to an ARG, in a copy of what tasks are made of."""
    copy = bench.folder / "checkout"
    shutil.copytree(TOP / "deploy", copy / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TOP / "tasks.py", copy)
    template = (TOP / "Dockerfile.template").read_text()
    (copy / "Dockerfile.template").write_text(template.replace("WORKDIR /app", f"ARG TOKEN={secret}\nWORKDIR /app", 1))
    (copy / "conf").mkdir()
    shutil.copy(bench.env, copy / "conf")
    return command([INVOKE, "build", "--json"], {"ENVIRONMENT": bench.env.stem, **NO_ENGINE}, exit=2, folder=copy)


@row(
    "I7",
    "somebody moves the tag while nodes start",
    task=("cluster.start",),
    running=False,
    bench="B",
    within=40,
)
def moved_tag(bench: Bench) -> Fault:
    name, host = "raydock-stub-moved", registry_of(bench)
    with bench.another_image(name, "RUN touch /opt/moved"):
        pass  # it is there now, and the settings are as before
    tag = f"{host}/{bench.values['REPOSITORY_NAME']}:latest"
    # Nobody's command line has it.
    kept = "/root/their-token"
    bench.head.shell(f"echo {REGISTRY_TOKEN} >{kept}")
    login = f"docker login -u AWS --password-stdin {host} <{kept}"
    move = f"export DOCKER_CONFIG=$(mktemp -d); {login} && docker tag {name} {tag} && docker push -q {tag}"

    def head_runs() -> bool:
        return bench.container(bench.head) in bench.head.containers(running=True)

    with bench.settings(CONTAINER_ENV="STUB_LATE=4"):
        with bench.meanwhile(head_runs, lambda: bench.head.shell(f"{move}; rm -r $DOCKER_CONFIG")):
            yield
        images = {host.containers()[bench.container(host)]["Config"]["Labels"]["raydock.image"] for host in bench.hosts}
        assert len(images) == 1
        bench.invoke("cluster.stop", exit=0)
    bench.head.run("rm", kept)
    bench.invoke("publish", exit=0)
