"""Lightning's own distributed strategy trains as one process with the whole batch does."""

from __future__ import annotations

import lightning
import pytest
import torch
from registry import batch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dytemp.losses import NTXent
from dytemp.schedules import SimilarityCosine

SAMPLES, BATCH = 16, 8


class Views(Dataset):
    """Two views of each sample."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        view1, view2, _ = batch(2, 6, seed=i)
        return view1[0], view2[0]


class Module(lightning.LightningModule):
    """A linear encoder; the temperature is that of DySTreSS with its full derivative."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(6, 4).double()
        self.loss = NTXent(SimilarityCosine(0.2, 0.5, detach=False))

    def training_step(self, views: list[Tensor], _: int) -> Tensor:
        z1, z2 = self.encoder(torch.cat(views)).chunk(2)
        return self.loss(z1, z2)

    def validation_step(self, views: list[Tensor], _: int) -> None:
        assert not torch.is_grad_enabled()
        assert self.training_step(views, 0).isfinite()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and devices
def test_lightning_trains_as_one_process_does(tmp_path) -> None:
    module, alone = Module(), Module()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_spawn",
        max_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    before = module.encoder.weight.detach().clone()
    trainer.fit(module, DataLoader(Views(), BATCH // 2), DataLoader(Views(), BATCH // 2))
    sampler = torch.utils.data.DistributedSampler(Views(), 1, 0)  # what Lightning puts in
    optimizer = alone.configure_optimizers()
    for rows in torch.tensor(list(sampler)).view(-1, BATCH):
        views = [torch.stack(each) for each in zip(*(Views()[int(i)] for i in rows), strict=True)]
        optimizer.zero_grad()
        alone.training_step(views, 0).backward()
        optimizer.step()
    torch.testing.assert_close(module.encoder.weight, alone.encoder.weight, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(module.encoder.weight, before, atol=1e-3)
