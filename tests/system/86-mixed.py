#!/usr/bin/python3
"""TCP, UDP, ICMP and fragments, IPv4 and IPv6, small and large, all at once
through one tunnel: what comes out is what went in, byte for byte, and no
packet is counted as broken on either side. The same through sshd, as a
measure.

    ADIT_LONG=1      10 GB through aditd, 1 GB through sshd
    ADIT_SEED=N      repeats the bytes of a run"""
import os
import random
import socket
import threading

from harness import (PEER, SLOW, USER, case, devices, main, run, skip_all,
                     wait_for)
from tunnelled import A, A6, B, B6, MODES, address, errors, ping, pings

if not os.path.exists('/dev/net/tun'):
    skip_all('no /dev/net/tun')
if PEER == 'sshd':
    skip_all('each case runs both servers')

LONG = os.environ.get('ADIT_LONG') == '1'
SEED = int(os.environ.get('ADIT_SEED', '7'))
# Not a divisor of any packet: what is missing or twice is seen at once.
RING = random.Random(SEED).randbytes((1 << 20) + 7)
TWICE = RING + RING
THERE = threading.Lock()  # a far host is entered by one thread at a time


def tunnel(t, server, kind, mtu):
    """The client's host; addressed alike, whichever server it is."""
    mode, *_ = MODES[kind]
    far = t.far_host(int(server == 'sshd'))
    srv = t.server(f'PermitTunnel {mode}\nPermitRootLogin yes\n',
                   kind=server, address=(far.ours,))
    client = t.client(srv, '-o', f'Tunnel={mode}', '-w', '0:0', wait=False,
                      user='root' if server == 'sshd' else USER,
                      prefix=far.prefix, host=far.ours)
    client.wait_err('tunnel forward established')
    device = f'{kind}0'
    wait_for(lambda: device in devices(), 10, 'no device')
    run('ip', 'link', 'set', device, 'mtu', str(mtu), 'up')
    for a, b, bits in ((A, B, 24), (A6, B6, 64)):
        if kind == 'tun':
            run('ip', 'addr', 'add', a, 'peer', b, 'dev', device)
        else:
            run('ip', 'addr', 'add', f'{a}/{bits}', 'dev', device, 'nodad')
    address(far, device, str(mtu))
    for host, v in ((A, '-4'), (A6, '-6')):
        wait_for(lambda: ping(far, host) == 1, 10, f'no ping of {host}')
    return far, client, device


def sent(s, size, small, rng):
    """size bytes of the ring; small: in writes of odd sizes."""
    at = 0
    while at < size:
        start = at % len(RING)
        n = min(rng.randrange(1, 4000) if small else len(RING), size - at)
        s.sendall(memoryview(TWICE)[start:start + n])
        at += n
    s.shutdown(socket.SHUT_WR)


def received(s):
    """How many bytes came, or what is wrong with them."""
    at = 0
    while data := s.recv(1 << 18):
        start = at % len(RING)
        if data != TWICE[start:start + len(data)]:
            return f'other bytes from {at} on'
        at += len(data)
    return at


def tcp(far, up, host, size, small):
    """One connection; its end says how much came."""
    family = socket.AF_INET6 if ':' in host else socket.AF_INET

    def listen():
        return socket.create_server((host, 0), family=family)
    listener, s = (listen(), None) if up else (None, socket.socket(family))
    with THERE, far:
        listener, s = listener or listen(), s or socket.socket(family)
    result = []

    def take():
        c, _ = listener.accept()
        with c:
            c.settimeout(120 * SLOW)
            result.append(received(c))
    thread = threading.Thread(target=take)
    thread.start()
    with listener, s:
        s.settimeout(120 * SLOW)
        s.connect(listener.getsockname())
        sent(s, size, small, random.Random(size))
        thread.join()
    return result == [size] or f'up {up}, {host}: {result} of {size} bytes'


