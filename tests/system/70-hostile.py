#!/usr/bin/python3
"""A client that means ill: bounded in memory and time, the server lives."""
import contextlib
import os
import random
import socket
import struct
import time

from harness import (COMMS, PEER, SLOW, Failure, case, connect, listening,
                     main, processes, skip_all, sockets, wait_for)

try:
    import rawssh
    from rawssh import (AUTH_FAILURE, AUTH_REQUEST, AUTH_SUCCESS, CLOSE,
                        CONFIRM, DATA, EOF, EXTENDED, FAILURE, GLOBAL, IGNORE,
                        KEXINIT, NEWKEYS, OPEN, OPEN_FAILURE, REQUEST,
                        SUCCESS, WINDOW, Gone, Raw, data, on_channel, string,
                        u32)
except ImportError:
    skip_all('no python3-cryptography')

MEMORY_KIB = 48 * 1024 if SLOW == 1 else 1 << 30


def session():
    """The one session process."""
    return wait_for(lambda: processes(COMMS['session']), 5, 'no session')[0]


def memory_kib(p):
    with contextlib.suppress(OSError), open(f'/proc/{p.pid}/status') as f:
        for line in f:
            if line.startswith('VmRSS'):
                return int(line.split()[1])
    return 0


def cpu_s(p):
    with open(f'/proc/{p.pid}/stat') as f:
        w = f.read().rsplit(') ', 1)[1].split()
    return (int(w[11]) + int(w[12])) / os.sysconf('SC_CLK_TCK')


def alive(t, srv):
    """It serves others, and nothing of it crashed."""
    t.true(t.logs_in(srv), 'a login afterwards')
    if PEER == 'aditd':
        crashed = [line for line in srv.log().splitlines()
                   if 'signal' in line.lower()]
        t.equal(crashed, [], 'crashes')


@case('the rude client can behave')
def _(t):
    srv, echo, remote = t.server(), t.target(), t.port()
    with Raw(srv.port) as raw:
        chan = raw.open(7, echo.port)
        raw.send(data(chan, b'hello'), on_channel(EOF, chan))
        got = raw.expect(DATA)
        t.equal(got[1:], u32(7) + string(b'hello'))
        raw.expect(EOF)
        raw.expect(CLOSE)
        raw.send(on_channel(CLOSE, chan))
        raw.kex()
        raw.send(raw.listen('localhost', remote))
        raw.expect(SUCCESS)
        t.equal(listening(remote), {'127.0.0.1', '::1'}, 'listeners')
        raw.send(raw.listen('localhost', remote, name='cancel-tcpip-forward'))
        raw.expect(SUCCESS)
        t.equal(listening(remote), set(), 'listeners')
    alive(t, srv)


@case('forwarded-tcpip repeats the listen host as it was asked for')
def _(t):
    srv = t.server('GatewayPorts clientspecified')
    with Raw(srv.port) as raw:
        for host in ('localhost', '', '127.0.0.1', '*'):
            raw.send(raw.listen(host, 0))
            port = struct.unpack('>I', raw.expect(SUCCESS)[1:5])[0]
            with connect(port):
                r = rawssh.Reader(raw.expect(OPEN)[1:])
                t.equal(r.string(), b'forwarded-tcpip')
                chan = r.u32()
                r.take(8)
                t.equal((r.string().decode(), r.u32()), (host, port))
                raw.send(on_channel(OPEN_FAILURE, chan, u32(1) + string('no')
                                    + string('')))
            raw.send(raw.listen(host, port, name='cancel-tcpip-forward'))
            raw.expect(SUCCESS)


@case('global replies come in order; what is unknown fails')
def _(t):
    srv, a = t.server(), t.port()
    with Raw(srv.port) as raw:
        raw.send(raw.listen('localhost', a), raw.global_request('what@is.it'),
                 raw.listen('localhost', 0),
                 raw.listen('localhost', 1, name='cancel-tcpip-forward'),
                 raw.global_request('keepalive@openssh.com'))
        got = [raw.expect(SUCCESS, FAILURE) for _ in range(5)]
        t.equal([g[0] for g in got],
                [SUCCESS, FAILURE, SUCCESS, FAILURE, FAILURE])
        t.equal([len(g) for g in got], [1, 1, 5, 1, 1], 'port in the reply')


