"""Builds both images with buildah and runs the demo inside; nothing is pulled.

The CPU image stands on a Debian made here. NVIDIA's image is replaced by a stand-in with packages
of the versions that TensorRT-LLM pins: they must stay as they are. The stand-ins for TensorRT-LLM's
programs are mounted into it, so that `doctor` and a whole run with the backend `trtllm` happen in
the image, by the wheel that is installed there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container.buildah import Buildah, debootstrap, index_volumes, missing_tools
from tests.container.dockerfile import ROOT

pytestmark = [pytest.mark.container, pytest.mark.timeout(1800)]

BASE, CPU, TRTLLM, STAND_IN = "pack-base", "pack-cpu", "pack-trtllm", "pack-stand-in"
PINNED = {"numpy": "1.26.4", "transformers": "4.57.3", "onnx": "1.19.1", "ml_dtypes": "0.5.4"}
TOOLS = ("pytest>=9,<10",)  # the stand-ins are files of the tests
STAND_IN_DOCKERFILE = f"""\
FROM {BASE}
RUN python3 -m pip install --break-system-packages --no-cache-dir \\
    {" ".join(f"{name}=={version}" for name, version in PINNED.items())} \\
    {" ".join(f"'{tool}'" for tool in TOOLS)}
"""

PYTHON = "/opt/trtllm-pack/bin/python"
MAKE_MACHINE = """\
from pathlib import Path
from tests.standins import Standin
from tests.standins.described_package import add_descriptions
from tests.standins.llm import install_llm
machine = Standin(Path("/machine/trtllm"))
install_llm(machine)
add_descriptions(machine.folder)
print(*(f"{name}={value}" for name, value in machine.environment().items()), sep="\\n")
"""
"""Makes a machine with GPUs and TensorRT-LLM inside a container; prints its environment."""


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    assert not missing_tools(), f"needed: {missing_tools()}; apt-get install buildah debootstrap"
    tool = Buildah(tmp_path_factory.mktemp("buildah"))
    root_dir = tmp_path_factory.mktemp("base") / "rootfs"
    debootstrap(root_dir)
    tool.import_folder(root_dir, BASE)
    shutil.rmtree(root_dir)
    yield tool
    tool.remove_all()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return index_volumes(tmp_path_factory.mktemp("pip"))


@pytest.fixture(scope="module")
def cpu(buildah: Buildah, index: list[str]) -> str:
    buildah.build(ROOT, "--target=cpu", f"--build-arg=BASE={BASE}", *index, tag=CPU)
    return CPU


def run_in(buildah: Buildah, image: str, *command: str, options: tuple[str, ...] = ()) -> str:
    """What a command prints in a fresh container of the image, as the image's own user."""
    # Building engines equal to the byte needs `personality`, which the default profile forbids.
    container = buildah("from", "--pull-never", "--security-opt=seccomp=unconfined", image)
    try:
        return buildah("run", "--isolation=chroot", *options, container, "--", *command)
    finally:
        buildah("rm", container)


def test_the_image_is_what_it_says(buildah: Buildah, cpu: str) -> None:
    config = json.loads(buildah("inspect", "--type=image", cpu))["OCIv1"]["config"]
    assert config["User"] == "10001"
    assert config["Entrypoint"] == ["trtllm-pack"]
    assert config["Labels"]["org.opencontainers.image.base.name"] == BASE
    assert "trtllm-pack" in run_in(buildah, cpu, "trtllm-pack", "--version")
    assert run_in(buildah, cpu, "id", "-u") == "10001"


def test_nothing_of_the_build_stays_in_the_image(buildah: Buildah, cpu: str) -> None:
    container = buildah("from", "--pull-never", cpu)
    root = Path(buildah("mount", container))
    settings = root / "etc" / "pip.conf"
    assert not settings.exists() or settings.stat().st_size == 0
    assert not any((root / "root" / ".cache").rglob("*"))
    assert not (root / "src").exists()
    assert not list((root / "wheels").glob("*"))
    assert not list((root / "opt" / "trtllm-pack").rglob("*.safetensors"))
    buildah("rm", container)


