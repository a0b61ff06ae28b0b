"""Every script as a person types it, on a small environment; then the same scripts with bad input."""

import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import cv2
import gymnasium
import numpy as np
import pytest
import torch

import worldmodels  # noqa: F401  registers the dream

ROOT = Path(__file__).parents[1]
BLOB = ["env=custom", "env.id=environments:Blob-v0"]
SMALL_V = ["vision.model.width=0.25", "vision.model.latent_dim=4", "vision.update_steps=12", "vision.validations=2"]
SMALL_V += ["vision.batch_size=16"]
SMALL_M = ["memory.model.hidden_dim=16", "memory.update_steps=12", "memory.validations=2", "memory.batch_size=8"]
SMALL_M += ["memory.window=8", "memory.context=4", "memory.starts=32"]
DREAM = ["controller.batch=16", "controller.horizon=6"]


def run(folder, script, *arguments, fails=False):
    """Output of `python scripts/SCRIPT …` within `folder`; with fails, of what must not succeed."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / f"{script}.py", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if fails:
        assert done.returncode == 2, done.stdout + done.stderr
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
        return lines[0]
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def made(output, name="checkpoint"):
    """The path that a script said it wrote."""
    return next(line.split(": ", 1)[1] for line in output.splitlines() if line.startswith(f"{name}: "))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder in which everything was made once: store "a", V, M, and a C trained in the dream."""
    folder = tmp_path_factory.mktemp("shell")
    run(folder, "collect_rollouts", "store=a", "collect.episodes=8", "collect.validation_every=4", *BLOB)
    vae = made(run(folder, "train_vae", "store=a", *SMALL_V, "wandb.mode=disabled"))
    mdnrnn = made(run(folder, "train_mdnrnn", "store=a", f"vae={vae}", *SMALL_M, "wandb.mode=disabled"))
    both = [f"vae={vae}", f"mdnrnn={mdnrnn}"]
    controller = made(run(folder, "train_controller", *both, *DREAM, "algo.updates=3", "algo.steps=6"))
    return folder, vae, mdnrnn, controller


def test_a_run_folder_tells_its_story(models):
    folder, vae, mdnrnn, controller = models
    run_folder = (folder / controller).parent
    assert run_folder.parent.parent == folder / "runs" / "train_controller"
    assert run_folder.name.endswith("_s0")
    lineage = json.loads((run_folder / "lineage.json").read_text())
    assert set(lineage["inputs"]) == {"vision", "memory"}
    assert lineage["inputs"]["vision"]["sha256"] == worldmodels_sha256(folder / vae)
    assert lineage["versions"]["torch"] == version("torch")
    assert json.loads((run_folder / "config.json").read_text())["algo"]["updates"] == 3
    rows = list(csv.DictReader((run_folder / "metrics.csv").open()))
    assert "train/return" in rows[-1] and float(rows[-1]["dream_step"]) == 3 * 6 * 16
    assert list((run_folder / "wandb").glob("offline-run-*")), "W&B is offline unless told otherwise"
    for name in (vae, mdnrnn, controller):
        torch.load(folder / name, weights_only=True)


def test_each_validation_tells_how_much_is_used(models):
    """Of V's 4 latent dimensions and of M's 5 components; twice, since there were two validations."""
    folder, vae, mdnrnn, _ = models
    for checkpoint, name, most in ((vae, "active_units", 4), (mdnrnn, "mixtures_used", 5)):
        rows = list(csv.DictReader((folder / checkpoint).with_name("metrics.csv").open()))
        looks = [float(row[f"validation/{name}"]) for row in rows if row["validation/loss"]]
        assert len(looks) == 2 and all(0 <= look <= most for look in looks), name
        counted = [float(row["update_step"]) for row in rows if row["validation/loss"]]
        assert counted == [6, 12], "the axis of what no simulator counts"


def worldmodels_sha256(path):
    from worldmodels.checkpoints import sha256

    return sha256(path)


