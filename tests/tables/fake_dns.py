"""fake_dns - a name server on loopback that answers what a test tells it, by UDP and by TCP."""

from __future__ import annotations

import socket
import threading
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


class FakeNameServer:
    """`records`: name -> addresses, with "SERVFAIL", "SILENT", "LONG" (only by TCP) and "STRANGER" (another's answer)
    instead of an address. Other names do not exist. `asked` are the names of UDP questions, in order.
    """

    def __init__(self, records: dict[str, list[str]], *, ttl: int = 300) -> None:
        self.records = records
        self.ttl = ttl
        self.asked: list[str] = []
        self._udp, self._tcp = _both()
        self.address: tuple[str, int] = self._udp.getsockname()
        self._threads = [threading.Thread(target=serve, daemon=True) for serve in (self._serve_udp, self._serve_tcp)]

    def _serve_udp(self) -> None:
        while True:
            try:
                octets, client = self._udp.recvfrom(4096)
            except OSError:
                return
            if not octets:
                return
            query = dns.message.from_wire(octets)
            name = query.question[0].name.to_text(omit_final_dot=True)
            self.asked.append(name)
            words = self.records.get(name, [])
            if "STRANGER" in words:
                other = dns.message.make_query("other.example", "A")
                self._udp.sendto(self._answer(other, ["127.0.0.2"]), client)
                words = [word for word in words if word != "STRANGER"]
            if "SILENT" not in words:
                self._udp.sendto(self._answer(query, words), client)

    def _answer(self, query: dns.message.Message, words: list[str], *, by_tcp: bool = False) -> bytes:
        response = dns.message.make_response(query)
        if "SERVFAIL" in words:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif not words:
            response.set_rcode(dns.rcode.NXDOMAIN)
            soa = f"ns.example. root.example. 1 2 3 4 {self.ttl}"
            response.authority.append(dns.rrset.from_text("example.", self.ttl, "IN", "SOA", soa))
        elif "LONG" in words and not by_tcp:
            response.flags |= dns.flags.TC
        else:
            addresses = [word for word in words if word != "LONG"]
            response.answer.append(dns.rrset.from_text(query.question[0].name, self.ttl, "IN", "A", *addresses))
        return response.to_wire()

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                query = dns.message.from_wire(stream.read(int.from_bytes(stream.read(2))))
                words = self.records.get(query.question[0].name.to_text(omit_final_dot=True), [])
                octets = self._answer(query, words, by_tcp=True)
                stream.write(len(octets).to_bytes(2) + octets)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        self._tcp.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._udp.close()
        self._tcp.close()


def _both() -> tuple[socket.socket, socket.socket]:
    """UDP and TCP on the same port, whichever is free for both."""
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        try:
            return udp, socket.create_server(udp.getsockname())
        except OSError:
            udp.close()