def udp(far, host, there, sizes, stop):
    """Datagrams, each answered before the next: what comes is one that was
    sent. One that is lost in the rush is sent again."""
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    a = socket.socket(family, socket.SOCK_DGRAM)
    with THERE, far:
        b = socket.socket(family, socket.SOCK_DGRAM)
    with a, b:
        a.bind((host, 0))
        b.bind((there, 0))
        a.connect(b.getsockname())
        b.connect(a.getsockname())
        for s in (a, b):
            s.settimeout(0.5 * SLOW)
        number = 0
        while number < len(sizes) or not stop.is_set():
            n = sizes[number % len(sizes)]
            x, y = (a, b) if number % 2 else (b, a)
            start = number * 4099 % len(RING)
            data = number.to_bytes(4, 'big') + TWICE[start:start + n]
            number += 1
            for _ in range(60):
                x.send(data)
                try:
                    while (got := y.recv(65536)) != data:
                        seen = int.from_bytes(got[:4], 'big')
                        start = seen * 4099 % len(RING)
                        if seen >= number or got[4:] != TWICE[
                                start:start + len(got) - 4]:
                            return f'{host}: another datagram of {len(got)}'
                    break
                except TimeoutError:
                    continue
            else:
                return f'{host}: no datagram of {n} bytes comes'
    return True


def icmp(where, host, mtu, stop):
    """ping(8) itself looks at what comes back."""
    while True:
        for size in (56, mtu - 48, 3 * mtu, 20000):
            said = pings(where, '-c', '5', '-i', '0.05', '-s', str(size),
                         '-p', 'ad17', host)
            if 'wrong data' in said or ' 0 received' in said:
                return f'{host}, {size} bytes: {said}'
        if stop.is_set():
            return True


def broken(far):
    """Packets that were counted as damaged; not fragments that were lost."""
    return {f'{where} {name}': n
            for where, host in (('server', None), ('client', far))
            for name, n in errors(host).items() if 'ReasmFails' not in name}


def mixed(t, server, kind, mtu, size):
    far, client, device = tunnel(t, server, kind, mtu)
    before, stop, results = broken(far), threading.Event(), []

    def start(fn, *args):
        def one():
            try:
                results.append(fn(far, *args))
            except OSError as e:
                results.append(f'{fn.__name__} {args[:2]}: {e}')
        thread = threading.Thread(target=one)
        thread.start()
        return thread
    bulk = [start(tcp, up, host, n, small)
            for up, v4, v6 in ((True, A, A6), (False, B, B6))
            for host in (v4, v6)
            for n, small in ((size // 5, False), (size // 20, True))]
    sizes = [*range(1, mtu - 60, mtu // 20), mtu - 60, 3 * mtu, 20000]
    others = [start(udp, a, b, sizes, stop) for a, b in ((A, B), (A6, B6))]
    others += [start(lambda _, *args: icmp(*args), where, host, mtu, stop)
               for where, host in ((far, A), (far, A6), (None, B),
                                   (None, B6))]
    for thread in bulk:
        thread.join()
    stop.set()
    for thread in others:
        thread.join()
    t.equal([r for r in results if r is not True], [], server)
    t.equal(len(results), 14, 'flows')
    t.equal(broken(far), before, f'broken packets by {server}')
    client.stop()
    wait_for(lambda: device not in devices(), 10, 'the device stays')


for KIND, MTU, SIZE in (('tun', 1500, 10 << 30 if LONG else 24 << 20),
                        ('tun', 9000, 24 << 20), ('tap', 1500, 24 << 20)):
    @case(f'{KIND}, MTU {MTU}, {SIZE >> 20} MB: all arrives as it was, as '
          'through sshd', timeout=7200 if LONG else 240)
    def _(t, kind=KIND, mtu=MTU, size=SIZE):
        mixed(t, 'aditd', kind, mtu, size)
        mixed(t, 'sshd', kind, mtu, size // 10)


if __name__ == '__main__':
    main()