@pytest.mark.parametrize("behaviour", ["uniform", "held", "network", "[brownian,held]"])
def test_collect_appends(models, behaviour, tmp_path):
    arguments = ["store=b", "collect.episodes=2", f"collect.behaviour={behaviour}", "collect.validation_every=2"]
    for _ in range(2):
        run(tmp_path, "collect_rollouts", *arguments, *BLOB, "wandb.mode=disabled")
    episodes = json.loads((tmp_path / "data/rollouts/b/manifest.json").read_text())["episodes"]
    assert len(episodes) == 4 and len({episode["seed"] for episode in episodes}) == 4
    if "," in behaviour:  # each split sees each behaviour
        held_out = {episode["policy"] for episode in episodes if 2**30 <= episode["seed"] < 2**30 + 2**29}
        assert held_out == {"brownian", "held"}


def test_collect_with_a_controller_and_noise(models):
    folder, *_, controller = models
    arguments = ["collect.behaviour=controller", f"collect.checkpoint={controller}", "collect.noise=0.3"]
    run(folder, "collect_rollouts", "store=driven", "collect.episodes=3", *arguments, *BLOB)
    episodes = json.loads((folder / "data/rollouts/driven/manifest.json").read_text())["episodes"]
    assert [episode["policy"] for episode in episodes] == ["controller"] * 3


def test_vision_and_memory_go_on_with_more_data(models):
    folder, vae, mdnrnn, _ = models
    run(folder, "collect_rollouts", "store=more", "collect.episodes=4", "seed=1", *BLOB)
    more = ["store=[a,more]", "wandb.mode=disabled"]
    newer = made(run(folder, "train_vae", *more, *SMALL_V, f"continue_from={vae}"))
    run(folder, "train_mdnrnn", *more, *SMALL_M, f"vae={newer}", f"continue_from={mdnrnn}")


@pytest.mark.parametrize("world", ["dream", "latent"])
@pytest.mark.parametrize(
    "algo",
    [
        ["algo=a2c", "algo.updates=2", "algo.steps=5", "policy.hidden=[]"],
        ["algo=reinforce", "algo.updates=2", "algo.steps=30"],
        ["algo=cmaes", "algo.generations=2", "algo.population=6", "algo.episodes=1", "policy.hidden=[8]"],
    ],
    ids=["a2c", "reinforce", "cmaes"],
)
def test_controllers_are_trained_and_scored(models, world, algo):
    folder, vae, mdnrnn, _ = models
    own = [*DREAM, f"vae={vae}", f"mdnrnn={mdnrnn}", f"world={world}", "num_envs=3", "asynchronous=false"]
    checkpoint = made(run(folder, "train_controller", *own, *algo, "wandb.mode=disabled"))
    scores = made(run(folder, "evaluate", f"checkpoint={checkpoint}", "evaluation.episodes=3"), "scores")
    content = json.loads((folder / scores).read_text())
    assert len(content["returns"]) == 3 and content["summary"]["n"] == 3
    assert content["summary"]["mean"] == pytest.approx(np.mean(content["returns"]))
    assert [sum(rewards) for rewards in content["rewards"]] == pytest.approx(content["returns"], abs=0.05)
    assert all(seed >= 2**30 + 2**29 for seed in content["seeds"]), "held-out test tracks"
    assert content["environment"]["id"] == "environments:Blob-v0" and content["versions"]["gymnasium"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["env=cartpole", "algo.updates=3"],
        ["env=lunarlander", "algo.updates=3"],
        ["env=cartpole", "algo=q_actor_critic", "algo.updates=2"],
        ["env=lunarlander", "algo=ppo", "algo.updates=5", "algo.steps=8"],
        ["env=lunarlander_continuous", "algo=reinforce_baseline", "algo.updates=1", "policy.distribution=gaussian"],
        ["env=carracing", "algo.updates=1", "algo.steps=4"],
    ],
    ids=["cartpole", "lunarlander", "action values", "ppo", "continuous", "pixels"],
)
def test_baselines_are_trained_and_scored(tmp_path, arguments):
    checkpoint = made(run(tmp_path, "train_baseline", *arguments, "wandb.mode=disabled"))
    if "env=carracing" not in arguments:
        assert "n=2" in run(tmp_path, "evaluate", f"checkpoint={checkpoint}", "evaluation.episodes=2")


