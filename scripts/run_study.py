"""Train one algorithm on one task with several seeds, score each, keep the raw scores; see configs/study."""

from command import command


def main(settings: dict) -> None:
    from worldmodels.stages.study import run_study

    print(f"results: {run_study(settings)}")


if __name__ == "__main__":
    command(main)
