"""Film a real episode, its reconstruction and its dream side by side."""

from command import command, perform


def main(settings: dict) -> None:
    from worldmodels.stages.video import dream_video

    models = {"vision": settings["vae"], "memory": settings["mdnrnn"]}
    perform(settings, dream_video, **models, checkpoint=settings["checkpoint"], **settings["video"])


if __name__ == "__main__":
    command(main)
