"""A preset's V and M, then snapshots of a C that learns from nothing in the dream, ranked there and for real."""

from command import command


def main(settings: dict) -> None:
    from worldmodels.stages.comparison import rank_controllers

    print(f"results: {rank_controllers(settings)}")


if __name__ == "__main__":
    command(main)
