"""One HTML page about a training run, a recipe or a benchmark: the work of `segkit report`."""

from segkit.report.benchmark import write_benchmark_report
from segkit.report.page import missing_libraries
from segkit.report.sources import find_sources
from segkit.report.write import write_report

__all__ = ["find_sources", "missing_libraries", "write_benchmark_report", "write_report"]