@case('port 0 without a wish for a reply is no listener', 'aditd')
def _(t):
    srv = t.server()
    with Raw(srv.port) as raw:
        def count():
            return len([s for s in sockets() if s[4] == '0A'])
        before = count()
        raw.send(raw.listen('localhost', 0, want_reply=False),
                 raw.global_request('sync'))
        raw.expect(FAILURE)
        t.equal(count(), before, 'listeners')


@case('sibling sessions share no randomness')
def _(t):
    srv, seen = t.server('MaxStartups 100'), []
    for _ in range(20):
        with Raw(srv.port, login=False) as raw:
            theirs, public = raw.kex()
            seen += [theirs[1:17], public]
    t.equal(len(set(seen)), 40, 'different cookies and keys')


@case('strict key exchange: nothing may come between')
def _(t):
    srv = t.server()
    with Raw(srv.port, login=False) as raw:
        try:
            raw.kex(before_newkeys=[bytes([IGNORE]) + string('x')])
            raw.service()
        except Gone:
            pass
        else:
            raise Failure('an IGNORE within strict key exchange is taken')
    alive(t, srv)


@case('signatures: spoilt, for another user, of another session')
def _(t):
    srv = t.server('MaxAuthTries 20')
    for kw in ({'spoil': True}, {'signed_user': 'neighbour'},
               {'user': 'neighbour', 'signed_user': 'tunneller'},
               {'session_id': b'x' * 32}, {'key': 'id2'},
               {'algorithm': 'ssh-rsa'}, {'service': 'ssh-userauth'}):
        with Raw(srv.port, login=False) as raw, contextlib.suppress(Gone):
            raw.kex()
            t.equal(raw.login(**kw), False, kw)
    alive(t, srv)


@case('other methods are refused, and counted')
def _(t):
    srv = t.server('MaxAuthTries 4')
    for method, rest in (('password', b'\0' + string('secret')),
                         ('keyboard-interactive', string('') + string('')),
                         ('hostbased', string('ssh-ed25519') * 5),
                         ('gssapi-with-mic', u32(0)), ('none', b'')):
        with Raw(srv.port, login=False) as raw:
            raw.kex()
            raw.service()
            tries = 0
            with contextlib.suppress(Gone):
                while tries < 12:
                    raw.send(bytes([AUTH_REQUEST]) + string('tunneller')
                             + string('ssh-connection') + string(method)
                             + rest)
                    payload = raw.expect(AUTH_FAILURE, AUTH_SUCCESS, 60)
                    t.true(payload[0] != AUTH_SUCCESS, method)
                    tries += 1
            t.true(tries < 12, f'{method} may be tried for ever')
    alive(t, srv)


@case('the connection protocol before a login is refused')
def _(t):
    srv, echo, port = t.server(), t.target(), t.port()
    for after_service in (False, True):
        for what in ('open', 'listen'):
            with Raw(srv.port, login=False) as raw:
                raw.kex()
                if after_service:
                    raw.service()
                raw.send(raw.open_payload(0, echo.port) if what == 'open'
                         else raw.listen('localhost', port))
                raw.sock.settimeout(2)
                with contextlib.suppress(Gone, TimeoutError):
                    t.true(raw.recv()[0] not in (CONFIRM, SUCCESS), what)
    t.equal((echo.accepted, listening(port)), (0, set()), 'what it reached')
    alive(t, srv)


@case('more than the window ends the connection, not the memory', 'aditd')
def _(t):
    def sleep(s):
        time.sleep(20)
    srv, lazy = t.server(), t.target(sleep)
    with Raw(srv.port) as raw:
        chan = raw.open(0, lazy.port)
        p = session()
        try:
            for _ in range(64 * 32):
                raw.send(data(chan, bytes(32000)))
        except (Gone, TimeoutError):
            pass
        else:
            raise Failure('64 MB beyond the window are taken')
        t.true(memory_kib(p) < MEMORY_KIB, f'{memory_kib(p)} KiB')
    alive(t, srv)


