"""Channels: windows, ends, numbers, slow sides."""
import contextlib
import socket
import struct
import time

from common import (
    SLOW, Wrong, case, check, cut_off, echo, login, open_to, refused, serving,
    still_there, target)
from ssh_minimal import (
    CLOSE, DATA, EOF, EXTENDED_DATA, FAILURE, OPEN, OPEN_CONFIRMATION, PACKET,
    REQUEST, REQUEST_FAILURE, REQUEST_SUCCESS, WINDOW_ADJUST, Channel,
    Disconnected, ProtocolError, byte, data, on_channel, string, u32)


@case(sshd_differs=True)
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


@case(sshd_differs=True)
def packet_too_large():
    """More than the maximum packet the server offered."""
    with target() as (_, port), login() as c:
        ch = open_to(c, port)
        c.send(data(ch.remote, bytes(ch.packet + 1)))
        return cut_off(c)


@case(sshd_differs=True)
def max_packets():
    """Too small a maximum is refused; the largest is used with sense."""
    with serving(echo) as port, login() as c:
        for packet in (0, 1, 10, 1023):
            said = refused(c.open_direct('127.0.0.1', port, packet=packet))
        for packet in (1024, 0xffffffff):
            ch = open_to(c, port, packet=packet)
            c.send(data(ch.remote, bytes(PACKET)))
            got = 0
            while got < PACKET:
                p = c.expect(DATA, WINDOW_ADJUST)
                if p[0] == DATA:
                    check(len(p) - 9 <= min(packet, PACKET),
                          f'{len(p) - 9} bytes in a packet of {packet}')
                    got += len(p) - 9
        return said


@case(sshd_differs=True)
def open_bad_type():
    with login() as c:
        c.send(c.open_request('frobnicate@hostile', string('x') * 3))
        said = refused(c.opened(), 3)
        c.send(c.open_request('\xff' * 3000))
        refused(c.opened(), 3)
        still_there(c)
        return said


@case(sshd_differs=True)
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
                 string('../x') + string('') + u32(0)),
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


@case(sshd_differs=True)
def data_after_eof():
    with target() as (_, port), login() as c:
        ch = open_to(c, port)
        c.send(on_channel(EOF, ch.remote), data(ch.remote, b'more'))
        return cut_off(c)


@case(sshd_differs=True)
def data_after_close():
    with target() as (_, port), login() as c:
        ch = open_to(c, port)
        c.send(on_channel(CLOSE, ch.remote), data(ch.remote, b'more'))
        return cut_off(c)


@case(sshd_differs=True)
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


@case(sshd_differs=True)
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


# Numbers.

@case
def numbers_reused():
    """The client's own number for several channels, and the largest."""
    with serving(echo) as port, login() as c:
        channels = [open_to(c, port, number=number)
                    for number in (7, 7, 7, 0xffffffff, 0, 0x80000000)]
        check(len({ch.remote for ch in channels}) == len(channels),
              'one number of the server for two')
        for i, ch in enumerate(channels):
            c.send(data(ch.remote, byte(i)))
            p = c.expect(DATA)
            check(p[1:5] == u32(ch.local) and p[9:] == byte(i),
                  f'on channel {i}: {p.hex()}')
        for ch in channels:
            c.send(on_channel(CLOSE, ch.remote))
        for ch in channels:
            check(c.expect(CLOSE)[1:5] == u32(ch.local), 'another closes')
        still_there(c)
        return f'{len(channels)} channels'


@case
def own_messages_from_the_client():
    """What only a server's channel can be told, for one of ours."""
    for payload in (on_channel(OPEN_CONFIRMATION, 0, u32(1) * 3),
                    on_channel(92, 0, u32(1) + string('') * 2),
                    on_channel(91, 0xffffffff, u32(0) * 3)):
        with serving(echo) as port, login() as c:
            open_to(c, port)
            c.send(payload)
            said = cut_off(c)
    return said


# One side is slow, or never comes.

def drip(s, seconds):
    """Reads a little at a time for a while, and then everything."""
    end, got = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        got += len(s.recv(4096))
        time.sleep(0.01)
    while n := len(s.recv(1 << 18)):
        got += n
    s.sendall(struct.pack('>Q', got))


