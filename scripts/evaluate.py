"""Score a checkpoint, or a behaviour, on held-out real tracks."""

from command import command, perform


def main(settings: dict) -> None:
    from worldmodels.stages.evaluate import evaluate

    perform(
        settings,
        evaluate,
        checkpoint=settings["checkpoint"],
        behaviour=settings["behaviour"],
        vision=settings["vae"],
        memory=settings["mdnrnn"],
        env=settings["env"],
        num_envs=settings["env"]["num_envs"],
        asynchronous=settings["env"]["asynchronous"],
        **settings["evaluation"],
    )


if __name__ == "__main__":
    command(main)
