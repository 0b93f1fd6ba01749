"""Reports: what runs, studies and the paper's own records say, as figures, tables and one self-contained page.

Imports nothing that trains.
"""

from __future__ import annotations

from offbeat.report.write import write_report

__all__ = ["write_report"]
