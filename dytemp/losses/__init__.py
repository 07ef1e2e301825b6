"""Contrastive losses; each takes a number or any temperature of `dytemp.schedules` that fits it."""

from dytemp.losses.clip import CLIP, CyCLIP
from dytemp.losses.infonce import DCL, MACL, MoCo, NTXent, TwoConstants
from dytemp.losses.sogclr import BimodalISogCLR, BimodalSogCLR, ISogCLR, SogCLR

__all__ = [
    "CLIP",
    "DCL",
    "MACL",
    "BimodalISogCLR",
    "BimodalSogCLR",
    "CyCLIP",
    "ISogCLR",
    "MoCo",
    "NTXent",
    "SogCLR",
    "TwoConstants",
]
