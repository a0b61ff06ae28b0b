"""Rank several controllers of one world model in its dream and in the real environment."""

from command import command, perform


def main(settings: dict) -> None:
    from worldmodels.stages.comparison import compare_worlds

    names = ("checkpoints", "dreams", "horizon", "temperature", "episodes", "num_envs", "asynchronous")
    perform(
        settings,
        compare_worlds,
        vision=settings["vae"],
        memory=settings["mdnrnn"],
        **{name: settings[name] for name in names},
    )


if __name__ == "__main__":
    command(main)
