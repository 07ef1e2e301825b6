from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from conftest import ROOT
from disagreeing_processes import SETTINGS
from distributed_training import LOSSES
from torch import nn
from toys import config, write_data

from dytemp.lab.training.distributed import SharedBatchNorm, share_batch_statistics

HELPER = ROOT / "tests" / "distributed_training.py"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """Train the same runs on one process and on two."""
    folder = write_data(tmp_path_factory.mktemp("distributed"))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    search = os.pathsep.join([str(HELPER.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONPATH": search}
    found = {}
    for count, start in ((1, []), (2, launcher)):
        output = folder / f"{count}.pt"
        command = [sys.executable, *start, str(HELPER), str(folder), str(output)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found[count] = torch.load(output, weights_only=True)
        found[count]["printed"] = done.stdout.splitlines()
        found[count]["files"] = [path.name for path in output.with_suffix("").glob("*.json")]
    return found


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("part", ["curves", "weights", "arrays"])
def test_two_processes_equal_one(results: dict[int, dict[str, Any]], loss: str, part: str) -> None:
    one, two = results[1][loss][part], results[2][loss][part]
    assert (not one) == (part == "arrays" and "ISogCLR" not in loss)
    torch.testing.assert_close(two, one, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_two_processes_evaluate_as_one(results: dict[int, dict[str, Any]], loss: str) -> None:
    assert results[2][loss]["metrics"] == pytest.approx(results[1][loss]["metrics"], rel=1e-5)


def test_two_processes_record_one_run(results: dict[int, dict[str, Any]]) -> None:
    one, two = results[1], results[2]
    key = one["recorded"]["key"]
    for result in (one, two):
        assert result["files"] == [f"{key}.json"]
        assert [line.startswith(f"run {key} NTXent") for line in result["printed"]] == [True]
    for name, curve in one["recorded"]["curves"].items():
        assert two["recorded"]["curves"][name] == pytest.approx(curve, rel=1e-6)


def test_shared_statistics_equal_those_of_torch_on_one_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dytemp.lab.training.distributed._summed", lambda part: part)
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten()).double()
    shared = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten()).double()
    shared.load_state_dict(plain.state_dict())
    share_batch_statistics(shared)
    assert isinstance(shared[1], SharedBatchNorm)
    images = torch.randn(4, 2, 5, 5, dtype=torch.float64)
    targets = torch.randn(4, 27, dtype=torch.float64)
    for module in (plain, shared):
        (module(images) * targets).sum().backward()
    pairs = zip(plain.parameters(), shared.parameters(), strict=True)
    torch.testing.assert_close([a.grad for a, _ in pairs], [b.grad for b in shared.parameters()])
    torch.testing.assert_close(shared.state_dict(), plain.state_dict())
    torch.testing.assert_close(shared.eval()(images), plain.eval()(images))


# ------------------------------------------------------------------------------------ disagreement


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[tuple[int, str], str], list[str]]:
    """Let two processes train different runs; return how each case ended, and what is recorded."""
    folder = write_data(tmp_path_factory.mktemp("disagreement"))
    helper = HELPER.with_name("disagreeing_processes.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    search = os.pathsep.join([str(HELPER.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": search}
    # One process is killed in the end; the other one must not wait for it.
    done = subprocess.run(
        [*command, str(helper), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode != 0
    found = {}
    for line in done.stdout.splitlines():
        if line[:3] in ("0: ", "1: "):
            process, case, end = line.split(": ", 2)
            found[int(process), case] = end
    return found, sorted(path.stem for path in (folder / "results").glob("*.json"))


@pytest.mark.parametrize("process", [0, 1])
@pytest.mark.parametrize("case", SETTINGS)
def test_processes_with_other_settings_train_nothing(
    case: str, process: int, ends: tuple[dict[tuple[int, str], str], list[str]]
) -> None:
    keys = [config(**{case: value}).key for value in SETTINGS[case]]
    assert ends[0][process, case] == (
        f"all processes must have the same configuration, got {keys[0]} on process 0, "
        f"{keys[1]} on process 1"
    )


@pytest.mark.parametrize("process", [0, 1])
def test_processes_with_other_data_train_nothing(
    process: int, ends: tuple[dict[tuple[int, str], str], list[str]]
) -> None:
    assert ends[0][process, "data"].startswith("all processes must have the same data, got ")


def test_only_what_all_agreed_on_is_recorded_and_a_killed_process_ends_the_others(
    ends: tuple[dict[tuple[int, str], str], list[str]],
) -> None:
    found, recorded = ends
    assert found[0, "nothing"] == found[1, "nothing"] == "trained"
    assert recorded == [config().key]
