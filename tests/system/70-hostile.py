#!/usr/bin/python3
"""A client that means ill (tests/hostile): the server lives, within bounds."""
import contextlib
import random
import struct
import time
import types

from bounds import bounded, cpu_s
from harness import (COMMS, PEER, SLOW, TOP, USER, Skip, case, connect,
                     listening, main, processes, wait_for)
from minimal import Witness, raw, ssh
import common  # these by way of minimal
import hostile

ENDED = (ssh.Disconnected, TimeoutError, OSError)


def alive(t, srv):
    """It serves others, and nothing of it crashed."""
    t.true(t.logs_in(srv), 'a login afterwards')
    t.true('killed by signal' not in srv.log(), 'a process crashed')
    t.true(all(' ' <= c <= '~' or c == '\n' for c in srv.log()),
           'raw bytes in the log')


def register(name, one):
    doc = ' '.join((one.run.__doc__ or name.replace('-', ' ')).split())

    @case(f'hostile {name}: {doc}', timeout=one.bounds.get('seconds', 15) + 60)
    def _(t):
        if PEER == 'sshd' and one.sshd_differs:
            raise Skip('sshd differs')
        # The first of a keyword counts.
        srv = t.server(f'{one.policy}\nMaxStartups 100\nLoginGraceTime 30')
        common.args = types.SimpleNamespace(
            addr='127.0.0.1', port=srv.port, user=USER, key=f'{TOP}/id')
        with bounded(t, srv, **one.bounds) if PEER == 'aditd' \
                else contextlib.nullcontext():
            good, said = hostile.run(name)
            t.true(good, said)
        alive(t, srv)
        if common.LONG:
            print(f'#   {said}')


for name, one in hostile.CASES.items():
    register(name, one)


# What the process costs meanwhile.

@contextlib.contextmanager
def cheap(t, **bounds):
    """A server, within bounds. At the end the session that is not the
    neighbour's waits, and does not spin."""
    srv = t.server()
    with bounded(t, srv, **bounds):
        known = [p.pid for p in processes(COMMS['session'])]
        with raw(srv, rcvbuf=65536) as c:
            p = wait_for(lambda: [p for p in processes(COMMS['session'])
                                  if p.pid not in known], 5, 'no session')[0]
            yield c
            before = cpu_s(p.pid)
            time.sleep(1.5)
            t.true(cpu_s(p.pid) - before < 0.3 * SLOW, 'it spins')
    alive(t, srv)


def gush(s):
    with contextlib.suppress(OSError):
        while True:
            s.sendall(bytes(1 << 20))


@case('a channel that takes ten bytes a packet costs nothing', 'aditd')
def _(t):
    source = t.target(gush)
    with cheap(t) as c:
        for packet in (0, 1, 10):
            c.open_direct('127.0.0.1', source.port, packet=packet)


@case('a client that takes neither data nor replies costs nothing', 'aditd')
def _(t):
    source = t.target(gush)
    with cheap(t) as c:
        for _ in range(50):
            c.send(c.direct_request('127.0.0.1', source.port, window=1 << 30))
        with contextlib.suppress(*ENDED):
            for _ in range(5000):
                c.send(*[c.global_request('x@hostile')] * 50, timeout=3)


@case('a target that takes nothing costs nothing', 'aditd')
def _(t):
    lazy = t.target(lambda s: time.sleep(30))
    with cheap(t) as c:
        channels = [c.open_direct('127.0.0.1', lazy.port) for _ in range(100)]
        for ch in channels:
            if isinstance(ch, ssh.Channel):  # some may be refused
                for _ in range(ch.window // ch.packet):
                    c.send(ssh.data(ch.remote, bytes(ch.packet)))


@case('listeners without end', 'aditd', timeout=120)
def _(t):
    granted = 0
    with cheap(t, lines=3000) as c:
        for _ in range(3000):
            c.send(c.global_request('tcpip-forward',
                                    ssh.string('localhost') + ssh.u32(0)))
            granted += c.expect(ssh.REQUEST_SUCCESS,
                                ssh.REQUEST_FAILURE)[0] == ssh.REQUEST_SUCCESS
        t.true(0 < granted < 3000, f'{granted} are granted')


# What the stock client cannot show.

@case('forwarded-tcpip repeats the listen host as it was asked for')
def _(t):
    srv = t.server('GatewayPorts clientspecified')
    with raw(srv) as c:
        for host in ('localhost', '', '127.0.0.1', '*'):
            c.send(c.global_request('tcpip-forward',
                                    ssh.string(host) + ssh.u32(0)))
            port = struct.unpack('>I', c.expect(ssh.REQUEST_SUCCESS)[1:5])[0]
            with connect(port):
                r = ssh.Reader(c.expect(ssh.OPEN))
                t.equal(r.string(), b'forwarded-tcpip')
                chan = r.u32()
                r.take(8)
                t.equal((r.string().decode(), r.u32()), (host, port))
                c.send(ssh.on_channel(ssh.OPEN_FAILURE, chan, ssh.u32(1)
                                      + ssh.string('no') + ssh.string('')))
            c.send(c.global_request('cancel-tcpip-forward',
                                    ssh.string(host) + ssh.u32(port)))
            c.expect(ssh.REQUEST_SUCCESS)
            t.equal(listening(port), set(), f'{host!r}: after cancelling')


@case('sibling sessions share no randomness')
def _(t):
    srv, seen = t.server('MaxStartups 100'), []
    for _ in range(20):
        with Witness('127.0.0.1', srv.port) as c:
            c.connect()
            seen += c.told
    t.equal((len(seen), len(set(seen))), (40, 40), 'cookies and keys')


@case('cut and bent messages', timeout=120)
def _(t):
    """Each message of the protocol, cut at a random place or with bytes
    changed, many a connection."""
    rnd = random.Random(4)
    srv, echo = t.server('MaxStartups 100'), t.target()
    for _ in range(150 if SLOW == 1 else 50):
        with raw(srv) as c, contextlib.suppress(*ENDED, ssh.ProtocolError):
            good = [c.direct_request('127.0.0.1', echo.port, number=0),
                    c.global_request('tcpip-forward',
                                     ssh.string('localhost') + ssh.u32(0)),
                    c.global_request('cancel-tcpip-forward',
                                     ssh.string('x') + ssh.u32(1)),
                    c.global_request('no-more-sessions@openssh.com'),
                    ssh.data(0, b'abc'), ssh.on_channel(ssh.EOF, 0),
                    ssh.on_channel(ssh.WINDOW_ADJUST, 0, ssh.u32(5)),
                    ssh.on_channel(ssh.CLOSE, 0),
                    c.open_request('session', number=1),
                    c.open_request('tun@openssh.com', ssh.u32(1) * 2),
                    c.open_request('forwarded-tcpip', ssh.u32(1) * 3),
                    ssh.on_channel(ssh.REQUEST, 0, ssh.string('exec')),
                    c.make_kexinit(), ssh.byte(ssh.NEWKEYS),
                    c.auth_publickey(), ssh.byte(ssh.GLOBAL_REQUEST)]
            for _ in range(10):
                m = bytearray(rnd.choice(good))
                for _ in range(rnd.randrange(3)):
                    m[rnd.randrange(len(m) > 1, len(m))] = \
                        rnd.choice((0, 1, 127, 128, 255, rnd.randrange(256)))
                if rnd.random() < 0.4:
                    m = m[:rnd.randrange(1, len(m) + 1)]
                if rnd.random() < 0.1:
                    m[0] = rnd.randrange(256)
                c.send(bytes(m))
            c.barrier(1)
    alive(t, srv)


if __name__ == '__main__':
    main()
