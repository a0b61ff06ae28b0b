"""Solve a small MDP from its transition table, or learn its values from episodes; print them, draw them."""

from command import command, perform


def main(settings: dict) -> None:
    from worldmodels.stages.tabular import solve_tabular

    perform(settings, solve_tabular, env=settings["env"], algo=settings["algo"])


if __name__ == "__main__":
    command(main)
