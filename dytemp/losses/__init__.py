"""Contrastive losses; each takes a number or any temperature of `dytemp.schedules` that fits it.

The docstring of each says under *Relations* what it equals in which limit, and in what it differs
from the losses of the same name in lightly, pytorch-metric-learning, open_clip and LibAUC.
"""

from dytemp.losses.clip import CLIP, CyCLIP
from dytemp.losses.infonce import DCL, MACL, MoCo, NTXent, TwoConstants
from dytemp.losses.pairwise import SigLIP, Spectral
from dytemp.losses.rgcl import BimodalRGCL
from dytemp.losses.sogclr import BimodalISogCLR, BimodalSogCLR, ISogCLR, SogCLR
from dytemp.losses.weighted import DCLW, DualTemperature, HardNegative

__all__ = [
    "CLIP",
    "DCL",
    "DCLW",
    "MACL",
    "BimodalISogCLR",
    "BimodalRGCL",
    "BimodalSogCLR",
    "CyCLIP",
    "DualTemperature",
    "HardNegative",
    "ISogCLR",
    "MoCo",
    "NTXent",
    "SigLIP",
    "SogCLR",
    "Spectral",
    "TwoConstants",
]
