"""loading - configurations written by a test and loaded from its private directory."""

from __future__ import annotations

from pathlib import Path

from amavispy.config.loader import load_config
from amavispy.config.model import Config
from amavispy.config.sources import Option, Sources

SOUND = (Path(__file__).parent / "sound.toml").read_text()


def load(
    directory: Path,
    text: str = "",
    *overrides: str,
    options: tuple[Option, ...] = (),
    fragments: dict[str, str] | None = None,
) -> Config:
    """Load a text as main.toml, with the fragments in conf.d. Who owns the files is not checked."""
    main = directory / "main.toml"
    main.write_text(text)
    for name, fragment in (fragments or {}).items():
        (directory / "conf.d").mkdir(exist_ok=True)
        (directory / "conf.d" / name).write_text(fragment)
    return load_config(Sources((str(main),), overrides, options, checks_ownership=False))