@pytest.mark.parametrize("algo", ["policy_iteration", "td0", "q_learning"])
def test_small_worlds_are_solved_and_drawn(tmp_path, algo):
    fewer = [] if algo == "policy_iteration" else ["algo.episodes=300"]
    output = run(tmp_path, "solve_tabular", f"algo={algo}", "env=frozenlake", "wandb.mode=disabled", *fewer)
    content = json.loads((tmp_path / made(output, "values")).read_text())
    assert len(content["value"]) == 16 and (len(content["error"]) == 300 or not fewer)
    assert cv2.imread(str(tmp_path / made(output, "picture"))) is not None
    if algo == "policy_iteration":
        assert content["start"] == pytest.approx(14 / 17)
        table = output.splitlines()
        assert table[1].split() == ["0.824", ".", "0.529", "."] and table[8].split()[1] == "→"
    for wrong, words in ((["env=cartpole"], "no transition table"), (["algo=cmaes"], "unknown algo 'cmaes'")):
        assert words in run(tmp_path, "solve_tabular", *wrong, fails=True)


def test_the_gradient_laboratory(tmp_path):
    output = run(tmp_path, "gradient_lab", "lab.budget=20000", "lab.sizes=[10,100]", "wandb.mode=disabled")
    table = json.loads((tmp_path / made(output, "table")).read_text())
    assert len(table["trials"]) == 12 and output.count(" s.e. ") == 12
    assert cv2.imread(str(tmp_path / made(output, "picture"))) is not None
    assert "must divide" in run(tmp_path, "gradient_lab", "lab.sizes=[3,10]", fails=True)


@pytest.mark.parametrize("driven", [True, False])
def test_a_film_and_a_filmstrip(models, driven):
    folder, vae, mdnrnn, controller = models
    drives = [f"checkpoint={controller}", "video.clip=true"] if driven else []
    own = [f"vae={vae}", f"mdnrnn={mdnrnn}", "video.steps=12", "video.skip=4"]
    output = run(folder, "dream_video", *own, *drives)
    film = cv2.VideoCapture(str(folder / made(output, "video")))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 13
    assert film.get(cv2.CAP_PROP_FRAME_WIDTH) > 3 * 4 * 64
    strip = cv2.imread(str(folder / made(output, "filmstrip")))
    assert strip.shape[1] == 10 * 128 + 9 * 4 and strip[-200:].std() > 10, "errors below the frames"
    assert ("clip: " in output) == driven
    if driven:
        there, clip = cv2.imreadanimation(str(folder / made(output, "clip")))
        assert there and len(clip.frames) == 13 and clip.frames[0].shape[1] > 3 * 4 * 64


def test_dreams_from_one_start_side_by_side(models):
    folder, vae, mdnrnn, _ = models
    own = [f"vae={vae}", f"mdnrnn={mdnrnn}", "video.steps=9", "video.skip=4", "wandb.mode=disabled"]
    output = run(folder, "dream_video", *own, "video.held=[[-1,-1,0],[1,1,1]]", "video.temperatures=[0.1,30]")
    for name, rows in (("actions", 2), ("temperatures", 3)):  # real frames stand above the latter
        picture = cv2.imread(str(folder / made(output, name)))
        height, width = 22 + 2 * 64 + 4, 2 * 64 + 4  # a row with its name, a frame; a margin behind each
        assert picture.shape == (rows * height - 4, 10 * width - 4, 3)
        frames = [[picture[r * height :, c * width :][22:150, :128] for c in range(10)] for r in range(rows)]
        one, other = frames[-2:]
        assert np.array_equal(one[0], other[0]) and not np.array_equal(one[-1], other[-1])
    assert "no action of" in run(folder, "dream_video", *own, "video.held=[[-1,-1,-1]]", fails=True)
    assert "must be positive" in run(folder, "dream_video", *own, "video.temperatures=[1,0]", fails=True)


