"""iSogCLR: what a temperature of its own for every image costs in the training loop.

Two runs at scale small on noise, one with a constant temperature and one with iSogCLR, take turns
epoch by epoch. The last row is the excess of iSogCLR in paired epochs: its median column is the
mean, min and max are the 95 % interval (Student t) of that mean. The state is what the loss keeps
for an image: its temperature, the momentum of that, and the moving average.
"""

from __future__ import annotations

from typing import Any

from benchmarks.step import beside
from benchmarks.timing import aim, rows
from dytemp import losses


def measure(
    batch: int = 512, steps: int = 4, repetitions: int = 40
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows and the aims; an epoch has `steps` steps of `batch` pairs."""
    images = batch * steps
    learned = losses.ISogCLR(images)
    state = sum(buffer.nbytes for buffer in learned.buffers()) / images
    single = sum(buffer.float().nbytes for buffer in learned.buffers()) / images
    contenders = {"NT-Xent at 0.1": losses.NTXent(0.1), "iSogCLR": learned}
    excess = "excess of learned temperatures", "iSogCLR over NT-Xent"
    measurements, ratio = beside(contenders, excess, batch, steps, repetitions)
    bytes_ = {"as stored": [state], "in single precision": [single]}
    measurements += rows("state for each image", bytes_, "bytes")
    return measurements, [
        aim("time of a step with iSogCLR", ratio, at_most=1.1),
        aim("bytes of state for each image, in single precision", single, at_most=16),
    ]
