"""Reports on the answers of a model: numbers as JSON, and one self-contained HTML page that shows them."""
from experiments.report.evidence import REPORTED, evidence_of
from experiments.report.numbers import numbers_of
from experiments.report.write import check_folder, write_report

__all__ = ["REPORTED", "check_folder", "evidence_of", "numbers_of", "write_report"]
