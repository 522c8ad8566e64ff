#!/usr/bin/python3
"""Much data, and its ends."""
import contextlib
import hashlib
import shutil
import socket
import threading

from harness import (SLOW, Skip, case, connect, endless, main, read_all, sh,
                     talk, wait_for)

SIZE = (300 if SLOW == 1 else 100) * 1000 * 1000
BLOCK = 1 << 18


def pattern():
    """SIZE bytes that compress and repeat badly, by cheap means."""
    block = hashlib.shake_256(b'adit').digest(BLOCK)
    sent = 0
    while sent < SIZE:
        part = (sent.to_bytes(8, 'big') + block)[:min(BLOCK, SIZE - sent)]
        yield part
        sent += len(part)


def send(s):
    digest = hashlib.sha256()
    for part in pattern():
        digest.update(part)
        s.sendall(part)
    s.shutdown(socket.SHUT_WR)
    return digest.hexdigest()


def receive(s):
    digest, buf, total = hashlib.sha256(), bytearray(BLOCK), 0
    while n := s.recv_into(buf):
        digest.update(memoryview(buf)[:n])
        total += n
    return total, digest.hexdigest()


def transfer(t, *options, ways=('-L', '-R')):
    """SIZE bytes up and down each way, one after the other."""
    results = []

    def take(s):
        results.append(receive(s))
        s.sendall(b'.')

    def give(s):
        results.append(send(s))
    srv, sink, source = t.server(), t.target(take), t.target(give)
    ports = [t.port() for _ in range(4)]
    client = t.client(srv, *options,
                      '-L', f'{ports[0]}:127.0.0.1:{sink.port}',
                      '-L', f'{ports[1]}:127.0.0.1:{source.port}',
                      '-R', f'{ports[2]}:127.0.0.1:{sink.port}',
                      '-R', f'{ports[3]}:127.0.0.1:{source.port}')
    for what in ways:
        up, down = ports[:2] if what == '-L' else ports[2:]
        with connect(up, timeout=120) as s:
            digest = send(s)
            t.equal(s.recv(1), b'.', f'{what} up: answer')
        t.equal(results.pop(), (SIZE, digest), f'{what} up')
        with connect(down, timeout=120) as s:
            got = receive(s)
        wait_for(lambda: results, 10, 'the source did not end')
        t.equal(got, (SIZE, results.pop()), f'{what} down')
    return client


@case('300 MB each way, by -L and by -R', timeout=240)
def _(t):
    transfer(t)


