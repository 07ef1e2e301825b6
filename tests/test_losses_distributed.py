"""On several processes every loss is that of the whole batch: value, gradients, what it remembers.

The processes are started once for each number of them; they go through all cases of the table and
store what they got, which the tests compare with one process that has the whole batch.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import registry
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from conftest import ROOT
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dytemp import losses
from dytemp.losses import BimodalISogCLR, ISogCLR, MoCo, NTXent
from dytemp.schedules import Constant, TemperatureNetwork

WORLD = 2
PAIRS = 3  # on each process
BATCH = WORLD * PAIRS
STEPS = 3
CASES = [
    (dtype, name, temperature)
    for dtype in (torch.float32, torch.float64)
    for name, temperature in registry.CASES
]
# One temperature for each loss, and the learned one.
WRAPPED = list(dict(reversed(registry.CASES)).items()) + [
    case for case in registry.CASES if case[1] == "Constant, learned"
]
LEARNING = ["NTXent", "DCL, joint", "DCL, split", "MoCo", "CLIP", "CyCLIP"]
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


class Encoder(nn.Module):
    """A linear encoder, and a temperature that is learned with it and returned beside."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(5, 5, generator=generator, dtype=torch.float64)
        self.weight = nn.Parameter(weight)
        self.log_tau = nn.Parameter(torch.tensor(-1.2, dtype=torch.float64))

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x1 @ self.weight, x2 @ self.weight, self.log_tau.exp()


def wrapped(case: tuple[str, str], part: slice) -> list[Record]:
    """Train as everyone does, the loss outside of the wrapped encoder; return the gradients."""
    encoder, loss = Encoder(), registry.build(*case).double()
    encoder.log_tau.requires_grad_(False)
    model = DistributedDataParallel(encoder) if dist.is_initialized() else encoder
    records = []
    for step in range(2):
        x1, x2, index = registry.batch(BATCH, seed=step)
        for module in (encoder, loss):
            module.zero_grad()
        z1, z2, _ = model(x1[part], x2[part])
        value = loss(z1, z2, index[part])
        value.backward()
        learned = [parameter.grad for parameter in loss.parameters()]
        records.append({"value": value.detach(), "weight": encoder.weight.grad, "learned": learned})
    return records


def learned_inside(name: str, part: slice) -> Record:
    """Take one step with a temperature that the wrapped module returns."""
    encoder = Encoder()
    model = DistributedDataParallel(encoder) if dist.is_initialized() else encoder
    x1, x2, _ = registry.batch(BATCH)
    z1, z2, tau = model(x1[part], x2[part])
    registry.LOSSES[name].build(Constant(tau), 5).double()(z1, z2).backward()
    return {"weight": encoder.weight.grad, "log_tau": encoder.log_tau.grad}


def message(call: Callable[[], object]) -> str:
    try:
        call()
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was refused"


def refusals(rank: int) -> dict[str, str]:
    """Return the messages for input that is wrong only when all processes are looked at."""
    z1, z2, _ = registry.batch(PAIRS)
    loss, own = ISogCLR(registry.SIZE), torch.arange(PAIRS) + PAIRS * rank
    bad = z1.clone()
    bad[1, 2] = torch.nan
    queue = MoCo(0.1, 5, queue_size=PAIRS + 1)
    return {
        "index": message(lambda: loss(z1, z2, torch.arange(PAIRS) + 2 * rank)),
        "queue": message(lambda: queue(z1, z2)),
        "keys": message(lambda: queue.enqueue(z1)),
        "batch": message(lambda: loss(z1[rank:], z2[rank:], own[rank:])),
        "columns": message(lambda: loss(z1[:, rank:], z2[:, rank:], own)),
        "dtype": message(lambda: NTXent(0.1)(*((z1, z2) if rank else (z1.float(), z2.float())))),
        "row": message(lambda: loss(bad if rank else z1, z2, own)),
        "no index": message(lambda: loss(z1, z2, own if rank else None)),
        "no tensor": message(lambda: loss(z1 if rank else [1.0], z2, own)),
    }


def with_dropout(rank: int) -> dict[str, Tensor]:
    """Return the state after steps with networks that drop out, drawn by each process itself."""
    torch.manual_seed(0)
    networks = [TemperatureNetwork(5, 6, dropout=0.5) for _ in range(2)]
    loss = BimodalISogCLR(registry.SIZE, rho=0.5, temperature=networks)
    torch.manual_seed(rank)
    for step in range(STEPS):
        z1, z2, index = registry.batch(WORLD * PAIRS, seed=step)
        part = slice(rank * PAIRS, (rank + 1) * PAIRS)
        loss(z1[part], z2[part], index[part])
    return loss.state_dict()


def gathering(rank: int) -> Record:
    """Return losses of one process alone, of its own rows, and of all rows in evaluation mode."""
    z1, z2, _ = registry.batch(BATCH)
    part = slice(rank * PAIRS, (rank + 1) * PAIRS)
    loss = NTXent(0.3)
    found: Record = {}
    if rank == 0:  # the other one does not call it
        found["alone"] = loss.eval()(z1[part], z2[part])
    loss.gathering = "always"
    found["always"] = loss(z1[part], z2[part])
    loss.train().gathering = "never"
    found["never"] = registry.evaluate(lambda a, b, _: loss(a, b), z1[part], z2[part], z1)
    return found


