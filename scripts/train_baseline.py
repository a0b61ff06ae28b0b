"""Train the same learners model-free, from an environment's vectors or pixels."""

from command import command, perform


def main(settings: dict) -> None:
    from worldmodels.stages.controller import train_baseline

    names = ("env", "algo", "policy", "continue_from")
    perform(settings, train_baseline, **{name: settings[name] for name in names})


if __name__ == "__main__":
    command(main)
