#!/usr/bin/python3
"""RateLimit: forwards and tunnels at the speed that policy says, each whole,
and nobody waits for another's download."""
import contextlib
import hashlib
import os
import socket
import statistics
import struct
import threading
import time

from bounds import cpu_s
from harness import (COMMS, SLOW, USER, Skip, case, connect, main, processes,
                     run, wait_for)

RATE = 1 << 20  # bytes a second
SIZE = 5 * RATE
# A burst at the start, and a machine that is busy with others.
MOST, LEAST = 1.3, 0.5
NAME = 16  # bytes that say whose transfer it is
DATA = hashlib.shake_256(b'rate').digest(SIZE)


class Transfers:
    """Two targets, and what came of every transfer with them: (name, bytes a
    second, whether all of it came)."""

    def __init__(self, t, host='127.0.0.1', size=SIZE):
        self.t, self.host, self.size, self.found = t, host, size, []
        self.sink = t.target(self._take, host='0.0.0.0')
        self.source = t.target(lambda s: s.sendall(DATA[:self.size]),
                               host='0.0.0.0')

    def _take(self, s):
        name = s.recv(NAME)
        s.sendall(b'.')
        self.receive(f'up {name.decode().rstrip()}', s)

    def receive(self, name, s):
        digest, n, started = hashlib.sha256(), 0, None
        s.settimeout(120)
        while data := s.recv(1 << 16):
            started = started or time.monotonic()
            digest.update(data)
            n += len(data)
        took = time.monotonic() - (started or 0)
        self.found.append((name, self.size / took, n == self.size and
                           digest.digest() == hashlib.sha256(
                               DATA[:self.size]).digest()))

    def up(self, name, s):
        with s:
            s.settimeout(120)
            s.sendall(name.ljust(NAME).encode())
            s.recv(1)  # the target is there
            s.sendall(DATA[:self.size])
            s.shutdown(socket.SHUT_WR)
            s.recv(1)

    def down(self, name, s):
        with s:
            self.receive(f'down {name}', s)

    def all(self, *jobs):
        """At once, (up or down, name, socket) each; what was found."""
        threads = [threading.Thread(target=fn, args=(name, s))
                   for fn, name, s in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: len(self.found) >= len(jobs), 10, 'one is missing')
        found, self.found = self.found, []
        return found


def paced(t, found, rate=RATE):
    for name, speed, whole in found:
        print(f'#   {name}: {speed / rate:.2f} of the limit')
        t.true(whole, f'{name}: not what was sent')
        t.true(LEAST / SLOW * rate < speed < MOST * rate,
               f'{name}: {speed:.0f} bytes/s')


def socks(port, target):
    s = connect(port, timeout=60)
    s.sendall(b'\5\1\0' + b'\5\1\0\1' + socket.inet_aton('127.0.0.1') +
              struct.pack('>H', target))
    got = b''
    while len(got) < 12:
        got += s.recv(12 - len(got))
    return s


def sessions():
    return {p.pid for p in processes(COMMS['session'])}


@case('-L, -R and -D go at the rate, both ways, and lose nothing', 'aditd',
      timeout=120)
def _(t):
    srv, x = t.server('RateLimit session 1M/s'), Transfers(t)
    p = [t.port() for _ in range(5)]
    t.client(srv, '-D', p[4], '-o', 'RekeyLimit=2M',
             '-o', 'ServerAliveInterval=1', '-o', 'ServerAliveCountMax=2',
             '-L', f'{p[0]}:127.0.0.1:{x.sink.port}',
             '-L', f'{p[1]}:127.0.0.1:{x.source.port}',
             '-R', f'{p[2]}:127.0.0.1:{x.sink.port}',
             '-R', f'{p[3]}:127.0.0.1:{x.source.port}')
    session, = sessions()
    busy = cpu_s(session)
    # By -R it is the other way round: its targets are the client's.
    paced(t, x.all((x.up, '-L', connect(p[0])),
                   (x.down, '-L', connect(p[1]))))
    paced(t, x.all((x.up, '-R', connect(p[2])),
                   (x.down, '-R', connect(p[3]))))
    paced(t, x.all((x.up, '-D', socks(p[4], x.sink.port)),
                   (x.down, '-D', socks(p[4], x.source.port))))
    busy = cpu_s(session) - busy
    t.true(busy < 2 * SLOW, f'the session spins: {busy} s')
    t.true('does not keep to' not in srv.log(), 'the broker disagrees')


