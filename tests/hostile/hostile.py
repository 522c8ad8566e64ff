#!/usr/bin/python3
"""Hostile cases, each against a running server.

    hostile.py CASE... --port 2222 --user me --key id_ed25519
    hostile.py all ...         every case
    hostile.py list            their names
    ... --peer sshd            leave out what sshd does otherwise

One line a case: `ok CASE: what was seen` or `not ok CASE: why`. The exit
status is 0 if all were ok. The account must be allowed to log in by the key
and to open connections to 127.0.0.1; cases that need a target listen there.
"""
import argparse
import contextlib
import random
import socket
import struct
import sys
import time

from ssh_minimal import (
    DATA, CLOSE, EOF, EXTENDED_DATA, IGNORE, NEWKEYS, OPEN_CONFIRMATION,
    OPEN_FAILURE, OPEN, PACKET, REQUEST, REQUEST_FAILURE, REQUEST_SUCCESS,
    SERVICE_ACCEPT, SERVICE_REQUEST, USERAUTH_FAILURE, USERAUTH_SUCCESS,
    WINDOW_ADJUST, FAILURE, Channel, Client, Disconnected, Key, ProtocolError,
    Reader, byte, data, on_channel, string, u32)

CASES = {}
args = None
# OpenSSH 9.2 forgives or punishes otherwise here; the rest it passes.
SSHD_DIFFERS = {
    'window-overrun', 'packet-too-large', 'max-packet-10', 'open-bad-type',
    'session-refused', 'data-after-eof', 'data-after-close', 'close-twice',
    'channel-flood', 'nul-in-host', 'bad-listen'}


class Wrong(Exception):
    pass


def case(f):
    CASES[f.__name__.replace('_', '-')] = f
    return f


def check(true, why):
    if not true:
        raise Wrong(why)


def client(**how):
    return Client(args.addr, args.port, args.user, args.key, **how)


@contextlib.contextmanager
def login(**how):
    with client(**how) as c:
        c.connect()
        check(c.auth(), 'not let in')
        yield c


@contextlib.contextmanager
def target(answer=None, rcvbuf=None):
    """A listener on loopback; answer(sock) serves the first connection."""
    with socket.socket() as s:
        if rcvbuf:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        s.bind(('127.0.0.1', 0))
        s.listen(8)
        yield s, s.getsockname()[1]


def open_to(c, port, **how):
    ch = c.open_direct('127.0.0.1', port, **how)
    check(isinstance(ch, Channel), f'open of 127.0.0.1:{port} refused: {ch}')
    return ch


def refused(answer, reason=None, text=''):
    check(not isinstance(answer, Channel), 'the open was accepted')
    check(reason is None or answer[0] == reason,
          f'refused with reason {answer[0]}, not {reason}: {answer[1]}')
    check(answer[1] and text in answer[1],
          f'the text is "{answer[1]}", not "{text}"')
    return f'reason {answer[0]}, "{answer[1]}"'


def cut_off(c, timeout=10):
    """The server must end the connection, whatever else it sends first."""
    deadline = time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            c.recv(max(0.01, deadline - time.monotonic()))
    except Disconnected as e:
        return str(e)
    except TimeoutError:
        pass
    raise Wrong('not disconnected')


def still_there(c):
    c.barrier()


# Windows and channels.

@case
def window_overrun():
    """More than the window to a target that does not read."""
    with target(rcvbuf=4096) as (_, port), login() as c:
        ch = open_to(c, port)
        left, sent = ch.window, 0

        def credit(until, timeout):
            """Read, and count what the server grants."""
            with contextlib.suppress(TimeoutError):
                while True:
                    p = c.recv(timeout)
                    if p[0] == WINDOW_ADJUST:
                        nonlocal left
                        left += struct.unpack('>I', p[5:])[0]
                    elif p[0] == until:
                        return

        try:
            while sent < 256 << 20:
                c.send(data(ch.remote, bytes(PACKET)), timeout=10)
                sent += PACKET
                credit(None, 0)
                if sent - left > ch.window // 5:
                    # It may be behind: has it seen all of this?
                    c.send(c.global_request('barrier@hostile'))
                    credit(REQUEST_FAILURE, 10)
                check(sent - left <= ch.window // 5,
                      f'{sent - left} bytes over a window of {ch.window} '
                      'and nothing happens')
        except Disconnected as e:
            return f'{sent - left} bytes over the window: {e}'
        except TimeoutError:
            raise Wrong('the server stopped reading instead') from None
    raise Wrong('the window has no end')


