"""The conformance kit, for backends and for anyone's own implementation; see ``dpmodel.testing.check``."""

from dpmodel.testing.check import check_backend, check_callable
from dpmodel.testing.options import OPTIONS
from dpmodel.testing.report import Outcome, Report

__all__ = ["OPTIONS", "Outcome", "Report", "check_backend", "check_callable"]
