"""Collect, train V, M and C, evaluate and film, as one preset says; run again, it goes on where it stopped."""

from command import command


def main(settings: dict) -> None:
    from worldmodels.stages.pipeline import report, run_pipeline

    report(run_pipeline(settings))


if __name__ == "__main__":
    command(main)
