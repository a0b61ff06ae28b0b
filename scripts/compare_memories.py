"""Train several M's on the same episodes, seen by one V, and say how good each is on held-out windows."""

from command import command


def main(settings: dict) -> None:
    from worldmodels.stages.variants import compare_memories

    print(f"results: {compare_memories(settings)}")


if __name__ == "__main__":
    command(main)
