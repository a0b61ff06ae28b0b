"""Write a store under data/rollouts as a Minari dataset, or read a Minari dataset into a store."""

from command import command


def main(settings: dict) -> None:
    from worldmodels.errors import UserError
    from worldmodels.rollouts.minari import export_minari, import_minari
    from worldmodels.rollouts.store import RolloutStore

    folder, dataset = f"{settings['data']}/rollouts/{settings['store']}", str(settings["dataset"])
    if settings["direction"] == "export":
        store = RolloutStore.open(folder)
        export_minari(store, dataset)
        print(f"{len(store.entries)} episodes of {folder} are now the Minari dataset {dataset}")
    elif settings["direction"] == "import":
        store = import_minari(dataset, folder)
        print(f"{folder} holds {len(store.entries)} episodes, with those of the Minari dataset {dataset}")
    else:
        raise UserError(f"direction={settings['direction']} is unknown; set direction=export or direction=import")


if __name__ == "__main__":
    command(main)
