"""Before there are keys: banners, packets in clear, slow starts, churn."""
import contextlib
import os
import socket
import struct
import time

from common import (
    SLOW, Wrong, case, check, client, connected, count, cut_off, greeted,
    login, still_there)
from ssh_minimal import (
    DEBUG, DISCONNECT, EXT_INFO, IGNORE, KEX_ECDH_INIT, KEXINIT, NEWKEYS,
    SERVICE_REQUEST, UNIMPLEMENTED, USERAUTH_REQUEST, Disconnected,
    ProtocolError, byte, string, u32)

import common


def dropped(c, junk, then_end=False):
    """The server must end a connection that starts so."""
    c.open_socket()
    with contextlib.suppress(Disconnected):
        c.write(junk)
        if then_end:
            c.sock.shutdown(socket.SHUT_WR)
        c.read_version(2)
    try:
        cut_off(c, 5)
    except ProtocolError:
        pass  # a reason in clear text
    except Wrong as e:
        raise Wrong(f'{e} at {junk[:20]}') from None


BANNERS = [
    b'GET / HTTP/1.0\r\n\r\n',
    b'POST / HTTP/1.1\r\nHost: x\r\n\r\nSSH-2.0-x\r\n',
    b'SSH-1.5-old\r\n', b'SSH-1.99\r\n', b'SSH-2.1-x\r\n', b'SSH-3.0-x\r\n',
    b'ssh-2.0-x\r\n', b'SSH-2.0', b'\r\n' * 10000, b'\n', b'\0' * 1000,
    b'SSH-2.0-x\0\r\n' + bytes(4000), b'S' * 100000,
    b'SSH-2.0-' + b'x' * 248 + b'\r\n', b'SSH-2.0-' + b'x' * 100000,
    b''.join(b'line %d before it\r\n' % i for i in range(10000)) +
    b'SSH-2.0-late\r\n', b'\xff' * 5000,
    b'\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03' + bytes(500)]


@case(sshd_differs=True)
def banner_garbage():
    """HTTP, TLS, SSH 1, NULs, lines without end or before the version."""
    for junk in BANNERS:
        with client() as c:
            dropped(c, junk, len(junk) < 10)
    for _ in range(20):
        with client() as c:
            dropped(c, os.urandom(1000))
    with connected() as c:
        c.request_service()
    return f'{len(BANNERS)} kinds dropped, the next client served'


@case(policy='LogLevel DEBUG3', sshd_differs=True)
def banner_odd_but_legal():
    """255 bytes, bare newline, controls: served or ended, not garbled."""
    served = 0
    for version in (b'SSH-2.0-' + b'x' * 245, b'SSH-2.0-', b'SSH-1.99-old',
                    b'SSH-2.0-\x1b[31mred\x07', b'SSH-2.0-\xff\xfe%s%n',
                    b'SSH-2.0-a\rb', b'SSH-2.0-OpenSSH_9.2 ' + b'c' * 200):
        with client(version=version) as c:
            with contextlib.suppress(Disconnected, ProtocolError):
                c.connect()
                check(c.auth(), 'not let in')
                still_there(c)
                served += 1
    check(served >= 3, f'{served} are served')
    return f'{served} of 7 served'


@case(policy='LoginGraceTime 2', seconds=20)
def banner_byte_by_byte():
    """A line that grows a byte at a time, and never ends."""
    with client() as c:
        c.open_socket()
        started = time.monotonic()
        with contextlib.suppress(Disconnected):
            for n in range(3000):
                c.write(b'S')
                with contextlib.suppress(TimeoutError):
                    c.fill(1 << 20, time.monotonic() + 0.01)
        took = time.monotonic() - started
        check(n < 2999 and took < 8 * SLOW, 'it goes on')
        return f'ended after {n} bytes'


# Packets in clear.

CLEAR_PACKETS = {
    'length 0': u32(0) + bytes(16), 'length 1': u32(1) + bytes(16),
    'length 2^31': u32(1 << 31) + bytes(16),
    'length 2^32-1': u32(0xffffffff) + bytes(16),
    'length 262145': u32(262145) + bytes(64),
    'padding 255': u32(12) + byte(255) + byte(KEXINIT) + bytes(10),
    'no kex lists': u32(28) + byte(10) + byte(KEXINIT) + bytes(26)}


@case
def clear_packets():
    """Lengths and paddings that cannot be, before the keys."""
    for name, packet in CLEAR_PACKETS.items():
        with greeted() as c:
            c.write(packet)
            try:
                cut_off(c)
            except ProtocolError:
                pass  # an answer, in what is a strict exchange
            except Wrong:
                raise Wrong(f'{name}: not disconnected') from None
    return f'{len(CLEAR_PACKETS)} kinds'


@case
def truncated_start():
    """A packet that ends in the middle, with the connection."""
    for n in (1, 3, 4, 5, 17, 100):
        with greeted() as c:
            c.write(c.pack(c.make_kexinit())[:n])
            c.sock.shutdown(socket.SHUT_WR)
            cut_off(c)
    return 'ended'


@case
def messages_before_keys():
    """What has no place there ends the connection, or is of no effect."""
    for kind in (SERVICE_REQUEST, EXT_INFO, NEWKEYS, KEX_ECDH_INIT, 31, 32, 34,
                 USERAUTH_REQUEST, 52, 61, 66, 80, 90, 94, 255, 0):
        for first in (False, True):  # before or after our KEXINIT
            with greeted() as c:
                if first:
                    c.send_kexinit()
                with contextlib.suppress(Disconnected, ProtocolError):
                    c.send(byte(kind) + string('ssh-userauth') * 3)
                    if not first:
                        c.send_kexinit()
                    c.finish_kex()
                    c.request_service()
                    raise Wrong(f'message {kind} was let pass in strict kex')
    return 'none got through'


