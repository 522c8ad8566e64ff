#!/usr/bin/python3
"""Tunnels whose device gives and takes many segments at a time: nothing is
lost, bent or out of order, and no other traffic suffers. (TunnelOffload no:
the same, datagram by datagram.)"""
import collections
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import random
import re
import shutil
import socket
import struct
import threading
import time

from harness import (PEER, SLOW, Skip, case, endless, main, run, skip_all,
                     wait_for)
from tunnelled import A, A6, B, B6, MODES, address, ping, pings, right

if not os.path.exists('/dev/net/tun'):
    skip_all('no /dev/net/tun')
if PEER == 'sshd':
    skip_all('what only aditd does')

TUNSETIFF, TUNSETOFFLOAD = 0x400454ca, 0x400454d0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 1, 0x1000, 0x4000
THERE = threading.Lock()  # a far host is entered by one thread at a time


def tunnel(t, kind='tun', offload='yes', mtu=1500, relay=None, options=()):
    """(the client's host, ssh) with a tunnel between."""
    mode, v4, v6 = MODES[kind]
    far = t.far_host()
    srv = t.server(f'PermitTunnel {mode}\nLogLevel VERBOSE\n'
                   f'TunnelAddress {v4}\nTunnelAddress {v6}\n'
                   f'TunnelMTU {mtu}\nTunnelOffload {offload}\n',
                   address=(far.ours,))
    host = far.ours
    if relay:
        host = '127.0.0.1'
        relay(t, far, srv.port)
    client = t.client(srv, '-o', f'Tunnel={mode}', '-w', '0:0', *options,
                      wait=False, prefix=far.prefix, host=host)
    client.wait_err('tunnel forward established')
    client.srv = srv
    address(far, f'{kind}0', str(mtu))
    for host, v in ((A, '-4'), (A6, '-6')):
        wait_for(lambda: ping(far, host) == 1, 10, f'no ping of {host}')
    d = json.loads(run('ip', '-d', '-j', 'link', 'show', 'dev', f'{kind}0'))
    t.equal(d[0]['linkinfo']['info_data']['vnet_hdr'], offload == 'yes',
            'frames')
    return far, client


def digest(s):
    h = hashlib.sha256()
    while data := s.recv(1 << 18):
        h.update(data)
    s.sendall(h.digest())


def connect(far, up, target, host):
    """A connection to target: from the client if up, else to it."""
    if not up:
        return socket.create_connection((host, target.port), 20 * SLOW)
    with THERE, far:
        return socket.create_connection((host, target.port), 20 * SLOW)


def flow(t, far, up, v6, size, failed, small=False):
    """size bytes, checked by hash. small: in writes of odd sizes."""
    host = (A6 if v6 else A) if up else (B6 if v6 else B)
    if up:
        target = t.target(digest, host=host)
    else:
        with THERE, far:
            target = t.target(digest, host=host)
    data = os.urandom(1 << 16) * (size >> 16)
    with connect(far, up, target, host) as s:
        s.settimeout(60 * SLOW)
        at = 0
        while at < len(data):
            n = 1 + at * 7919 % 3000 if small else len(data)
            s.sendall(data[at:at + n])
            at += n
        s.shutdown(socket.SHUT_WR)
        if s.recv(100) != hashlib.sha256(data).digest():
            failed.append(f'up {up}, IPv6 {v6}, {size} bytes')


def flows(t, far, *which):
    """All at once: (up, v6, size[, small])."""
    failed = []

    def one(args):
        try:
            flow(t, far, *args[:3], failed, *args[3:])
        except Exception as e:  # or the thread takes it with it
            failed.append(f'{args}: {e!r}')
    threads = [threading.Thread(target=one, args=(w,)) for w in which]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    t.equal(failed, [], 'flows')


def udp(t, far, here, there, sizes):
    """Each datagram comes, both ways."""
    family = socket.AF_INET6 if ':' in here else socket.AF_INET
    a = socket.socket(family, socket.SOCK_DGRAM)
    with far:
        b = socket.socket(family, socket.SOCK_DGRAM)
    with a, b:
        for s, host in ((a, here), (b, there)):
            s.settimeout(5 * SLOW)
            s.bind((host, 0))
        a.connect(b.getsockname())
        b.connect(a.getsockname())
        for n in sizes:
            for x, y in ((a, b), (b, a)):
                data = os.urandom(n)
                x.send(data)
                t.equal(y.recv(65536), data, f'a datagram of {n} bytes')