@case
def excess_within_a_tenth():
    """A little more than the window does no harm, and is not lost."""
    with target(rcvbuf=4096) as (s, port), login() as c:
        ch = open_to(c, port)
        total = ch.window + ch.window // 20
        for at in range(0, total, PACKET):
            c.send(data(ch.remote, bytes(min(PACKET, total - at))))
        still_there(c)
        c.send(on_channel(EOF, ch.remote))
        s.settimeout(10)
        conn = s.accept()[0]
        conn.settimeout(10)
        got = 0
        while n := len(conn.recv(1 << 18)):
            got += n
        check(got == total, f'{got} of {total} bytes arrived')
        return f'{total} bytes through a window of {ch.window}'


@case
def window_adjust_overflow():
    with target() as (_, port), login() as c:
        ch = open_to(c, port)
        c.send(on_channel(WINDOW_ADJUST, ch.remote, u32(0xffffffff)))
        return cut_off(c)


@case
def packet_too_large():
    """More than the maximum packet the server offered."""
    with target() as (_, port), login() as c:
        ch = open_to(c, port)
        c.send(data(ch.remote, bytes(ch.packet + 1)))
        return cut_off(c)


@case
def max_packet_10():
    with target() as (_, port), login() as c:
        said = refused(c.open_direct('127.0.0.1', port, packet=10))
        open_to(c, port)
        return said


@case
def open_bad_type():
    with login() as c:
        c.send(c.open_request('frobnicate@hostile', string('x') * 3))
        said = refused(c.opened(), 3)
        c.send(c.open_request('\xff' * 3000))
        refused(c.opened(), 3)
        still_there(c)
        return said


@case
def session_refused():
    with login() as c:
        c.send(c.open_request('session'))
        said = refused(c.opened(), 1, 'use ssh -N')
        still_there(c)
        return said


@case
def other_types_refused():
    with login() as c:
        seen = []
        for kind, rest in (
                ('x11', string('127.0.0.1') + u32(6000)),
                ('auth-agent@openssh.com', b''),
                ('direct-streamlocal@openssh.com',
                 string('/x') + string('') + u32(0)),
                ('forwarded-tcpip', string('') + u32(1) + string('') +
                 u32(1))):
            c.send(c.open_request(kind, rest))
            refused(c.opened())
            seen.append(kind)
        still_there(c)
        return ', '.join(seen)


@case
def tun_bad_mode():
    with login() as c:
        for mode, unit in ((0, 0), (3, 0), (1 << 31, 0), (1, 1 << 31)):
            c.send(c.open_request('tun@openssh.com', u32(mode) + u32(unit)))
            said = refused(c.opened())
        still_there(c)
        return said


@case
def data_after_eof():
    with target() as (_, port), login() as c:
        ch = open_to(c, port)
        c.send(on_channel(EOF, ch.remote), data(ch.remote, b'more'))
        return cut_off(c)


@case
def data_after_close():
    with target() as (_, port), login() as c:
        ch = open_to(c, port)
        c.send(on_channel(CLOSE, ch.remote), data(ch.remote, b'more'))
        return cut_off(c)


@case
def close_twice():
    with target() as (_, port), login() as c:
        ch = open_to(c, port)
        c.send(on_channel(CLOSE, ch.remote), on_channel(CLOSE, ch.remote))
        return cut_off(c)


@case
def unknown_channel():
    for payload in (data(12345, b'x'), on_channel(EOF, 12345),
                    on_channel(CLOSE, 0xffffffff),
                    on_channel(REQUEST, 7, string('exec') + byte(1)),
                    on_channel(OPEN_CONFIRMATION, 0, u32(0) * 3)):
        with login() as c:
            c.send(payload)
            said = cut_off(c)
    return said


