"""The stages. These tuples are the one place that shows their order."""

from pipeline.plan import Plan
from pipeline.pytorch_plan import PytorchPlan
from pipeline.stages.build import STAGE as BUILD
from pipeline.stages.convert import STAGE as CONVERT
from pipeline.stages.download import STAGE as DOWNLOAD
from pipeline.stages.package import STAGE as PACKAGE
from pipeline.stages.package_pytorch import STAGE as PACKAGE_PYTORCH
from pipeline.stages.smoke import STAGE as SMOKE
from pipeline.stages.stage import Stage
from pipeline.stages.verify import STAGE as VERIFY

STAGES: tuple[Stage[Plan], ...] = (DOWNLOAD, CONVERT, VERIFY, BUILD, SMOKE, PACKAGE)
"""For a package with an engine."""

PYTORCH_STAGES: tuple[Stage[PytorchPlan], ...] = (DOWNLOAD, PACKAGE_PYTORCH)
"""For a package without one (`package.kind: pytorch`)."""
