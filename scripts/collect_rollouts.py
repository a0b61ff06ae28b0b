"""Collect episodes of a real environment into a store under data/rollouts."""

from command import command, perform


def main(settings: dict) -> None:
    from worldmodels.stages.collect import collect

    store = f"{settings['data']}/rollouts/{settings['store']}"
    perform(settings, collect, store=store, env=settings["env"], **settings["collect"])


if __name__ == "__main__":
    command(main)