@case
def crossing_close():
    """What was sent before the server's CLOSE was seen is no offence."""
    with target() as (s, port), login() as c:
        ch = open_to(c, port)
        s.settimeout(10)
        conn = s.accept()[0]
        # A reset makes the server close the channel.
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                        struct.pack('ii', 1, 0))
        conn.close()
        for _ in range(30):
            c.send(data(ch.remote, bytes(1000)))
            time.sleep(0.01)
        c.send(on_channel(WINDOW_ADJUST, ch.remote, u32(1000)),
               on_channel(REQUEST, ch.remote, string('x') + byte(0)),
               on_channel(EOF, ch.remote), on_channel(CLOSE, ch.remote))
        still_there(c)
        open_to(c, port)
        return '30 packets behind the close were dropped'


@case
def extended_data():
    with target() as (_, port), login() as c:
        ch = open_to(c, port)
        for _ in range(100):
            c.send(on_channel(EXTENDED_DATA, ch.remote,
                              u32(1) + string(bytes(PACKET))))
            with contextlib.suppress(TimeoutError):
                while True:
                    c.recv(0)
        still_there(c)
        return '3 MB of it credited and dropped'


@case
def channel_request():
    with target() as (_, port), login() as c:
        ch = open_to(c, port)
        c.send(on_channel(REQUEST, ch.remote,
                          string('exec') + byte(1) + string('id')))
        p = c.recv()
        check(p[0] == FAILURE, f'answered by message {p[0]}')
        return 'exec on a forward: failure'


@case
def channel_flood():
    """Opens without end: refused for lack of resources at some point."""
    with target() as (s, port), login() as c:
        s.listen(1024)
        s.settimeout(10)
        conns = []
        for n in range(5000):
            answer = c.open_direct('127.0.0.1', port)
            if not isinstance(answer, Channel):
                check(answer[0] == 4, f'refused otherwise: {answer}')
                still_there(c)
                return f'the {n + 1}th was refused: {answer[1]}'
            conns.append(s.accept()[0])
    raise Wrong('5000 channels')


# Malformed.

@case
def nul_in_host():
    with login() as c:
        said = refused(c.open_direct(b'127.0.0.1\0.example', 22))
        still_there(c)
        return said


@case
def host_64k():
    with login() as c:
        said = refused(c.open_direct('a' * 65536, 22))
        still_there(c)
        return said


@case
def port_70000():
    with login() as c:
        said = refused(c.open_direct('127.0.0.1', 70000))
        still_there(c)
        return said


@case
def truncated_open():
    for n in (1, 5, 9, 17, 30, 40):
        with login() as c:
            c.send(c.direct_request('127.0.0.1', 22)[:n])
            said = cut_off(c)
    return said


@case
def trailing_garbage():
    with login() as c:
        c.send(c.direct_request('127.0.0.1', 22) + b'!')
        return cut_off(c)


@case
def unknown_messages():
    """Numbers nobody uses: an answer or the end, never silence."""
    for number in (19, 83, 127, 192, 255):
        with login() as c:
            c.send(byte(number) + string('x'))
            with contextlib.suppress(Disconnected):
                c.barrier()
    return 'survived'


# Global requests.

@case
def global_flood():
    """Thousands at once, each answered, in order."""
    rng = random.Random(1)
    with login() as c:
        want, replies, payloads = [], [], []
        for _ in range(3000):
            if rng.random() < 0.5:
                payloads.append(c.global_request('x@hostile'))
                want.append(REQUEST_FAILURE)
            else:
                payloads.append(
                    c.global_request('no-more-sessions@openssh.com'))
                want.append(REQUEST_SUCCESS)
        for i in range(0, 3000, 100):
            c.send(*payloads[i:i + 100])
            with contextlib.suppress(TimeoutError):
                while True:
                    replies.append(c.recv(0)[0])
        while len(replies) < 3000:
            replies.append(c.recv()[0])
        check(replies == want, 'answered out of order')
        return '3000 answers in order'


