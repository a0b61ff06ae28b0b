"""Train V on the frames of one or several stores."""

from command import command, perform, several


def main(settings: dict) -> None:
    from worldmodels.stages.vision import train_vae

    stores = [f"{settings['data']}/rollouts/{name}" for name in several(settings["store"])]
    perform(settings, train_vae, stores=stores, continue_from=settings["continue_from"], **settings["vision"])


if __name__ == "__main__":
    command(main)
