"""Losses of image-text pairs with one softmax over texts and one over images."""

from __future__ import annotations

import torch
from torch import Tensor

from dytemp import checks
from dytemp.losses.infonce import info_nce
from dytemp.losses.pairs import PairLoss
from dytemp.schedules import Temperature


class CLIP(PairLoss):
    """Symmetric InfoNCE between images z1 and texts z2, mean over the two directions.

    Parameters
    ----------
    temperature : float, Tensor or Temperature
        A number, a learned tensor without dimensions, or any schedule. What depends on the sample
        is looked up by the anchor: the image in one direction, the text in the other.

    Notes
    -----
    *Relations.* Radford et al., ICML 2021. The value is that of ``ClipLoss`` in open_clip with a
    ``logit_scale`` of 1 / tau, on several processes with ``gather_with_grad=True``; what is learned
    there is log(1 / tau), clipped to at most log 100, what is learned here is the tensor that you
    pass. As tau grows it tends to log B. With two views of images it is `NTXent` without the
    candidates of the anchor's own view.
    """

    def __init__(self, temperature: float | Tensor | Temperature = 0.07) -> None:
        super().__init__()
        self.use(temperature)

    def from_unit(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss of embeddings that are normalised already."""
        return self._of(z1 @ z2.T, z1, z2, index)

    def _of(self, similarity: Tensor, z1: Tensor, z2: Tensor, index: Tensor | None) -> Tensor:
        """Return the loss of a (B, B) matrix of similarities, images in rows."""
        self.temperature.observe(similarity.detach().diagonal())
        positives = torch.arange(len(similarity), device=similarity.device)
        tau_image = self.tau_of(similarity, z1, index)
        tau_text = self.tau_of(similarity.T, z2, index)
        self.tau_now = (tau_image.detach().mean() + tau_text.detach().mean()) / 2
        images = info_nce(similarity, positives, tau_image)
        texts = info_nce(similarity.T, positives, tau_text)
        return (images.mean() + texts.mean()) / 2


class CyCLIP(CLIP):
    """CLIP with two consistency terms, B times the mean square of differences of similarities.

    Parameters
    ----------
    temperature : float, Tensor or Temperature
        As for `CLIP`.
    inmodal : float
        Weight of image-image against text-text similarities (paper: 0.25).
    crossmodal : float
        Weight of image-text against text-image similarities (paper: 0.25).

    Notes
    -----
    *Relations.* Goel et al., *CyCLIP*, NeurIPS 2022. Without the two weights it is `CLIP`; the
    consistency terms have no temperature. The official code multiplies the mean squares by the
    number of pairs too.
    """

    def __init__(
        self,
        temperature: float | Tensor | Temperature = 0.07,
        inmodal: float = 0.25,
        crossmodal: float = 0.25,
    ) -> None:
        super().__init__(temperature)
        self.inmodal = checks.number("inmodal", inmodal, at_least=0)
        self.crossmodal = checks.number("crossmodal", crossmodal, at_least=0)

    def from_unit(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss of embeddings that are normalised already."""
        similarity = z1 @ z2.T
        within = (z1 @ z1.T - z2 @ z2.T).square().mean()
        across = (similarity - similarity.T).square().mean()
        consistency = self.inmodal * within + self.crossmodal * across
        return self._of(similarity, z1, z2, index) + len(z1) * consistency
