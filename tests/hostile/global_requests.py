"""Global requests and listeners."""
import contextlib
import random
import socket

from common import Wrong, case, check, login, still_there
from ssh_minimal import (
    OPEN, REQUEST_FAILURE, REQUEST_SUCCESS, Disconnected, string, u32)


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
            if i % 3 == 0:  # its answer takes the long way
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
            else:
                check(p[0] == w and len(p) == 1, f'reply {i} is {p.hex()}')
        return f'60 answers in order, {listens} listeners granted'


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


@case(sshd_differs=True)
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
