"""Virus - the virus scanners that are daemons: what each is sent, and how.

clamd gets descriptors over a Unix socket (the spool file's, or memory files) and octets over TCP, several requests
under way at a time. SAVDI (SSSP) gets octets, or paths when it shall read files itself. SAVAPI and daemons asked by a
line get paths. An ICAP server gets octets. Connections, time and fail-over are the same for all: `daemon_scanner`.

**Failures:** at the start ValueError for an improper address or pattern; afterwards as `daemon_scanner` says.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from amavispy.inspection.daemon_scanner import DaemonScanner
from amavispy.inspection.part_files import PartFiles
from amavispy.inspection.wire import Buffer, DaemonAddress, Wire, lost
from amavispy.inspection.workload import Mail, Scannable, everything, what_clamd_needs
from amavispy.mail.message import Octets
from amavispy.policy.settings import ScannerSpec
from amavispy.protocols.clamd import ClamdSession
from amavispy.protocols.icap import IcapService, IcapSession
from amavispy.protocols.line_daemon import LineDaemonSession, Reading, questions
from amavispy.protocols.savapi import SavapiSession
from amavispy.protocols.scanner_talk import Sample
from amavispy.protocols.sssp import SsspSession


def clamd_scanner(spec: ScannerSpec) -> DaemonScanner[ClamdSession, Scannable]:
    return DaemonScanner(spec, what_clamd_needs, lambda _: ClamdSession(), _ask_clamd)


def sssp_scanner(spec: ScannerSpec, files: PartFiles) -> DaemonScanner[SsspSession, Sample]:
    def items(mail: Mail) -> Sequence[Sample]:
        return _paths(files, mail) if spec.inquiry.sends == "paths" else _samples(mail)

    return DaemonScanner(spec, items, lambda _: SsspSession(), lambda _, session, item: session.ask(item))


def savapi_scanner(spec: ScannerSpec, files: PartFiles) -> DaemonScanner[SavapiSession, Sample]:
    def new_session(_: DaemonAddress) -> SavapiSession:
        return SavapiSession(spec.inquiry.product, max(1, int(spec.timeout)))

    return DaemonScanner(
        spec, lambda mail: _paths(files, mail), new_session, lambda _, session, item: session.ask(item)
    )


def icap_scanner(spec: ScannerSpec) -> DaemonScanner[IcapSession, Sample]:
    inquiry = spec.inquiry

    def new_session(address: DaemonAddress) -> IcapSession:
        authority = "localhost" if address.path else address.text
        return IcapSession(IcapService(authority, inquiry.service, inquiry.method))

    return DaemonScanner(spec, _samples, new_session, lambda _, session, item: session.ask(item))


def line_daemon_scanner(spec: ScannerSpec, files: PartFiles) -> DaemonScanner[LineDaemonSession, Sample]:
    inquiry = spec.inquiry
    reading = Reading.of(inquiry.infected, inquiry.clean, inquiry.names)

    def items(mail: Mail) -> Sequence[Sample]:
        written = files.of(mail)
        return questions(inquiry.query, written.directory, written.names)

    def new_session(_: DaemonAddress) -> LineDaemonSession:
        return LineDaemonSession(reading, keeps_open=inquiry.ends == "line")

    return DaemonScanner(spec, items, new_session, lambda _, session, item: session.ask(item))


def _samples(mail: Mail) -> list[Sample]:
    return [Sample(scannable.number, _buffer(scannable.octets)) for scannable in everything(mail)]


def _paths(files: PartFiles, mail: Mail) -> list[Sample]:
    written = files.of(mail)
    return [Sample(int(name[1:]), path=f"{written.directory}/{name}") for name in written.names]


def _ask_clamd(wire: Wire, session: ClamdSession, scannable: Scannable) -> None:
    if not wire.address.path:
        before, behind = session.ask_stream(scannable.size, scannable.number)
        wire.queue(before, scannable.top, _buffer(scannable.octets), behind)
    elif scannable.descriptor is not None:
        wire.send_descriptor(session.ask_descriptor(scannable.number), scannable.descriptor)
    else:
        _send_in_memory_file(wire, session, scannable)


def _send_in_memory_file(wire: Wire, session: ClamdSession, scannable: Scannable) -> None:
    try:
        descriptor = os.memfd_create("mail", os.MFD_CLOEXEC)
    except OSError as error:
        raise lost(error) from error
    try:
        for octets in (scannable.top, scannable.octets):
            _write(descriptor, octets)
        wire.send_descriptor(session.ask_descriptor(scannable.number), descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, octets: Octets | memoryview) -> None:
    if not octets:
        return
    try:
        written = os.write(descriptor, octets)
        while written < len(octets):
            written += os.write(descriptor, memoryview(octets)[written:])
    except OSError as error:
        raise lost(error) from error


def _buffer(octets: Octets | memoryview) -> Buffer:
    return octets if isinstance(octets, bytes) else memoryview(octets)