def work(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
    )
    rows = BATCH // world
    part = slice(rank * rows, (rank + 1) * rows)
    result = {
        "wrapped": [wrapped(case, part) for case in WRAPPED],
        "inside": [learned_inside(name, part) for name in LEARNING],
    }
    if world == WORLD:
        result["runs"] = [run(case, part) for case in CASES]
        result["refusals"] = refusals(rank)
        result["gathering"] = gathering(rank)
        result["with dropout"] = with_dropout(rank)
    torch.save(result, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def start(world: int, folder: Path) -> list[dict[str, Any]]:
    """Let some processes do the work; return what they stored."""
    multiprocessing.spawn(work, args=(world, str(folder)), nprocs=world)
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what two processes stored."""
    return start(WORLD, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what three processes stored."""
    return start(3, tmp_path_factory.mktemp("three"))


def close(measured: object, expected: object) -> None:
    torch.testing.assert_close(measured, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", WRAPPED, ids=str)
def test_wrapped_encoder_gets_the_gradients_of_one_process(case, ranks: list, three: list) -> None:
    """Also what the loss learns itself, outside of the wrapped module."""
    expected = wrapped(case, slice(None))
    assert all(record["weight"].norm() > 1e-3 for record in expected)
    for rank in (*ranks, *three):
        close(rank["wrapped"][WRAPPED.index(case)], expected)


@pytest.mark.parametrize("name", LEARNING)
def test_temperature_in_the_wrapped_module(name: str, ranks: list, three: list) -> None:
    expected = learned_inside(name, slice(None))
    assert expected["log_tau"].abs() > 1e-3
    for rank in (*ranks, *three):
        close(rank["inside"][LEARNING.index(name)], expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_equal_one(case: tuple[torch.dtype, str, str], ranks: list) -> None:
    tolerance = 1e-6 if case[0] == torch.float32 else 1e-9

    def same(measured: object, expected: object) -> None:
        torch.testing.assert_close(
            measured, expected, rtol=tolerance, atol=0.1 * tolerance, equal_nan=True
        )

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


def test_dropout_is_the_same_on_all_processes(ranks: list) -> None:
    first, second = (rank["with dropout"] for rank in ranks)
    assert first["image.log_average"].isfinite().any()
    for key, value in first.items():
        assert torch.equal(value, second[key])


def test_whole_batch_is_checked(ranks: list) -> None:
    for rank in ranks:
        assert "index must not repeat a sample" in rank["refusals"]["index"]
        assert "z2 must fit the queue of 4 keys, got 6 rows" in rank["refusals"]["queue"]
        assert "keys must fit the queue of 4 keys, got 6 rows" in rank["refusals"]["keys"]
        assert "z1 must have as many rows on every process" in rank["refusals"]["batch"]
        assert "z1 must have as many columns on every process" in rank["refusals"]["columns"]
        assert "z1 must have the same dtype on every process" in rank["refusals"]["dtype"]


@pytest.mark.parametrize(
    ("what", "bad", "words"),
    [
        ("row", 1, "z1 must be finite"),
        ("no index", 0, "index is needed"),
        ("no tensor", 0, "z1 must be a tensor, got list"),
    ],
)
def test_what_one_process_refuses_all_refuse(what: str, bad: int, words: str, ranks: list) -> None:
    assert words in ranks[bad]["refusals"][what]
    other = ranks[1 - bad]["refusals"][what]
    assert other.startswith(f"ValueError: process {bad} refused its part of the batch: ")
    assert words in other


def test_who_is_gathered(ranks: list) -> None:
    z1, z2, _ = registry.batch(BATCH)
    loss = NTXent(0.3)
    whole = loss(z1, z2)
    for rank, found in enumerate(rank["gathering"] for rank in ranks):
        part = slice(rank * PAIRS, (rank + 1) * PAIRS)
        own = registry.evaluate(lambda a, b, _: loss(a, b), z1[part], z2[part], z1)
        close(found["never"], own)
        close(found["always"], whole)
        if rank == 0:
            close(found["alone"], own[0])
    loss.gathering = "sometimes"
    with pytest.raises(ValueError, match="gathering must be one of 'training', 'always', 'never'"):
        loss(z1, z2)


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


# ------------------------------------------------------------------ as the book and Lightning do


SIDE = 8  # samples, and the width of one


class Views(torch.utils.data.Dataset):
    """Two views of each sample, and its position."""

    def __len__(self) -> int:
        return SIDE

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, int]:
        view1, view2, _ = registry.batch(2, SIDE, seed=i)
        return view1[0], view2[0], i


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(SIDE, 4).double()


def follow_the_page(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(WORLD)}  # what torchrun sets
    page = (ROOT / "book" / "use_it.md").read_text()
    (example,) = re.findall(r"### With torchrun.*?```python\n(.*?)```", page, re.DOTALL)
    model = linear()
    names = {"torch": torch, "losses": losses, "epochs": 2, "dataset": Views(), "model": model}
    names |= {"batch_size": 2, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    exec(example, names)
    torch.save((model.state_dict(), names["loss"].state_dict()), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_example_for_torchrun_trains_as_one_process_would(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(follow_the_page, args=(port, str(tmp_path)), nprocs=WORLD)
    model, loss = linear(), ISogCLR(SIDE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in (1, 2):
        loss.set_epoch(epoch)
        sampler = torch.utils.data.DistributedSampler(Views(), 1, 0)
        sampler.set_epoch(epoch)
        for rows in torch.tensor(list(sampler)).view(2, 4):
            view1, view2, index = torch.utils.data.default_collate([Views()[int(i)] for i in rows])
            optimizer.zero_grad()
            loss(model(view1), model(view2), index).backward()
            optimizer.step()
    for rank in range(WORLD):
        close(torch.load(tmp_path / f"{rank}.pt"), (model.state_dict(), loss.state_dict()))
