"""Reports on the answers of a model: numbers as JSON, and one self-contained HTML page that shows them."""
from tfzoo.report.numbers import numbers_of
from tfzoo.report.write import check_folder, write_report

__all__ = ["check_folder", "numbers_of", "write_report"]
