"""Temperatures of contrastive learning: schedules, losses and metrics of three papers."""

from dytemp import checks, losses, metrics, schedules

__version__ = "0.2.0"
__all__ = ["checks", "losses", "metrics", "schedules"]
