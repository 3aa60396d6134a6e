"""The report: anyone's strategies judged without flattery, on the screen, in files and on one page.

`evidence` and `values` say what is judged, `table` and `findings` work it out, `screen`, `files` and `page` show it.
"""

from rllib_portfolio.evaluation.report.evidence import ReportContext
from rllib_portfolio.evaluation.report.report import Report, generate_performance_report, report_of_walks
from rllib_portfolio.evaluation.report.tuning import TuningRecord

__all__ = ["Report", "ReportContext", "TuningRecord", "generate_performance_report", "report_of_walks"]
