"""One profile bound to data: cells, artefacts, tables and verdicts."""

from jsigr_lib.study.study import Study

__all__ = ["Study"]
