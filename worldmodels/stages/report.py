"""A run, or a whole pipeline, as one page that opens without a server: what was done, figures, pictures, films."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..evaluation.plots import canvas
from ..tracking import figure

STYLE = """
body { margin: 0 auto; max-width: 960px; padding: 24px 18px 60px; color: #222; background: #fcfbf9;
  font: 16px/1.5 "DejaVu Sans", system-ui, sans-serif; }
h1 { font-size: 26px; margin-bottom: 4px; } h2 { font-size: 20px; margin: 36px 0 6px; border-top: 1px solid #ddd;
  padding-top: 18px; } h3 { font-size: 16px; margin: 18px 0 6px; }
table { border-collapse: collapse; font-size: 14px; display: block; overflow-x: auto; }
td, th { border-bottom: 1px solid #ddd; padding: 4px 10px; text-align: left; vertical-align: top; }
th { font-weight: 600; }
img, video { max-width: 100%; border-radius: 4px; } figure { margin: 12px 0; }
figcaption { color: #666; font-size: 13px; }
pre { font: 13px/1.45 "DejaVu Sans Mono", monospace; background: #f0eeea; border-radius: 4px; padding: 10px;
  overflow-x: auto; }
details { margin: 8px 0; } summary { cursor: pointer; color: #555; }
"""
KINDS = {".png": "image/png", ".webm": "video/webm"}


def report(run: str | Path) -> Path:
    """Write report.html into the folder of a run, or of a pipeline; returns its path.

    Raises UserError for a folder that is neither.
    """
    folder = Path(run)
    if (folder / "rows.json").is_file():
        title, body = f"Pipeline {folder.name}", _pipeline(folder)
    elif (folder / "lineage.json").is_file():
        title, body = f"{_lineage(folder)['stage']}: {folder.parent.name}", _run(folder)
    else:
        raise UserError(f"{folder} is no run's folder; pass run=runs/train_vae/…/… or run=runs/pipeline/NAME")
    path = folder / "report.html"
    page = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    page += f"<title>{_text(title)}</title><style>{STYLE}</style>"
    path.write_text(f"{page}<link rel=icon href='data:,'><h1>{_text(title)}</h1>{body}</html>\n")
    return path


def _pipeline(folder: Path) -> str:
    """The table that ended the pipeline, its rounds, and each stage's run."""
    rows = json.loads((folder / "rows.json").read_text())
    table = [
        (
            row["stage"],
            f"{row['seconds']:.0f}",
            f"{figure(row['samples'] / row['seconds'])} {row['unit']}",
            row["metric"],
        )
        for row in rows
    ]
    parts = [_table(("stage", "seconds", "samples a second", "key figure"), table)]
    rounds = folder / "rounds.json"
    if rounds.is_file():
        found = json.loads(rounds.read_text())
        names = [name for name in found[0] if any(one[name] is not None for one in found)]
        lines = [tuple(_number(one[name]) for name in names) for one in found]
        parts.append("<h3>Rounds</h3>" + _table(tuple(names), lines))
    for row in rows:
        place = _folder_of(row)
        parts.append(f"<h2>{_text(row['stage'])}</h2><p>{_text(row['metric'])}</p>")
        if place is not None:
            parts.append(_run(place))
    return "".join(parts)


def _folder_of(row: dict[str, Any]) -> Path | None:
    """The run folder of a pipeline's row; None where it is gone."""
    own = [Path(row["folder"])] if row.get("folder") else []  # rows of before do not say it
    candidates = own + [Path(artefact).parent for artefact in row["artefacts"].values()]
    return next((folder for folder in candidates if (folder / "lineage.json").is_file()), None)


def _run(folder: Path) -> str:
    """What a run's folder tells."""
    lineage = _lineage(folder)
    parts = [f"<p>{_text(lineage['started'])}, seed {lineage['seed']}</p><pre>{_text(lineage['command'])}</pre>"]
    if (folder / "scores.json").is_file():
        summary = json.loads((folder / "scores.json").read_text())["summary"]
        parts.append(_table(tuple(summary), [tuple(map(_number, summary.values()))]))
    for path in sorted(folder.glob("*.png")) + sorted(folder.glob("*.webm")):
        parts.append(_embedded(path.read_bytes(), path.suffix, path.name))
    if (folder / "metrics.csv").is_file():
        curves = curves_of(folder / "metrics.csv")
        if curves:
            parts.append(_embedded(_plotted(curves), ".png", "metrics.csv"))
    inputs = [(name, about["path"], about["sha256"][:12]) for name, about in lineage["inputs"].items()]
    parts.append("<details><summary>made from, with what</summary>")
    parts.append(_table(("input", "path", "sha256"), inputs) if inputs else "")
    parts.append(_table(("package", "version"), sorted(lineage["versions"].items())))
    if (folder / "config.json").is_file():
        parts.append(f"<pre>{_text((folder / 'config.json').read_text())}</pre>")
    return "".join([*parts, "</details>"])


def curves_of(metrics: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each column of metrics.csv that changes: the steps at which it has a number, and the numbers."""
    with metrics.open() as file:
        rows = list(csv.DictReader(file))
    found = {}
    for name in rows[0] if rows else ():
        points = [(float(row["step"]), float(row[name])) for row in rows if row.get(name) not in (None, "")]
        steps, values = (np.array(part) for part in zip(*points)) if points else (np.zeros(0), np.zeros(0))
        known = np.isfinite(values)
        if "/" in name and not name.startswith("time/") and known.sum() > 1:
            found[name] = (steps[known], values[known])
    return found


def _plotted(curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> bytes:
    pyplot = canvas()
    columns = min(3, len(curves))
    lines = -(-len(curves) // columns)
    shape = {"figsize": (3.4 * columns, 2.3 * lines), "layout": "constrained", "squeeze": False}
    picture, places = pyplot.subplots(lines, columns, **shape)
    for axes in places.flat[len(curves) :]:
        axes.axis("off")
    for axes, (name, (steps, values)) in zip(places.flat, curves.items(), strict=False):
        axes.plot(steps, values, lw=1)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("update_step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=100)
    pyplot.close(picture)
    return buffer.getvalue()


def _lineage(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "lineage.json").read_text())


def _embedded(content: bytes, suffix: str, name: str) -> str:
    source = f"data:{KINDS[suffix]};base64,{base64.b64encode(content).decode()}"
    shown = (
        f'<img src="{source}" alt="">' if suffix == ".png" else f'<video src="{source}" controls loop muted></video>'
    )
    return f"<figure>{shown}<figcaption>{_text(name)}</figcaption></figure>"


def _table(names: tuple[str, ...], rows: list[Any]) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in names)
    lines = "".join("<tr>" + "".join(f"<td>{_text(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{lines}</table>"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _text(value: Any) -> str:
    return html.escape(str(value))
