"""Drive inside the dream, in a browser on this machine."""

from command import command


def main(settings: dict) -> None:
    from worldmodels.stages.play import play

    models = {"vision": settings["vae"], "memory": settings["mdnrnn"], "checkpoint": settings["checkpoint"]}
    play(settings["port"], **models)


if __name__ == "__main__":
    command(main)
