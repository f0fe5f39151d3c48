"""An operator who types what `--dry` prints: nothing of Raydock's is on their PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from dotenv import dotenv_values

from tests.hosts.observer import TOP

# Stands in for the AWS CLI on a machine that has none: the three calls that the scripts make, through boto3.
AWS = """\
#!{python}
import argparse, base64, boto3, json
parser = argparse.ArgumentParser()
parser.add_argument("service", choices=["ecr"])
parser.add_argument("call", choices=["describe-repositories", "create-repository", "get-login-password"])
parser.add_argument("--region")
parser.add_argument("--repository-names")
parser.add_argument("--repository-name")
parser.add_argument("--query")
parser.add_argument("--output")
parser.add_argument("--image-tag-mutability")
parser.add_argument("--image-tag-mutability-exclusion-filters")
parser.add_argument("--image-scanning-configuration")
asked = parser.parse_args()
ecr = boto3.client("ecr", region_name=asked.region)
if asked.call == "get-login-password":
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    print(base64.b64decode(token).decode().partition(":")[2])
elif asked.call == "create-repository":
    name, value = (pair.partition("=")[2] for pair in asked.image_tag_mutability_exclusion_filters.split(","))
    ecr.create_repository(
        repositoryName=asked.repository_name,
        imageTagMutability=asked.image_tag_mutability,
        imageTagMutabilityExclusionFilters=[{{"filterType": name, "filter": value}}],
        imageScanningConfiguration={{"scanOnPush": asked.image_scanning_configuration == "scanOnPush=true"}},
    )
else:
    found = ecr.describe_repositories(repositoryNames=[asked.repository_names])["repositories"][0]
    # --query 'repositories[0].repositoryUri', or all of the repository.
    whole = "{{" in (asked.query or "")
    print(json.dumps({{"repository": found}}, default=str) if whole else found["repositoryUri"])
"""


def has_aws(path: str) -> bool:
    """Tell whether there is an AWS CLI that works; a version manager's may be there and not work."""
    found = shutil.which("aws", path=path)
    return found is not None and subprocess.run([found, "--version"], capture_output=True).returncode == 0


def path_of_an_operator(folder: Path) -> str:
    """Give a PATH without anything of Raydock's; `folder` is for what the machine has not."""
    ours = Path(sys.executable).parent
    plain = os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if Path(one) != ours)
    if has_aws(plain):
        return plain
    (folder / "aws").write_text(AWS.format(python=sys.executable))
    (folder / "aws").chmod(0o755)
    return f"{folder}{os.pathsep}{plain}"


def aws_keys() -> dict[str, str | None]:
    """Give the keys that the operator has of the sandbox's AWS; its address stands in the script."""
    settings = dotenv_values(TOP / "conf/sandbox.env", interpolate=False)
    return {key: value for key, value in settings.items() if key.startswith("AWS_") and key != "AWS_ENDPOINT_URL"}