@case
def listen_flood_in_order():
    """Listens mixed with requests that need no broker."""
    with login() as c:
        listens = 0
        payloads, want = [], []
        for i in range(60):
            if i % 3 == 0:
                # Never allowed: the port. Its answer takes the long way.
                payloads.append(c.global_request(
                    'tcpip-forward', string('localhost') + u32(0)))
                want.append('listen')
            elif i % 3 == 1:
                payloads.append(c.global_request('x@hostile'))
                want.append(REQUEST_FAILURE)
            else:
                payloads.append(
                    c.global_request('no-more-sessions@openssh.com'))
                want.append(REQUEST_SUCCESS)
        c.send(*payloads)
        for i, w in enumerate(want):
            p = c.recv()
            if w == 'listen' and p[0] == REQUEST_SUCCESS:
                check(len(p) == 5, f'reply {i} carries no port')
                listens += 1
            elif w != 'listen':
                check(p[0] == w and len(p) == 1, f'reply {i} is {p.hex()}')
        return f'60 answers in order, {listens} of 20 listeners granted'


@case
def forward_port0_noreply():
    """Nobody would learn the port: there must be no listener."""
    with login() as c:
        before = listening()
        c.send(c.global_request('tcpip-forward', string('localhost') + u32(0),
                                want_reply=False))
        c.barrier()
        for port in listening() - before:
            with contextlib.suppress(OSError):
                socket.create_connection(('127.0.0.1', port), 1).close()
        with contextlib.suppress(TimeoutError):
            p = c.recv(1)
            check(p[0] != OPEN, 'there is a listener')
        still_there(c)
        return 'no listener'


def listening():
    ports = set()
    for name in ('/proc/net/tcp', '/proc/net/tcp6'):
        with contextlib.suppress(OSError), open(name) as f:
            for line in f.readlines()[1:]:
                field = line.split()
                if field[3] == '0A':
                    ports.add(int(field[1].rsplit(':', 1)[1], 16))
    return ports


@case
def bad_listen():
    with login() as c:
        for rest in (string(b'a\0b') + u32(0), string('a' * 300) + u32(0),
                     string('localhost') + u32(65536),
                     string('localhost') + u32(0xffffffff)):
            for name in ('tcpip-forward', 'cancel-tcpip-forward'):
                c.send(c.global_request(name, rest))
                p = c.recv()
                check(p[0] == REQUEST_FAILURE, f'{name}: message {p[0]}')
        still_there(c)
        return 'each refused'


@case
def never_reads():
    """Requests whose answers nobody takes: the server must stop reading."""
    limit = 64 << 20
    with login(rcvbuf=4096) as c:
        block = b''.join(c.pack(c.global_request('x@hostile'))
                         for _ in range(1000))
        sent = 0
        try:
            while sent < limit:
                c.write(block, timeout=3)
                sent += len(block)
                block = b''.join(c.pack(c.global_request('x@hostile'))
                                 for _ in range(1000))
        except TimeoutError:
            return f'stopped reading after {sent >> 10} KiB'
        except Disconnected as e:
            return f'disconnected after {sent >> 10} KiB: {e}'
    raise Wrong(f'{limit >> 20} MiB taken in')


# The transport and authentication.

@case
def pipelined():
    """Every flight in one write, without waiting for what it answers."""
    with target() as (s, port), client() as c:
        c.open_socket()
        c.sock.sendall(c.version + b'\r\n' + c.pack(c.make_kexinit()) +
                       c.pack(c.make_ecdh_init()))
        c.read_version()
        c.finish_kex(init_sent=True)
        c.send(byte(SERVICE_REQUEST) + string('ssh-userauth'),
               c.auth_publickey(),
               c.direct_request('127.0.0.1', port),
               c.global_request('x@hostile'))
        c.expect(SERVICE_ACCEPT)
        c.expect(USERAUTH_SUCCESS)
        got = {c.recv()[0] for _ in range(2)}
        check(got == {OPEN_CONFIRMATION, REQUEST_FAILURE},
              f'answers {got}')
        return 'each answered'


