"""On two processes every loss is the loss of the whole batch: value, gradients, what it remembers.

The two processes are started once; they go through all cases of the table and store what they
got, which the tests compare with one process that has the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import registry
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor

from dytemp.losses import ISogCLR, MoCo

WORLD = 2
PAIRS = 3  # on each process
STEPS = 3
CASES = [
    (dtype, name, temperature)
    for dtype in (torch.float32, torch.float64)
    for name, temperature in registry.CASES
]
Record = dict[str, Any]


def run(case: tuple[torch.dtype, str, str], part: slice) -> list[Record]:
    """Take a few steps on a part of each batch; return what came out of each step."""
    dtype, name, temperature = case
    loss = registry.build(name, temperature).to(dtype)
    records = []
    for step in range(STEPS):
        z1, z2, index = registry.batch(WORLD * PAIRS, seed=step, dtype=dtype)
        loss.zero_grad()
        value, d1, d2 = registry.evaluate(loss, z1[part], z2[part], index[part])
        records.append(
            {
                "value": value,
                "gradients": (d1, d2),
                "temperature": loss.temperature_now,
                "learned": [parameter.grad for parameter in loss.parameters()],
                "state": {key: state.clone() for key, state in loss.state_dict().items()},
            }
        )
    return records


def refusals(rank: int) -> dict[str, str]:
    """Return the messages for input that is wrong only when all processes are looked at."""

    def message(call: Callable[[], object]) -> str:
        try:
            call()
        except ValueError as error:
            return str(error)
        return "nothing was refused"

    z1, z2, _ = registry.batch(PAIRS)
    loss = ISogCLR(registry.SIZE)
    return {
        "index": message(lambda: loss(z1, z2, torch.arange(PAIRS) + 2 * rank)),
        "queue": message(lambda: MoCo(0.1, 5, queue_size=PAIRS + 1)(z1, z2)),
        "batch": message(lambda: loss(z1[rank:], z2[rank:], torch.arange(PAIRS)[rank:])),
    }


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD
    )
    part = slice(rank * PAIRS, (rank + 1) * PAIRS)
    result = {"runs": [run(case, part) for case in CASES], "refusals": refusals(rank)}
    torch.save(result, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what the two processes stored."""
    folder = tmp_path_factory.mktemp("gloo")
    multiprocessing.spawn(work, args=(str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_equal_one(case: tuple[torch.dtype, str, str], ranks: list) -> None:
    tolerance = 1e-6 if case[0] == torch.float32 else 1e-9

    def same(measured: object, expected: object) -> None:
        torch.testing.assert_close(measured, expected, rtol=tolerance, atol=0.1 * tolerance)

    whole = run(case, slice(None))
    records = [rank["runs"][CASES.index(case)] for rank in ranks]
    for expected, *parts in zip(whole, *records, strict=True):
        for rank, measured in enumerate(parts):
            rows = slice(rank * PAIRS, (rank + 1) * PAIRS)
            same(measured["value"], expected["value"])
            for gradient, all_rows in zip(
                measured["gradients"], expected["gradients"], strict=True
            ):
                same(gradient, WORLD * all_rows[rows])  # what DDP's average makes right
            same(measured["temperature"], expected["temperature"])
            same(measured["learned"], expected["learned"])  # whole on each process
            same(measured["state"], expected["state"])
        for key, state in parts[0]["state"].items():
            assert torch.equal(state, parts[1]["state"][key])


def test_states_do_change(ranks: list) -> None:
    """What the tests above compare is not the state at the start."""
    for case, records in zip(CASES, ranks[0]["runs"], strict=True):
        first, *_, last = (record["state"] for record in records)
        changes = any(not torch.equal(first[key], last[key]) for key in first)
        assert changes == (case[1] == "MoCo" or registry.LOSSES[case[1]].surrogate)


def test_whole_batch_is_checked(ranks: list) -> None:
    for rank in ranks:
        assert "index must not repeat a sample" in rank["refusals"]["index"]
        assert "z2 must fit the queue of 4 keys, got 6 rows" in rank["refusals"]["queue"]
        assert "z1 must have as many rows on every process" in rank["refusals"]["batch"]


def test_a_process_alone_is_not_gathered() -> None:
    """A group of one, as `torchrun --nproc-per-node 1` makes it, changes nothing."""
    z1, z2, index = registry.batch()
    expected = registry.evaluate(registry.build("NTXent", "Constant"), z1, z2, index)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        measured: tuple[Tensor, ...] = registry.evaluate(
            registry.build("NTXent", "Constant"), z1, z2, index
        )
    finally:
        dist.destroy_process_group()
    torch.testing.assert_close(measured, expected, rtol=0, atol=0)