@case('each way has a limit of its own, and unix sockets have it, too',
      'aditd', timeout=90)
def _(t):
    srv, x = t.server('RateLimit session up 1M/s'), Transfers(t)
    path, port, other = f'{t.folder}/s', t.port(), t.port()
    os.chmod(t.folder, 0o777)
    # through two forwards and a unix socket between them
    t.client(srv, '-R', f'{path}:127.0.0.1:{x.sink.port}')
    t.client(srv, '-L', f'{port}:{path}',
             '-L', f'{other}:127.0.0.1:{x.source.port}')
    found = dict((f[0], f) for f in x.all((x.up, '-L', connect(port)),
                                          (x.down, '-L', connect(other))))
    paced(t, [found['up -L']])
    name, speed, whole = found['down -L']
    t.true(whole and speed > 3 * RATE / SLOW, f'{name}: {speed}')


@case('forwards of a session share its limit, evenly', 'aditd', timeout=90)
def _(t):
    srv = t.server('RateLimit session 1M/s')
    x, port, up = Transfers(t, size=SIZE // 4), t.port(), t.port()
    t.client(srv, '-L', f'{port}:127.0.0.1:{x.source.port}',
             '-L', f'{up}:127.0.0.1:{x.sink.port}')
    for fn, p in ((x.down, port), (x.up, up)):
        started = time.monotonic()
        found = x.all(*[(fn, str(n), connect(p, timeout=60))
                        for n in range(4)])
        took = time.monotonic() - started
        t.true(all(f[2] for f in found), f'{found}')
        speeds = [f[1] / RATE for f in found]
        print(f'#   {found[0][0][:-1]}: {SIZE / took / RATE:.2f} of the limit,'
              f' each {min(speeds):.2f} to {max(speeds):.2f}')
        t.true(LEAST / SLOW * RATE < SIZE / took < MOST * RATE, f'{took} s')
        # The first ones have all of it at the end of the others.
        t.true(max(speeds) < 3 * min(speeds), f'uneven: {speeds}')


@case('who is not meant is not slower', 'aditd')
def _(t):
    srv = t.server(f'Match User {USER}\nRateLimit session 1M/s')
    x, ports = Transfers(t), [t.port() for _ in range(2)]
    for user, port in ((USER, ports[0]), ('neighbour', ports[1])):
        t.client(srv, '-L', f'{port}:127.0.0.1:{x.source.port}', user=user)
    found = {f[0]: f for f in x.all((x.down, USER, connect(ports[0])),
                                    (x.down, 'other', connect(ports[1])))}
    paced(t, [found[f'down {USER}']])
    name, speed, whole = found['down other']
    t.true(whole and speed > 3 * RATE / SLOW, f'{name}: {speed}')


@case("sessions of a user share the user's limit, as they come and go",
      'aditd', timeout=120)
def _(t):
    srv = t.server('RateLimit user 1M/s\nMatch User neighbour\n'
                   'RateLimit session 4M/s user 1M/s')
    x, ports = Transfers(t, size=SIZE // 2), [t.port() for _ in range(3)]
    clients = [t.client(srv, '-L', f'{p}:127.0.0.1:{x.source.port}', user=u)
               for u, p in zip((USER, USER, 'neighbour'), ports)]
    found = {f[0]: f for f in x.all(*[(x.down, str(n), connect(p))
                                      for n, p in enumerate(ports)])}
    paced(t, [found['down 0'], found['down 1']], RATE / 2)
    # 2.5 s of its own limit: its burst counts for more
    name, speed, whole = found['down 2']
    t.true(whole and LEAST / SLOW * RATE < speed < 1.5 * RATE, f'{speed}')
    clients[1].stop()
    x.size = SIZE
    paced(t, x.all((x.down, 'alone', connect(ports[0]))))
    t.true('does not keep to' not in srv.log(), 'the broker disagrees')


def answers(port, enough):
    """The round trips of single words through an echo until then, seconds."""
    trips = []
    with connect(port, timeout=30) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not enough():
            started = time.monotonic()
            s.sendall(b'x')
            if s.recv(1) != b'x':
                break
            trips.append(time.monotonic() - started)
            time.sleep(0.03)
    return trips


@case('a channel that says little answers at once beside one that is paced',
      'aditd', timeout=90)
def _(t):
    srv, x = t.server('RateLimit session 1M/s'), Transfers(t)
    echo, p = t.target(), [t.port() for _ in range(3)]
    t.client(srv, '-L', f'{p[0]}:127.0.0.1:{x.sink.port}',
             '-L', f'{p[1]}:127.0.0.1:{x.source.port}',
             '-L', f'{p[2]}:127.0.0.1:{echo.port}')
    for fn, port, name in ((x.up, p[0], 'up'), (x.down, p[1], 'down')):
        job = threading.Thread(target=fn, args=(name, connect(port)))
        job.start()
        trips = answers(p[2], lambda: not job.is_alive())
        job.join()
        wait_for(lambda: x.found, 10, 'it does not end')
        paced(t, x.found)
        x.found = []
        middle, most = statistics.median(trips), max(trips)
        print(f'#   {name}: {len(trips)} round trips, {1000 * middle:.1f} ms, '
              f'at the most {1000 * most:.0f}')
        t.true(len(trips) > 20 / SLOW, f'{len(trips)} round trips')
        t.true(middle < 0.1 * SLOW, f'{name}: {middle} s')


@case('a tunnel goes at the rate, both ways, and a stream beside it', 'aditd',
      timeout=120)
def _(t):
    if not os.path.exists('/dev/net/tun'):
        raise Skip('no /dev/net/tun')
    far = t.far_host()
    srv = t.server('PermitTunnel yes\nTunnelAddress 10.9.0.1 10.9.0.2\n'
                   'RateLimit session 1M/s', address=(far.ours, '127.0.0.1'))
    x = Transfers(t)
    port = t.port()
    client = t.client(srv, '-w', '0:0', '-L',
                      f'{port}:127.0.0.1:{x.source.port}', wait=False,
                      prefix=far.prefix, host=far.ours)
    client.wait_err('tunnel forward established')
    far.run('ip', 'link', 'set', 'tun0', 'up')
    far.run('ip', 'addr', 'add', '10.9.0.2', 'peer', '10.9.0.1', 'dev',
            'tun0')

    def there(target, host='10.9.0.1', to=None):
        with far:
            return connect(to or target.port, host, timeout=60)
    # each one's acknowledgements go the other's way
    paced(t, x.all((x.up, 'tunnel', there(x.sink)),
                   (x.down, 'tunnel', there(x.source))))
    x.size = SIZE // 2
    jobs = ((x.down, 'tunnel', there(x.source)),
            (x.down, 'stream', there(None, '127.0.0.1', port)))
    started = time.monotonic()
    found = x.all(*jobs)
    paced(t, [('both', SIZE / (time.monotonic() - started),
               all(f[2] for f in found))])
    t.true(min(f[1] for f in found) > RATE / 5 / SLOW, f'uneven: {found}')
    lost = sum(map(int, run('ip', '-s', 'link', 'show', 'tun0')
                   .split('\n')[3].split()[2:4]))
    t.equal(lost, 0, 'errors of the device')
    t.true('does not keep to' not in srv.log(), 'the broker disagrees')


@case('the least rate serves, keepalives and all', 'aditd', timeout=90)
def _(t):
    srv = t.server('RateLimit session 16K/s\nClientAliveInterval 1\n'
                   'ClientAliveCountMax 2')
    x, port, up = Transfers(t, size=80 << 10), t.port(), t.port()
    client = t.client(srv, '-o', 'ServerAliveInterval=1', '-o',
                      'ServerAliveCountMax=2',
                      '-L', f'{port}:127.0.0.1:{x.source.port}',
                      '-L', f'{up}:127.0.0.1:{x.sink.port}')
    found = x.all((x.down, 'least', connect(port)),
                  (x.up, 'least', connect(up)))
    for name, speed, whole in found:
        print(f'#   {name}: {speed / 16384:.2f} of the limit')
        t.true(whole, f'{name}: not what was sent')
    down, = [f[1] for f in found if f[0].startswith('down')]
    t.true(down < 2.5 * 16384, f'down: {down} bytes/s')  # with its burst
    t.equal(client.process.poll(), None, 'the client')
    with contextlib.suppress(OSError):
        t.true('not responding' not in srv.log(), 'keepalives')
    t.true('does not keep to' not in srv.log(), 'the broker disagrees')


if __name__ == '__main__':
    main()
