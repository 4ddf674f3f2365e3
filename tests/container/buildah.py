"""Drives buildah without a container engine: images in a folder of the test's own.

The package index is reached as pip on this machine reaches it: its settings, its CA bundle and its
local folders are mounted into the build steps, and are in no image.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

CA_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class Buildah:
    """Buildah with chroot isolation and its storage below `folder`."""

    folder: Path

    def __call__(self, *arguments: str | Path, timeout_s: int = 900) -> str:
        """Run a subcommand; its standard output. Raises with both streams where it fails."""
        command, *rest = map(str, arguments)
        storage = ["--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run"]
        # `vfs` copies files and so works anywhere; STORAGE_DRIVER=overlay is faster where it can.
        driver = os.environ.get("STORAGE_DRIVER", "vfs")
        line = ["buildah", *storage, "--storage-driver", driver, command, *rest]
        done = subprocess.run(line, capture_output=True, text=True, timeout=timeout_s, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()

    def build(self, context: Path, *options: str, tag: str) -> None:
        """Build a Dockerfile; no image is pulled."""
        self("build", "--isolation", "chroot", "--pull-never", *options, "--tag", tag, context)

    def import_folder(self, folder: Path, tag: str) -> None:
        """Make an image of a root file system."""
        container = self("from", "scratch")
        subprocess.run(["cp", "-a", f"{folder}/.", self("mount", container)], check=True)
        self("commit", "--rm", container, tag)

    def remove_all(self) -> None:
        """Free the disk, mounts included."""
        self("rm", "--all")
        self("rmi", "--all", "--force")
        shutil.rmtree(self.folder, ignore_errors=True)


def debootstrap(folder: Path) -> None:
    """A Debian with Python at `folder`; DEBOOTSTRAP_SUITE and DEBOOTSTRAP_MIRROR choose which."""
    suite = os.environ.get("DEBOOTSTRAP_SUITE", "bookworm")
    mirror = [os.environ["DEBOOTSTRAP_MIRROR"]] if "DEBOOTSTRAP_MIRROR" in os.environ else []
    packages = "--include=python3,python3-venv,python3-pip,ca-certificates"
    line = ["debootstrap", "--variant=minbase", packages, suite, str(folder), *mirror]
    done = subprocess.run(line, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def index_volumes(folder: Path) -> list[str]:
    """Options that give build steps this machine's pip settings; `folder` keeps the file."""
    settings = pip_settings()
    certificates = next((os.environ[name] for name in CA_VARIABLES if name in os.environ), None)
    if certificates is not None:
        settings.setdefault("cert", certificates)
    lines = [f"{name} = {value}" for name, value in settings.items()]
    (folder / "pip.conf").write_text("\n".join(["[global]", *lines, ""]))
    volumes = {"/etc/pip.conf": str(folder / "pip.conf")}
    for word in (word for value in settings.values() for word in value.split()):
        place = _local_place(word)
        if place is not None:
            volumes[place] = place
    return [f"--volume={host}:{inside}:ro" for inside, host in volumes.items()]


def pip_settings() -> dict[str, str]:
    """Pip's settings from its files and its environment; the environment wins, as in pip."""
    line = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    pattern = re.compile(r"^(global|install|:env:)\.([\w-]+)='(.*)'$", re.MULTILINE)
    found = [(scope == ":env:", name, value) for scope, name, value in pattern.findall(listed)]
    return {name: value.replace("\\n", " ") for _, name, value in sorted(found)}


def _local_place(word: str) -> str | None:
    """The file or folder to mount for a setting. An index's links lead out of its own folder."""
    if word.startswith("file://"):
        return str(Path(unquote(urlparse(word).path)).parent)
    return word if word.startswith("/") and Path(word).exists() else None


def missing_tools(names: Sequence[str] = ("buildah", "debootstrap")) -> list[str]:
    """What this machine lacks to build images."""
    missing = [name for name in names if shutil.which(name) is None]
    return missing if os.geteuid() == 0 else [*missing, "root"]
