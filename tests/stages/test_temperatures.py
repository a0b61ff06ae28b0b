"""One V and M, controllers at several temperatures."""

import json
from pathlib import Path

import pytest

from worldmodels.errors import UserError
from worldmodels.stages.temperatures import sweep_temperature


def test_a_sweep_of_temperatures(small, tmp_path):
    """V and M are made once, each learner dreams at each temperature; run again, nothing is made twice."""
    settings = small("sweep_temperature", "temperatures=[0.5,1.2]", "dreams=3", f"results={tmp_path / 'results'}")
    settings["learners"]["a2c"]["algo"] |= {"updates": 2, "steps": 4}
    settings["learners"]["cmaes"]["algo"] |= {"generations": 1, "population": 4, "episodes": 1, "max_steps": 4}
    found = json.loads(sweep_temperature(settings).read_text())
    tried = [(one["learner"], one["temperature"]) for one in found["controllers"]]
    assert tried == [("a2c", 0.5), ("a2c", 1.2), ("cmaes", 0.5), ("cmaes", 1.2)]
    assert all(len(one["dream"]) == 3 and len(one["real"]) == 2 for one in found["controllers"])
    assert len(found["random"]) == 2 and found["env_steps"] > 0
    finished = Path(settings["runs"]) / "pipeline" / "small" / "finished.json"
    rows = [one["row"]["stage"] for one in json.loads(finished.read_text()).values()]
    assert rows.count("V") == rows.count("M") == 1 and "dream of C, cmaes, τ 1.2" in rows
    assert found["memory"]["steps"] == [1] and found["vision"]["frames"] == 32
    assert all(len(each) == settings["diagnosis"]["horizon"] for each in found["memory"]["ends"].values())
    before = finished.read_bytes()
    assert json.loads(sweep_temperature(settings).read_text()) == found and finished.read_bytes() == before
    kept = tmp_path / "results" / "small.json"
    older = {key: value for key, value in found.items() if key not in ("memory", "memory_sha256", "diagnosis")}
    kept.write_text(json.dumps({**older, "date": "before"}))
    again = json.loads(sweep_temperature(settings).read_text())
    assert again == {**found, "date": "before"}, "M of an older file is diagnosed as well"
    kept.write_text(json.dumps({**found, "memory_sha256": "another"}))
    with pytest.raises(UserError, match="memory_sha256 is another there"):
        sweep_temperature(settings)
    kept.write_text(json.dumps(found))
    with pytest.raises(UserError, match="nothing to compare"):
        sweep_temperature({**settings, "temperatures": []})
    with pytest.raises(UserError, match="dreams is 3 there, 4 here"):
        sweep_temperature({**settings, "dreams": 4})
    more = json.loads(sweep_temperature({**settings, "temperatures": [0.8]}).read_text())["controllers"]
    assert [one["temperature"] for one in more] == [0.5, 0.8, 1.2] * 2, "the others are kept"
