#!/usr/bin/python3
"""Channels and connections that end because their time is over."""
import contextlib
import os
import socket
import time

from harness import (SLOW, USER, Skip, case, connect, devices, main,
                     reaches, wait_for)

IDLE = 2 * SLOW  # seconds


def ended(s, timeout):
    """Does the server end this connection of a forward in time?"""
    s.settimeout(timeout * SLOW)
    try:
        return s.recv(1) == b''
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def closing(t, srv, kind, seconds=IDLE):
    if t.kind == 'aditd':
        srv.wait_log(rf'channel \d+ \({kind}\): closing after {seconds} '
                     'seconds of inactivity')
    else:
        srv.wait_log(rf'channel \d+: closing after {seconds} seconds of '
                     'inactivity')


@case('ChannelTimeout closes a channel that is idle, and only that')
def _(t):
    srv = t.server(f'ChannelTimeout direct-tcpip={IDLE}\nLogLevel VERBOSE')
    echo, port = t.target(), t.port()
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    with connect(port) as idle, connect(port) as busy:
        for s in (idle, busy):
            s.sendall(b'x')
            t.equal(s.recv(1), b'x')
        started, over = time.monotonic(), False
        idle.settimeout(0.2)
        while not over and time.monotonic() < started + 15 * SLOW:
            with contextlib.suppress(TimeoutError):
                over = idle.recv(1) == b''
            busy.sendall(b'y')
            t.equal(busy.recv(1), b'y', 'the busy channel')
        took = time.monotonic() - started
        t.true(over and IDLE - 1 < took < 4 * IDLE, f'{over} after {took} s')
        closing(t, srv, 'direct-tcpip')
        t.true(reaches(port), 'a new channel')
        t.equal(client.process.poll(), None, 'the client')


@case('ChannelTimeout: data one way keep a channel open')
def _(t):
    def drip(s):
        for _ in range(8):
            time.sleep(IDLE / 2)
            s.sendall(b'x')
    srv = t.server(f'ChannelTimeout direct-tcpip={IDLE}\nLogLevel VERBOSE')
    source, port = t.target(drip), t.port()
    t.client(srv, '-L', f'{port}:127.0.0.1:{source.port}')
    with connect(port, timeout=8 * IDLE) as s:
        t.equal(b''.join(iter(lambda: s.recv(100), b'')), b'x' * 8)
    t.true('closing after' not in srv.log(), 'it is closed')


@case('ChannelTimeout counts from when a channel came, not one before it')
def _(t):
    srv = t.server(f'ChannelTimeout direct-tcpip={IDLE}\nLogLevel VERBOSE')
    echo, port = t.target(), t.port()
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    started = time.monotonic()
    while time.monotonic() < started + 3 * IDLE:
        with connect(port) as s:  # all alike, and of the same number
            s.sendall(b'x')
            t.equal(s.recv(1), b'x')
            time.sleep(IDLE / 4)
            s.shutdown(socket.SHUT_WR)
            t.equal(s.recv(1), b'')
    t.true('closing after' not in srv.log(), 'one is closed')


@case('ChannelTimeout goes by type, patterns and Match')
def _(t):
    for policy, local in (
            (f'forwarded-tcpip={IDLE}', False),
            (f'forwarded-*={IDLE} direct-tcpip=1h', False),
            (f'direct-tcpip=1h *={IDLE}', False),
            (f'*={IDLE}\nMatch User {USER}\nChannelTimeout '
             f'direct-tcpip={IDLE}', True)):
        if 'Match' in policy and t.kind == 'sshd':
            continue  # sshd 9.2 reads it, and goes by the global one
        srv = t.server(f'LogLevel VERBOSE\nChannelTimeout {policy}')
        echo, port, back = t.target(), t.port(), t.port()
        t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}',
                 '-R', f'{back}:127.0.0.1:{echo.port}')
        with connect(port) as one, connect(back) as two:
            for s in (one, two):
                s.sendall(b'x')
                t.equal(s.recv(1), b'x')
            short, other = (one, two) if local else (two, one)
            t.true(ended(short, 10 + IDLE), f'{policy}: it stays')
            other.sendall(b'y')
            t.equal(other.recv(1), b'y', f'{policy}: the other one')
        closing(t, srv, 'direct-tcpip' if local else 'forwarded-tcpip')


