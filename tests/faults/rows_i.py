"""I: images, registry, AWS."""

from __future__ import annotations

from tests.faults.bench import Bench
from tests.faults.row import Fault, row


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
    with bench.worker.rule("OUTPUT", "-p", "tcp", "--dport", "443", "-j", "REJECT", "--reject-with", "tcp-reset"):
        yield
    assert bench.worker.containers(running=True)[bench.container(bench.worker)]["Id"] == runs


@row(
    "I5",
    "a tag that the registry does not have",
    task=("cluster.start", "--image", "123456789012.dkr.ecr.us-west-2.amazonaws.com/raydock-stub:nosuch"),
    exit=1,
    code="IMAGE_NOT_FOUND",
    told_of="head",
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
    bench="B",
    converge=("cluster.pull",),
)
def another_region(bench: Bench) -> Fault:
    with bench.settings(REGION="eu-central-1"):
        done = yield
        assert "in eu-central-1" in done.err
