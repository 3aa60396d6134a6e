"""Reports: strategies judged on the same days, on the screen, in files and on one page."""

from rllib_portfolio.reporting.inputs import ReportContext
from rllib_portfolio.reporting.report import Report, generate_performance_report, report_of_walks
from rllib_portfolio.reporting.search_trials import TuningRecord

__all__ = ["Report", "ReportContext", "TuningRecord", "generate_performance_report", "report_of_walks"]