@case('ChannelTimeout closes a channel whose client takes nothing')
def _(t):
    def gush(s):
        with contextlib.suppress(OSError):
            while True:
                s.sendall(bytes(65536))
    srv = t.server(f'ChannelTimeout direct-tcpip={IDLE}\nLogLevel VERBOSE')
    source, port = t.target(gush), t.port()
    t.client(srv, '-L', f'{port}:127.0.0.1:{source.port}')
    with connect(port) as s:
        s.recv(1)
        closing(t, srv, 'direct-tcpip')


def tunnel_case(name):
    @case(f'ChannelTimeout {name}: a tunnel over which nothing goes, and its '
          'device', 'aditd')
    def _(t):
        if not os.path.exists('/dev/net/tun'):
            raise Skip('no /dev/net/tun')
        far = t.far_host()
        # what is not up says nothing of its own
        srv = t.server('PermitTunnel yes\nTunnelUp no\nLogLevel VERBOSE\n'
                       f'ChannelTimeout {name}={IDLE}',
                       address=(far.ours, '127.0.0.1'))
        before = devices()
        client = t.client(srv, '-w', '0:0', wait=False, prefix=far.prefix,
                          host=far.ours)
        client.wait_err('tunnel forward established')
        t.equal(devices() - before, {'tun0'}, 'the device')
        closing(t, srv, 'tun@openssh.com')
        wait_for(lambda: devices() == before, 5, 'the device stays')


tunnel_case('tun-connection')
tunnel_case('tun')
tunnel_case('tun@openssh.com')


@case('UnusedConnectionTimeout ends a connection without a channel')
def _(t):
    srv = t.server(f'UnusedConnectionTimeout {IDLE}\nLogLevel VERBOSE')
    remote = t.port()
    started = time.monotonic()
    client = t.client(srv, '-R', f'{remote}:127.0.0.1:9')
    t.true(client.wait(20) != 0, 'exit status')
    t.true(time.monotonic() - started > IDLE - 0.5, 'too early')
    if t.kind == 'sshd':
        srv.wait_log(f'terminating inactive connection from user {USER}')
        return
    srv.wait_log(rf'ending the connection of {USER} from 127.0.0.1 port \d+: '
                 rf'{srv.policy}:1: UnusedConnectionTimeout {IDLE}$')
    t.match(f'Received disconnect from .*no channel was open for {IDLE} '
            'seconds', client.err())


@case('UnusedConnectionTimeout runs from the end of the last channel')
def _(t):
    srv = t.server(f'Match User {USER}\nUnusedConnectionTimeout {IDLE}')
    echo, port = t.target(), t.port()
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    other = t.client(srv, user='neighbour')
    with connect(port) as s:
        s.sendall(b'x')
        t.equal(s.recv(1), b'x')
        time.sleep(2 * IDLE)  # nothing happens, which is the point
        t.equal(client.process.poll(), None, 'ended in spite of a channel')
        s.sendall(b'x')
        t.equal(s.recv(1), b'x')
    closed = time.monotonic()
    client.wait(20)
    t.true(time.monotonic() - closed > IDLE - 0.5, 'too early')
    t.equal(other.process.poll(), None, 'who is not meant')


@case('SessionLifetime ends a connection that is in use', 'aditd')
def _(t):
    srv = t.server(f'Match User {USER}\nSessionLifetime {2 * IDLE}')
    echo, port = t.target(), t.port()
    started = time.monotonic()
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    other = t.client(srv, user='neighbour')
    with connect(port) as s, contextlib.suppress(ConnectionError):
        while client.process.poll() is None and \
                time.monotonic() < started + 20 * SLOW:
            s.sendall(b'x')
            if s.recv(1) != b'x':
                break
            time.sleep(0.02)
    t.true(client.wait() != 0, 'exit status')
    t.true(time.monotonic() - started > 2 * IDLE - 0.5, 'too early')
    srv.wait_log(rf'ending the connection of {USER} from 127.0.0.1 port \d+: '
                 rf'{srv.policy}:2: SessionLifetime {2 * IDLE}$')
    t.match('Received disconnect from .*:11: the time of this connection is '
            'over', client.err())
    t.equal(other.process.poll(), None, 'who is not meant')
    t.true(t.logs_in(srv), 'a new login')


@case('a login without a limit outlasts them all')
def _(t):
    srv = t.server('UnusedConnectionTimeout none\nChannelTimeout none')
    echo, port = t.target(), t.port()
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    with connect(port) as s:
        time.sleep(3)
        s.sendall(b'x')
        t.equal(s.recv(1), b'x')
    t.equal(client.process.poll(), None, 'the client')


if __name__ == '__main__':
    main()
