"""The pages name only what is there, and the code that they show runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from corridor import DISCRETE, Corridor
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from worldmodels.envs.make import make_env
from worldmodels.policy_gradient.policies import Policy
from worldmodels.stages import controller
from worldmodels.stages.settings import env_settings
from worldmodels.tracking import Run
from worldmodels.types import Step

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXTENDING = ROOT / "docs" / "extending.md"

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks_of(page):
    """The blocks of code that begin with the name of a file, as {name: code}."""
    found = re.findall(r"^```(?:python|yaml)\n# (\S+\.(?:py|yaml))\n(.*?)^```", page.read_text(), re.M | re.DOTALL)
    assert len(found) == len(dict(found)), "each file once"
    return dict(found)


def commands_of(page):
    """Each command of the page that runs a script: its name and its words."""
    text = page.read_text().replace("\\\n", " ")
    for script, rest in re.findall(r"python scripts/(\w+)\.py([^`\n]*)", text):
        yield script, re.split(r"\s(?:&&|\|)\s", f" {' '.join(shlex.split(rest, comments=True))} ")[0].split()


def overrides_of(words):
    """The words as Hydra takes them: placeholders get a value, of several values the first is taken."""
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            assert word in ("-m", "--help") or name == "--cfg" or word == "job", word
        elif name in ("study", "preset") and value in ("NAME", "…"):
            continue  # it is the group's name that is shown
        elif "…" in value or value.startswith("$"):
            yield f"{name}=x"
        else:
            yield f"{name}={value.split(',')[0]}" if "-m" in words and "[" not in value else word


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """The configs with those that docs/extending.md adds."""
    folder = tmp_path_factory.mktemp("with_added") / "configs"
    shutil.copytree(ROOT / "configs", folder)
    for name, content in blocks_of(EXTENDING).items():
        if name.endswith(".yaml"):
            place = folder.parent / name
            assert not place.exists(), f"{name} is there already"
            place.write_text(content)
    with initialize_config_dir(str(folder), version_base="1.3"):
        yield folder


def test_the_pages_are_found():
    assert {"world_model.md", "extending.md", "recipes.md", "results.md"} <= {page.name for page in PAGES}
    assert len(list(commands_of(ROOT / "README.md"))) >= 14
    assert len(list(commands_of(ROOT / "docs" / "recipes.md"))) >= 30


@every_page
def test_linked_files_and_named_scripts_exist(page):
    text = page.read_text()
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(#[^)]+)?\)", text):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.M)
            assert anchor[1:] in [re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings], anchor
        if linked.suffix in (".png", ".webp"):
            assert cv2.imread(str(linked)).std() > 5, target
    for script in set(re.findall(r"scripts/(\w+)\.py", text)):
        assert (ROOT / "scripts" / f"{script}.py").exists(), script


@every_page
def test_make_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make (\w+)`|^make (\w+)$", page.read_text(), re.M)):
        assert f"\n{''.join(target)}:" in makefile, target


@every_page
def test_commands_are_valid(page, configs):
    """Each name=value behind a script's name is a key of its config, or a group with that option; nothing is missing
    where there are words at all."""
    for script, words in commands_of(page):
        own = list(overrides_of(words))
        named_by_hydra = script in ("rank_controllers", "run_pipeline", "run_study", "sweep_temperature")
        if named_by_hydra and not any(word.startswith("name=") for word in own):
            own.append("name=x")  # Hydra's own names are known to a run alone
        config = compose(script, own)
        missing = OmegaConf.missing_keys(config)
        assert not words or not missing, f"{script} {' '.join(words)} lacks {missing}"


@every_page
def test_braces_are_quoted(page):
    """Bash makes two words of {a:1,b:2}, in a command and in an override that stands alone."""
    text = page.read_text().replace("\\\n", " ")
    for command in re.findall(r"python scripts/[^`\n]*", text) + re.findall(r"`('?\+*[\w.]+=\{[^`\n]*)`", text):
        assert not re.search(r"\{[^}]*,[^}]*\}", re.sub(r"'[^']*'", "", command)), command


@every_page
def test_names_of_the_code_exist(page):
    """What a link into a file of ours calls by name, as [`Learner`](…/learner.py), is defined there."""
    for name, target in re.findall(r"\[`(\w+)`\]\(([^)]+\.py)\)", page.read_text()):
        code = (page.parent / target).read_text()
        assert re.search(rf"^\s*(?:def|class) {name}\b|^{name}\b", code, re.M), f"{name} in {target}"


# docs/extending.md


def defined_by(*names):
    """What the page's files define, one after the other in one module's place."""
    found = {}
    for name in names:
        exec(compile(blocks_of(EXTENDING)[name], name, "exec"), found)
    return found


def settings_of(script, *overrides):
    return OmegaConf.to_container(compose(script, list(overrides)), resolve=True)


def test_the_drawn_environment_is_collected(configs, tmp_path):
    """By the script, with the page's config."""
    (tmp_path / "drawn_cartpole.py").write_text(blocks_of(EXTENDING)["drawn_cartpole.py"])
    words = ["--config-dir", str(configs), "env=drawn_cartpole", "store=poles", "collect.behaviour=held"]
    words += ["collect.episodes=2", "collect.validation_every=2", "wandb.mode=disabled"]
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "collect_rollouts.py", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    frames = np.load(tmp_path / "data/rollouts/poles/shards/000001/observation.npy")
    assert frames.shape[1:] == (64, 64, 3) and frames.dtype == np.uint8
    assert (frames[0] != frames[-1]).any() and len(np.unique(frames[0].reshape(-1, 3), axis=0)) == 3


