"""Tries every port of a host for what reads a program's data or runs code, as somebody who has no token.

Its arguments are the host and the ports; it runs where Ray is installed, and prints what let it in, a JSON list each:
the port, by what, and the beginning of what was told. Health and metrics are told apart: they are no way in.
"""

import json
import socket
import sys

import grpc
import requests
from ray.core.generated import core_worker_pb2 as core
from ray.core.generated import core_worker_pb2_grpc as core_grpc
from ray.core.generated import gcs_service_pb2 as gcs
from ray.core.generated import gcs_service_pb2_grpc as gcs_grpc
from ray.core.generated import node_manager_pb2 as node
from ray.core.generated import node_manager_pb2_grpc as node_grpc
from ray.core.generated import ray_client_pb2 as client
from ray.core.generated import ray_client_pb2_grpc as client_grpc
from ray.core.generated import reporter_pb2 as reporter
from ray.core.generated import reporter_pb2_grpc as reporter_grpc

HOST, PORTS = sys.argv[1], [int(port) for port in sys.argv[2:]]
PATIENCE = 5
# What Ray's own HTTP servers have: jobs, state, logs, profiles, environments that are made for programs.
PATHS = (
    *("/", "/api/version", "/api/jobs/", "/api/job_agent/jobs/", "/nodes?view=summary", "/api/v0/nodes", "/logs"),
    *("/api/v0/logs", "/api/packages/gcs/x.zip", "/worker/traceback?pid=1", "/worker/cpu_profile?pid=1"),
    *("/get_or_create_runtime_env", "/delete_runtime_env_if_possible", "/metrics", "/api/healthz"),
    *("/api/local_raylet_healthz", "/api/gcs_healthz", "/-/healthz"),
)
HEALTH = ("/api/healthz", "/api/local_raylet_healthz", "/api/gcs_healthz", "/-/healthz")
NOWHERE = b"\x0a\x1c" + bytes(range(28)) + b"\x12\x1c" + bytes(range(28))
REFUSED = (400, 401, 403, 404, 405)


def by_http(port: int, method: str, path: str) -> tuple[str, str]:
    """Ask a path; give what came of it, and the beginning of the answer."""
    body = b"\x0a\x00" if method == "POST" else None
    try:
        url, plain = f"http://{HOST}:{port}{path}", {"Accept-Encoding": "identity"}
        with requests.request(method, url, data=body, headers=plain, timeout=PATIENCE, stream=True) as answer:
            status, said = answer.status_code, answer.raw.read(200)
    except (requests.RequestException, OSError, ValueError):
        return "nothing", ""
    if said.startswith(b"# HELP"):
        return "metrics", ""
    if path in HEALTH and status not in REFUSED:
        return "health", ""
    return ("refused" if status in REFUSED else "in"), f"{status} {said[:60]!r}"


def calls(channel: grpc.Channel) -> dict[str, object]:
    """Give calls that read what programs have, or what runs them."""
    return {
        "the store's keys": (gcs_grpc.InternalKVGcsServiceStub(channel).InternalKVKeys, gcs.InternalKVKeysRequest()),
        "the nodes": (gcs_grpc.NodeInfoGcsServiceStub(channel).GetAllNodeInfo, gcs.GetAllNodeInfoRequest()),
        "the jobs": (gcs_grpc.JobInfoGcsServiceStub(channel).GetAllJobInfo, gcs.GetAllJobInfoRequest()),
        "a node's numbers": (node_grpc.NodeManagerServiceStub(channel).GetNodeStats, node.GetNodeStatsRequest()),
        "a worker's numbers": (
            core_grpc.CoreWorkerServiceStub(channel).GetCoreWorkerStats,
            core.GetCoreWorkerStatsRequest(),
        ),
        "a worker's stack": (
            reporter_grpc.ReporterServiceStub(channel).GetTraceback,
            reporter.GetTracebackRequest(pid=1),
        ),
        # There is no Python of this call: it asks for an object that is nowhere, for a node that is nowhere.
        "the object manager": (channel.unary_unary("/ray.rpc.ObjectManagerService/Pull"), NOWHERE),
        "Ray Client": (
            client_grpc.RayletDriverStub(channel).ClusterInfo,
            client.ClusterInfoRequest(type=client.ClusterInfoType.PING),
        ),
    }


def by_grpc(port: int) -> list[tuple[str, str]]:
    """Give each call that was answered."""
    found = []
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        for what, (call, request) in calls(channel).items():  # type: ignore[misc]
            try:
                metadata = (("client_id", "probe"),)
                found.append((what, str(call(request, timeout=PATIENCE, metadata=metadata))[:60]))
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:  # type: ignore[attr-defined]
                    break  # no gRPC is spoken here
    return found


def main() -> None:
    """Try every port."""
    for port in PORTS:
        try:
            socket.create_connection((HOST, port), PATIENCE).close()
        except OSError as error:
            print(json.dumps([port, "shut", str(error)]))
            continue
        seen = set()
        for path in PATHS:
            for method in ("GET", "POST"):
                came, said = by_http(port, method, path)
                if came == "in":
                    print(json.dumps([port, f"{method} {path}", said]))
                elif came in ("metrics", "health"):
                    seen.add(came)
        for came in sorted(seen):
            print(json.dumps([port, came, ""]))
        for what, said in by_grpc(port):
            print(json.dumps([port, what, said]))


main()
