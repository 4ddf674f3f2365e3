"""Stand-ins for what cannot be installed here: TensorRT-LLM's programs and NVIDIA's driver.

They are generated from the JSON of facts and stricter than the real programs. Nothing in
`pipeline/` knows of them: they are found as the real ones are, by PATH and by package metadata.

    environment = install(folder)                        # names for the environment of a child
    run_command("build", recipe, env=environment)        # tests.command; merged over ours

    standin = Standin(folder)                            # the same, with knobs
    standin.control(fallback="Fall back to unfused MHA because of unsupported data type.")
    standin.control(die={"step": "engine", "rank": 1, "how": "exception"})
    standin.set_gpus([GPUS[0] | {"compute_cap": "8.9"}])
    standin.use(monkeypatch)                             # for this process: PATH, sys.path

`folder` then holds `bin/trtllm-build`, `bin/nvidia-smi` (two H100 by default) and `site/` with the
metadata of `tensorrt-llm` 1.2.1 and `tensorrt` 10.14.1.48; put more into `site/` (a package
`tensorrt_llm`, say) or `bin/` as a test needs it. Knobs of `trtllm-build` are in `trtllm_build.py`,
class `Control`; a rank file that it writes ends with the bytes of the rank's weight file
(`trtllm_build.weights_of`), so that an engine can be executed by who reads the weights.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # The programs import this package, and must start at once.
    import pytest

ROOT = Path(__file__).parent.parent.parent

VERSIONS = {"tensorrt-llm": "1.2.1", "tensorrt": "10.14.1.48"}

GPUS: tuple[Mapping[str, str], ...] = tuple(
    {
        "name": "NVIDIA H100 80GB HBM3",
        "compute_cap": "9.0",
        "memory.total": "81559",
        "memory.free": "81042",
        "driver_version": "580.95.05",
        "uuid": f"GPU-{number}0000000-0000-4000-8000-000000000000",
        "index": str(number - 1),
    }
    for number in (1, 2)
)

_BUILD = """#!{python}
import sys
sys.path[:0] = [{root!r}]
from tests.standins.trtllm_build import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], {folder!r}))
"""

_SMI = """#!{python} -IS
import json, sys
query = next(item for item in sys.argv if item.startswith("--query-gpu=")).partition("=")[2]
for gpu in json.load(open({gpus!r})):
    print(", ".join(gpu[name] for name in query.split(",")))
"""


class Standin:
    """A machine with GPUs, driver and TensorRT-LLM, in a folder."""

    def __init__(
        self, folder: Path, versions: Mapping[str, str] = VERSIONS, gpus: Sequence[Any] = GPUS
    ) -> None:
        self.folder = folder
        self.site = folder / "site"
        (folder / "bin").mkdir(parents=True)
        self.set_gpus(gpus)
        self.control()
        for name, version in versions.items():
            self.set_version(name, version)
        names = {"python": sys.executable, "root": str(ROOT), "folder": str(folder)}
        self._program("trtllm-build", _BUILD.format(**names))
        self._program("nvidia-smi", _SMI.format(gpus=str(folder / "gpus.json"), **names))

    def environment(self) -> dict[str, str]:
        """What to set in the environment of a child process that is to find all this."""
        path = os.pathsep.join([str(self.folder / "bin"), os.environ.get("PATH", os.defpath)])
        return {"PATH": path, "PYTHONPATH": os.pathsep.join([str(self.site), str(ROOT)])}

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process find it."""
        monkeypatch.setenv("PATH", self.environment()["PATH"])
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.syspath_prepend(str(self.site))

    def control(self, **knobs: Any) -> None:
        """Set the knobs of `trtllm-build`; those that are not named are off."""
        (self.folder / "control.json").write_text(json.dumps(knobs))

    def set_gpus(self, gpus: Sequence[Mapping[str, str]]) -> None:
        """What `nvidia-smi` tells, and how many GPUs `trtllm-build` sees."""
        (self.folder / "gpus.json").write_text(json.dumps([dict(gpu) for gpu in gpus]))

    def set_version(self, name: str, version: str | None) -> None:
        """Install a distribution's metadata in another version, or take it away (None)."""
        stem = name.replace("-", "_")
        for old in self.site.glob(f"{stem}-*.dist-info"):
            (old / "METADATA").unlink()
            old.rmdir()
        if version is not None:
            info = self.site / f"{stem}-{version}.dist-info"
            info.mkdir(parents=True)
            text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            (info / "METADATA").write_text(text)

    def calls(self) -> list[dict[str, Any]]:
        """Every run of `trtllm-build` so far: its argv and its environment.

        The last line may be in the middle of being written.
        """
        path = self.folder / "calls.jsonl"
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]

    def _program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)


def install(folder: Path) -> dict[str, str]:
    """Make a stand-in machine in a new folder; what to set in the environment of a child."""
    return Standin(folder).environment()
