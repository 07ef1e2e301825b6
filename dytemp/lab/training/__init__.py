"""One training: its configuration, encoders, augmentation, loop and evaluation."""

from dytemp.lab.training.configuration import Config, build_loss, describe
from dytemp.lab.training.loop import choose_split, train
from dytemp.lab.training.outcome import History, Outcome

__all__ = ["Config", "History", "Outcome", "build_loss", "choose_split", "describe", "train"]
