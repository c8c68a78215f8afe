"""Archives made by the real packers of this system, each with the members given."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

MEMBERS = "members"


def run(directory: Path, *command: str, feed: bytes | None = None) -> bytes:
    """A program's output; it must succeed."""
    done = subprocess.run(command, cwd=directory, input=feed, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (command, done.stdout[-500:], done.stderr[-500:])
    return done.stdout


def pack(kind: str, members: Mapping[str, bytes], directory: Path) -> bytes:
    """An archive of this kind (or, of the first member, a compressed file)."""
    source = directory / MEMBERS
    for name, content in members.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    names = sorted(members)
    if kind in _FILTERS:
        return run(source, *_FILTERS[kind], feed=members[names[0]])
    out = directory / f"out.{kind}"
    special = globals().get(f"_{kind.replace('-', '_')}")
    if special:
        special(source, names, out)
    else:
        run(source, *(word.replace("OUT", str(out)) for word in _PACKERS[kind]), *names)
    return out.read_bytes()


_FILTERS = {
    "gz": ("gzip", "-c"),
    "bz2": ("bzip2", "-c"),
    "xz": ("xz", "-c"),
    "lzma": ("xz", "--format=lzma", "-c"),
    "zst": ("zstd", "-q", "-c"),
    "lz4": ("lz4", "-q", "-c"),
    "lzo": ("lzop", "-c"),
    "Z": ("compress", "-f", "-c"),
}
_PACKERS = {
    "zip": ("zip", "-q", "OUT"),
    "7z": ("7zz", "a", "-bd", "OUT"),
    "7z-bcj": ("7zz", "a", "-bd", "-t7z", "-m0=BCJ", "-m1=LZMA2", "OUT"),
    "7z-ppmd": ("7zz", "a", "-bd", "-t7z", "-m0=PPMd", "OUT"),
    "zip-deflate64": ("7zz", "a", "-bd", "-tzip", "-mm=Deflate64", "OUT"),
    "zip-lzma": ("7zz", "a", "-bd", "-tzip", "-mm=LZMA", "OUT"),
    "zip-ppmd": ("7zz", "a", "-bd", "-tzip", "-mm=PPMd", "OUT"),
    "zip-bzip2": ("7zz", "a", "-bd", "-tzip", "-mm=BZip2", "OUT"),
    "zip-xz": ("7zz", "a", "-bd", "-tzip", "-mm=xz", "OUT"),
    "wim": ("7zz", "a", "-bd", "-twim", "OUT"),
    "tar": ("tar", "-cf", "OUT"),
    "tar-v7": ("tar", "--format=v7", "-cf", "OUT"),
    "tar-pax": ("tar", "--format=pax", "-cf", "OUT"),
    "arj": ("arj", "a", "-y", "OUT"),
    "lzh": ("jlha", "c", "OUT"),
    "cab": ("gcab", "-c", "-z", "OUT"),
    "a": ("ar", "rc", "OUT"),
}


def _lrz(source: Path, names: list[str], out: Path) -> None:
    run(source, "lrzip", "-q", "-o", str(out), names[0])


def _cpio(source: Path, names: list[str], out: Path, form: str = "newc") -> None:
    out.write_bytes(run(source, "cpio", "-o", "--quiet", "-H", form, feed="\n".join(names).encode()))


def _cpio_odc(source: Path, names: list[str], out: Path) -> None:
    _cpio(source, names, out, "odc")


def _cpio_bin(source: Path, names: list[str], out: Path) -> None:
    _cpio(source, names, out, "bin")


def _iso(source: Path, names: list[str], out: Path) -> None:
    run(source, "genisoimage", "-quiet", "-J", "-R", "-o", str(out), ".")


def _iso_udf(source: Path, names: list[str], out: Path) -> None:
    run(source, "genisoimage", "-quiet", "-udf", "-o", str(out), ".")


def _deb(source: Path, names: list[str], out: Path) -> None:
    control = source / "DEBIAN" / "control"
    control.parent.mkdir()
    control.write_text("Package: x\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: x\n")
    os.chmod(source, 0o755)
    run(source.parent, "dpkg-deb", "--root-owner-group", "-b", source.name, str(out))


def _rpm(source: Path, names: list[str], out: Path) -> None:
    spec = out.parent / "x.spec"
    listed = "\n".join(f"/{name}" for name in names)
    copies = "\n".join(f"install -D {source}/{name} %{{buildroot}}/{name}" for name in names)
    spec.write_text(
        "Name: x\nVersion: 1\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\nAutoReqProv: no\n"
        f"%description\nx\n%install\n{copies}\n%files\n{listed}\n"
    )
    run(out.parent, "rpmbuild", "-bb", "--define", f"_topdir {out.parent}/rpm", "--quiet", str(spec))
    out.write_bytes(next((out.parent / "rpm" / "RPMS").rglob("*.rpm")).read_bytes())


def _fat(source: Path, names: list[str], out: Path) -> None:
    out.write_bytes(bytes(1440 * 1024))
    run(source, "mkfs.vfat", str(out))
    run(source, "mcopy", "-i", str(out), *names, "::")


def _ext(source: Path, names: list[str], out: Path) -> None:
    out.write_bytes(bytes(4 << 20))
    run(source, "mkfs.ext4", "-q", "-d", str(source), str(out))


def _squashfs(source: Path, names: list[str], out: Path) -> None:
    run(source.parent, "mksquashfs", source.name, str(out), "-quiet", "-no-progress")


def _msi(source: Path, names: list[str], out: Path) -> None:
    wxs = out.parent / "x.wxs"
    files = "".join(f'<File Id="f{n}" Name="{name}" Source="{source.name}/{name}"/>' for n, name in enumerate(names))
    wxs.write_text(
        '<?xml version="1.0"?><Wix xmlns="http://schemas.microsoft.com/wix/2006/wi"><Product Id="*" Name="x"'
        ' UpgradeCode="00000000-0000-0000-0000-000000000001" Language="1033" Version="1.0" Manufacturer="x">'
        '<Package InstallerVersion="200" Compressed="yes"/><Media Id="1" Cabinet="x.cab" EmbedCab="yes"/>'
        '<Directory Id="TARGETDIR" Name="SourceDir"><Component Id="c" Guid="00000000-0000-0000-0000-000000000002">'
        f'{files}</Component></Directory><Feature Id="f" Level="1"><ComponentRef Id="c"/></Feature></Product></Wix>'
    )
    run(out.parent, "wixl", "-o", str(out), str(wxs))