@case
def one_byte_at_a_time():
    with client() as c:
        c.open_socket()
        first = (c.version + b'\r\n' + c.pack(c.make_kexinit()) +
                 c.pack(c.make_ecdh_init()))
        for i in range(len(first)):
            c.sock.sendall(first[i:i + 1])
        c.read_version()
        c.finish_kex(init_sent=True)
        c.request_service()
        for b in c.pack(c.auth_publickey()):
            c.sock.sendall(byte(b))
        c.expect(USERAUTH_SUCCESS)
        return f'{len(first)} bytes'


@case
def rekeys():
    """Ours, many, with data in between."""
    with target() as (s, port), login() as c:
        ch = open_to(c, port)
        s.settimeout(10)
        conn = s.accept()[0]
        conn.settimeout(10)
        for i in range(20):
            c.send(data(ch.remote, byte(i) * 1000))
            c.rekey()
            got = b''
            while len(got) < 1000:
                got += conn.recv(1000)
            check(got == byte(i) * 1000, 'data is not what was sent')
        return f'{c.kexes} key exchanges'


@case
def no_strict_kex():
    with login(strict=False, mode='ctr') as c:
        still_there(c)
        return 'served without'


@case
def strict_kex_ignore():
    """A message inserted into the first key exchange (Terrapin)."""
    with client() as c:
        c.open_socket()
        c.write(c.version + b'\r\n')
        c.read_version()
        c.send_kexinit()
        c.send(byte(IGNORE) + string('x'))
        try:
            c.finish_kex()
            c.request_service()  # it may object as late as at NEWKEYS
        except (Disconnected, ProtocolError) as e:
            return str(e)
        check(not c.strict_on, 'let pass in strict kex')
        raise Wrong('the server does not do strict kex')


@case
def newkeys_early():
    with client() as c:
        c.open_socket()
        c.write(c.version + b'\r\n')
        c.send_kexinit()
        c.send(byte(NEWKEYS))
        c.read_version()
        return cut_off(c)


@case
def garbage_instead_of_ssh():
    for junk in (b'GET / HTTP/1.0\r\n\r\n', b'\0' * 1000, b'SSH-1.5-old\r\n',
                 b'S' * 100000, b'\r\n' * 10000):
        with client() as c:
            c.open_socket()
            with contextlib.suppress(Disconnected):
                c.write(junk)
                c.read_version(2)
            try:
                cut_off(c, 5)
            except ProtocolError:
                pass  # a reason in clear text
            except Wrong as e:
                raise Wrong(f'{e} at {junk[:20]}') from None
    with client() as c:
        c.connect()
    return 'served the next client'


@case
def bad_mac():
    with login() as c:
        packet = bytearray(c.pack(c.global_request('x@hostile')))
        packet[-1] ^= 1
        c.write(bytes(packet))
        return cut_off(c)


@case
def huge_packet_length():
    for length in (0, 1, 1 << 20, 0x7fffffff, 0xffffffff):
        with login() as c:
            c.write(u32(length) + bytes(64))
            said = cut_off(c)
    return said


@case
def connection_protocol_before_auth():
    with client() as c:
        c.connect()
        c.send(c.direct_request('127.0.0.1', 22),
               c.global_request('tcpip-forward', string('') + u32(0)))
        try:
            while True:
                p = c.recv(2)
                check(p[0] not in (OPEN_CONFIRMATION, REQUEST_SUCCESS),
                      f'answered by message {p[0]}')
        except Disconnected as e:
            return str(e)
        except TimeoutError:
            return 'no answer'


def not_let_in(c, payload):
    """True: refused. False: the server ended the connection."""
    try:
        c.send(payload)
        p = c.expect(USERAUTH_SUCCESS, USERAUTH_FAILURE)
    except Disconnected:
        return False
    check(p[0] == USERAUTH_FAILURE, 'LET IN')
    return True


