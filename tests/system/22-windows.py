#!/usr/bin/python3
"""Downloads to clients whose packets and windows are not those of ssh: each
comes whole, and none stands still."""
import hashlib
import select
import threading
import time

from harness import Failure, case, main
from minimal import raw, ssh

OPENSSH = b'SSH-2.0-OpenSSH_9.2'
DATA = hashlib.shake_256(b'windows').digest(1 << 20)
LIMIT = 256 * 1024  # server/pump_limit.h
PIECE = 32 * 1024


def adjust(chan, n):
    return ssh.on_channel(ssh.WINDOW_ADJUST, chan.remote, ssh.u32(n))


def content(c, packet, timeout=30):
    """The bytes of the next message of data; None: there are no more."""
    p = c.recv(timeout)
    if p[0] != ssh.DATA:
        return None
    r = ssh.Reader(p)
    r.u32()
    data = r.string()
    if not 0 < len(data) <= packet:
        raise Failure(f'{len(data)} bytes to one who takes {packet}')
    return data


def download(t, srv, packet, window, give, **kw):
    """window: at first. give: bytes that are due before some are given back.
    Returns how many key exchanges there were."""
    source = t.target(lambda s: s.sendall(DATA))
    got, due, left = hashlib.sha256(), 0, window
    with raw(srv, **kw) as c:
        chan = c.open_direct('127.0.0.1', source.port, window=window,
                             packet=packet)
        while (data := content(c, packet)) is not None:
            got.update(data)
            due += len(data)
            left -= len(data)
            if left < 0:
                raise Failure('more than the window')
            if due >= give:
                c.send(adjust(chan, due))
                left += due
                due = 0
        t.equal(got.digest(), hashlib.sha256(DATA).digest(),
                f'packets of {packet}, a window of {window}')
        return c.kexes


@case('packets of 1024 to 65536 bytes, windows of 700 bytes to 2 MB')
def _(t):
    srv = t.server()
    for version in (OPENSSH, b'SSH-2.0-other_1'):
        for packet, window, give in (
                (1024, 700, 1), (32768, 5000, 1), (1500, 100000, 4500),
                (1500, 2 << 20, 4500), (65536, 60000, 30000),
                (65536, 2 << 20, 3 * 65536), (1024, 400000, 200000),
                (32768, 2 << 20, 1 << 20)):
            download(t, srv, packet, window, give, version=version)


@case('the same while keys are exchanged, and with a RateLimit')
def _(t):
    srv = t.server('RekeyLimit 128K\n')
    for packet in (1024, 1500, 65536):
        n = download(t, srv, packet, 2 << 20, 4500, version=OPENSSH)
        t.true(n > 3, f'{n} key exchanges')
    srv = t.server('RateLimit session 1M/s\n')
    for packet in (1024, 1500, 65536):
        download(t, srv, packet, 2 << 20, 4500, version=OPENSSH)


def near(c, chan, source):
    """Let the server find that the path is short: what arrives is given back
    before it is deciphered, and the server is made to look at once."""
    more = b'.' * 50
    for _ in range(40):
        source.sendall(b'.' * PIECE)
        packed = c.pack(adjust(chan, PIECE))
        if not select.select([c.sock], [], [], 10)[0]:
            raise Failure('nothing came')
        c.write(packed)
        for i in range(len(more)):
            source.sendall(more[i:i + 1])
        n = 0
        while n < PIECE + len(more):
            n += len(content(c, PIECE))
        c.send(adjust(chan, len(more)))


def quiet(c, chan, wanted, timeout=10):
    """What comes until wanted bytes did, or nothing more does."""
    n, end = 0, time.monotonic() + timeout
    while n < wanted:
        try:
            n += len(content(c, PIECE, max(0, end - time.monotonic())))
        except TimeoutError:
            break
    return n


@case('one that gives a little back, and then waits for more')
def _(t):
    ends, ready = [], threading.Event()
    over = threading.Event()

    def keep(s):
        ends.append(s)
        ready.set()
        over.wait(50)
    source = t.target(keep)
    with raw(t.server(), version=OPENSSH) as c:
        chan = c.open_direct('127.0.0.1', source.port)
        ready.wait(10)
        near(c, chan, ends[0])
        thread = threading.Thread(target=ends[0].sendall,
                                  args=(b'.' * (1 << 20),))
        thread.start()
        n = quiet(c, chan, LIMIT)
        c.send(adjust(chan, 40000))
        n += quiet(c, chan, (1 << 20) - n)
        t.equal(n, 1 << 20, 'bytes')
        thread.join()
        over.set()


if __name__ == '__main__':
    main()