def test_sweeps_and_config_and_help(tmp_path):
    run(tmp_path, "train_baseline", "-m", "seed=0,1", "algo.updates=2", "wandb.mode=disabled")
    assert sorted(path.name[-3:] for path in (tmp_path / "runs/train_baseline/CartPole-v1").iterdir()) == ["_s0", "_s1"]
    scripts = sorted(path.stem for path in (ROOT / "scripts").glob("*.py") if path.stem != "command")
    assert scripts == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml") if path.stem != "common")
    without_chance = {"export_checkpoint", "play", "report"}
    for script in scripts:
        assert f"python scripts/{script}.py" in run(tmp_path, script, "--help")
        assert ("seed: 0" in run(tmp_path, script, "--cfg", "job")) == (script not in without_chance)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"], "Hydra leaves no files of its own"


def test_one_seed_same_numbers(models, tmp_path):
    """metrics.csv of two runs of V, M and C agree but for the time."""
    folder, vae, mdnrnn, _ = models
    quiet = "wandb.mode=disabled"
    for script, arguments in {
        "train_vae": ["store=a", *SMALL_V],
        "train_mdnrnn": ["store=a", f"vae={vae}", *SMALL_M],
        "train_controller": [f"vae={vae}", f"mdnrnn={mdnrnn}", *DREAM, "algo.updates=10"],
    }.items():
        tables = []
        for _ in range(2):
            output = run(folder, script, *arguments, quiet, "seed=3")
            path = (folder / made(output)).parent / "metrics.csv"
            tables.append([{k: v for k, v in row.items() if "time" not in k} for row in csv.DictReader(path.open())])
        assert tables[0] == tables[1] and len(tables[0]) >= 1
        assert any(value for row in tables[0] for key, value in row.items() if key.startswith("train/"))


def test_the_dream_is_a_gymnasium_vector_env(models):
    folder, _, mdnrnn, _ = models
    envs = gymnasium.make_vec("worldmodels/Dream-v0", num_envs=5, memory=folder / mdnrnn, horizon=3)
    assert envs.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.SAME_STEP
    observation, _ = envs.reset(seed=0)
    assert envs.observation_space.contains(observation) and observation.shape == (5, 4 + 16)
    envs.action_space.seed(0)
    finals = 0
    for _ in range(9):
        observation, reward, terminated, truncated, infos = envs.step(envs.action_space.sample())
        assert observation.shape == (5, 20) and reward.shape == terminated.shape == truncated.shape == (5,)
        ended = terminated | truncated
        if ended.any():
            assert infos["_final_obs"].tolist() == ended.tolist()
            for place in np.flatnonzero(ended):
                assert not np.array_equal(infos["final_obs"][place], observation[place])
                finals += 1
    assert finals >= 15
    again, _ = envs.reset(seed=0)
    other, _ = envs.reset(seed=1)
    repeat, _ = envs.reset(seed=0)
    assert np.array_equal(again, repeat) and not np.array_equal(again, other)


def test_dqn_from_vectors_and_from_pixels(tmp_path):
    small = ["algo=dqn", "algo.updates=20", "algo.warm_up=40", "algo.capacity=400", "wandb.mode=disabled"]
    for env in (["env=cartpole"], ["env=pong", "env.num_envs=2", "env.asynchronous=false"]):
        if env[0] == "env=pong" and not importlib.util.find_spec("ale_py"):
            continue
        checkpoint = made(run(tmp_path, "train_baseline", *env, *small))
        told = run(tmp_path, "evaluate", f"checkpoint={checkpoint}", "evaluation.episodes=1", "wandb.mode=disabled")
        assert "n=1" in told
    assert "discrete" in run(tmp_path, "train_baseline", "env=pendulum", "algo=dqn", fails=True)


def test_compiled_or_not_a_learner_learns_the_same(tmp_path):
    words = ["env=cartpole", "algo=a2c", "algo.updates=12", "algo.steps=5", "algo.critic_learning_rate=0.01"]
    words += ["algo.anneal=true", "policy.normalize=true", "wandb.mode=disabled"]
    plain, compiled = (
        torch.load(tmp_path / made(run(tmp_path, "train_baseline", *words, *more)), weights_only=True)["state_dict"]
        for more in ([], ["compile=true"])
    )
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        assert torch.allclose(compiled[name], value, atol=1e-4), name