@case
def slow_target_fast_client():
    """A channel that is stuck holds up no other, and loses nothing."""
    with serving(lambda s: drip(s, 1.5), rcvbuf=4096) as slow, \
            serving(echo) as fast, login() as c:
        stuck, other = open_to(c, slow), open_to(c, fast)
        left, sent, worst = stuck.window, 0, 0
        end = time.monotonic() + 1.2

        def take(p):
            nonlocal left
            if p[0] == WINDOW_ADJUST and p[1:5] == u32(stuck.local):
                left += struct.unpack('>I', p[5:9])[0]
            return p
        while time.monotonic() < end:
            while left >= PACKET:
                c.send(data(stuck.remote, bytes(PACKET)))
                left, sent = left - PACKET, sent + PACKET
            since = time.monotonic()
            c.send(data(other.remote, b'x'))
            while take(c.recv())[0] != DATA:
                pass
            worst = max(worst, time.monotonic() - since)
        check(worst < SLOW, f'another channel waited {worst:.2f} s')
        c.send(on_channel(EOF, stuck.remote))
        p = take(c.recv())
        while p[0] != DATA:
            p = take(c.recv(20))
        got = struct.unpack('>Q', p[9:])[0]
        check(got == sent, f'{got} of {sent} bytes arrived')
        return f'{sent >> 20} MiB; the other waited {worst * 1000:.0f} ms'


def gush(s):
    while True:
        s.sendall(bytes(1 << 20))


@case
def slow_client_fast_target():
    """Data is taken from the target no faster than the client reads."""
    with serving(gush) as port, login(rcvbuf=4096) as c:
        open_to(c, port, window=1 << 30)
        end, got = time.monotonic() + 1.5, 0
        while time.monotonic() < end:
            got += len(c.expect(DATA)) - 9
            time.sleep(0.02)
        check(got > 0, 'nothing came')
        return f'{got >> 10} KiB in 1.5 s'


@case(rss_mib=224, seconds=40, sshd_differs=True)
def two_thousand_stuck_targets():
    """Every channel's window full, and nobody takes it: memory is what the
    windows sum up to, no more."""
    with target(rcvbuf=4096, backlog=4096) as (_, port), login() as c:
        channels = []
        while len(channels) < 2100:
            answer = c.open_direct('127.0.0.1', port)
            if not isinstance(answer, Channel):
                break
            channels.append(answer)
        sent = 0
        for ch in channels:
            left = ch.window
            while left > 0:
                n = min(left, ch.packet)
                c.send(data(ch.remote, bytes(n)))
                left -= n
                sent += n
        still_there(c)
        return f'{sent >> 20} MiB on {len(channels)} channels'


@contextlib.contextmanager
def nobody_home():
    """A port of loopback where connections neither succeed nor fail."""
    with target(backlog=0) as (_, port), contextlib.ExitStack() as stack:
        for _ in range(3):
            s = stack.enter_context(socket.socket())
            s.setblocking(False)
            s.connect_ex(('127.0.0.1', port))
        time.sleep(0.05)
        yield port


@case(sshd_differs=True)
def half_open_forwards():
    """Opens that wait for their target, abandoned: closed too early, and left
    with the connection."""
    with nobody_home() as port:
        with login() as c:
            c.send(*[c.direct_request('127.0.0.1', port)
                     for _ in range(1000)])
            still_there(c)  # some wait, the others are refused
        with login() as c:
            c.send(c.direct_request('127.0.0.1', port, number=0),
                   on_channel(CLOSE, 0))
            with contextlib.suppress(ProtocolError):
                cut_off(c)
    return 'given up'


@case
def forwarded_never_confirmed():
    """Connections from elsewhere that the client never answers for."""
    with login() as c, contextlib.ExitStack() as stack:
        c.send(c.global_request('tcpip-forward',
                                string('localhost') + u32(0)))
        port = struct.unpack('>I', c.expect(REQUEST_SUCCESS)[1:5])[0]
        opens = []
        for _ in range(200):
            s = stack.enter_context(socket.socket())
            s.setblocking(False)
            s.connect_ex(('127.0.0.1', port))
        end = time.monotonic() + 10 * SLOW
        while len(opens) < 200 and time.monotonic() < end:
            opens.append(c.expect(OPEN))
        check(len(opens) == 200, f'{len(opens)} opens')
        still_there(c)
        return f'{len(opens)} left in the air'
