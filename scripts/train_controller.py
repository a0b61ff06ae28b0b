"""Train C in the dream (world=dream) or in the real environment seen through V and M (world=latent)."""

from command import command, perform, several


def main(settings: dict) -> None:
    from worldmodels.stages.controller import train_controller

    names = ("world", "algo", "policy", "num_envs", "asynchronous", "continue_from")
    perform(
        settings,
        train_controller,
        vision=settings["vae"],
        memory=settings["mdnrnn"],
        rivals=several(settings["rivals"]),
        **{name: settings[name] for name in names},
        **settings["controller"],
    )


if __name__ == "__main__":
    command(main)
