"""What is computed from several runs: studies, statistics, the papers' numbers, verdicts."""

from dytemp.lab.studies.study import Study, estimates, load
from dytemp.lab.studies.words import METRICS

__all__ = ["METRICS", "Study", "estimates", "load"]