def open_to_all(folder: Path) -> Path:
    """The folder with modes that let the image's user read and write it."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    return folder


def test_the_demo_runs_inside(buildah: Buildah, cpu: str, tmp_path: Path) -> None:
    recipes = open_to_all(Path(shutil.copytree(ROOT / "recipes", tmp_path / "recipes")))
    (tmp_path / "out").mkdir()
    out_dir = open_to_all(tmp_path / "out")
    volumes = (f"--volume={recipes}:/work/recipes:ro", f"--volume={out_dir}:/out")
    ran = run_in(
        buildah,
        cpu,
        *("trtllm-pack", "run", "recipes/demo.yaml", "--out", "/out/demo", "--offline", "--json"),
        options=volumes,
    )
    assert json.loads(ran)["stages"][-1]["stage"] == "package"
    manifest = json.loads((out_dir / "demo/demo/manifest.json").read_text())
    assert manifest["attention"]["built"]["status"] == "fused"
    assert manifest["build"]["bytes_pinned"] is True
    assert all(prompt["text"] for prompt in manifest["smoke"]["prompts"])
    verified = run_in(
        buildah,
        cpu,
        *("trtllm-pack", "verify", "/out/demo/demo.tar", "--json"),
        # As in `docker run --user "$(id -u):$(id -g)"`: a user whom the image does not know.
        options=(*volumes, "--user=4321:4321"),
    )
    assert json.loads(verified)["sound"] is True


@pytest.fixture(scope="module")
def trtllm(
    buildah: Buildah, cpu: str, index: list[str], tmp_path_factory: pytest.TempPathFactory
) -> str:
    folder = tmp_path_factory.mktemp("stand-in")
    (folder / "Dockerfile").write_text(STAND_IN_DOCKERFILE)
    buildah.build(folder, *index, tag=STAND_IN)
    bases = (f"--build-arg=BASE={BASE}", f"--build-arg=TRTLLM_BASE={STAND_IN}")
    buildah.build(ROOT, "--target=trtllm", *bases, *index, tag=TRTLLM)
    return TRTLLM


def test_the_packages_of_nvidias_image_would_stay(buildah: Buildah, trtllm: str) -> None:
    listing = "from importlib.metadata import distributions as d; "
    listing += "print(*sorted({f'{x.name}=={x.version} {x._path.parent}' for x in d()}), sep='\\n')"
    before = run_in(buildah, STAND_IN, "python3", "-c", listing).splitlines()
    assert {f"{name}=={version}" for name, version in PINNED.items()} <= {
        line.split()[0] for line in before
    }
    assert run_in(buildah, trtllm, "/usr/bin/python3", "-c", listing).splitlines() == before
    seen = run_in(buildah, trtllm, PYTHON, "-c", listing).splitlines()
    assert set(before) <= set(seen)
    added = {line.split("==")[0] for line in set(seen) - set(before)}
    assert "trtllm-pack" in added
    assert not added & {line.split("==")[0] for line in before}
    assert "trtllm-pack" in run_in(buildah, TRTLLM, "trtllm-pack", "--version")


def test_nvidias_image_would_be_set_up_for_a_build(buildah: Buildah, trtllm: str) -> None:
    config = json.loads(buildah("inspect", "--type=image", trtllm))["OCIv1"]["config"]
    assert (config["User"], config["Entrypoint"]) == ("10001", ["trtllm-pack"])
    environment = dict(each.split("=", 1) for each in config["Env"])
    assert environment["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert environment["OMPI_ALLOW_RUN_AS_ROOT"] == "1"
    assert not [name for name in environment if "TOKEN" in name]


def test_a_build_in_nvidias_image_would_work(buildah: Buildah, trtllm: str, tmp_path: Path) -> None:
    """`doctor`, then all stages with the backend `trtllm`, by the stand-ins for its programs."""
    recipes = open_to_all(Path(shutil.copytree(ROOT / "recipes", tmp_path / "recipes")))
    for name in ("machine", "out"):
        (tmp_path / name).mkdir()
        open_to_all(tmp_path / name)
    volumes = (
        f"--volume={recipes}:/work/recipes:ro",
        f"--volume={ROOT / 'tests'}:/src/tests:ro",
        f"--volume={tmp_path / 'machine'}:/machine",
        f"--volume={tmp_path / 'out'}:/out",
    )
    python_path = "--env=PYTHONPATH=/src"
    made = run_in(buildah, trtllm, PYTHON, "-c", MAKE_MACHINE, options=(*volumes, python_path))
    options = (*volumes, *(f"--env={line}" for line in made.splitlines()))

    examined = run_in(
        buildah,
        trtllm,
        *("trtllm-pack", "doctor", "--json", "--require", "trtllm"),
        options=(*options, "--env=HF_TOKEN=not-a-token-but-secret"),
    )
    document = json.loads(examined)
    assert document["machine"]["store"] == "/var/cache/trtllm-pack"
    assert document["machine"]["store_writable"] is True
    assert document["container"]["user"] == 10001
    assert [gpu["target"] for gpu in document["gpu"]["gpus"]] == ["sm90", "sm90"]
    assert document["backends"]["trtllm"]["builds"] is True
    drift = document["tensorrt_llm"]
    assert (drift["versions"]["tensorrt-llm"], drift["unread"], drift["matters"]) == (
        "1.2.1",
        {},
        [],
    )
    assert document["hub"]["token"] == {"present": True, "from": "HF_TOKEN"}
    assert "not-a-token-but-secret" not in examined

    overrides = ("engine.backend=trtllm", "engine.targets=[sm90]", "smoke.require_engine=true")
    ran = run_in(
        buildah,
        trtllm,
        *("trtllm-pack", "run", "recipes/demo.yaml", "--out", "/out/demo", "--offline", "--json"),
        *(word for override in overrides for word in ("--set", override)),
        options=options,
    )
    stages = {stage["stage"]: stage["facts"] for stage in json.loads(ran)["stages"]}
    assert stages["smoke"]["executed_by"]["backend"] == "trtllm"
    assert stages["smoke"]["observed"] == "fused"
    manifest = json.loads((tmp_path / "out/demo/demo/manifest.json").read_text())
    assert manifest["attention"]["built"]["status"] == "fused"
    assert manifest["attention"]["observed"]["status"] == "fused"
    assert (tmp_path / "out/demo/demo/engine/rank0.engine").stat().st_size > 0
