"""Train M on the latents of one or several stores, as a given V sees them."""

from command import command, perform, several


def main(settings: dict) -> None:
    from worldmodels.stages.memory import train_mdnrnn

    perform(
        settings,
        train_mdnrnn,
        stores=[f"{settings['data']}/rollouts/{name}" for name in several(settings["store"])],
        vision=settings["vae"],
        continue_from=settings["continue_from"],
        latents=f"{settings['data']}/latents",
        **settings["memory"],
    )


if __name__ == "__main__":
    command(main)
