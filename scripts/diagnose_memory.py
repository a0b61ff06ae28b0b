"""Say how good M is on held-out episodes: calibration, nats beside simpler forecasts, errors when left alone."""

from command import command, perform, several


def main(settings: dict) -> None:
    from worldmodels.stages.diagnosis import diagnose_memory

    perform(
        settings,
        diagnose_memory,
        stores=[f"{settings['data']}/rollouts/{name}" for name in several(settings["store"])],
        vision=settings["vae"],
        memory=settings["mdnrnn"],
        **{name: settings[name] for name in ("windows", "context", "horizon", "temperature")},
    )


if __name__ == "__main__":
    command(main)
