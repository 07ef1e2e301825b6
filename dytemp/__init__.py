"""Temperatures of contrastive learning: schedules, losses and metrics of three papers."""

from dytemp import losses, metrics, schedules

__version__ = "0.1.0"
__all__ = ["losses", "metrics", "schedules"]