@case('300 MB each way with RekeyLimit=4M', timeout=240)
def _(t):
    client = transfer(t, '-o', 'RekeyLimit=4M', ways=['-L'])
    rekeys = client.err().count('SSH2_MSG_NEWKEYS received')
    t.true(rekeys > SIZE // 4000000, f'{rekeys} key exchanges')


@case('both directions of one connection at once', timeout=120)
def _(t):
    digests = {}

    def both(s, name):
        def up():
            digests[f'{name} sent'] = send(s)
        thread = threading.Thread(target=up)
        thread.start()
        digests[f'{name} got'] = receive(s)
        thread.join()
    srv, port = t.server(), t.port()
    far = t.target(lambda s: both(s, 'far'))
    t.client(srv, '-L', f'{port}:127.0.0.1:{far.port}')
    with connect(port, timeout=100) as s:
        both(s, 'near')
    wait_for(lambda: len(digests) == 4, 10, 'an end is missing')
    t.equal(digests['near got'], (SIZE, digests['far sent']), 'down')
    t.equal(digests['far got'], (SIZE, digests['near sent']), 'up')


@case('a slow reader keeps its data, and does not stop its neighbours')
def _(t):
    size = 8 << 20
    go = threading.Event()
    got = []

    def slow(s):
        go.wait(30)
        got.append(len(read_all(s)))
    srv, echo, port, port2 = t.server(), t.target(), t.port(), t.port()
    lazy = t.target(slow)
    t.client(srv, '-L', f'{port}:127.0.0.1:{lazy.port}',
             '-L', f'{port2}:127.0.0.1:{echo.port}')

    def push():
        with connect(port, timeout=60) as s:
            s.sendall(bytes(size))
    thread = threading.Thread(target=push)
    thread.start()
    for _ in range(20):
        t.equal(talk(port2, b'quick'), b'quick', 'the neighbour')
    go.set()
    thread.join()
    wait_for(lambda: got, 10, 'no end')
    t.equal(got, [size], 'what arrived')


@case('beside downloads on a slow link a channel is opened and served at once')
def _(t):
    if not shutil.which('tc'):
        raise Skip('no tc (iproute2)')
    far, echo, load = t.far_host(), t.target(), t.target(endless)
    port, port2 = t.port(), t.port()
    srv = t.server(address=(far.ours,))
    t.client(srv, '-L', f'{port}:127.0.0.1:{load.port}',
             '-L', f'{port2}:127.0.0.1:{echo.port}', prefix=far.prefix,
             host=far.ours, wait=False)
    wait_for(lambda: far.run('ss', '-Hltn', 'sport', '=',
                             str(port2)).strip(), 10, 'no forward')
    sh('tc', 'qdisc', 'add', 'dev', far.near, 'root', 'tbf', 'rate',
       '100mbit', 'burst', '64kb', 'limit', '300kb')
    got = [0, 0]

    def download(n, s):
        with s, contextlib.suppress(OSError):
            while data := s.recv(1 << 18):
                got[n] += len(data)
    with far:
        loads = [connect(port, timeout=60) for _ in got]
    threads = [threading.Thread(target=download, args=(n, s))
               for n, s in enumerate(loads)]
    for thread in threads:
        thread.start()
    wait_for(lambda: min(got) > 2 << 20, 30 * SLOW, 'one download starves')
    before = sum(got)
    with far:
        s = connect(port2, timeout=30 * SLOW)
    with s:
        for _ in range(20):
            s.sendall(b'stroke')
            t.equal(s.recv(100), b'stroke', 'the echo')
    passed = (sum(got) - before) / 21
    print(f'#   {passed / 1e3:.0f} kB of downloads a round trip')
    for s in loads:
        s.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    # The queue's 300, what the kernel and the output hold, and as much again.
    t.true(passed < 900e3 * SLOW, f'{passed} bytes went before each echo')


def half_close(t, option):
    """Each end closes first, once; the other goes on."""
    heard = []

    def answer_after_eof(s):
        heard.append(read_all(s))
        s.sendall(b'answer after your end')

    def end_first(s):
        s.sendall(b'my end')
        s.shutdown(socket.SHUT_WR)
        heard.append(read_all(s))
    srv, port, port2 = t.server(), t.port(), t.port()
    first, second = t.target(answer_after_eof), t.target(end_first)
    t.client(srv, option, f'{port}:127.0.0.1:{first.port}',
             option, f'{port2}:127.0.0.1:{second.port}')
    t.equal(talk(port, b'question'), b'answer after your end', 'answer')
    t.equal(heard.pop(), b'question', 'question')
    with connect(port2) as s:
        t.equal(read_all(s), b'my end', 'what came before the end')
        s.sendall(b'still here')
        s.shutdown(socket.SHUT_WR)
        wait_for(lambda: heard, 10, 'nothing after the end')
    t.equal(heard, [b'still here'], 'what came after the end')


@case('half-close both ways through -L')
def _(t):
    half_close(t, '-L')


@case('half-close both ways through -R')
def _(t):
    half_close(t, '-R')


@case('a reset connection ends at the other side')
def _(t):
    ended = []

    def hold(s):
        with contextlib.suppress(OSError):
            while s.recv(1000):
                pass
        ended.append(True)
    srv, port, target = t.server(), t.port(), t.target(hold)
    t.client(srv, '-L', f'{port}:127.0.0.1:{target.port}')
    s = connect(port)
    s.sendall(b'x')
    wait_for(lambda: target.accepted, 5, 'no connection')
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                 b'\1\0\0\0\0\0\0\0')
    s.close()
    wait_for(lambda: ended, 5, 'the target does not hear of it')


if __name__ == '__main__':
    main()
