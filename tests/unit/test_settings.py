"""The settings: where they come from, what each may be, and every mistake at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pydantic
import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from deploy.envfile import read_env
from deploy.errors import Mistake
from deploy.lists import RAY_ARGUMENTS_OF_OURS
from deploy.secret import Secret
from deploy.settings import KEYS, Settings, load, read

from .pace import within_seconds

GOOD: dict[str, tuple[str, object]] = {
    "BASE_IMAGE": ("reg.example.com:5000/ray:1", "reg.example.com:5000/ray:1"),
    "RAY_VERSION": ("2.54.0", "2.54.0"),
    "MY_PROJECT_URL": ("git@git.example.com:team/app.git", "git@git.example.com:team/app.git"),
    "MY_PROJECT_REF": ("feature/a-b", "feature/a-b"),
    "MY_PROJECT_SOURCE": ("copy", "copy"),
    "MY_PROJECT_INSTALLATION_SCRIPT": ("pip install . && ./x 'y z'", "pip install . && ./x 'y z'"),
    "APP_TAG": ("team/app:1", "team/app:1"),
    "REPOSITORY_NAME": ("team/app", "team/app"),
    "REGION": ("us-gov-west-1", "us-gov-west-1"),
    "REPOSITORY_URI": ("reg.example.com/team/app", "reg.example.com/team/app"),
    "IMAGE": ("app@sha256:" + "0" * 64, "app@sha256:" + "0" * 64),
    "CLUSTER_NAME": ("ray-2", "ray-2"),
    "HEAD": ("ubuntu@10.0.0.5:2222", "ubuntu@10.0.0.5:2222"),
    "HEAD_ADDRESS": ("10.0.0.5", "10.0.0.5"),
    "WORKERS_FILE": ("conf/w", "conf/w"),
    "SHM_SIZE": ("1.5g", "1.5g"),
    "MEMORY": ("24G", "24G"),
    "PIDS_LIMIT": ("4096", 4096),
    "NUM_WORKERS": ("8", 8),
    "REDIS_PORT": ("6380", 6380),
    "OBJECT_MANAGER_PORT": ("8077", 8077),
    "DASHBOARD_PORT": ("8266", 8266),
    "SSH_USER": ("ubuntu", "ubuntu"),
    "SSH_PORT": ("2222", 2222),
    "GPUS": ("2", "2"),
    "VOLUMES": ("/data:/data:ro 'models:/the models'", ("/data:/data:ro", "models:/the models")),
    "CONTAINER_ENV": ("A=1 B='x y' C=", ("A=1", "B=x y", "C=")),
    "RAY_START_ARGS": ("--labels a=b --min-worker-port=10002", ("--labels", "a=b", "--min-worker-port=10002")),
    "DASHBOARD_HOST": ("0.0.0.0", "0.0.0.0"),  # noqa: S104 (with a token, the operator's choice)
    "ALLOW_UNAUTHENTICATED": ("yes", True),
    "CONCURRENCY": ("1024", 1024),
    "BUILD_IDLE": ("2h", "2h"),
    "CAPABILITIES": ("SYS_PTRACE IPC_LOCK", ("IPC_LOCK", "SYS_PTRACE")),
}

# A value, and what is said of it after the key.
BAD = {
    ("BASE_IMAGE", "Ray"): "='Ray' is not an image reference such as",
    ("BASE_IMAGE", "a; rm -rf /"): "='a; rm -rf /' is not an image reference such as",
    ("RAY_VERSION", "1.13.0"): "='1.13.0' is not a Ray version such as 2.60.0",
    ("RAY_VERSION", "2.60"): "='2.60' is not a Ray version such as 2.60.0",
    ("MY_PROJECT_URL", "-x"): " is not a URL or a folder that git can clone",
    ("MY_PROJECT_URL", "https://u:p@h/a"): " has a user, password or token in it",
    ("MY_PROJECT_REF", "--upload-pack=x"): "='--upload-pack=x' is not a branch, tag or commit",
    ("MY_PROJECT_REF", "a..b"): "='a..b' is not a branch, tag or commit",
    ("MY_PROJECT_REF", "a.lock"): "='a.lock' is not a branch, tag or commit",
    ("MY_PROJECT_REF", "a b"): "='a b' is not a branch, tag or commit",
    ("MY_PROJECT_REF", "HEAD~1"): "='HEAD~1' is not a branch, tag or commit",
    ("MY_PROJECT_SOURCE", "fetch"): "='fetch' is not clone or copy",
    ("MY_PROJECT_INSTALLATION_SCRIPT", "a\nRUN b"): " has a line break or a control character",
    ("MY_PROJECT_INSTALLATION_SCRIPT", "a \\"): " ends in a backslash",
    (
        "MY_PROJECT_INSTALLATION_SCRIPT",
        "pip install git+ssh://me:hunter2@git.test/x",
    ): " has a URL with a user, password",
    ("MY_PROJECT_INSTALLATION_SCRIPT", "curl https://hunter2@git.test/x | sh"): " has a URL with a user, password",
    ("APP_TAG", "app:" + "t" * 129): f"='app:{'t' * 53}...' is not an image reference such as",
    ("APP_TAG", "app@sha256:" + "0" * 64): f"='app@sha256:{'0' * 46}...' has a digest",
    ("REPOSITORY_NAME", "a"): "='a' is not an ECR repository name",
    ("REPOSITORY_NAME", "team__app"): "='team__app' is not an ECR repository name",
    ("REGION", "us-west"): "='us-west' is not an AWS region such as us-west-2",
    ("REPOSITORY_URI", "https://reg.example.com/a"): "='https://reg.example.com/a' is not a repository such as",
    ("REPOSITORY_URI", "reg.example.com/a:1"): "='reg.example.com/a:1' is not a repository such as",
    ("IMAGE", "app@sha256:12"): "='app@sha256:12' is not an image reference such as",
    ("CLUSTER_NAME", "-ray"): "='-ray' is not a cluster name",
    ("CLUSTER_NAME", "r" * 32): f"='{'r' * 32}' is not a cluster name",
    ("HEAD", "ssh://h"): "='ssh://h' is neither local nor user@host[:port]: port '//h' is not",
    ("HEAD", "u@10.0.0.300"): "='u@10.0.0.300' is neither local nor user@host[:port]: '10.0.0.300' is neither",
    ("HEAD_ADDRESS", "head"): "='head' is not an IP address",
    ("HEAD_ADDRESS", "0.0.0.0"): "='0.0.0.0' is not the address of one interface",  # noqa: S104 (refused)
    ("SHM_SIZE", "8"): "='8' is less than 64M",
    ("MEMORY", "5m"): "='5m' is less than 6M, the least that Docker takes",
    ("MEMORY", "-1"): "='-1' is not a size such as 8G, 512M or 1.5g",
    ("PIDS_LIMIT", "255"): "='255' is not a whole number from 256 to 4194304",
    ("PIDS_LIMIT", "-1"): "='-1' is not a whole number from 256 to 4194304",
    ("SHM_SIZE", "half"): "='half' is not a size such as 8G, 512M or 1.5g",
    ("NUM_WORKERS", "0"): "='0' is not a whole number from 1 to 10000",
    ("NUM_WORKERS", "-1"): "='-1' is not a whole number from 1 to 10000",
    ("NUM_WORKERS", "NaN"): "='NaN' is not a whole number from 1 to 10000",
    ("NUM_WORKERS", "1e9"): "='1e9' is not a whole number from 1 to 10000",
    ("NUM_WORKERS", "８"): r"='\uff18' is not a whole number from 1 to 10000",
    ("REDIS_PORT", "65536"): "='65536' is not a whole number from 1024 to 65535",
    ("REDIS_PORT", "443"): "='443' is not a whole number from 1024 to 65535",
    ("SSH_USER", "-l"): "='-l' is not a user name",
    ("SSH_KEY", "conf/none"): "='conf/none' is no file",
    ("SSH_KEY", "conf"): "='conf' is no file",
    ("SSH_KEY", "k" * 300): f"='{'k' * 57}...' cannot be read: File name too long",
    ("SSH_KNOWN_HOSTS", "/"): "='/' is a folder",
    ("SSH_PORT", "0"): "='0' is not a whole number from 1 to 65535",
    ("GPUS", "-1"): "='-1' is not auto, all, none, or a number from 1 to 999",
    ("VOLUMES", "/data"): "='/data' has '/data', which is not source:target",
    ("VOLUMES", "data/x:/x"): "='data/x:/x' has 'data/x', which is neither an absolute path nor a volume's name",
    ("VOLUMES", "/a:x"): "='/a:x' has 'x', which is no absolute path in the container",
    ("VOLUMES", "/a:/x:rx"): "='/a:/x:rx' has the mode 'rx': write ro or rw",
    ("VOLUMES", "/a:/x /b:/x/"): "='/a:/x /b:/x/' has /x twice",
    ("VOLUMES", "/run/docker.sock:/s"): "='/run/docker.sock:/s' has '/run/docker.sock': whoever has the engine's",
    ("VOLUMES", "/a:/x/../"): "='/a:/x/../' has '/x/../', which is no absolute path in the container",
    ("VOLUMES", "/a:/x /b://x/y/.."): "='/a:/x /b://x/y/..' has /x twice",
    ("VOLUMES", "/a:/run"): "='/a:/run' has '/run', where Ray's token stands in the container",
    ("VOLUMES", "'/a:/x"): """="'/a:/x" is not shell words: a quote or a backslash is left open""",
    ("CONTAINER_ENV", "A=1 hunter2"): " has a word without '='",
    ("CONTAINER_ENV", "1A=hunter2"): " has '1A', which is not the name of a variable",
    ("CONTAINER_ENV", "A=hunter2 A=2"): " has A twice",
    ("CONTAINER_ENV", "RAY_AUTH_MODE=disabled"): " has RAY_AUTH_MODE, which Raydock sets",
    ("CONTAINER_ENV", "RAY_AUTH_TOKEN=hunter2"): " has RAY_AUTH_TOKEN, which Raydock sets",
    ("CONTAINER_ENV", "RAY_AUTH_TOKEN_PATH=/etc/hunter2"): " has RAY_AUTH_TOKEN_PATH, which Raydock sets",
    ("CONTAINER_ENV", "RAY_enable_cluster_auth=0"): " has RAY_enable_cluster_auth, which Raydock sets",
    ("CONTAINER_ENV", "RAY_ENABLE_K8S_TOKEN_AUTH=1"): " has RAY_ENABLE_K8S_TOKEN_AUTH, which Raydock sets",
    (
        "RAY_START_ARGS",
        """'--system-config={"AUTH_MODE":"disabled"}'""",
    ): " has --system-config, which is not for here:",
    ("RAY_START_ARGS", "--temp-dir --ray-debugger-external"): " has --ray-debugger-external, which is not for here: it",
    ("RAY_START_ARGS", "--port=1"): " has --port, which is not for here: set REDIS_PORT",
    ("RAY_START_ARGS", "--address 10.0.0.5:1"): " has --address, which is not for here: set HEAD_ADDRESS",
    ("RAY_START_ARGS", "--min-worker-port=80"): " has --min-worker-port, which is not a whole number from 1024 to",
    ("RAY_START_ARGS", "--node-manager-port"): " has --node-manager-port, which is not a whole number from 1024 to",
    ("RAY_START_ARGS", "head"): " has a word that is neither an option, as in --name=value, nor the value of one",
    ("DASHBOARD_HOST", "everybody"): "='everybody' is not an IP address",
    ("ALLOW_UNAUTHENTICATED", "true"): "='true' is not yes or no",
    ("CAPABILITIES", "ALL"): "='ALL' has 'ALL', which is no capability: There are: AUDIT_CONTROL",
    ("CAPABILITIES", "SYS_PTRACE SYS_PTRACE"): "='SYS_PTRACE SYS_PTRACE' has SYS_PTRACE twice",
    ("BUILD_IDLE", "0s"): "='0s' is no time at all",
    ("BUILD_IDLE", "2 hours"): "='2 hours' is not a duration such as 30s, 5m or 1h",
    ("CONCURRENCY", "1025"): "='1025' is not a whole number from 1 to 1024",
}


def mistakes(root: Path, environ: Mapping[str, str]) -> list[str]:
    with pytest.raises(Mistake) as caught:
        load(root, environ)
    assert {problem.code for problem in caught.value.problems} == {"CONFIG"}
    return [str(problem) for problem in caught.value.problems]


def write(root: Path, text: str, name: str = ".env") -> Path:
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode())
    return root


@pytest.mark.parametrize("key", GOOD)
def test_a_good_value_is_taken_for_what_it_means(key: str, tmp_path: Path) -> None:
    text, value = GOOD[key]
    assert getattr(load(tmp_path, {key: text}), key.lower()) == value


def test_every_setting_has_a_good_and_a_bad_case() -> None:
    paths = {"SSH_KEY", "SSH_KNOWN_HOSTS"}
    assert set(KEYS) - set(GOOD) == paths
    assert set(KEYS) - {key for key, _ in BAD} == {"WORKERS_FILE", "OBJECT_MANAGER_PORT", "DASHBOARD_PORT"}


@pytest.mark.parametrize(("key", "value"), BAD, ids=lambda text: ascii(text)[1:40])
def test_a_bad_value_is_refused_by_its_key(key: str, value: str, tmp_path: Path) -> None:
    (told,) = mistakes(tmp_path, {key: value})
    assert told.startswith(f"environment {key}: {key}{BAD[key, value]}")
    assert "hunter2" not in told
    assert told.isprintable()


ENGINES = (
    *("/", "//", "/.", "/run", "/run/", "//run", "/./run", "/x/../run", "/run/docker.sock", "/run//docker.sock"),
    *(
        "/var",
        "/var/",
        "/var/run",
        "/var/run/docker.sock",
        "/var/lib",
        "/var/lib/docker/volumes",
        "/var/lib/containerd",
    ),
    *("/proc", "/proc/1/root", "/proc/self/root/run/docker.sock", "/sys", "/home/me/.docker/run/docker.sock"),
    *("/home/u/.docker", "/home/u/.docker/run", "/home/u//.docker/./run/", "/root/.docker/run", "/Users/u/.docker/run"),
    *(
        "/dev",
        "/dev/",
        "/dev/mem",
        "/x/../dev",
        "/home/u/.local/share/docker",
        "/srv/u/.local/share",
        "/var/snap/docker",
    ),
    *("/var/snap", "/var/snap/lxd/common/lxd", "/var/snap/microk8s", "/var/lib/k0s/run", "/var/lib/crio"),
    *("/home/u/.colima/default", "/Users/u/.lima", "/Users/u/.orbstack/run", "/home/u/.local/share/nerdctl"),
    *("/srv/u/.local/share/nerdctl/x", "/home/u/.local/share/containerd"),
)
OF_ETC = (
    *("/etc", "/etc/", "//etc", "/x/../etc", "/etc/.", "/etc/../etc/pam.conf", "/etc/ssh", "/etc/cron.d/x"),
    *("/etc/sudoers", "/etc/sudoers.d", "/etc/sudo.conf", "/etc/shadow", "/etc/passwd", "/etc/pam.d", "/etc/pam.conf"),
    *("/etc/sssd", "/etc/nslcd.conf", "/etc/krb5.conf", "/etc/krb5.keytab", "/etc/nsswitch.conf", "/etc/hosts.equiv"),
    *("/etc/systemd/system", "/etc/docker", "/etc/containers", "/etc/cni", "/etc/kubernetes", "/etc/dbus-1"),
    *("/etc/ld.so.preload", "/etc/profile.d", "/etc/bash.bashrc", "/etc/zsh", "/etc/default", "/etc/fstab"),
    *("/etc/update-motd.d", "/etc/network", "/etc/NetworkManager", "/etc/dhcp", "/etc/cloud", "/etc/kernel"),
    *("/etc/modprobe.d", "/etc/anacrontab", "/etc/ca-certificates", "/etc/ssl", "/etc/ssl/private", "/etc/pki"),
    *("/etc/ssl/openssl.cnf", "/etc/ssl/certs/../private", "/etc/ssl/certs-of-mine", "/etc/app/passwd"),
)
HOSTS_OWN = (
    *OF_ETC,
    *("/root", "/root/", "/home", "/home/u", "/home/u/", "/Users/u", "/root/.ssh", "/home/u/.ssh/authorized_keys"),
    *("/srv/u/.ssh", "/home/u/.bashrc", "/root/.profile", "/home/u/.zshrc", "/home/u/.config/systemd/user"),
    *("/boot", "/boot/grub", "/bin", "/sbin", "/lib", "/lib64", "/lib/systemd/system", "/lib/modules", "/lib64/x.so"),
    *("/usr", "/usr/bin", "/usr/bin/sudo", "/usr/sbin/sshd", "/usr/lib/systemd", "/usr/lib/x86_64-linux-gnu"),
    *("/usr/libexec", "/usr/src", "/usr/share", "/usr/share/polkit-1", "/usr/share/dbus-1/system-services"),
    *("/usr/local", "/usr/local/bin", "/usr/local/sbin/x", "/usr/local/lib/python3"),
    *("/var/backups", "/var/spool", "/var/spool/cron", "/var/spool/cron/crontabs", "/var/spool/at"),
    *("/var/lib/cloud", "/var/lib/cloud/scripts", "/var/lib/dpkg/info", "/var/lib/kubelet", "/var/lib/buildkit"),
    *("/var/lib/raydock", "/var/lib/raydock/default", "/data/../var/lib//raydock/"),
    *("/usr/share/unattended-upgrades", "/usr/share/apport/x", "/usr/share/initramfs-tools", "/usr/share/python3"),
    *("/usr/share/app", "/usr/share/fonts/../perl5", "/usr/share/fonts-of-mine", "/usr/local/share/"),
    *("/usr/local/share/dbus-1/system-services", "/usr/local/share/polkit-1", "/usr/local/aws-cli/v2/current"),
    *("/opt", "/opt/cni/bin", "/opt/containerd", "/opt/containerd/bin/x"),
    *("/home/u/.cshrc", "/home/u/.tcshrc", "/home/u/.kshrc", "/home/u/.mkshrc", "/srv/u/.login", "/home/u/.zlogout"),
    *("/home/u/.config/fish", "/home/u/.config/fish/conf.d/x.fish", "/home/u/.local/share/fish/vendor_conf.d"),
    *("/home/u/.bashrc.d", "/home/u/.bashrc.d/x.sh", "/home/u/.zshrc.d/x/y", "/home/u/.profile"),
    *("/home/u/.config/environment.d", "/home/u/.config/autostart/x", "/home/u/.local/share/systemd/user"),
    *("/var/lib/portables", "/var/lib/machines/x", "/var/lib/extensions", "/var/lib/confexts"),
    *("/var/roothome", "/var/roothome/.ssh", "/efi", "/efi/EFI", "/sysroot", "/sysroot/ostree", "/ostree/deploy"),
)


@pytest.mark.parametrize("source", ENGINES)
@pytest.mark.parametrize("mode", ["", ":ro"])
def test_no_spelling_of_a_path_mounts_the_engines_socket(source: str, mode: str, tmp_path: Path) -> None:
    (told,) = mistakes(tmp_path, {"VOLUMES": f"{source}:/x{mode}"})
    assert "whoever has the engine's socket is root on the node" in told


@pytest.mark.parametrize("source", HOSTS_OWN)
@pytest.mark.parametrize("mode", ["", ":ro"])
def test_what_makes_root_on_the_node_is_not_mounted(source: str, mode: str, tmp_path: Path) -> None:
    (told,) = mistakes(tmp_path, {"VOLUMES": f"{source}:/x{mode}"})
    assert "whoever may write there is soon root on the node" in told


def test_of_etc_it_is_told_what_can_be_mounted_and_what_to_do_else(tmp_path: Path) -> None:
    (told,) = mistakes(tmp_path, {"VOLUMES": "/etc/app:/x"})
    assert told.endswith(
        "has '/etc/app': whoever may write there is soon root on the node. Of /etc only hostname, hosts, localtime, "
        "machine-id, resolv.conf, timezone, ssl/certs, pki/ca-trust, pki/tls/certs can be; copy what else is needed "
        "elsewhere"
    )


def test_of_usr_share_it_is_told_what_can_be_mounted_and_what_to_do_else(tmp_path: Path) -> None:
    (told,) = mistakes(tmp_path, {"VOLUMES": "/usr/share/app:/x"})
    assert told.endswith(
        "has '/usr/share/app': whoever may write there is soon root on the node. Of /usr/share only ca-certificates, "
        "dict, fonts, pki, zoneinfo can be; copy what else is needed elsewhere"
    )


BESIDE = (
    *("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/timezone", "/etc//localtime", "/etc/machine-id"),
    *("/etc/ssl/certs/", "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/ca-trust/extracted", "/etc/pki/tls/certs"),
    *("/var/data", "/runs", "/var/lib/dockers", "/srv/run", "/process", "run"),
    *("/devel", "/etcetera", "/srv/etc/passwd", "/root/data", "/home/u/.config/app", "/home/u/.basil", "/binaries"),
    *("/home/u/data", "/home/u/.aws", "/home/u/.docker-data", "/home/u/.cache", "/usr/local/cuda", "/usr/share/fonts"),
    *("/usr/share/zoneinfo", "/usr/local/share/models", "/usr/local/cuda/lib64", "/opt/app/bin", "/mnt/x", "/srv/lib"),
    *(
        "/var/spool/attached",
        "/var/lib/app",
        "/var/lib/cloudy",
        "/var/backups/app",
        "/library",
        "/data/usr",
        "/srv/home/u",
    ),
    *("/usr/share/dict/words", "/usr/share/ca-certificates", "/usr/share/pki", "/usr/share/zoneinfo/x", "/usr/shared"),
    *("/opt/cnicorp", "/opt/models", "/var/snaps", "/var/roothome/data", "/efis", "/home/u/.logins", "/var/lib/k0smos"),
    *("/home/u/.config/fisheries", "/home/u/.local/state", "/usr/local/aws-client", "/home/u/.profiles"),
)


@pytest.mark.parametrize("source", BESIDE)
def test_what_is_beside_the_engine_is_mounted(source: str, tmp_path: Path) -> None:
    assert load(tmp_path, {"VOLUMES": f"{source}:/run-data:ro"}).volumes == (f"{source}:/run-data:ro",)


@pytest.mark.parametrize("argument", RAY_ARGUMENTS_OF_OURS)
def test_what_raydock_gives_ray_is_not_given_twice(argument: str, tmp_path: Path) -> None:
    (told,) = mistakes(tmp_path, {"RAY_START_ARGS": f"{argument}=1"})
    assert f"has {argument}, which is not for here: {RAY_ARGUMENTS_OF_OURS[argument]}" in told


def test_without_a_file_everything_is_as_by_default(tmp_path: Path) -> None:
    settings = load(tmp_path, {"PATH": "/bin", "HOME": "/root"})
    assert settings == Settings(root=tmp_path)
    assert (settings.source, settings.from_environment) == ("", ())


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    text = (
        "\ufeff# mine\r\n\r\nexport APP_TAG='my-app:1'  # the app\r\n"
        'CONTAINER_ENV="A=${HOME} B=$(id) C=#x"\r\nREGION = us-west-2 # there\r\nIMAGE=\r\n'
        "MY_PROJECT_INSTALLATION_SCRIPT=pip install .#egg"
    )
    settings = load(write(tmp_path, text), {"HOME": "/root"})
    assert settings.source == ".env"
    assert settings.app_tag == "my-app:1"
    assert settings.container_env == ("A=${HOME}", "B=$(id)", "C=#x")
    assert settings.region == "us-west-2"
    assert settings.image is None
    assert settings.my_project_installation_script == "pip install .#egg"


def test_the_environment_overrides_the_file_and_is_named(tmp_path: Path) -> None:
    settings = load(write(tmp_path, "APP_TAG=web\nGPUS=bad\n"), {"GPUS": "all", "REGION": "us-west-2", "LANG": "C"})
    assert (settings.app_tag, settings.gpus, settings.region) == ("web", "all", "us-west-2")
    assert settings.from_environment == ("GPUS", "REGION")
    assert settings.place("GPUS") == "environment GPUS"
    assert settings.place("APP_TAG") == ".env:1"


def test_another_environment_is_another_file(tmp_path: Path) -> None:
    write(write(tmp_path, "APP_TAG=web\n"), "APP_TAG=shop\n", "conf/prod.env")
    settings = load(tmp_path, {"ENVIRONMENT": "prod"})
    assert (settings.app_tag, settings.source, settings.from_environment) == ("shop", "conf/prod.env", ())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("prd", "there are no settings called 'prd'. Did you mean prod?"),
        ("x", "there are no settings called 'x'. There are: prod, sandbox"),
        ("../prod", "there are no settings called '../prod'. Did you mean prod?"),
        ("prod/../sandbox", "there are no settings called 'prod/../sandbox'. Did you mean sandbox?"),
    ],
)
def test_an_environment_that_there_is_not_is_told_with_those_there_are(name: str, told: str, tmp_path: Path) -> None:
    for known in ("prod", "sandbox"):
        write(tmp_path, "", f"conf/{known}.env")
    assert mistakes(tmp_path, {"ENVIRONMENT": name}) == [f"environment ENVIRONMENT: {told}"]


def test_every_mistake_is_told_at_once_with_its_place_in_the_files_order(tmp_path: Path) -> None:
    text = """# mine
