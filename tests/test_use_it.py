"""Every snippet of the page 'Use it in your own project' runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from dytemp.lab.studies import compare
from dytemp.lab.training import Config

PAGE = (ROOT / "book" / "use_it.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
# The example for torchrun, below a smaller heading, runs in test_losses_distributed.py.
SECTIONS = [(title, text.split("\n### ")[0]) for title, text in SECTIONS]
SNIPPETS = {
    title: code
    for title, text in SECTIONS
    for code in re.findall(r"```python\n(.*?)```", text, re.S)
}
OPTIONAL = {
    "Lightning": "lightning",
    "Models of lightly": "lightly",
    "Towers of open_clip": "open_clip",
}


def test_page_has_all_ways_of_use() -> None:
    assert list(SNIPPETS) == [
        "A plain loop",
        "A data loader that yields positions",
        "Mixed precision",
        "Saving and loading",
        "DistributedDataParallel",
        "Lightning",
        "Models of lightly",
        "Towers of open_clip",
        "A rule of your own",
    ]


def test_the_rule_can_be_compared(tmp_path: Path) -> None:
    file = tmp_path / "my_rule.py"
    file.write_text(SNIPPETS["A rule of your own"], encoding="utf-8")
    loss = compare.specification(file, epochs=4)
    assert loss["temperature"]["epochs"] == 4
    compare.try_out(Config(loss=loss, epochs=4))


def test_the_chapter_shows_the_same_rule() -> None:
    chapter = json.loads((ROOT / "notebooks" / "40_head_to_head.ipynb").read_text(encoding="utf-8"))
    assert any(SNIPPETS["A rule of your own"] in "".join(c["source"]) for c in chapter["cells"])


@pytest.mark.parametrize("title", SNIPPETS)
def test_snippet_runs(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if title in OPTIONAL:
        pytest.importorskip(OPTIONAL[title], reason="pip install -e '.[integrations]'")
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    if "mp.spawn" in SNIPPETS[title]:  # its processes need a file to import
        script = tmp_path / "snippet.py"
        script.write_text(SNIPPETS[title], encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return
    names: dict[str, object] = {"__name__": "snippet"}
    exec(SNIPPETS[title], names)
    value = names.get("value", torch.zeros(()))
    assert isinstance(value, torch.Tensor)
    assert value.isfinite()
