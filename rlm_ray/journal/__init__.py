"""The record of a run: written by every process of it, kept in the run's folder, read for replay, reports and resume."""
