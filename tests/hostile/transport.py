"""Packets and key exchanges under keys."""
import contextlib
import socket
import time

from ciphers import MODES
from common import (
    LONG, SLOW, case, check, client, connected, count, cut_off, echo, greeted,
    login, open_to, read_away, serving, still_there, target)
from ssh_minimal import (
    DATA, IGNORE, KEX_ECDH_INIT, KEXINIT, NEWKEYS, OPEN_CONFIRMATION,
    REQUEST_FAILURE, SERVICE_ACCEPT, SERVICE_REQUEST, UNIMPLEMENTED,
    USERAUTH_SUCCESS, WINDOW_ADJUST, Disconnected, ProtocolError, byte, data,
    string, u32)


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
def newkeys_early():
    with client() as c:
        c.open_socket()
        c.write(c.version + b'\r\n')
        c.send_kexinit()
        c.send(byte(NEWKEYS))
        c.read_version()
        return cut_off(c)


@case
def bad_mac():
    with login() as c:
        packet = bytearray(c.pack(c.global_request('x@hostile')))
        packet[-1] ^= 1
        c.write(bytes(packet))
        return cut_off(c)


@case
def newkeys_and_all_in_one_write():
    """NEWKEYS, service, login, open and request: one segment."""
    with target() as (_, port), greeted() as c:
        c.send_kexinit()
        c.hold()
        c.send(c.make_ecdh_init())
        ecdh, c.held = c.held, None
        c.write(ecdh)
        c.hold()
        c.finish_kex(init_sent=True)
        c.send(byte(SERVICE_REQUEST) + string('ssh-userauth'),
               c.auth_publickey(), c.direct_request('127.0.0.1', port),
               c.global_request('x@hostile'))
        c.release()
        c.expect(SERVICE_ACCEPT)
        c.expect(USERAUTH_SUCCESS)
        got = {c.recv()[0] for _ in range(2)}
        check(got == {OPEN_CONFIRMATION, REQUEST_FAILURE}, f'answers {got}')
        return 'each answered'


@case
def every_mode():
    """Each cipher and MAC that our client has: data there and back."""
    for mode in MODES:
        with serving(echo) as port, login(mode=mode) as c:
            ch = open_to(c, port)
            c.rekey()
            c.send(data(ch.remote, b'hello'))
            check(c.expect(DATA)[9:] == b'hello', f'{mode}: another echo')
    return ', '.join(MODES)


@case
def packet_lengths():
    """Under keys, in each mode: too small, too large, no multiple."""
    said = set()
    for mode in MODES:
        for n in (0, 1, 5, 1 << 20, 1 << 31, 0xffffffff):
            with login(mode=mode) as c:
                # Encrypted or not, it is not authentic: what counts is that
                # the server neither waits nor allocates for ever.
                c.write(u32(n) + bytes(64))
                c.sock.shutdown(socket.SHUT_WR)
                said.add(cut_off(c))
    return f'{len(said)} kinds of end'


@case
def packet_of_35001():
    """More than RFC 4253 asks for, less than the most: whole, or not."""
    taken = 0
    for n in (35001, 100000, 262100, 262145, 300000):
        with login() as c, contextlib.suppress(Disconnected):
            c.send(byte(IGNORE) + string(bytes(n - 10)))
            still_there(c)
            taken += 1
    check(taken < 5, '300000 bytes are taken')
    return f'{taken} of 5 taken'


@case
def packet_cut_short():
    """The connection ends within a packet."""
    with login() as c:
        packet = c.pack(byte(IGNORE) + string(bytes(10000)))
        c.write(packet[:5000])
        c.sock.shutdown(socket.SHUT_WR)
        return cut_off(c)


@case
def bad_padding():
    """Authentic packets whose padding is none."""
    said = []
    for pad in (255, 200, 60):
        with login() as c:
            c.write(c.pack(byte(IGNORE) + string('x'), pad))
            said.append(cut_off(c))
    for pad in (0, 1, 3):  # RFC 4253, 6: at least four
        with login() as c, contextlib.suppress(Disconnected):
            c.write(c.pack(byte(IGNORE) + string('x'), pad))
            still_there(c)
    return said[0]


@case
def empty_payload():
    """A packet of padding alone: no message."""
    with login() as c, contextlib.suppress(Disconnected):
        c.write(c.pack(b''))
        still_there(c)
        return 'survived'
    return 'ended'


# Key exchanges.