def test_training_goes_on_with_the_groups_it_began_with(tmp_path):
    words = ["env=cartpole", "algo=a2c", "algo.updates=3", "wandb.mode=disabled"]
    checkpoint = made(run(tmp_path, "train_baseline", *words))
    words += [f"continue_from={checkpoint}", "algo.critic_learning_rate=0.01"]
    assert "critic_learning_rate" in run(tmp_path, "train_baseline", *words, fails=True)


def test_a_study_goes_on_with_the_seeds_that_are_missing(tmp_path):
    words = ["study=cartpole_a2c", "algo.updates=12", "algo.steps=8", "evaluation.episodes=3", "wandb.mode=disabled"]
    words += ["results=scores", "workers=2"]
    run(tmp_path, "run_study", *words, "seeds=[0,1]")
    first = json.loads((tmp_path / "scores" / "cartpole_a2c.json").read_text())
    assert list(first["seeds"]) == ["0", "1"] and first["settings"]["algo"]["updates"] == 12
    told = run(tmp_path, "run_study", *words, "seeds=[0,1,2]")
    assert "1 of 3 seeds to train" in told
    again = json.loads((tmp_path / "scores" / "cartpole_a2c.json").read_text())
    assert again["seeds"]["0"] == first["seeds"]["0"] and list(again["seeds"]) == ["0", "1", "2"]
    for seed in again["seeds"].values():
        assert len(seed["returns"]) == 3 and seed["env_steps"] == 12 * 8 * 8
    told = run(tmp_path, "run_study", *words, "seeds=[2]", "algo.updates=13", fails=True)
    assert "algo.updates is 12 there, 13 here" in told and "results=elsewhere" in told
    assert json.loads((tmp_path / "scores" / "cartpole_a2c.json").read_text()) == again, "as it was"
    assert "none twice" in run(tmp_path, "run_study", *words, "seeds=[1,1]", fails=True)
    assert "nosuch" in run(tmp_path, "run_study", "study=nosuch", fails=True)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds worker processes in /proc")
def test_workers_of_a_killed_study_end(tmp_path):
    words = ["study=cartpole_a2c", "algo.updates=1000000", "wandb.mode=disabled", "workers=1", "seeds=[0]"]
    command = [sys.executable, ROOT / "scripts" / "run_study.py", *words]
    study = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{study.pid}/task/{study.pid}/children")
    try:
        wait_until(lambda: list(tmp_path.glob("runs/train_baseline/*/*/metrics.csv")), "the worker trains")
        workers = [Path("/proc") / number for number in children.read_text().split()]
    finally:
        study.kill()
        study.wait()
    assert workers
    wait_until(lambda: not any(map(alive, workers)), "all workers have ended")


def wait_until(happened, what, seconds=60):
    for _ in range(10 * seconds):
        if happened():
            return
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