@case
def auth_20_tries():
    with client() as c:
        c.connect()
        for n in range(20):
            if not not_let_in(c, c.auth_publickey(key=Key())):
                check(n >= 1, 'disconnected at the first try')
                return f'disconnected at try {n + 1}'
    raise Wrong('20 tries')


@case
def auth_20_queries():
    """Asking which keys would do is a try as well."""
    with client() as c:
        c.connect()
        for n in range(20):
            query = c.auth_request('publickey', byte(0) +
                                   string('ssh-ed25519') + string(Key().blob))
            if not not_let_in(c, query):
                return f'disconnected at try {n + 1}'
    raise Wrong('20 queries')


@case
def auth_methods_refused():
    kerberos = b'\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02'
    for method, rest in (
            ('none', b''), ('password', byte(0) + string('secret')),
            ('keyboard-interactive', string('') + string('')),
            ('gssapi-with-mic', u32(1) + string(kerberos))):
        # A connection each: what counts as a try is the server's business.
        with client() as c:
            c.connect()
            c.send(c.auth_request(method, rest))
            offered = Reader(c.expect(USERAUTH_FAILURE)).string().decode()
            check(offered == 'publickey', f'after {method}: {offered}')
    return f'offers {offered} only'


@case
def auth_for_service_foo():
    with client() as c:
        c.connect()
        refused_ = not_let_in(c, c.auth_publickey(service='foo'))
        return 'refused' if refused_ else 'disconnected'


@case
def auth_signed_by_another_key():
    with client() as c:
        c.connect()
        check(not_let_in(c, c.auth_publickey(signer=Key())),
              'disconnected')
        check(c.auth(), 'the right key is not let in afterwards')
        return 'refused, and the right key is let in afterwards'


@case
def auth_signed_for_another_session():
    with client() as c, client() as other:
        c.connect()
        other.connect()
        check(not_let_in(c, c.auth_publickey(session_id=other.session_id)),
              'disconnected')
        check(not_let_in(c, c.auth_publickey(session_id=bytes(32))),
              'disconnected')
        return 'refused'


@case
def auth_replayed_for_another_user():
    with client() as c:
        c.connect()
        payload = c.auth_publickey()
        user = string(c.user)
        other = string('x' * len(c.user))
        not_let_in(c, payload.replace(user, other, 1))
        return 'refused'


@case
def auth_malformed():
    with client() as c:
        c.connect()
        whole = len(c.auth_publickey())
    for n in list(range(1, 60)) + list(range(60, whole, 20)) + [whole - 1]:
        with client() as c:
            c.connect()
            c.send(c.auth_publickey()[:n])
            with contextlib.suppress(Disconnected, TimeoutError):
                p = c.recv(0.3)
                check(p[0] != USERAUTH_SUCCESS, f'LET IN by {n} bytes')
    with login() as c:
        still_there(c)
    return 'never let in'


def run(name):
    try:
        said = CASES[name]()
    except Wrong as e:
        print(f'not ok {name}: {e}', flush=True)
        return False
    except (Disconnected, ProtocolError, TimeoutError, OSError) as e:
        print(f'not ok {name}: {type(e).__name__}: {e}', flush=True)
        return False
    print(f'ok {name}: {said}', flush=True)
    return True


def main():
    global args
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument('case', nargs='+')
    p.add_argument('--addr', default='127.0.0.1')
    p.add_argument('--port', type=int)
    p.add_argument('--user', default='root')
    p.add_argument('--key')
    p.add_argument('--peer', default='aditd')
    args = p.parse_args()
    if args.case == ['list']:
        print('\n'.join(CASES))
        return 0
    if not args.port or not args.key:
        p.error('--port and --key are needed')
    names = list(CASES) if args.case == ['all'] else args.case
    for name in names:
        if name not in CASES:
            p.error(f'no case {name}')
    if args.peer == 'sshd':
        names = [name for name in names if name not in SSHD_DIFFERS]
    # A list: every case runs, whatever the others say.
    return 0 if all([run(name) for name in names]) else 1


if __name__ == '__main__':
    sys.exit(main())
