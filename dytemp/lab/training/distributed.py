"""Training on several processes (``torchrun``), equal to training on one with the whole batch.

A loss of `dytemp.losses` gathers the embeddings itself and returns, on every process, the loss of
the whole batch, with gradients for an encoder whose gradients are averaged over the processes, as
``DistributedDataParallel`` does. What is left to do here: average them, and let the batch
normalisation of the encoder see the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")
#: How long a process waits for another one, at most; process 0 evaluates for all meanwhile. (One
#: that has stopped is noticed at once on processors, and by torchrun.)
PATIENCE = timedelta(minutes=30)


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, 0 .. world_size() - 1."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def processes() -> Iterator[None]:
    """Join the other processes if ``torchrun`` started this one and it has not joined yet."""
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def from_first(value: T) -> T:
    """Return what process 0 holds as `value`."""
    if world_size() == 1:
        return value
    box: list[T] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def agree(what: Mapping[str, str]) -> None:
    """Refuse to train together on what is not the same for all processes.

    Raises
    ------
    ValueError
        On every process; the message names what differs, where, and how.
    """
    if world_size() == 1:
        return
    every: list[Mapping[str, str]] = [{}] * world_size()
    dist.all_gather_object(every, what)
    for name in what:
        found = [one.get(name, "") for one in every]
        if len(set(found)) > 1:
            listed = ", ".join(f"{value} on process {k}" for k, value in enumerate(found))
            raise ValueError(f"all processes must have the same {name}, got {listed}")


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world_size() > 1:
        dist.barrier()


def own_rows(batch: int) -> slice:
    """Return the rows of a batch that this process works on."""
    rows = batch // world_size()
    return slice(rank() * rows, (rank() + 1) * rows)


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Average the gradients over all processes, in one message."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if world_size() == 1 or not gradients:
        return
    message = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(message)
    message /= world_size()
    start = 0
    for gradient in gradients:
        part = message[start : start + gradient.numel()]
        gradient.copy_(part.view_as(gradient))
        start += gradient.numel()


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the batch of all processes, on any device and for any shape.

    torch's ``SyncBatchNorm`` does the same on GPUs only.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept what the layer that was replaced accepted."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...) with the statistics of all processes."""
        if not self.training:
            return super().forward(input)
        x = input.float() if input.dtype == torch.bfloat16 else input
        axes = [axis for axis in range(x.ndim) if axis != 1]
        count = x.numel() // x.shape[1] * world_size()
        shape = (1, -1) + (1,) * (x.ndim - 2)
        mean = _Sum.apply(x.sum(axes)) / count
        centred = x - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(axes)) / count
        with torch.no_grad():  # the running statistics, which evaluation uses
            share = cast(float, self.momentum)
            self.get_buffer("running_mean").lerp_(mean, share)
            self.get_buffer("running_var").lerp_(variance * count / (count - 1), share)
            self.get_buffer("num_batches_tracked").add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        output: Tensor = centred * scale.view(shape) + self.bias.view(shape)
        return output.to(input.dtype)


class _Sum(torch.autograd.Function):
    """Sum over all processes; the gradient is summed on its way back."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        return _summed(part)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(part: Tensor) -> Tensor:
    total = part.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def share_batch_statistics(module: nn.Module) -> nn.Module:
    """Return `module` with every batch normalisation replaced by one over all processes.

    Weights, statistics and their names stay, so that checkpoints do too.
    """
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        shared = SharedBatchNorm(module.num_features, module.eps, module.momentum)
        shared.load_state_dict(module.state_dict())
        return shared.to(next(module.parameters()))
    for name, child in module.named_children():
        setattr(module, name, share_batch_statistics(child))
    return module
