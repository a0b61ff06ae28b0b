import json

from worldmodels.rollouts.files import write_json


def test_lists_of_numbers_stand_on_one_line(tmp_path):
    content = {"a": [1, 2.5, -3e-7], "b": [[1, 2], [3, 4]], "c": ["x [1,  2]", {"d": []}, "[1\n 2]"], "n": None}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == content, "and strings stay as they are"
    assert '"a": [ 1, 2.5, -3e-07 ],\n' in text and '"b": [ [ 1, 2 ], [ 3, 4 ] ],\n' in text
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
