"""One page about a run or a pipeline."""

import html
import json
from pathlib import Path

import pytest

from worldmodels.errors import UserError
from worldmodels.stages.pipeline import run_pipeline
from worldmodels.stages.report import curves_of
from worldmodels.stages.report import report as report_page


def test_a_page_about_a_pipeline_or_a_run(settings, tmp_path):
    """It holds every stage, its pictures and its film, and loads nothing from elsewhere."""
    settings |= {"rounds": 1}
    settings["validation"]["episodes"] = 2
    rows = run_pipeline(settings)
    page = report_page(Path(settings["runs"]) / "pipeline" / "small").read_text()
    for row in rows:
        assert f"<h2>{row.stage}</h2>" in page and html.escape(row.metric) in page
    assert page.count("</p><pre>") == len(rows), "the command of each, of collections too"
    assert page.count("data:video/webm;base64,") == 1 and page.count("data:image/png;base64,") >= 4
    for picture in ("traversals", "latents", "calibration", "horizon", "outcomes", "filmstrip"):
        assert f"<figcaption>{picture}.png</figcaption>" in page
    assert "src='http" not in page and 'src="http' not in page and "href=http" not in page
    assert "<h3>Rounds</h3>" in page and "sha256" in page and "torch" in page
    vision = Path(next(row.artefacts["checkpoint"] for row in rows if row.stage == "V")).parent
    alone = report_page(vision).read_text()
    assert "train_vae" in alone and alone.count("data:image/png") == 2, "reconstructions, and the curves"
    with pytest.raises(UserError, match="no run's folder"):
        report_page(tmp_path)


def test_what_is_written_into_a_page_cannot_act(tmp_path):
    lineage = {"stage": "<script>alert(1)</script>", "command": "<b>", "started": "", "seed": 0, "inputs": {}}
    (tmp_path / "lineage.json").write_text(json.dumps({**lineage, "versions": {"<i>": "&"}}))
    (tmp_path / "metrics.csv").write_text("step,train/loss,time/seconds\n1,2,3\n2,nan,4\n3,1,5\n")
    page = report_page(tmp_path).read_text()
    assert "<script" not in page and "<b>" not in page and "<i>" not in page and "&lt;b&gt;" in page
    steps, values = curves_of(tmp_path / "metrics.csv")["train/loss"]
    assert steps.tolist() == [1, 3] and values.tolist() == [2, 1]
