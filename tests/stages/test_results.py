"""The pages show what results/ holds, and results/ holds what the configs make."""

import json
from pathlib import Path

import numpy as np
import pytest

from worldmodels.errors import UserError
from worldmodels.evaluation.plots import band, on_one_axis
from worldmodels.stages.results import DRAWN, MEDIA, PAGES, PLOTS, pictures, rebuild, rewritten
from worldmodels.stages.study import curve_of, differing, parts_of
from worldmodels.stages.tables import (
    TASKS,
    WITHOUT_MEMORY,
    comparisons,
    ends,
    memories,
    model_free,
    rounds,
    scores,
    temperatures,
    visions,
    what_c_sees,
    world_models,
    worlds,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", PAGES)
def test_pages_show_what_results_hold(page):
    text = (ROOT / page).read_text()
    assert rewritten(text, ROOT) == text, "run: make results"


def test_pictures_show_what_results_hold():
    drawn = json.loads((ROOT / DRAWN).read_text())
    assert {name: picture.drawn(ROOT / MEDIA / name) for name, picture in pictures(ROOT).items()} == drawn, (
        "run: make results"
    )


@pytest.mark.parametrize("study", sorted(path.stem for path in (ROOT / "results" / "studies").glob("*.json")))
def test_the_command_of_a_study_still_makes_it(study):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    recorded = json.loads((ROOT / "results" / "studies" / f"{study}.json").read_text())
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        now = compose("run_study", [f"study={study}", f"name={study}"])
    settings = OmegaConf.to_container(now, resolve=True)
    assert differing(recorded["settings"], {part: settings[part] for part in parts_of(settings)}) == []
    seeds = [int(seed) for seed in recorded["seeds"]]
    assert seeds and seeds == settings["seeds"][: len(seeds)], "those that have been run, in their order"
    for seed in recorded["seeds"].values():
        assert len(seed["returns"]) == settings["evaluation"]["episodes"]


def test_a_key_that_came_later_changes_nothing_at_its_default_alone():
    """A sweep's learners have algorithms too; in `again`, what is absent stays as the first round had it."""
    before, after = {"updates": 1}, {"updates": 1, "sharpen": 1.0}
    assert differing({"algo": before}, {"algo": after}) == []
    assert differing({"learners": {"a2c": {"algo": before}}}, {"learners": {"a2c": {"algo": after}}}) == []
    assert differing({"algo": before}, {"algo": {**after, "sharpen": 3.0}}) != []
    assert differing({"again": {"algo": before}}, {"again": {"algo": after}}) != []


@pytest.mark.parametrize("study", sorted(path.stem for path in (ROOT / "configs" / "study").glob("*.yaml")))
def test_every_study_names_what_the_tables_need(study):
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("run_study", [f"study={study}", f"name={study}"])
    assert config.task in TASKS and config.title and config.seeds


def test_pages_and_pictures_of_a_study_by_hand(tmp_path):
    curve = [[10, 0.0], [20, 1.0], [30, 4.0]]
    seeds = {
        str(number): {"returns": [score, score + 2], "env_steps": 30, "seconds": 90, "curve": curve, "processor": "X"}
        for number, score in enumerate((1.0, 3.0, 5.0))
    }
    study = {"task": "Pong", "title": "A2C", "target": 3, "every_seed": True, "seeds": seeds, "settings": {}}
    (tmp_path / "results" / "studies").mkdir(parents=True)
    (tmp_path / "results" / "studies" / "one.json").write_text(json.dumps(study))
    (tmp_path / MEDIA).mkdir(parents=True)
    for page in PAGES:
        (tmp_path / page).write_text("before\n<!-- results: model_free -->\nold\n<!-- end -->\nafter\n")
    *_, picture, drawn = rebuild(tmp_path)
    assert picture == tmp_path / MEDIA / "curves_pong.png" and picture.stat().st_size > 1000
    before = json.loads(drawn.read_text())["curves_pong.png"]
    seeds["0"]["curve"] = [[10, 1.0], [30, 4.0]]
    (tmp_path / "results" / "studies" / "one.json").write_text(json.dumps(study))
    now = pictures(tmp_path)["curves_pong.png"].drawn(picture)
    assert now["shown"] != before["shown"] and now["file"] == before["file"], "a stale picture is found"
    picture.write_bytes(b"another")
    assert pictures(tmp_path)["curves_pong.png"].drawn(picture)["file"] != before["file"]
    page = (tmp_path / PAGES[0]).read_text()
    assert page.startswith("before\n") and page.endswith("after\n") and "old" not in page
    assert "| Pong | A2C | 30 | 2.0, 4.0, 6.0 | 4.0 ± 2.0 |" in page and "≥ 3, missed | 1.5, X |" in page
    with pytest.raises(UserError, match="unknown block 'other'"):
        rewritten("<!-- results: other -->\n<!-- end -->", tmp_path)


def test_world_models_stand_before_model_free_and_published_scores(tmp_path):
    (tmp_path / "results" / "studies").mkdir(parents=True)
    for name, number, means in (("a", 0, (700.0, 720.0)), ("b", 2, (900.0, 910.0, 950.0))):
        seeds = {
            str(n): {"returns": [s, s], "env_steps": 5000, "seconds": 60 + 600 * n, "curve": [], "processor": machine}
            for n, (s, machine) in enumerate(zip(means, ("Intel(R) Xeon(R) Processor, 1 core", "Y", "Y")))
        }
        study = {"task": "CarRacing-v3", "title": name, "target": 906, "every_seed": False, "seeds": seeds}
        path = tmp_path / "results" / "studies" / f"{name}.json"
        path.write_text(json.dumps({**study, "settings": {"rounds": number}}))
    rows = world_models(tmp_path).splitlines()[2:]
    assert rows[0].startswith("| b | 5,000 | 900, 910, 950 | 920 ± 26 | 920 (")
    assert rows[0].endswith("| ≥ 906 | 1.0, Intel Xeon, 1 core; 11 to 21, Y |")
    assert rows[1].startswith("| a |") and rows[1].endswith("| ≥ 906, missed | 1.0, Intel Xeon, 1 core; 11, Y |")
    assert "906 ± 21" in rows[2] and "| b |" not in model_free(tmp_path)


def test_what_c_sees_has_a_table_for_each_task(tmp_path):
    (tmp_path / "results" / "studies").mkdir(parents=True)
    for number, task in enumerate(WITHOUT_MEMORY):
        seeds = {"0": {"returns": [10.0 + number, 20.0], "env_steps": 5000, "seconds": 90, "curve": []}}
        seeds["0"]["processor"] = "X"
        study = {"task": task, "title": "z alone", "target": None, "every_seed": False, "seeds": seeds}
        path = tmp_path / "results" / "studies" / f"{number}.json"
        path.write_text(json.dumps({**study, "settings": {"rounds": 1}}))
    plain, black = what_c_sees(tmp_path).split("\n\n")
    assert plain.startswith(f"| {WITHOUT_MEMORY[0]} |") and black.startswith(f"| {WITHOUT_MEMORY[1]} |")
    assert "| z alone | 5,000 | 15.0 | 15 (its tracks ± 7) | one seed | report | 1.5, X |" in plain
    assert world_models(tmp_path).count("z alone") == 0


def test_a_table_of_temperatures_by_hand(tmp_path):
    """Two learners, one of which was only tried at one temperature; sd of 1, 3 is √2 ≈ 1.4."""
    controllers = [
        {"learner": "a2c", "temperature": 1.15, "dream": [10.0, 30.0], "real": [5.0, 7.0]},
        {"learner": "a2c", "temperature": 0.5, "dream": [1.0, 3.0], "real": [1.0, 1.0]},
        {"learner": "cmaes", "temperature": 0.5, "dream": [200.0, 204.0], "real": [100.0, 100.0]},
    ]
    (tmp_path / "results" / "temperatures").mkdir(parents=True)
    sweep = {"name": "one", "task": "VizdoomTakeCover-v1", "controllers": controllers, "random": [2.0, 4.0]}
    (tmp_path / "results" / "temperatures" / "one.json").write_text(json.dumps(sweep))
    columns, _, *rows = temperatures(tmp_path).splitlines()
    names = "a2c, dream | a2c, real | cmaes, dream | cmaes, real | paper, dream | paper, real"
    assert columns == f"| VizdoomTakeCover-v1, τ | {names} |"
    assert rows == [
        "| 0.5 | 2 ± 1 | 1 ± 0 | 202 ± 3 | 100 ± 0 | 2060 ± 277 | 196 ± 50 |",
        "| 1.15 | 20 ± 14 | 6 ± 1 |  |  | 918 ± 546 | 1092 ± 556 |",
        "| random play |  | 3 ± 1 |  | 3 ± 1 |  | 210 ± 108 |",
    ]
    path = tmp_path / "results" / "temperatures" / "one.json"
    path.write_text(json.dumps({**sweep, "task": "CarRacing-v3"}))
    assert "paper" not in temperatures(tmp_path) and "210" not in temperatures(tmp_path)


def test_ends_by_hand(tmp_path):
    """A chance of ½ each step; what lies beyond the ten steps that were looked at is left out."""
    assert ends(tmp_path).count("\n") == 1
    memory = {"parameters": 1234, "nll": {"mixture": -0.5, "one_gaussian": 0.25, "as_before": 1.0}}
    memory |= {"calibration": {"coverage": [0.5, 0.899]}, "ends": {"ended": [0.5] * 10, "end_chance": [0.0] * 10}}
    controllers = [{"learner": "a2c", "temperature": 1.0, "dream": [1.0, 3.0], "real": [1.0, 1.0]}]
    sweep = {"name": "one", "task": "Doom", "controllers": controllers, "random": [2.0, 4.0], "memory": memory}
    write_comparison(tmp_path, "temperatures", sweep)
    line = "| Doom, 1,234 parameters | -0.500 | 0.250 | 1.000 | 50.0, 89.9 | 50, 100 | 0, 0 |"
    assert ends(tmp_path).splitlines()[-1] == line
    assert drawn(tmp_path) == ["temperatures_one.png"]


def test_rounds_and_scores_by_hand(tmp_path):
    """A C of the dream with two rounds, and a model-free one, which has none."""
    looked = {"seconds": 1.0, "payable": 4.0}
    rows = [
        {"number": 1, "frames": 100, "validation": 5.0, "dream_reward": 0.5, "real_reward": 1.254, **looked},
        {"number": 2, "frames": 200, "validation": 9.0, "dream_reward": 2.0, "real_reward": 1.0, **looked},
    ]
    one = {"returns": [6.0, 8.0], "env_steps": 200, "seconds": 60, "curve": [[1, 0.0], [2, 1.0]], "processor": "X"}
    folder = tmp_path / "results" / "studies"
    folder.mkdir(parents=True)
    for name, seed, number in (("dream", {**one, "rounds": rows}, 2), ("a2c", one, 0)):
        study = {"task": "CarRacing-v3", "title": name, "target": None, "every_seed": False, "seeds": {"3": seed}}
        (folder / f"{name}.json").write_text(json.dumps({**study, "settings": {"rounds": number}}))
    head, _, *lines = rounds(tmp_path).splitlines()
    assert head.endswith("| round 1 | round 2 |") and lines == ["| dream, seed 3 | 0.50, 1.25 | 2.00, 1.00 |"]
    assert scores(tmp_path) == {
        "a2c": {"tests": [(200, 7.0)], "validations": []},
        "dream": {"tests": [(200, 7.0)], "validations": [[(100, 5.0), (200, 9.0)]]},
    }
    assert drawn(tmp_path) == ["curves_carracing_v3.png", "scores_carracing.png", "rounds.png"]


def kept(root):
    """What has been compared, each with its folder of results/."""
    return [
        pytest.param(folder, one, id=f"{folder}_{one['name']}") for folder in PLOTS for one in comparisons(root, folder)
    ]


def settings_now(script, *overrides):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return OmegaConf.to_container(compose(script, list(overrides)), resolve=True)


def still_makes(folder, comparison):
    """Whether its command still makes it: the same settings, temperatures and learners or variants."""
    name = f"name={comparison['name']}"
    if folder == "temperatures":
        settings = settings_now("sweep_temperature", f"preset={comparison['name']}", name)
        tried = [one["temperature"] for one in comparison["controllers"]]
        same = tried == settings["temperatures"] * len(settings["learners"])
    elif folder == "worlds":
        settings = settings_now("rank_controllers", f"preset={comparison['name']}", name)
        same = len(comparison["controllers"]) == settings["snapshots"]
    else:
        settings = settings_now(f"compare_{folder}", name)
        same = {one: found["changes"] for one, found in comparison["variants"].items()} == settings["variants"]
    return same and differing(comparison["settings"], {part: settings[part] for part in comparison["settings"]}) == []


@pytest.mark.parametrize("folder, comparison", kept(ROOT))
def test_the_command_of_a_comparison_still_makes_it(folder, comparison):
    assert (ROOT / MEDIA / f"{folder}_{comparison['name']}.png").exists(), "run: make results"
    assert still_makes(folder, comparison)


@pytest.mark.parametrize("folder, part", [("visions", "vision"), ("memories", "memory")])
def test_a_changed_config_no_longer_makes_a_comparison(folder, part):
    settings = settings_now(f"compare_{folder}", "name=one")
    variants = {name: {"changes": changes} for name, changes in settings["variants"].items()}
    comparison = {"name": "one", "settings": {"env": settings["env"], part: settings[part]}, "variants": variants}
    assert still_makes(folder, comparison) and len(variants) >= 4
    assert not still_makes(folder, {**comparison, "variants": {**variants, "other": {"changes": {}}}})
    changed = {**settings[part], "update_steps": 1}
    assert not still_makes(folder, {**comparison, "settings": {"env": settings["env"], part: changed}})


def write_comparison(root, folder, comparison):
    path = root / "results" / folder / f"{comparison['name']}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(comparison))


def test_a_table_of_visions_by_hand(tmp_path):
    """90 s are 1.5 minutes; the picture is drawn by `rebuild`."""
    assert visions(tmp_path) == ""
    lean = {"parameters": 1234567, "mse": 0.001234, "kl": 16.04, "active_units": 3, "latent_dim": 4, "seconds": 90.0}
    lean["kl_per_dimension"] = [10.0, 4.0, 2.0, 0.04]
    paper = {**lean, "parameters": 99, "mse": 0.00099951, "kl": 0.3, "active_units": 0, "seconds": 600.4}
    write_comparison(tmp_path, "visions", {"name": "one", "task": "Car", "variants": {"lean": lean, "paper, 0": paper}})
    assert visions(tmp_path).splitlines() == [
        "| Car, V | parameters | mean squared error | KL in nats | active units | minutes |",
        "|---|---|---|---|---|---|",
        "| lean | 1,234,567 | 0.00123 | 16.0 | 3 of 4 | 1.5 |",
        "| paper, 0 | 99 | 0.00100 | 0.3 | 0 of 4 | 10.0 |",
    ]
    assert drawn(tmp_path) == ["visions_one.png"]


def test_a_table_of_memories_by_hand(tmp_path):
    """What needs no M is the same for all, and stands in the last line."""
    assert memories(tmp_path) == ""
    small = {
        "parameters": 4321,
        "nll": {"mixture": 1.0594, "one_gaussian": 1.0604, "as_before": 1.489},
        "steps": [1, 10],
    }
    small["calibration"] = {"histogram": [2.0] + [0.5] * 8 + [4.0], "coverage": [0.4971, 0.9]}
    small["left_alone"] = {"reward_error": [0.254, 5.0], "reward_variance": [6.0, 7.127]}
    small["left_alone"] |= {"pixel_error": [0.00124, 0.01], "pixel_error_of_last_frame": [0.002, 0.03]}
    large = {**small, "parameters": 54321, "nll": {**small["nll"], "mixture": -0.2, "one_gaussian": -0.1}}
    write_comparison(tmp_path, "memories", {"name": "two", "task": "Car", "variants": {"8": small, "16": large}})
    errors = "reward error after 1, 10 steps | pixel error after 1, 10 steps"
    assert memories(tmp_path).splitlines() == [
        f"| Car, M | parameters | nats per latent | one Gaussian | inside 50 %, 90 % | {errors} |",
        "|---|---|---|---|---|---|---|",
        "| 8 | 4,321 | 1.059 | 1.060 | 49.7, 90.0 | 0.25, 5.00 | 0.0012, 0.0100 |",
        "| 16 | 54,321 | -0.200 | -0.100 | 49.7, 90.0 | 0.25, 5.00 | 0.0012, 0.0100 |",
        "| as before; rewards: their mean |  | 1.489 |  |  | 6.00, 7.13 | 0.0020, 0.0300 |",
    ]
    assert drawn(tmp_path) == ["memories_two.png"]


def test_a_table_of_worlds_by_hand(tmp_path):
    assert worlds(tmp_path).count("\n") == 1, "no line without a comparison"
    controllers = [{"dream": [1.0, 3.0], "real": [-10.0, 10.0]}, {"dream": [5.0, 6.0], "real": [100.0, 301.0]}]
    found = {"value": 0.875, "low": -0.1, "high": 1.0}
    comparison = {"name": "demo", "task": "Car", "controllers": controllers, "rank_correlation": found, "horizon": 9}
    write_comparison(tmp_path, "worlds", comparison)
    last = "| Car | demo | 2 | 2 to 6 | 0 to 200 | 0.88 (95 %: -0.10 to 1.00) |"
    assert worlds(tmp_path).splitlines()[-1] == last
    assert drawn(tmp_path) == ["worlds_demo.png"]


def drawn(root):
    """The pictures that `rebuild` makes."""
    (root / MEDIA).mkdir(parents=True)
    for page in PAGES:
        (root / page).write_text("")
    pictures = [path for path in rebuild(root) if path.suffix == ".png"]
    assert all(path.stat().st_size > 10000 for path in pictures)
    return [path.name for path in pictures]


def test_a_curve_begins_with_the_first_return(tmp_path):
    rows = ["env_step,train/return", "10,nan", "20,", "30,1.5", "40,2.5"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    assert curve_of(tmp_path / "metrics.csv") == [(30, 1.5), (40, 2.5)]
    rows = ["env_step,train/return", *(f"{n},{n}" for n in range(1000))]
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    found = curve_of(tmp_path / "metrics.csv")
    assert len(found) == 200 and found[0] == (0, 0.0) and found[-1] == (999, 999.0)


def test_bands_of_seeds():
    x, y = on_one_axis([[(0, 0.0), (10, 10.0)], [(5, 0.0), (20, 15.0)]])
    assert x[0] == 5 and x[-1] == 10
    assert y[:, 0].tolist() == [5, 0] and y[:, -1] == pytest.approx([10, 5])
    middle, low, high = band(np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [40.0, 5.0]]))
    assert middle.tolist() == [2.5, 5.0], "the mean of the middle half"
    assert low[1] == high[1] == 5 and low[0] < 2.5 < high[0]
