"""The stages. This tuple is the one place that shows their order."""

from pipeline.stages.build import STAGE as BUILD
from pipeline.stages.convert import STAGE as CONVERT
from pipeline.stages.download import STAGE as DOWNLOAD
from pipeline.stages.package import STAGE as PACKAGE
from pipeline.stages.smoke import STAGE as SMOKE
from pipeline.stages.stage import Stage
from pipeline.stages.verify import STAGE as VERIFY

STAGES: tuple[Stage, ...] = (DOWNLOAD, CONVERT, VERIFY, BUILD, SMOKE, PACKAGE)
