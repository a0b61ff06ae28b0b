"""Bias and variance of the policy-gradient estimators, measured where the gradient is known exactly."""

from command import command, perform


def main(settings: dict) -> None:
    from worldmodels.stages.gradient_lab import gradient_lab

    perform(settings, gradient_lab, **settings["lab"])


if __name__ == "__main__":
    command(main)