REDIS_PORT=99999

regoin=us-west-2
APP_TAG=my app
CLUSTER_NAME=
GPUS=1
GPUS=2
REGION
="
ENVIRONMENT=prod
DASHBOARD_PORT=8076
"""
    assert mistakes(write(tmp_path, text), {"CONCURRENCY": "0"}) == [
        ".env:2: REDIS_PORT='99999' is not a whole number from 1024 to 65535",
        ".env:4: no setting is called regoin. Did you mean REGION?",
        ".env:5: APP_TAG='my app' is not an image reference such as my-app, registry.example.com/team/app:1.0 "
        "or app@sha256:…",
        ".env:6: CLUSTER_NAME is empty. Leave it out for ray",
        ".env:8: GPUS is at .env:7 already. Keep one of the two",
        ".env:9: REGION has no '='",
        ".env:10: is not KEY=VALUE: is a quote left open?",
        ".env:11: ENVIRONMENT is set in the environment, not in a file",
        ".env:12: OBJECT_MANAGER_PORT and DASHBOARD_PORT are both 8076. Give each a port of its own, see docs/ports.md",
        "environment CONCURRENCY: CONCURRENCY='0' is not a whole number from 1 to 1024",
    ]


CLASHES = {
    "two ports": (
        {"REDIS_PORT": "8265"},
        "environment REDIS_PORT: REDIS_PORT and DASHBOARD_PORT are both 8265. "
        "Give each a port of its own, see docs/ports.md",
    ),
    "a port of Ray's own": (
        {"OBJECT_MANAGER_PORT": "10001"},
        "environment OBJECT_MANAGER_PORT: OBJECT_MANAGER_PORT and --ray-client-server-port are both 10001. "
        "Give each a port of its own, see docs/ports.md",
    ),
    "a port among those of tasks": (
        {"REDIS_PORT": "10500"},
        "environment REDIS_PORT: REDIS_PORT=10500 is among the ports of tasks=10002-19999. "
        "Give each a port of its own, see docs/ports.md",
    ),
    "two ports for Ray": (
        {"RAY_START_ARGS": "--metrics-export-port=9000 --node-manager-port 9000"},
        "environment RAY_START_ARGS: --metrics-export-port and --node-manager-port are both 9000. "
        "Give each a port of its own, see docs/ports.md",
    ),
    "tasks at Ray's own": (
        {"RAY_START_ARGS": "--min-worker-port=10001"},
        "environment RAY_START_ARGS: --ray-client-server-port=10001 is among the ports of tasks=10001-19999. "
        "Give each a port of its own, see docs/ports.md",
    ),
    "a folder to clone": (
        {"MY_PROJECT_URL": "/srv/app"},
        "environment MY_PROJECT_URL: MY_PROJECT_URL is a folder, which no build can clone. Set MY_PROJECT_SOURCE=copy",
    ),
    "an open dashboard without a token": (
        {"DASHBOARD_HOST": "0.0.0.0", "ALLOW_UNAUTHENTICATED": "yes"},  # noqa: S104 (refused)
        "environment DASHBOARD_HOST: DASHBOARD_HOST=0.0.0.0 with ALLOW_UNAUTHENTICATED=yes lets everybody run code. "
        "Leave DASHBOARD_HOST out, and reach it by invoke cluster.dashboard",
    ),
    "more shared memory than memory": (
        {"SHM_SIZE": "3G", "MEMORY": "2048M"},
        "environment SHM_SIZE: SHM_SIZE=3G is not from 64M to MEMORY=2048M, of which it is a part. "
        "Lower SHM_SIZE, or raise MEMORY",
    ),
    "an engine elsewhere": (
        {"DOCKER_HOST": "tcp://10.0.0.5:2375"},
        "environment DOCKER_HOST: DOCKER_HOST='tcp://10.0.0.5:2375' is not a unix socket of this machine. "
        "Reach another machine by HEAD=user@host",
    ),
    "the socket's folder among the volumes": (
        {"DOCKER_HOST": "unix:///srv/engine/e.sock", "VOLUMES": "/data:/data //srv/./engine/:/x:ro"},
        "environment VOLUMES: VOLUMES has '//srv/./engine/', and so the engine's socket, DOCKER_HOST. "
        "Leave it out: whoever has the socket is root on the node",
    ),
    "the socket itself, spelt otherwise": (
        {"DOCKER_HOST": "unix:////srv/x/../e.sock", "VOLUMES": "/srv/e.sock:/e.sock"},
        "environment VOLUMES: VOLUMES has '/srv/e.sock', and so the engine's socket, DOCKER_HOST. "
        "Leave it out: whoever has the socket is root on the node",
    ),
    "a name that ECR does not take": (
        {"APP_TAG": "a"},
        "environment APP_TAG: 'a', which APP_TAG gives, is no name for a repository of ECR. "
        "Set REPOSITORY_NAME, or REPOSITORY_URI for another registry",
    ),
}


@pytest.mark.parametrize("case", CLASHES)
def test_what_is_wrong_only_together_is_told(case: str, tmp_path: Path) -> None:
    environ, told = CLASHES[case]
    assert mistakes(tmp_path, environ) == [told]


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({"MY_PROJECT_URL": "/srv/app", "MY_PROJECT_SOURCE": "copy"}, id="a folder to copy"),
        pytest.param({"DASHBOARD_HOST": "::1", "ALLOW_UNAUTHENTICATED": "yes"}, id="a dashboard on loopback"),
        pytest.param({"DOCKER_HOST": "unix:///run/user/1000/docker.sock"}, id="another socket"),
        pytest.param({"DOCKER_HOST": "tcp://10.0.0.5:2375", "HEAD": "u@h"}, id="an engine that is not asked"),
        pytest.param(
            {"DOCKER_HOST": "unix:///srv/e/e.sock", "VOLUMES": "/srv/e/data:/a /srv/ee:/b srv:/c"}, id="beside a socket"
        ),
        pytest.param(
            {"DOCKER_HOST": "unix:///srv/e/e.sock", "VOLUMES": "/srv/e:/a", "HEAD": "u@h"},
            id="a socket that is not asked",
        ),
        pytest.param({"REDIS_PORT": "10500", "RAY_START_ARGS": "--max-worker-port=10499"}, id="fewer ports for tasks"),
        pytest.param({"RAY_START_ARGS": "--min-worker-port=0 --max-worker-port=0"}, id="any ports for tasks"),
        pytest.param({"APP_TAG": "a", "REPOSITORY_URI": "reg.example.com/a"}, id="another registry"),
    ],
)
def test_what_is_right_together_is_taken(environ: dict[str, str], tmp_path: Path) -> None:
    load(tmp_path, environ)


def test_the_repository_is_called_as_the_app_by_default(tmp_path: Path) -> None:
    assert load(tmp_path, {"APP_TAG": "reg.example.com/team/app:1"}).repository_name == "team/app"


def test_aws_keys_are_kept_for_aws_and_never_shown(tmp_path: Path) -> None:
    write(tmp_path, "AWS_SECRET_ACCESS_KEY=hunter2\nAWS_PROFILE=a\n")
    settings = load(tmp_path, {"AWS_PROFILE": "b"})
    assert settings.aws == {"AWS_SECRET_ACCESS_KEY": Secret("hunter2"), "AWS_PROFILE": Secret("b")}
    assert "hunter2" not in f"{settings!r} {settings} {settings.aws} {settings.model_dump()}"
    assert settings.from_environment == ()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("MY_PROJECT_URL=https://x:hunter2@h/a", id="a token in a URL"),
        pytest.param("MY_PROJECT_INSTALLATION_SCRIPT=export T=hunter2 <<", id="one in a script"),
        pytest.param("IMAGE=u:hunter2@reg.example.com/a", id="one before an image"),
        pytest.param("REPOSITORY_URI=https://u:hunter2@reg.example.com/a", id="one before a repository"),
        pytest.param("HEAD=u:hunter2@h", id="one before the head"),
        pytest.param("CONTAINER_ENV=A=hunter2 B", id="one among the variables"),
        pytest.param("RAY_START_ARGS=--x hunter2 hunter2", id="one for ray"),
        pytest.param('AWS_SECRET_ACCESS_KEY="hunter2', id="a quote left open"),
        pytest.param("hunter2MIIEpAIBAAKCAQEA0123456789abcdefABCDEF/+xyz=", id="a key that was pasted"),
        pytest.param("hunter2 /+", id="a word"),
        pytest.param("AWS_SECRETACCESSKEYS hunter2", id="a blank for the sign"),
        pytest.param("ASW_SECRET_ACCESS_KEY=hunter2", id="a key misspelt"),
    ],
)
def test_no_mistake_repeats_a_secret(line: str, tmp_path: Path) -> None:
    told = mistakes(write(tmp_path, f"{line}\n"), {})
    assert told[0].startswith(".env:1: ")
    assert "hunter2" not in "\n".join(told)


UNREADABLE = {
    "UTF-16": ("REGION=us-west-2\n".encode("utf-16"), "it has NUL bytes, as UTF-16 has; save it as UTF-8"),
    "Latin-1": (b"# a\n# \xfc\n", "line 2 is not UTF-8"),
    "NUL": (b"APP_TAG=a\0\n", "it has NUL bytes, as UTF-16 has; save it as UTF-8"),
    "too large": (b"#" * 70_000, "it is larger than 64 kB"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_is_no_text_is_refused(case: str, tmp_path: Path) -> None:
    content, why = UNREADABLE[case]
    (tmp_path / ".env").write_bytes(content)
    assert mistakes(tmp_path, {}) == [f".env: cannot be read: {why}"]


def test_a_folder_is_no_file_of_settings(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert mistakes(tmp_path, {}) == [".env: cannot be read: it is not a file"]


@pytest.mark.parametrize(
    ("name", "environ"), [(".env", {}), ("conf/prod.env", {"ENVIRONMENT": "prod"})], ids=["the default", "another"]
)
def test_a_link_that_leads_nowhere_is_not_taken_for_no_file(name: str, environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / name).symlink_to("nowhere")
    assert mistakes(tmp_path, environ) == [f"{name}: cannot be read: No such file or directory"]


@pytest.mark.parametrize(("line", "said"), [("FOO: bar", ""), ("FOO: 'bar", ": is a quote left open?")])
def test_a_quote_is_asked_about_where_there_is_one(line: str, said: str, tmp_path: Path) -> None:
    assert mistakes(write(tmp_path, f"{line}\n"), {}) == [f".env:1: is not KEY=VALUE{said}"]


def test_a_flag_is_before_the_environment_and_is_named_as_it_is_typed(tmp_path: Path) -> None:
    reading = read(tmp_path, {"IMAGE": "a", "GPUS": "1"}, {"IMAGE": "b"})
    assert (reading.settings.image, reading.settings.from_environment) == ("b", ("GPUS",))
    (problem,) = read(tmp_path, {}, {"IMAGE": "a b"}).problems
    assert problem.place == "--image"


def test_a_line_without_end_is_refused_with_its_number(tmp_path: Path) -> None:
    assert mistakes(write(tmp_path, f"\nAPP_TAG={' ' * 5000}x\n"), {}) == [".env:2: is longer than 4096 characters"]


MANY = {
    "unknown settings": lambda number: f"A{number}=1",
    "the same setting": lambda _: "GPUS=1",
    "nearly a setting": lambda number: f"APP_TAG_{number}=",
    "no settings": lambda _: "-",
}


@pytest.mark.parametrize("case", MANY)
def test_of_a_file_of_something_else_the_first_thousand_mistakes_are_told_in_less_than_a_second(
    case: str, tmp_path: Path
) -> None:
    write(tmp_path, "\n".join(map(MANY[case], range(65_536)))[:65_536])
    with within_seconds(1):
        told = mistakes(tmp_path, {})
    assert len(told) == 1001
    assert told[-1].endswith(": and more: these are the first 1000 mistakes")


def test_paths_are_relative_to_the_settings_folder_or_to_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "key").touch(0o600)
    settings = load(tmp_path, {"SSH_KEY": "key", "SSH_KNOWN_HOSTS": "~/known"})
    assert (settings.ssh_key, settings.ssh_known_hosts) == (tmp_path / "key", tmp_path / "home" / "known")


def test_settings_do_not_change() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Settings().app_tag = "other"  # type: ignore[misc] # (the case)


def test_without_workers_txt_the_head_is_alone(tmp_path: Path) -> None:
    assert [node.name for node in load(tmp_path, {}).inventory().nodes] == ["head"]


def test_the_inventory_is_of_head_and_workers_file(tmp_path: Path) -> None:
    write(tmp_path, "10.0.0.7\nu@10.0.0.8:22\n", "conf/w")
    environ = {"HEAD": "10.0.0.5", "WORKERS_FILE": "conf/w", "SSH_USER": "ubuntu", "SSH_PORT": "2222"}
    nodes = load(tmp_path, environ).inventory().nodes
    assert [(node.name, node.user, node.port, node.place) for node in nodes] == [
        ("head", "ubuntu", 2222, "environment HEAD"),
        ("10.0.0.7", "ubuntu", 2222, "conf/w:1"),
        ("10.0.0.8", "u", 22, "conf/w:2"),
    ]


def test_workers_txt_is_read_where_it_is(tmp_path: Path) -> None:
    nodes = load(write(tmp_path, "a\n", "workers.txt"), {}).inventory().nodes
    assert [node.place for node in nodes] == ["HEAD", "workers.txt:1"]


@pytest.mark.parametrize("name", ["workers.txt", "conf/w"])
def test_a_workers_file_that_was_set_has_to_be_there(name: str, tmp_path: Path) -> None:
    settings = load(tmp_path, {"WORKERS_FILE": name})
    with pytest.raises(Mistake, match=rf"^{name}: cannot be read: No such file or directory\. List one host a line"):
        settings.inventory()


def test_a_workers_file_that_is_empty_is_no_single_machine(tmp_path: Path) -> None:
    settings = load(write(tmp_path, "# none yet\n", "workers.txt"), {})
    with pytest.raises(Mistake, match=r"^workers\.txt: lists no host"):
        settings.inventory()


PIECES = st.sampled_from(
    [
        *KEYS,
        "=",
        "=",
        "\n",
        "\n",
        "\r\n",
        " ",
        "'",
        '"',
        "#",
        "\\",
        "export ",
        "${X}",
        "$(x)",
        ";",
        "-",
        "1",
        "8G",
        "\0",
    ]
    + ["a", "é", "\ufeff", "AWS_X", "/a:/b", "--head", "u@h", "[", "local", "yes", "\x1b", "\u2028"]
)


def outcome(root: Path, environ: Mapping[str, str]) -> Settings | Mistake:
    try:
        return load(root, environ)
    except Mistake as mistake:
        return mistake


@given(st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=30).map("".join)))
def test_whatever_is_in_the_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = write(tmp_path_factory.getbasetemp(), text.encode(errors="replace").decode())
    found = outcome(root, {})
    if isinstance(found, Mistake):
        assert all(problem.place.startswith(".env") and problem.error.isprintable() for problem in found.problems)
    else:
        assert f"{found.head}{found.app_tag}{found.my_project_url}{found.workers_file}".isprintable()


WRITTEN = st.sampled_from(
    ["A", "B", "=", "=", " ", "\n", "\r\n", "'", '"', "#", "\\", "\\n", "export ", "${A}", "$(touch x)", "$A", "x", "é"]
)


@given(st.lists(WRITTEN, max_size=25).map("".join))
def test_what_is_read_is_what_python_dotenv_reads_without_interpolation(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = write(tmp_path_factory.getbasetemp(), text) / ".env"
    entries, problems = read_env(file, ".env")
    if not problems:
        assert {entry.key: entry.value for entry in entries} == dotenv_values(file, interpolate=False)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=${HOME}$(id)`id`$HOME", "${HOME}$(id)`id`$HOME"),
        ('A="${HOME:-x} $(id)"', "${HOME:-x} $(id)"),
        ("A='a # b' # c", "a # b"),
        ("A=a#b # c", "a#b"),
        ('A="a\\nb"', "a\nb"),
        ("A='a\\nb'", "a\\nb"),
        ("export A = x ", "x"),
        ("A='x'\r", "x"),
        ("A=", ""),
    ],
)
def test_a_value_is_what_stands_there(line: str, value: str, tmp_path: Path) -> None:
    entries, problems = read_env(write(tmp_path, f"{line}\n") / ".env", ".env")
    assert [(entry.key, entry.value) for entry in entries] == [("A", value)]
    assert problems == ()


@given(st.sampled_from(KEYS), st.text(max_size=40))
def test_whatever_is_in_the_environment_is_taken_or_refused(key: str, value: str) -> None:
    found = outcome(Path("/nonexistent"), {key: value})
    if isinstance(found, Mistake):
        assert [problem.place for problem in found.problems] == [f"environment {key}"]
