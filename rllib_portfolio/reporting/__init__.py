"""Reports that judge strategies on the same days, on the terminal, in files and on one HTML page."""

from rllib_portfolio.reporting.console import print_report
from rllib_portfolio.reporting.files import write_report
from rllib_portfolio.reporting.inputs import ReportContext
from rllib_portfolio.reporting.performance_report import generate_performance_report
from rllib_portfolio.reporting.report import Report, report_of_walks
from rllib_portfolio.reporting.search_trials import TuningRecord

__all__ = [
    "Report",
    "ReportContext",
    "TuningRecord",
    "generate_performance_report",
    "print_report",
    "report_of_walks",
    "write_report",
]