def carries(t, far, mtu, size=8 << 20):
    for v6 in (False, True):
        for up in (True, False):
            flows(t, far, (up, v6, size))
    sizes = [*range(1, mtu - 48, mtu // 50), mtu - 48, 3 * mtu, 20000]
    for here, there in ((A, B), (A6, B6)):
        udp(t, far, here, there, sizes)
        for where, host in ((far, here), (None, there)):
            for size in (56, mtu - 48, 3 * mtu, 20000):
                # one may be lost on a busy machine, not twice in turn
                t.true(any(ping(where, host, '-s', str(size), count=5) == 5
                           for _ in range(2)),
                       f'pings of {host} with {size} bytes')
    right(t, far)


for KIND in MODES:
    for OFFLOAD in ('yes', 'no'):
        for MTU in (1500, 9000):
            @case(f'{KIND}, MTU {MTU}, TunnelOffload {OFFLOAD}: TCP, UDP, '
                  'ICMP, fragments', timeout=120)
            def _(t, kind=KIND, offload=OFFLOAD, mtu=MTU):
                far, client = tunnel(t, kind, offload, mtu)
                carries(t, far, mtu)
                client.stop()
                m = client.srv.wait_log(r'dropped: (\d+) too large, (\d+) '
                                        r'malformed, (\d+) not taken')
                t.equal(m.groups(), ('0', '0', '0'), 'dropped')


@case('parallel flows, large and small writes; no ping is lost to downloads',
      timeout=120)
def _(t):
    far, _ = tunnel(t)
    up, down = ([(way, v6, 4 << 20, small) for v6 in (True, False)
                 for small in (True, False)] * 2 for way in (True, False))
    flows(t, far, *up, *down)
    lost = []

    def ask():
        lost.append(100 - ping(far, A, count=100))
    thread = threading.Thread(target=ask)
    thread.start()
    flows(t, far, *down)
    thread.join()
    t.equal(lost, [0], 'pings lost')
    right(t, far)


@case('through rekeys', timeout=120)
def _(t):
    far, client = tunnel(t, options=('-o', 'RekeyLimit=1M', '-vv'))
    flows(t, far, (True, False, 16 << 20), (False, True, 16 << 20))
    t.true(client.err().count('SSH2_MSG_NEWKEYS received') > 10, 'rekeys')
    right(t, far)


def delayed(a, b, seconds):
    """Bytes from a to b, each so many seconds later."""
    queue, there = collections.deque(), threading.Condition()

    def read():
        data = True
        while data:
            try:
                data = a.recv(1 << 18)
            except OSError:
                data = b''
            with there:
                queue.append((time.monotonic() + seconds, data))
                there.notify()

    def write():
        while True:
            with there:
                there.wait_for(lambda: queue)
                due, data = queue.popleft()
            time.sleep(max(0, due - time.monotonic()))
            try:
                if not data:
                    b.shutdown(socket.SHUT_WR)
                    return
                b.sendall(data)
            except OSError:
                return
    for fn in (read, write):
        threading.Thread(target=fn, daemon=True).start()


def end(s):
    with contextlib.suppress(OSError):
        s.shutdown(socket.SHUT_RDWR)  # close() would wait for recv()
    s.close()


def relay(t, far, port, seconds=0.005):
    """On the client's host, at the server's port: the way to the server, which
    takes so many seconds longer, each way."""
    with far:
        listener = socket.create_server(('127.0.0.1', port))
    t.undo.callback(listener.close)

    def serve():
        try:
            a, _ = listener.accept()
        except OSError:
            return
        with THERE, far:
            b = socket.create_connection((far.ours, port))
        for s in (a, b):
            t.undo.callback(end, s)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        delayed(a, b, seconds)
        delayed(b, a, seconds)
    threading.Thread(target=serve, daemon=True).start()


@case('a long way to the client is kept full', timeout=120)
def _(t):
    far, _ = tunnel(t, relay=relay)
    for up in (True, False):
        began = time.monotonic()
        flows(t, far, (up, False, 16 << 20))
        rate = 16 / (time.monotonic() - began)
        print(f'#   {"up" if up else "down"}: {rate:.1f} MB/s')
        # what 98304 bytes a trip would make of it is 9
        t.true(rate > 2 / SLOW, f'{rate} MB/s')
    right(t, far)


@case('a ping passes a download in the same session', timeout=120)
def _(t):
    if not shutil.which('tc'):
        raise Skip('no tc (iproute2)')
    port = t.port()
    target = t.target(endless)
    far, _ = tunnel(t, options=('-L', f'{port}:127.0.0.1:{target.port}'))
    run('tc', 'qdisc', 'add', 'dev', far.near, 'root', 'tbf', 'rate',
        '100mbit', 'burst', '64kb', 'limit', '300kb')
    with far:
        s = socket.create_connection(('127.0.0.1', port), 10 * SLOW)
    stop, got = threading.Event(), [0]

    def download():
        with s:
            while not stop.is_set():
                got[0] += len(s.recv(1 << 18))
    thread = threading.Thread(target=download)
    thread.start()
    wait_for(lambda: got[0] > 8 << 20, 20, 'no download')
    before, began = got[0], time.monotonic()
    said = pings(far, '-c', '150', '-i', '0.02', A)
    rate = (got[0] - before) / (time.monotonic() - began) / 1e6
    stop.set()
    thread.join()
    trips = sorted(map(float, re.findall(r'time=([\d.]+)', said)))
    print(f'#   median {trips[len(trips) // 2]} ms, longest {trips[-1]} ms; '
          f'download {rate:.1f} MB/s')
    t.equal(len(trips), 150, 'pings that come back')
    # The queue's own are 24 ms; sshd adds 60.
    t.true(trips[len(trips) // 2] < 45 * SLOW, 'the median')
    t.true(rate > 6 / SLOW, 'the download')


def datagram(payload, to, port):
    """IPv4 and UDP from B, with a right header and no UDP checksum."""
    head = bytearray(struct.pack(
        '>BBHHHBBH4s4s', 0x45, 0, 28 + len(payload), 1, 0, 64, 17, 0,
        socket.inet_aton(B), socket.inet_aton(to)))
    total = sum(struct.unpack('>10H', head))
    head[10:12] = struct.pack('>H', ~(total % 0xffff) & 0xffff)
    return bytes(head) + struct.pack('>HHHH', 9, port, 8 + len(payload),
                                     0) + payload


@case('whatever header a session writes: the kernel takes a packet or refuses')
def _(t):
    tun = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
    t.undo.callback(os.close, tun)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack(
        '16sH22x', b'tun9', IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(tun, TUNSETOFFLOAD, 0xf)
    run('ip', 'addr', 'add', A, 'peer', B, 'dev', 'tun9')
    run('ip', 'link', 'set', 'tun9', 'up')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((A, 0))
        s.settimeout(10 * SLOW)
        port = s.getsockname()[1]
        r, taken = random.Random(5), collections.Counter()
        for _ in range(5000):
            n = r.choice((0, 8, 80, 1372, 5000, 60000))
            packet = datagram(r.randbytes(n), B, port)
            if r.random() < 0.3:
                packet = r.randbytes(r.choice((1, 20, 40, 1500)))
            header = struct.pack(
                '<BBHHHH', r.choice((0, 1, 2, 3, 255)),
                r.choice((0, 1, 3, 4, 5, 9, 0x81, 0x84)),
                *(r.choice((0, 20, 28, 1400, r.randrange(65536)))
                  for _ in range(4)))
            try:
                taken[os.write(tun, header + packet) > 0] += 1
            except OSError as e:
                t.equal(e.errno, errno.EINVAL, 'the kernel says')
                taken[False] += 1
        print(f'#   {taken[True]} taken, {taken[False]} refused')
        t.true(taken[True] > 100 and taken[False] > 100, taken)
        os.write(tun, bytes(10) + datagram(b'still right', A, port))
        while s.recv(65536) != b'still right':
            pass


if __name__ == '__main__':
    main()
