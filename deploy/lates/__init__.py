"""The values that are found out at contact: the image's digest, addresses, sizes, the token."""

from deploy.lates.image import image_tag, wanted_image, weight_on_head
from deploy.lates.node import GPUS, NUM_WORKERS, head_address, node_address, shm_size, started_with
from deploy.lates.operator import BY, NOW
from deploy.lates.ray import former, heads_versions, ray_version, versions
from deploy.lates.registry import RegistryLogin, registry_password, repository_uri
from deploy.lates.token import run_id, token

__all__ = [
    "RegistryLogin",
    "BY",
    "GPUS",
    "NOW",
    "NUM_WORKERS",
    "former",
    "head_address",
    "heads_versions",
    "image_tag",
    "node_address",
    "ray_version",
    "registry_password",
    "repository_uri",
    "run_id",
    "shm_size",
    "started_with",
    "token",
    "versions",
    "wanted_image",
    "weight_on_head",
]
