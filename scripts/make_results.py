"""Rebuild the tables and pictures of README.md and docs/ from results/."""

from command import command


def main(settings: dict) -> None:
    from pathlib import Path

    from worldmodels.stages.results import rebuild

    for path in rebuild(Path(settings["root"])):
        print(path)


if __name__ == "__main__":
    command(main)
