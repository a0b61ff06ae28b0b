"""Train several V's on the same episodes and say how good each is on held-out frames."""

from command import command


def main(settings: dict) -> None:
    from worldmodels.stages.variants import compare_visions

    print(f"results: {compare_visions(settings)}")


if __name__ == "__main__":
    command(main)
