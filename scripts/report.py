"""Collect a run, or a whole pipeline, into one HTML page that opens without a server."""

from command import command


def main(settings: dict) -> None:
    from worldmodels.stages.report import report

    print(f"report: {report(settings['run'])}")


if __name__ == "__main__":
    command(main)
