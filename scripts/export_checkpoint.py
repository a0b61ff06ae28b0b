"""Write a trained C with its V and M as a few small files that travel together."""

from command import command


def main(settings: dict) -> None:
    from worldmodels.stages.export import export_checkpoint

    for path in export_checkpoint(settings["checkpoint"], settings["folder"], settings["starts"], settings["scores"]):
        print(f"{path.stem}: {path}")


if __name__ == "__main__":
    command(main)