@case('a channel that takes ten bytes a packet costs nothing', 'aditd')
def _(t):
    def gush(s):
        with contextlib.suppress(OSError):
            for _ in range(100):
                s.sendall(bytes(100000))
    srv, source = t.server(), t.target(gush)
    with Raw(srv.port) as raw:
        for packet in (0, 1, 10):
            raw.open(1, source.port, packet=packet)
        p = session()
        before = cpu_s(p)
        time.sleep(1.5)
        t.true(cpu_s(p) - before < 0.3 * SLOW, 'it spins')
    alive(t, srv)


@case('a client that does not read is not read from', 'aditd')
def _(t):
    def gush(s):
        with contextlib.suppress(OSError):
            while True:
                s.sendall(bytes(1 << 20))
    srv, source = t.server(), t.target(gush)
    with Raw(srv.port, rcvbuf=65536) as raw:
        for chan in range(50):
            raw.send(raw.open_payload(chan, source.port, window=1 << 30))
        p = session()
        raw.sock.settimeout(3)
        with contextlib.suppress(TimeoutError, Gone):
            for _ in range(200000):  # replies pile up
                raw.send(*[raw.global_request('x')] * 50)
        t.true(memory_kib(p) < MEMORY_KIB, f'{memory_kib(p)} KiB')
        before = cpu_s(p)
        time.sleep(1)
        t.true(cpu_s(p) - before < 0.3 * SLOW, 'it spins')
    alive(t, srv)


@case('thousands of channels, of listeners', 'aditd', timeout=120)
def _(t):
    srv, echo = t.server(), t.target(lambda s: s.recv(1))
    with Raw(srv.port) as raw:
        refused = 0
        with contextlib.suppress(Gone):
            for chan in range(0, 6000, 100):
                raw.send(*[raw.open_payload(c, echo.port)
                           for c in range(chan, chan + 100)])
                for _ in range(100):
                    refused += raw.expect(CONFIRM, OPEN_FAILURE)[0] \
                        == OPEN_FAILURE
        t.true(refused or not processes(COMMS['session']), 'all are granted')
        t.true(memory_kib(session()) < MEMORY_KIB * 2, 'memory')
    wait_for(lambda: not processes(COMMS['session']), 10, 'it stays')
    with Raw(srv.port) as raw:
        granted = 0
        with contextlib.suppress(Gone):
            for _ in range(3000):
                raw.send(raw.listen('localhost', 0))
                granted += raw.expect(SUCCESS, FAILURE)[0] == SUCCESS
        t.true(granted < 3000, 'all are granted')
    wait_for(lambda: not processes(COMMS['broker']), 10, 'it stays')
    alive(t, srv)


@case('a storm of key exchanges')
def _(t):
    srv, echo = t.server(), t.target()
    with Raw(srv.port) as raw:
        with contextlib.suppress(Gone):
            for _ in range(100):
                raw.kex()
            chan = raw.open(0, echo.port)
            raw.send(data(chan, b'still'))
            t.equal(raw.expect(DATA)[9:], b'still')
    alive(t, srv)


@case('a key exchange that never ends', 'aditd', timeout=90)
def _(t):
    srv = t.server()
    with Raw(srv.port) as raw:
        raw.send(raw.kexinit())
        raw.sock.settimeout(60)
        started = time.monotonic()
        raw.until_gone()
        t.true(time.monotonic() - started < 45, 'it takes for ever')


@case('messages for channels that are not there, or are ending')
def _(t):
    srv, echo = t.server(), t.target()
    for messages in (
            [data(99, b'x')], [on_channel(EOF, 99)], [on_channel(CLOSE, 99)],
            [on_channel(WINDOW, 99, u32(1))], [on_channel(100, 1 << 31)],
            [on_channel(CONFIRM, 5, u32(0) * 3)],
            [on_channel(OPEN_FAILURE, 5, u32(1) + string('') * 2)]):
        with Raw(srv.port) as raw, contextlib.suppress(Gone):
            raw.send(*messages)
            raw.send(raw.global_request('sync'))
            raw.expect(FAILURE)
    for ending in ([EOF, DATA], [CLOSE, DATA], [CLOSE, CLOSE], [CLOSE, EOF],
                   [EOF, EOF], [WINDOW, WINDOW], [EXTENDED], [REQUEST]):
        with Raw(srv.port) as raw, contextlib.suppress(Gone):
            chan = raw.open(3, echo.port)
            rest = {DATA: string('x'), WINDOW: u32(0xffffffff),
                    EXTENDED: u32(1) + string('x'),
                    REQUEST: string('exec') + b'\1' + string('id')}
            raw.send(*[on_channel(kind, chan, rest.get(kind, b''))
                       for kind in ending])
            raw.send(raw.global_request('sync'))
            raw.expect(FAILURE)
    alive(t, srv)


