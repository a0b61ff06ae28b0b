"""What all scripts share: Hydra in, one line out when something is wrong.

Light on purpose: worker processes import the script that started them, so heavy imports wait inside the functions.
"""

import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from worldmodels.errors import UserError


def command(task):
    """Run `task(settings)` with the config named like its script, as plain values. Bad input exits with status 2."""
    # else Hydra prints its own lines and a hint in place of the error
    os.environ["HYDRA_FULL_ERROR"] = "1"
    script = Path(sys.argv[0]).name

    def with_plain_values(config: DictConfig) -> None:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            fail(f"{missing[0]} is not set; run: python scripts/{script} {missing[0]}=…")
        settings: Any = OmegaConf.to_container(config, resolve=True)
        if "wandb" in settings:
            choices = HydraConfig.get().runtime.choices
            own = [choices[group] for group in ("preset", "study") if group in choices]
            settings["wandb"]["tags"] = own + settings["wandb"].get("tags", [])
        try:
            task(settings)
        except UserError as error:  # here, since Hydra adds a line of its own to what passes it
            fail(str(error))

    with_plain_values.__module__ = task.__module__  # Hydra looks for the configs from the script's place
    main = hydra.main(version_base="1.3", config_path="../configs", config_name=Path(script).stem)
    try:
        main(with_plain_values)()
    except (HydraException, OmegaConfBaseException) as error:
        first = str(error).strip().splitlines()[0].rstrip(".")
        fail(f"{first}; see the options with: python scripts/{script} --help")
    except KeyboardInterrupt:
        fail("stopped by hand")


def fail(line: str) -> None:
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)


def perform(settings: dict, work, **arguments) -> None:
    """Do one stage in a run folder of its own, and say what came out."""
    from worldmodels.tracking import Run

    run = Run(work.__name__, settings)
    try:
        result = work(run, seed=settings["seed"], device=settings["device"], **arguments)
        run.record(result)
    finally:
        run.close()
    print(result.metric)
    for name, path in result.artefacts.items():
        print(f"{name}: {path}")


def several(value) -> list:
    """One path or a list of them, as a list."""
    return value if isinstance(value, list) else [value]
