"""What is computed from several runs: studies, statistics, the papers' numbers, verdicts."""

from dytemp.lab.studies.study import METRICS, Study, estimates, load

__all__ = ["METRICS", "Study", "estimates", "load"]