@case('strange destinations and listen addresses', 'aditd')
def _(t):
    srv = t.server('GatewayPorts clientspecified')
    with Raw(srv.port) as raw:
        for host in ('', '\0', '127.0.0.1\0x', 'a' * 256, 'a' * 30000, '%n%s',
                     '-x', '../../etc', '127.0.0.1\n', '\xff\xfe', ' ',
                     '[::1]', '1.2.3.4.5', 'x..y'):
            t.equal(raw.open(0, 9, host=host), None, f'open {host[:20]!r}')
            raw.send(raw.listen(host or 'no', 0))
            t.equal(raw.expect(SUCCESS, FAILURE)[0], FAILURE,
                    f'listen {host[:20]!r}')
        for port in (0, 65536, 0xffffffff):
            t.equal(raw.open(0, port), None, f'open port {port}')
        for port in (65536, 0xffffffff):
            raw.send(raw.listen('localhost', port))
            t.equal(raw.expect(SUCCESS, FAILURE)[0], FAILURE,
                    f'listen port {port}')
    alive(t, srv)
    t.true(all(' ' <= c <= '~' or c == '\n' for c in srv.log()),
           'raw bytes in the log')


@case('packets with impossible lengths')
def _(t):
    srv = t.server()
    for login in (False, True):
        for junk in (u32(0), u32(1) * 8, u32(0xffffffff) + bytes(64),
                     u32(35001) + bytes(70000), u32(12) + b'\xff' * 12,
                     os.urandom(5000)):
            with Raw(srv.port, login=login) as raw, \
                    contextlib.suppress(Gone, OSError):
                if login is False:
                    raw.expect(KEXINIT)
                raw.write(junk)
                raw.sock.shutdown(socket.SHUT_WR)
                raw.until_gone()
    alive(t, srv)


@case('cut and bent messages', timeout=120)
def _(t):
    """Each message of the protocol, cut at a random place or with bytes
    changed, many a connection."""
    rnd = random.Random(4)
    srv, echo = t.server('MaxStartups 100'), t.target()
    for _ in range(150 if SLOW == 1 else 50):
        with Raw(srv.port) as raw, contextlib.suppress(Gone, TimeoutError):
            raw.sock.settimeout(5)
            good = [raw.open_payload(0, echo.port), raw.listen('localhost', 0),
                    raw.listen('x', 1, name='cancel-tcpip-forward'),
                    raw.global_request('no-more-sessions@openssh.com'),
                    data(0, b'abc'), on_channel(EOF, 0),
                    on_channel(WINDOW, 0, u32(5)), on_channel(CLOSE, 0),
                    bytes([OPEN]) + string('session') + u32(1) * 3,
                    bytes([OPEN]) + string('tun@openssh.com') + u32(1) * 5,
                    bytes([OPEN]) + string('forwarded-tcpip') + u32(1) * 3,
                    on_channel(REQUEST, 0, string('exec') + b'\1'),
                    raw.kexinit(), bytes([NEWKEYS]), raw.auth_request(),
                    bytes([GLOBAL])]
            for _ in range(10):
                m = bytearray(rnd.choice(good))
                for _ in range(rnd.randrange(3)):
                    m[rnd.randrange(1 if len(m) > 1 else 0, len(m))] = \
                        rnd.choice((0, 1, 127, 128, 255, rnd.randrange(256)))
                if rnd.random() < 0.4:
                    m = m[:rnd.randrange(1, len(m) + 1)]
                if rnd.random() < 0.1:
                    m[0] = rnd.randrange(256)
                raw.send(bytes(m))
            raw.send(raw.global_request('sync'))
            raw.sock.settimeout(1)
            raw.expect(FAILURE)
    alive(t, srv)


if __name__ == '__main__':
    main()
