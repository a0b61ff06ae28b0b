"""docs/imagine.ipynb runs from its first cell to its last, and its dreams are M's."""

import json
import os
import re
from pathlib import Path

import matplotlib
import pytest
import torch

from worldmodels.types import Posterior
from worldmodels.worlds.dream_world import DreamWorld

NOTEBOOK = Path(__file__).parents[1] / "docs" / "imagine.ipynb"
OUTPUTS = """make the outputs anew, with pictures as JPEG: jupyter nbconvert --to notebook --execute --inplace \
docs/imagine.ipynb --ExecutePreprocessor.record_timing=False \
--ExecutePreprocessor.extra_arguments="['--InlineBackend.figure_formats=jpeg']" """


def cells(kind):
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The names that all cells, run in order in a folder with nothing in it, leave behind."""
    import matplotlib.pyplot as plt

    threads, folder, backend = torch.get_num_threads(), os.getcwd(), matplotlib.get_backend()
    plt.switch_backend("agg")
    os.chdir(tmp_path_factory.mktemp("empty"))
    found = {"__name__": "notebook"}
    try:
        for number, cell in enumerate(cells("code"), 1):
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), found)
        found["figures"] = len(plt.get_fignums())
        yield found
    finally:
        plt.close("all")
        plt.switch_backend(backend)
        os.chdir(folder)
        torch.set_num_threads(threads)


def test_every_cell_runs_and_draws(run):
    assert run["figures"] == 10
    exercises = [cell for cell in cells("code") if "# change this" in "".join(cell["source"])]
    assert len(exercises) == 4


def test_the_start_is_one_of_m_s_file(run):
    z, memory = run["start"]
    facts = run["models"].memory_checkpoint.facts["contexts"]
    assert torch.equal(z, facts["mean"][-1, :1]) and z.shape == (1, 32)
    assert memory.h.shape == memory.c.shape == (1, 256) and memory.h.abs().max() > 0.1


@pytest.mark.parametrize(
    "name, steps, batch", [("dream", 60, 1), ("left", 18, 1), ("many", 60, 64), ("swung", 40, 1), ("parting", 40, 32)]
)
def test_shapes_and_values_of_a_dream(run, name, steps, batch):
    dream = run[name]
    assert dream.z.shape == (steps + 1, batch, 32) and dream.action.shape == (steps, batch, 3)
    assert dream.reward.shape == dream.end.shape == (steps, batch)
    assert dream.z.isfinite().all() and dream.reward.isfinite().all() and dream.reward.std() > 0.01
    assert ((dream.end > 0) & (dream.end < 1)).all()
    low, high = (torch.tensor(run["models"].environment["action"][bound]) for bound in ("low", "high"))
    assert ((dream.action >= low) & (dream.action <= high)).all()


def test_a_seed_names_a_dream(run):
    again, other = (run["imagine"](run["start"], run["by_controller"], 60, seed=seed) for seed in (0, 1))
    assert all(torch.equal(one, two) for one, two in zip(run["dream"], again, strict=True))
    assert torch.equal(run["dream"].z[0], other.z[0]) and not torch.equal(run["dream"].z[1:], other.z[1:])


def test_the_dream_obeys(run):
    """As the text says: apart under other actions, and off the road, at about −0.4, when steered to a side."""
    left, straight, right = (run["V"].decode(run[name].z[:, 0]).float() for name in ("left", "straight", "right"))
    assert torch.equal(left[0], right[0])
    assert (left[-8:] - right[-8:]).abs().mean() > 2 and (left[-8:] - straight[-8:]).abs().mean() > 2
    starts, returns = run["starts"], {}
    for steering in (-0.5, 0.0, 0.5):
        dreams = run["imagine"](starts, run["held"](steering), 25)
        returns[steering] = dreams.reward.sum(0).mean()
        if steering:
            assert dreams.reward[-1].median() == pytest.approx(-0.4, abs=0.3)
    assert returns[0.0] > max(returns[-0.5], returns[0.5]) + 10


def test_a_wilder_dream_pays_c_less(run):
    assert run["returns"][0.1].mean() > run["returns"][1.5].mean() + 20
    assert run["returns"][0.1].std() < run["returns"][1.5].std()


def test_the_ten_lines_are_the_dream_world(run):
    """At a temperature of almost 0 nothing is left to chance: both must dream the same."""
    contexts = run["contexts"]
    exact = Posterior(contexts.observation.mean[:, :1], torch.full_like(contexts.observation.mean[:, :1], -50.0))
    one = contexts._replace(
        observation=exact,
        **{name: getattr(contexts, name)[:, :1] for name in ("action", "reward", "terminated", "first", "valid")},
    )
    space = run["models"].environment["action"]
    world = DreamWorld(run["M"], one, space, batch=1, horizon=99, temperature=1e-12, terminates=False)
    dream = run["imagine"](run["start"], run["by_controller"], 10, temperature=1e-12)
    state = world.reset()
    for t in range(10):
        assert torch.allclose(state[:, :32], dream.z[t], atol=1e-3)
        step = world.step(dream.action[t])
        assert torch.allclose(step.reward, dream.reward[t], atol=1e-3)
        state = step.state


def test_the_outputs_that_are_kept():
    """In order, without an error or a warning, without a place on somebody's disk, and small."""
    assert [cell["execution_count"] for cell in cells("code")] == list(range(1, len(cells("code")) + 1)), OUTPUTS
    outputs = [output for cell in cells("code") for output in cell["outputs"]]
    pictures = [output for output in outputs if output["output_type"] == "display_data"]
    assert len(pictures) == 10 and {output["output_type"] for output in outputs} <= {"display_data", "stream"}, OUTPUTS
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}, OUTPUTS
    printed = "".join("".join(output.get("text", [])) for output in outputs)
    assert "parameters" in printed and not re.search(r"(?<!\w)/\w", printed)
    assert NOTEBOOK.stat().st_size < 400_000, OUTPUTS


def test_links_and_commands_of_the_text_exist():
    text = "\n".join("".join(cell["source"]) for cell in cells("markdown"))
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (NOTEBOOK.parent / target).exists(), target
    for script in re.findall(r"scripts/(\w+)\.py", text):
        assert (NOTEBOOK.parents[1] / "scripts" / f"{script}.py").exists(), script
