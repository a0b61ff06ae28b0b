"""Score a controller in the dream, at any temperature."""

from command import command, perform


def main(settings: dict) -> None:
    from worldmodels.stages.dream_score import score_dream

    names = ("checkpoint", "dreams", "horizon", "temperature")
    perform(settings, score_dream, memory=settings["mdnrnn"], **{name: settings[name] for name in names})


if __name__ == "__main__":
    command(main)
