"""A run as one HTML file that needs nothing else: no network, no server, no build step."""

from rlm_ray.report.html import make_report, write_report

__all__ = ["make_report", "write_report"]