@case
def clear_floods():
    """IGNORE, DEBUG, UNIMPLEMENTED and unknown ones before the keys."""
    n = count(2000, 20000)
    for kind in (IGNORE, DEBUG, UNIMPLEMENTED, 192):
        with greeted(strict=False) as c:
            with contextlib.suppress(Disconnected, ProtocolError):
                for _ in range(n // 100):
                    c.send(*[byte(kind) + string(bytes(200))] * 100)
                c.send_kexinit()
                c.finish_kex()
                c.request_service()
    with greeted() as c, contextlib.suppress(Disconnected, TimeoutError):
        for _ in range(40):
            c.send(byte(IGNORE) + string(bytes(250000)), timeout=5)
    return f'{n} of each'


# Slow starts.

def slow_start(stage):
    """A connection that dribbles from some stage on."""
    c = client()
    c.open_socket()
    rest = b'SSH-2.0-slow' * 5
    if stage > 0:
        c.write(c.version + b'\r\n')
        rest = c.pack(c.make_kexinit())
    if stage > 1:
        c.write(rest)
        rest = c.pack(c.make_ecdh_init())
    return c, rest


@case(policy='MaxStartups 10:30:20\nLoginGraceTime 3', seconds=40, lines=400,
      cpu_s=8)
def slowloris():
    """Dozens that send a byte a second: others still get in, the slots are
    freed."""
    good, tries, n = 0, 0, 0
    started = time.monotonic()
    slow = []
    try:
        while time.monotonic() - started < 5 * SLOW:
            while len(slow) < 15:
                with contextlib.suppress(OSError, Disconnected):
                    slow.append(slow_start(n % 3))
                n += 1
            for one in list(slow):
                c, rest = one
                try:
                    c.sock.setblocking(False)
                    c.sock.send(rest[:1] or b'\0')
                    if not c.sock.recv(1 << 16):
                        raise ConnectionResetError
                except BlockingIOError:
                    pass
                except OSError:
                    slow.remove(one)
                    c.close()
            tries += 1
            with contextlib.suppress(Disconnected, OSError), login():
                good += 1
            time.sleep(0.1)
    finally:
        for c, _ in slow:
            c.close()
    check(good > 0, f'none of {tries} good logins in {n} slow ones')
    # Every slot is free again.
    with contextlib.ExitStack() as stack:
        for _ in range(9):
            stack.enter_context(connected_soon())
    return f'{good} of {tries} logins beside {n} slow starts'


@contextlib.contextmanager
def connected_soon():
    """connected(), as soon as there is room."""
    end = time.monotonic() + 10 * SLOW
    while True:
        try:
            c = client()
            c.connect()
            break
        except (Disconnected, OSError):
            c.close()
            check(time.monotonic() < end, 'the slots are not freed')
            time.sleep(0.1)
    with c:
        yield c


@case(policy='LoginGraceTime 2', seconds=20)
def silent_at_each_stage():
    """LoginGraceTime ends who stops at any stage before the login."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(c) for c in (
            client(), greeted(), greeted(), greeted(), connected())]
        clients[0].open_socket()
        clients[2].send_kexinit()
        clients[3].send_kexinit()
        clients[3].send(clients[3].make_ecdh_init())
        for c in clients:
            with contextlib.suppress(ProtocolError):
                cut_off(c, 8)
    return f'{len(clients)} ended'


# Connections that come and go.

def leave_connected(c):
    c.open_socket()


def leave_versions(c):
    leave_connected(c)
    c.write(c.version + b'\r\n')
    c.read_version()


def leave_kexinit(c):
    leave_versions(c)
    c.send_kexinit()


def leave_ecdh(c):
    leave_kexinit(c)
    c.send(c.make_ecdh_init())


def leave_kex(c):
    leave_kexinit(c)
    c.finish_kex()


def leave_service(c):
    c.connect()


def leave_query(c):
    c.connect()
    c.send(c.auth_publickey()[:-100])


def leave_login(c):
    c.connect()
    c.auth()


def leave_channel(c):
    leave_login(c)
    c.send(c.direct_request('127.0.0.1', common.args.port))


def leave_rekey(c):
    leave_login(c)
    c.send_kexinit()


STAGES = [leave_connected, leave_versions, leave_kexinit, leave_ecdh,
          leave_kex, leave_service, leave_query, leave_login, leave_channel,
          leave_rekey]
RESET = struct.pack('ii', 1, 0)


@case(seconds=200, lines=8000, cpu_s=80)
def churn():
    """Connections that close or reset at every stage: nothing leaks."""
    n = count(300, 2000)
    for i in range(n):
        with client() as c:
            with contextlib.suppress(Disconnected):
                STAGES[i % len(STAGES)](c)
            if i // len(STAGES) % 2:
                c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return f'{n} connections, each left at one of {len(STAGES)} stages'


@case(seconds=40)
def end_of_file_at_each_stage():
    """Only our direction ends: the server must not wait for more."""
    for stage in STAGES:
        with client() as c:
            stage(c)
            c.sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ProtocolError):
                cut_off(c)
    return f'{len(STAGES)} stages'


@case(seconds=40)
def disconnect_at_each_stage():
    """SSH_MSG_DISCONNECT, in clear and under keys."""
    for stage in STAGES[1:]:
        with client() as c:
            stage(c)
            with contextlib.suppress(ProtocolError):
                c.send(byte(DISCONNECT) + u32(11) +
                       string('bye\n\x1b[31m\0' * 20) + string(''))
                cut_off(c)
    return f'{len(STAGES) - 1} stages'
