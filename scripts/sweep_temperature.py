"""Train C in the dream at several temperatures, by several learners, and score each in the dream and for real."""

from command import command


def main(settings: dict) -> None:
    from worldmodels.stages.temperatures import sweep_temperature

    print(f"results: {sweep_temperature(settings)}")


if __name__ == "__main__":
    command(main)