def test_the_environment_by_config_alone_is_made(configs):
    env = make_env(env_settings(settings_of("train_baseline", "env=acrobot")["env"]))
    assert env.reset(seed=0)[0].shape == (6,)
    env.close()


def test_the_algorithm_learns_to_go_right():
    elite = defined_by("worldmodels/policy_gradient/elite.py")["Elite"]
    torch.manual_seed(0)
    learner = elite(
        Policy([4], DISCRETE, hidden=[8], value_hidden=[8]), Corridor(batch=16), steps=7, learning_rate=0.02
    )
    optimizer = learner.configure_optimizers()
    for _ in range(50):
        optimizer.zero_grad()
        batch = learner.next_batch()
        assert batch.weight.sum().item() == pytest.approx(1) and int((batch.weight.sum(0) > 0).sum()) == 4
        learner.loss(batch)["loss"].backward()
        learner.configure_gradient_clipping(optimizer)
        optimizer.step()
    assert learner.roll_out()[0].action.float().mean() > 0.9
    with pytest.raises(controller.UserError, match=r"algo\.share"):
        elite(learner.policy, Corridor(), steps=7, share=0)


def test_the_algorithm_is_at_most_80_lines():
    assert len(blocks_of(EXTENDING)["worldmodels/policy_gradient/elite.py"].splitlines()) <= 80


def test_the_algorithm_goes_through_the_script_s_stage(configs, tmp_path, monkeypatch):
    """With the page's config: CartPole-v1, where random play returns some 20."""
    monkeypatch.setitem(controller.LEARNERS, "elite", defined_by("worldmodels/policy_gradient/elite.py")["Elite"])
    own = [
        "env=cartpole",
        "env.num_envs=16",
        "algo=elite",
        "algo.updates=50",
        f"runs={tmp_path}",
        "wandb.mode=disabled",
    ]
    settings = settings_of("train_baseline", *own)
    run = Run("train_baseline", settings)
    parts = {name: settings[name] for name in ("env", "algo", "policy", "seed", "device")}
    result = controller.train_baseline(run, **parts)
    assert result.scores["training_return"] > 35
    assert "train/entropy" in (run.folder / "metrics.csv").read_text()
    Policy.load(result.artefacts["checkpoint"])


def test_the_world_keeps_to_the_protocol():
    world = defined_by("worldmodels/worlds/point_world.py")["PointWorld"](batch=64, limit=3)
    state = world.reset()
    assert state.shape == (64, *world.state_shape)
    kinds = set()
    for _ in range(9):
        before, action = state.clone(), torch.full((64, 2), 0.1)
        step = world.step(action)
        assert isinstance(step, Step) and torch.equal(state, before), "what was handed out stays as it was"
        ended = step.terminated | step.truncated
        assert not (step.terminated & step.truncated).any()
        assert torch.allclose(step.next_state, state + action)
        assert torch.allclose(step.reward, -step.next_state.norm(dim=1))
        assert torch.equal(step.state[~ended], step.next_state[~ended])
        assert (step.state[ended] != step.next_state[ended]).all() and (step.state[ended].abs() <= 1).all()
        kinds |= {name for name in ("terminated", "truncated") if getattr(step, name).any()}
        state = step.state
    assert kinds == {"terminated", "truncated"}


def test_a_learner_takes_the_world_as_it_is(monkeypatch, capsys):
    """The page's last block, as it stands; at random a point earns −17."""
    made = type(sys)("worldmodels.worlds.point_world")
    vars(made).update(defined_by("worldmodels/worlds/point_world.py"))
    monkeypatch.setitem(sys.modules, made.__name__, made)
    learner = defined_by("train_points.py")["learner"]
    assert "training return" in capsys.readouterr().out
    assert learner.returns.mean() > -8
