"""The stages. This tuple is the one place that shows their order."""

from pipeline.stages import build, convert, download, package, smoke, verify
from pipeline.stages.stage import Stage

STAGES: tuple[Stage, ...] = (
    download.STAGE,
    convert.STAGE,
    verify.STAGE,
    build.STAGE,
    smoke.STAGE,
    package.STAGE,
)
