"""Runs: their folders, loggers, lineage, and progress that a person can follow."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from . import artifacts
from .checkpoints import sha256
from .errors import UserError

FINISH = 300  # seconds that the end of an online run waits for its uploads
REACH = 15  # seconds that the first online run waits for W&B


class StageResult(NamedTuple):
    """What a stage has to show."""

    samples: int
    unit: str  # of the samples
    metric: str  # the key figure, for a person
    artefacts: dict[str, Path]
    scores: dict[str, float]  # figures for machines


def pick_device(name: str) -> torch.device:
    """ "auto", "cpu" or "cuda". Raises UserError where CUDA is asked for and not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {name!r}; choose device=auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device here; run with device=cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


class Run:
    """A folder runs/<stage>/<env>/<time>_s<seed>/ with the resolved config, metrics, checkpoints and lineage."""

    folder: Path  # once begun
    unreachable = False  # W&B, as a run of this process has found: the others do not wait for it again

    def __init__(self, stage: str, settings: dict[str, Any]):
        self.stage, self.settings, self.seed = stage, settings, settings["seed"]
        self.wandb: dict[str, Any] = settings["wandb"]
        self.compiles = bool(settings.get("compile", False))  # the loss and the dreams, see Module.compile_loss
        self.has_loggers = False
        self.experiment: Any = None  # of W&B, once there is one
        self.derived: list[tuple[Path, tuple[str, ...]]] = []  # see derive
        if self.wandb["mode"] not in ("offline", "online", "disabled"):
            raise UserError(f"unknown wandb.mode {self.wandb['mode']!r}; choose offline, online or disabled")

    def begin(self, env_id: str, inputs: dict[str, Path], versions: dict[str, str], **facts: Any) -> None:
        """Make the folder, with config.json and lineage.json: what this run was made from, each input's sha256.

        Called once the stage's inputs have proved good: bad ones leave nothing behind.
        """
        self.env_id, self.inputs = env_id, inputs
        self.steps_axis = "env_step" if facts.get("world") in ("latent", "real") else "update_step"
        base = Path(self.settings["runs"]) / self.stage / env_id.replace("/", "_")
        base = base / f"{time.strftime('%Y%m%d-%H%M%S')}_s{self.seed}"
        self.folder, attempt = base, 1
        while True:
            try:
                self.folder.mkdir(parents=True)
                break
            except FileExistsError:  # started within the same second
                attempt += 1
                self.folder = base.with_name(f"{base.name}-{attempt}")
        (self.folder / "config.json").write_text(json.dumps(self.settings, indent=1) + "\n")
        content = {
            "stage": self.stage,
            "command": typed(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "seed": self.seed,
            "inputs": {name: {"path": str(path), "sha256": sha256(path)} for name, path in inputs.items()},
            "versions": {"python": platform.python_version(), **versions},
            **facts,
        }
        (self.folder / "lineage.json").write_text(json.dumps(content, indent=1) + "\n")

    def loggers(self) -> list[Any]:
        """metrics.csv always; W&B as settings say, offline unless told otherwise."""
        from lightning.pytorch.loggers import CSVLogger

        self.has_loggers = True
        warnings.filterwarnings("ignore", ".*exists and is not empty.*")  # it holds config.json and lineage.json
        found: list[Any] = [CSVLogger(self.folder, name="", version="")]
        if self.wandb["mode"] != "disabled":
            found.append(self._wandb_logger(self.wandb["mode"]))
        return found

    def bars(self, name: str, heights: torch.Tensor, step: int) -> None:
        """Heights [N] to W&B, one bar each, as a histogram: it shows how they change from one look to the next.

        step: the update after which they are so, as metrics.csv counts."""
        if self.experiment is None or not heights.isfinite().all():
            return
        import wandb

        values = heights.cpu().numpy()[: wandb.Histogram.MAX_LENGTH]
        bars = wandb.Histogram(np_histogram=(values, np.arange(len(values) + 1)))
        self.experiment.log({name: bars, "update_step": step + 1, "trainer/global_step": step})

    def derive(self, path: Path, *inputs: str) -> None:
        """What `path` stands for is made of some of the run's inputs on the way and read by it: for W&B an artifact
        between them and what the run makes."""
        self.derived.append((path, inputs))

    def record(self, result: StageResult) -> None:
        """Log the scores of a stage that had nothing to log on its way; and to W&B its pictures and films, and when
        online what it read and what it made as artifacts, a store by its manifest alone.

        A W&B that does not take them costs a warning.
        """
        if not self.has_loggers:
            for logger in self.loggers():
                logger.log_metrics(result.scores, step=0)
                logger.save()
        if self.experiment is not None:
            try:
                self._publish(result)
            except Exception as error:
                warnings.warn(
                    f"W&B has not got all that {self.folder} read and made ({type(error).__name__}); "
                    f"its lineage.json tells it",
                    stacklevel=2,
                )

    def _publish(self, result: StageResult) -> None:
        import wandb

        media: dict[str, Any] = {}
        for path in sorted({path for path in result.artefacts.values() if path.is_file()}):
            if path.suffix == ".png":
                media[f"pictures/{path.stem}"] = wandb.Image(str(path))
            elif path.suffix == ".webm":
                media[f"films/{path.stem}"] = wandb.Video(str(path), format="webm")
        if media:
            self.experiment.log(media)
        if not self.experiment.offline:
            self._draw_lineage(result)

    def _draw_lineage(self, result: StageResult) -> None:
        inputs = json.loads((self.folder / "lineage.json").read_text())["inputs"]
        made = [result.artefacts["checkpoint"]] if "checkpoint" in result.artefacts else []
        made += [result.artefacts["store"] / "manifest.json"] if "store" in result.artefacts else []
        for path in made:  # first, so that an input that cannot be asked for does not cost it
            artifacts.log(self.experiment, path, inputs)
        for name, path in self.inputs.items():
            artifacts.use(self.experiment, path, inputs[name]["sha256"])
        for path, sources in self.derived:
            digest = sha256(path)
            if not artifacts.use(self.experiment, path, digest):
                # a run of its own, since W&B draws no artifact between two of the same run
                with self._start("online", "derive", reinit="create_new") as deriving:
                    for name in sources:
                        artifacts.use(deriving, self.inputs[name], inputs[name]["sha256"])
                    handed = artifacts.log(deriving, path, {name: inputs[name] for name in sources})
                    handed.wait(timeout=artifacts.PATIENCE)
                artifacts.use(self.experiment, path, digest)

    def _start(self, mode: str, job_type: str, **options: Any) -> Any:
        import wandb

        own = filter(None, [self.wandb.get("group"), *self.wandb.get("tags", [])])
        return wandb.init(
            project=self.wandb.get("project", "worldmodels"),
            group=self.wandb.get("group"),
            job_type=job_type,
            tags=list(dict.fromkeys([self.env_id, f"seed={self.seed}", *own])),
            dir=self.folder,
            mode=mode,  # pyright: ignore[reportArgumentType]
            config=self.settings,
            settings=wandb.Settings(init_timeout=REACH, finish_timeout=FINISH, finish_timeout_raises=True),
            **options,
        )

    def _wandb_logger(self, mode: str) -> Any:
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ["WANDB_DATA_DIR"] = str(self.folder)
        from lightning.pytorch.loggers import WandbLogger

        mode = "offline" if Run.unreachable else mode
        try:
            experiment = self._start(mode, self.stage)
        except Exception as error:
            if mode == "offline":
                raise
            Run.unreachable = True
            warnings.warn(
                f"W&B is out of reach ({type(error).__name__}); going on with wandb.mode=offline", stacklevel=2
            )
            experiment = self._start("offline", self.stage)
        experiment.define_metric(self.steps_axis, hidden=True)
        experiment.define_metric("*", step_metric=self.steps_axis)
        self.experiment = experiment
        return WandbLogger(experiment=experiment)

    def close(self) -> None:
        """End the W&B run, so that the next stage of this process gets its own.

        Where W&B has not taken everything after FINISH seconds, or breaks, a warning says how to send the rest later:
        what a stage has made is not lost for that.
        """
        if "wandb" not in sys.modules:
            return
        try:
            sys.modules["wandb"].finish()
        except Exception as error:
            rest = self.folder / "wandb" / "run-*"
            warnings.warn(
                f"W&B is slow or gone ({type(error).__name__}); send the rest later: wandb sync {rest}", stacklevel=2
            )


def typed() -> str:
    """The command of this process as it would be typed, without the machine's folders."""
    here = str(Path.cwd()) + os.sep
    return shlex.join([Path(sys.executable).name, *(word.replace(here, "") for word in sys.argv)])


def figure(rate: float) -> str:
    """A rate for a person: two digits are enough where it is small."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


class Progress:
    """A bar on a terminal; elsewhere a plain line every ten seconds, and one at the end."""

    def __init__(self, label: str, total: int, unit: str, interval: float = 10.0):
        self.label, self.total, self.unit, self.interval = label, total, unit, interval
        self.done, self.text, self.bar = 0, "", None

    def __enter__(self) -> Progress:
        self.started = self.spoken = time.perf_counter()
        if sys.stdout.isatty():
            from rich import progress

            self.bar = progress.Progress(
                progress.TextColumn("{task.description:12}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeRemainingColumn(),
                progress.TextColumn("{task.fields[text]}"),
            )
            self.bar.start()
            self.task = self.bar.add_task(self.label, total=self.total, text="")
        else:
            print(f"{self.label}: {self.total:,} {self.unit} to go", flush=True)
        return self

    def advance(self, count: int = 1, **metrics: float) -> None:
        """`count` more are done; metrics are shown beside."""
        self.done += count
        shown = " ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self.text = shown or self.text
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, text=f"{figure(self.rate)} {self.unit}/s {self.text}")
        elif time.perf_counter() - self.spoken >= self.interval:
            self.spoken = time.perf_counter()
            self._say()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    @property
    def rate(self) -> float:
        return self.done / max(self.seconds, 1e-9)

    def _say(self) -> None:
        print(
            f"{self.label}: {self.done:,}/{self.total:,} {self.unit}, {self.seconds:.0f} s, "
            f"{figure(self.rate)}/s {self.text}",
            flush=True,
        )

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.stop()
        else:
            self._say()