@case(cpu_s=15)
def rekey_storm():
    """Exchanges without pause, data of a channel in between."""
    n = count(150, 2000)
    with serving(echo) as port, login() as c:
        ch, done = open_to(c, port), 0
        while done < n:
            c.rekey()
            done += 1
            c.send(data(ch.remote, byte(done % 256) * 100))
            p = c.expect(DATA, WINDOW_ADJUST)
            if p[0] == WINDOW_ADJUST:
                p = c.expect(DATA)
            check(p[9:] == byte(done % 256) * 100, 'another echo')
        return f'{done} exchanges'


@case(sshd_differs=True)
def kexinit_storm():
    """KEXINITs without end: at most one exchange is begun."""
    for n in (2, 3000):
        with login() as c:
            with contextlib.suppress(Disconnected):
                for _ in range(n):
                    c.send(c.make_kexinit())
            said = cut_off(c)
    return said


@case
def kexinit_before_login():
    """A second exchange before the login."""
    with connected() as c:
        with contextlib.suppress(Disconnected):
            for _ in range(100):
                c.rekey()
            check(c.auth(), 'not let in')
            still_there(c)
        return f'{c.kexes} exchanges'


@case
def bad_kexinit():
    """Lists that are cut, too many, huge, or without a match."""
    names = ','.join(f'kex{i}@hostile' for i in range(5000))
    said = set()
    for lists in ({0: names}, {0: ''}, {0: ',' * 1000}, {1: 'x'},
                  {0: b'\0' * 100}, {2: 'a' * 60000}, {0: 'x' * 200000}):
        with greeted(lists=lists) as c:
            with contextlib.suppress(ProtocolError):
                c.send_kexinit()
                said.add(cut_off(c))
    for n in (1, 16, 17, 21, 40, 100, 150):
        with greeted() as c:
            c.send(c.make_kexinit()[:n])
            with contextlib.suppress(ProtocolError):
                cut_off(c)
    with greeted() as c:  # no list ends where it should
        c.send(byte(KEXINIT) + bytes(16) + u32(0xffffffff) + bytes(100))
        with contextlib.suppress(ProtocolError):
            cut_off(c)
    return f'{len(said)} kinds of end'


@case
def bad_ecdh_init():
    """Public keys that are none."""
    for point in (b'', b'x', bytes(32), byte(1) + bytes(31), bytes(33),
                  b'\xff' * 32, bytes(100000)):
        with greeted() as c:
            c.send_kexinit()
            c.send(byte(KEX_ECDH_INIT) + string(point))
            with contextlib.suppress(ProtocolError, Disconnected):
                for _ in range(3):
                    p = c.recv_raw(0.5 * SLOW)
                    check(p[0] != 31 or point == b'\xff' * 32,
                          f'{point[:40]!r} is taken')
            if point != b'\xff' * 32:  # reduced, it is a point
                with contextlib.suppress(ProtocolError):
                    cut_off(c)
    return 'ended'


@case(seconds=90, cpu_s=30)
def rekey_never_finished():
    """Silence, or a flood, where the client's part is due: the end, in half
    a minute."""
    with contextlib.ExitStack() as stack:
        def one(**how):
            return stack.enter_context(login(**how))
        silent, half, flood, ours = one(), one(), one(), one(mode='chacha',
                                                             rekey=False)
        silent.send_kexinit()
        half.send_kexinit()
        half.send(half.make_ecdh_init())  # and no NEWKEYS
        flood.send_kexinit()
        left = [silent, half, flood]
        if LONG:  # libssh begins after 1 GiB under this cipher
            left.append(ours)
            block = byte(IGNORE) + string(bytes(250000))
            for _ in range((1 << 30) // 250000 + 20):
                ours.send(block)
            while ours.recv(20)[0] != KEXINIT:
                pass
        started, noise = time.monotonic(), [byte(IGNORE) + bytes(4)] * 100
        while left:
            check(time.monotonic() - started < 45, f'{len(left)} go on')
            for c in list(left):
                try:
                    if c in (flood, ours):
                        c.send(*noise)
                    read_away(c)
                except (Disconnected, ProtocolError):
                    left.remove(c)
            time.sleep(0.05)
        return f'{time.monotonic() - started:.0f} s'


@case(sshd_differs=True)
def unimplemented_for_kexinit():
    """UNIMPLEMENTED where a key exchange was due."""
    with login() as c:
        c.send_kexinit()
        c.send(byte(UNIMPLEMENTED) + u32(c.out.seq - 1),
               byte(NEWKEYS))
        return cut_off(c)