def alive(process):
    """Whether the process of a /proc folder runs; one that has ended may wait there for its parent."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_tables_and_pictures_are_rebuilt(tmp_path):
    for folder in ("results", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "README.md", tmp_path)
    page = tmp_path / "docs" / "results.md"
    before = page.read_text()
    page.write_text(
        re.sub(r"(<!-- results: model_free -->\n).*?(<!-- end -->)", r"\1spoilt\n\2", before, flags=re.DOTALL)
    )
    assert "docs/results.md" in run(tmp_path, "make_results")
    assert page.read_text() == before


# bad input: one line, exit code 2, nothing half-written


def test_bad_input(models, tmp_path):
    folder, vae, mdnrnn, controller = models
    before = sorted(path for path in folder.rglob("*") if "wandb" not in str(path))
    models_given = [f"vae={vae}", f"mdnrnn={mdnrnn}"]

    line = run(folder, "train_vae", "store=nowhere", fails=True)
    assert "nowhere" in line and "collect_rollouts.py store=nowhere" in line
    line = run(folder, "train_vae", fails=True)
    assert "store is not set" in line and "scripts/train_vae.py store=" in line
    line = run(folder, "train_vae", "store=a", "vision.model.width_of=2", fails=True)
    assert "width_of" in line and "--help" in line
    line = run(folder, "collect_rollouts", "store=c", "env=custom", "env.id=NoSuch-v0", fails=True)
    assert "NoSuch-v0" in line and "pprint_registry" in line
    line = run(folder, "collect_rollouts", "store=c", "collect.behaviour=wild", *BLOB, fails=True)
    assert "wild" in line and "brownian" in line
    line = run(folder, "train_mdnrnn", "store=a", f"vae={mdnrnn}", fails=True)
    assert "holds a memory, not a vision" in line and "train_vae.py" in line
    line = run(folder, "evaluate", "checkpoint=runs/none.ckpt", fails=True)
    assert "runs/none.ckpt" in line and "train_controller.py" in line
    line = run(folder, "evaluate", f"checkpoint={controller}", "evaluation.split=train", fails=True)
    assert "test or validation" in line
    if not torch.cuda.is_available():
        line = run(folder, "train_vae", "store=a", "device=cuda", fails=True)
        assert "no CUDA" in line and "device=cpu" in line
    for script, arguments, words in [
        ("train_controller", [*models_given, "world=moon"], "dream or latent"),
        ("train_controller", [*models_given, "controller.temperature=0"], "temperature"),
        ("train_controller", [*models_given, "policy.distribution=cauchy"], "beta or gaussian"),
        ("train_controller", [*models_given, "algo=cmaes", "algo.population=2", "policy.hidden=[]"], "algo.population"),
        ("train_controller", [*models_given, f"continue_from={vae}"], "holds a vision"),
        ("train_vae", ["store=a", "vision.validations=0"], "at least 1"),
        ("train_vae", ["store=a", "wandb.mode=cloud"], "offline, online or disabled"),
        ("train_baseline", ["env=frozenlake"], "neither a vector nor a frame"),
        ("train_baseline", ["env=lunarlander_continuous", "algo=q_actor_critic"], "needs discrete actions"),
        ("train_baseline", ["algo.estimator=best"], "choose total, reward_to_go, n_step, gae"),
    ]:
        assert words in run(folder, script, *arguments, fails=True)
    after = sorted(path for path in folder.rglob("*") if "wandb" not in str(path))
    assert after == before, "nothing was written"

    truncated = tmp_path / "truncated.ckpt"
    for size in (5000, 0):
        truncated.write_bytes((folder / vae).read_bytes()[:size])
        line = run(folder, "train_mdnrnn", "store=a", f"vae={truncated}", fails=True)
        assert "truncated.ckpt is damaged" in line and "train_vae.py" in line

    other = made(run(folder, "train_vae", "store=a", *SMALL_V, "seed=9", "wandb.mode=disabled"))
    for script in (["train_controller"], ["dream_video"]):
        line = run(folder, *script, f"vae={other}", f"mdnrnn={mdnrnn}", fails=True)
        assert "wrong V" in line
        for path in (vae, other):
            assert worldmodels_sha256(folder / path)[:12] in line, "both hashes"
    line = run(folder, "evaluate", f"checkpoint={controller}", f"vae={other}", "evaluation.episodes=1", fails=True)
    assert "wrong V" in line


def test_an_empty_store(models, tmp_path):
    folder = tmp_path / "data" / "rollouts" / "empty"
    folder.mkdir(parents=True)
    manifest = json.loads((models[0] / "data/rollouts/a/manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "episodes": []}))
    line = run(tmp_path, "train_vae", "store=empty", fails=True)
    assert "no train episode" in line and "collect_rollouts.py store=empty" in line


def test_v_and_m_are_diagnosed(models):
    folder, vae, mdnrnn, _ = models
    seen = run(folder, "diagnose_vision", "store=a", f"vae={vae}", "wandb.mode=disabled")
    found = json.loads((folder / made(seen, "diagnosis")).read_text())
    assert len(found["kl_per_dimension"]) == 4 and sum(found["kl_per_dimension"]) == pytest.approx(
        found["kl"], rel=1e-4
    )
    options = ["windows=8", "context=4", "horizon=5", "wandb.mode=disabled"]
    told = run(folder, "diagnose_memory", "store=a", f"vae={vae}", f"mdnrnn={mdnrnn}", *options)
    found = json.loads((folder / made(told, "diagnosis")).read_text())
    assert len(found["left_alone"]["pixel_error"]) <= 5 and found["one_step_ahead"]["calibration"]["n"] > 0
    seen_there, told_there = ("picture", "traversals"), ("calibration", "horizon", "outcomes")
    for output, picture in [(seen, one) for one in seen_there] + [(told, one) for one in told_there]:
        assert cv2.imread(str(folder / made(output, picture))).std() > 10


@pytest.mark.parametrize("view", ["controller.sees=z4", "controller.memory_weights=random"])
def test_what_c_sees_is_what_it_is_scored_on(models, view):
    """Its checkpoint says so, and the driver takes it."""
    folder, vae, mdnrnn, _ = models
    own = [*DREAM, f"vae={vae}", f"mdnrnn={mdnrnn}", "world=latent", "num_envs=2", "asynchronous=false", view]
    own += ["algo.updates=2", "algo.steps=5", "seed=5", "wandb.mode=disabled"]
    checkpoint = made(run(folder, "train_controller", *own))
    made(run(folder, "evaluate", f"checkpoint={checkpoint}", "evaluation.episodes=2", "wandb.mode=disabled"), "scores")
    facts = torch.load(folder / checkpoint, weights_only=True)["worldmodels"]["facts"]
    assert (facts["sees"], facts["random_memory"]) == (("z4", None) if "z4" in view else ("z_h", 5))
    assert run(folder, "train_controller", *own, "world=dream", fails=True)


def test_a_controller_travels_with_its_v_and_m(models):
    """Exported, moved, and scored as before: half precision changes the returns of Blob by little."""
    folder, _, _, controller = models
    scores = made(run(folder, "evaluate", f"checkpoint={controller}", "evaluation.episodes=3"), "scores")
    told = run(folder, "export_checkpoint", f"checkpoint={controller}", "folder=out", "starts=5", f"scores={scores}")
    (folder / "out").rename(folder / "moved")
    moved = made(told, "controller").replace("out/", "moved/")
    again = made(run(folder, "evaluate", f"checkpoint={moved}", "evaluation.episodes=3"), "scores")
    before, after = (json.loads((folder / path).read_text())["returns"] for path in (scores, again))
    assert after == pytest.approx(before, abs=0.5)
    about = json.loads((folder / "moved/controller.json").read_text())["facts"]
    assert about["scores"]["summary"]["n"] == 3 and about["command"].startswith("python")
    assert about["settings"]["algo"]["updates"] == 3 and about["seed"] == 0 and "torch" in about["versions"]
    told = json.loads((folder / "moved/vision.json").read_text())["facts"]
    assert told["settings"]["vision"]["update_steps"] == 12 and "validation/kl" in told["validation"]
    dreams = made(run(folder, "evaluate_dream", f"checkpoint={moved}", "dreams=9", "horizon=4"), "scores")
    assert len(json.loads((folder / dreams).read_text())["returns"]) == 9
    (folder / "moved/vision.safetensors").write_bytes(b"damaged")
    assert "vision" in run(folder, "evaluate", f"checkpoint={moved}", fails=True)


def test_a_controller_is_scored_in_the_dream(models):
    folder, _, _, controller = models
    own = [f"checkpoint={controller}", "dreams=5", "horizon=7", "temperature=1.2", "wandb.mode=disabled"]
    scores = json.loads((folder / made(run(folder, "evaluate_dream", *own), "scores")).read_text())
    assert len(scores["returns"]) == 5 and all(1 <= steps <= 7 for steps in scores["steps"])
    assert scores["summary"]["mean"] == pytest.approx(np.mean(scores["returns"]))
    baseline = made(run(folder, "train_baseline", "algo.updates=1", "wandb.mode=disabled"))
    line = run(folder, "evaluate_dream", f"checkpoint={baseline}", fails=True)
    assert "without a model" in line
