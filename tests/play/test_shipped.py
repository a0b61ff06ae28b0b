"""The checkpoint that ships: it loads, is small, and its dreams pay."""

import json
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from worldmodels.stages.play import SHIPPED, make_server
from worldmodels.stages.study import differing


def test_it_is_small_and_says_how_it_was_made():
    assert sum(path.stat().st_size for path in SHIPPED.parent.iterdir()) < 8 * 2**20
    for name in ("vision", "memory", "controller"):
        facts = json.loads((SHIPPED.parent / f"{name}.json").read_text())["facts"]
        assert facts["command"].startswith("python scripts/") and "/" not in str(facts.get("vision", ""))
    summary = json.loads(SHIPPED.with_suffix(".json").read_text())["facts"]["scores"]["summary"]
    assert summary["n"] == 100 and summary["mean"] > 700


def test_its_command_still_makes_it():
    """The settings that it was trained with, by today's configs and the overrides that it names."""
    facts = json.loads(SHIPPED.with_suffix(".json").read_text())["facts"]
    script, *overrides = facts["command"].removeprefix("python scripts/").split()
    with initialize_config_dir(str(Path(__file__).parents[2] / "configs"), version_base="1.3"):
        config = compose(script.removesuffix(".py"), [*overrides, "name=one"])
    settings = OmegaConf.to_container(config, resolve=True)
    assert differing(facts["settings"], {part: settings[part] for part in facts["settings"]}) == []
    assert facts["seed"] in settings["seeds"] and facts["versions"]["torch"]


def test_it_dreams_and_its_controller_drives_there():
    """From four starts, a hundred steps each: C at the wheel earns by far more than nobody."""
    torch.manual_seed(0)
    session = make_server().make_session()
    earned = {}
    for drives in (True, False):
        session.controller_drives = drives
        totals = []
        for seed in range(4):
            session.reset(seed)
            for _ in range(100):
                view = session.step()
            totals.append(view.total)
        earned[drives] = sum(totals) / 4
    assert earned[True] > 150 and earned[True] > 2 * earned[False], earned
