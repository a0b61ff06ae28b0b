"""The README names only what is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_linked_files_and_named_scripts_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    for script in set(re.findall(r"scripts/(\w+)\.py", README)):
        assert (ROOT / "scripts" / f"{script}.py").exists(), script


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make (\w+)`|^make (\w+)$", README, re.M)):
        assert f"\n{''.join(target)}:" in makefile, target


def test_overrides_in_commands_exist():
    """Each key=value after a script's name is a key of its config, or a group with that option."""
    from hydra import compose, initialize_config_dir

    commands = re.findall(r"^(?:\.venv/bin/)?python scripts/(\w+)\.py (.+)$", README, re.M)
    assert len(commands) >= 8
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for script, words in commands:
            given = [word for word in words.split() if "=" in word]
            overrides = [re.sub(r"=.*….*|=\$\w+", "=x", word) for word in given]
            if script == "run_pipeline":
                overrides.append("name=x")
            compose(script, overrides)
