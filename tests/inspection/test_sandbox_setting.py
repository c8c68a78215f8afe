"""The setting `sandbox`: what is refused at the start, and what still holds when it is off."""

from __future__ import annotations

from pathlib import Path

import pytest

from amavispy.config.faults import ConfigError
from amavispy.config.model import ServerSettings
from amavispy.inspection.archives import FALLBACKS, UNPACKERS
from amavispy.inspection.budget import Limits
from amavispy.inspection.confinement import Grants
from amavispy.mail.message import Content
from amavispy.wiring import _decoder
from tests.corpus import build

POOR = Grants(0, True, True)


@pytest.fixture
def poor_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Grants, "of_this_system", classmethod(lambda cls: POOR))


@pytest.mark.usefixtures("poor_kernel")
def test_required_refuses_to_start_where_something_is_not_granted():
    with pytest.raises(ConfigError) as caught:
        _decoder(ServerSettings(sandbox="required"), Limits())
    assert 'sandbox: "required", but this system does not grant Landlock' in str(caught.value)


def names_of(settings: ServerSettings) -> list[tuple[str, ...]]:
    decoder = _decoder(settings, Limits())
    decoded = decoder.decode(Content(build.exe_zip()))
    for unpack in decoder.unpackers.values():
        unpack.func.__self__._decoder.end()  # type: ignore[attr-defined]
        break
    return [part.names for part in decoded.parts if part.names]


@pytest.mark.parametrize("setting", ["auto", "off"])
@pytest.mark.usefixtures("poor_kernel")
def test_otherwise_decoders_work_with_what_there_is(setting: str, tmp_path: Path):
    assert names_of(ServerSettings(sandbox=setting, tempbase=str(tmp_path))) == [("x.zip",), ("setup.exe",)]


def test_required_works_here(tmp_path: Path):
    assert names_of(ServerSettings(sandbox="required", tempbase=str(tmp_path))) == [("x.zip",), ("setup.exe",)]


def test_the_start_tells_what_there_is(caplog: pytest.LogCaptureFixture, tmp_path: Path):
    with caplog.at_level("INFO", "amavispy.decoder"):
        _decoder(ServerSettings(sandbox="off", tempbase=str(tmp_path)), Limits())
    texts = [record.getMessage() for record in caplog.records]
    assert texts[0] == "Sandbox of the decoders: off, rlimits only"
    assert any(text.startswith("Internal decoders for ") for text in texts)
    assert any(text.endswith(" at /usr/bin/7zz") for text in texts)


def test_the_documentation_names_every_type_that_is_unpacked():
    text = (Path(__file__).parent.parent.parent / "docs/sandbox.md").read_text()
    assert [short for short in (*UNPACKERS, *FALLBACKS) if f"`{short}`" not in text] == []
