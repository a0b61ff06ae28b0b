"""Say how good V is on held-out frames: active units, KL of each dimension, reconstruction error."""

from command import command, perform, several


def main(settings: dict) -> None:
    from worldmodels.stages.diagnosis import diagnose_vision

    perform(
        settings,
        diagnose_vision,
        stores=[f"{settings['data']}/rollouts/{name}" for name in several(settings["store"])],
        vision=settings["vae"],
        frames=settings["frames"],
    )


if __name__ == "__main__":
    command(main)
