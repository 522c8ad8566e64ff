#!/usr/bin/python3
"""tun@openssh.com, point-to-point: the stock client's -w, and a client of our
own where it has to count. (AsyncSSH has no tunnels before 2.13.)"""
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import struct
import threading
import time

import minimal
from bounds import cpu_s
from harness import (COMMS, DEVICES, PEER, SLOW, USER, Failure, authorize,
                     case, devices, main, one, processes, public, reaches, run,
                     sh, skip_all, wait_for)
from minimal import ssh
from tunnelled import A, A6, B, B6

if not os.path.exists('/dev/net/tun'):
    skip_all('no /dev/net/tun')

LONG = os.environ.get('ADIT_LONG') == '1'
# sshd gives a device to root alone.
WHO = 'root' if PEER == 'sshd' else USER
NET_ADMIN = 1 << 12
ANY = 0x7fffffff
ADDRESSED = f'TunnelAddress {A} {B}\nTunnelAddress {A6} {B6}\n'
OPENSSH = b'SSH-2.0-OpenSSH_9.2_minimal'


# Two hosts, and a tunnel between them.

def hosts(t, policy='', permit='yes', **kw):
    """(the client's host, the server)"""
    far = t.far_host()
    policy = f'PermitTunnel {permit}\nLogLevel VERBOSE\n{policy}'
    return far, t.server(policy, address=(far.ours, '127.0.0.1'), **kw)


def start(t, srv, far, *options, user=WHO, **kw):
    """A client that has got its tunnel or was refused one: (client, bool)."""
    client = t.client(srv, *options, user=user, wait=False, prefix=far.prefix,
                      host=far.ours, **kw)
    got = client.wait_err('tunnel forward established|'
                          'Tunnel forwarding failed|Permission denied|'
                          'Tunnel device open failed')[0]
    return client, got == 'tunnel forward established'


def tunnel(t, srv, far, *options, unit=0, **kw):
    client, got = start(t, srv, far, '-w', f'{unit}:{unit}', *options, **kw)
    t.true(got, f'no tunnel: {client.said()}')
    return client


def refused(t, srv, far, *options, why, said=None, **kw):
    """The client gets no tunnel; the log says why, and what is said to the
    client. No device is left."""
    before = devices()
    client, got = start(t, srv, far, *options, **kw)
    t.true(not got, f'a tunnel, with {options}')
    t.true(client.wait() != 0, 'exit status')
    t.equal(devices(), before, 'devices')
    if PEER == 'aditd':
        srv.wait_log(why)
        t.match(said or why, client.said(), 'what the client is told')


def theirs(far, device='tun0', local=B, peer=A):
    """Address the client's end. Up first: on a device that is down Linux makes
    no route to an IPv6 peer."""
    far.run('ip', 'link', 'set', device, 'up')
    far.run('ip', 'addr', 'add', local, 'peer', peer, 'dev', device)


def ours(device='tun0', local=A, peer=B):
    """By hand, for a server that has no TunnelAddress."""
    run('ip', 'link', 'set', device, 'up')
    run('ip', 'addr', 'add', local, 'peer', peer, 'dev', device)


def link(name, far=None):
    argv = 'ip', '-s', '-d', '-j', 'link', 'show', 'dev', name
    return json.loads((far.run if far else run)(*argv))[0]


def rx_packets(name):
    return link(name)['stats64']['rx']['packets']


def ping(host, *options, far=None, count=3):
    """How many of count come back."""
    done = sh(*(far.prefix if far else []), 'ping', '-n', '-c', str(count),
              '-i', '0.02', '-W', str(2 * SLOW), *options, host, check=False)
    m = re.search(r'(\d+) received', done.stdout)
    return int(m[1]) if m else 0


def lives(t, far=None, host=B):
    wait_for(lambda: ping(host, far=far, count=1), 5, f'no ping of {host}')


def gone(names, seconds=2):
    wait_for(lambda: not names & devices(), seconds,
             lambda: f'left: {names & devices()}')


def digest(s):
    h = hashlib.sha256()
    while data := s.recv(1 << 18):
        h.update(data)
    s.sendall(h.digest())


def tcp(t, size, source, sink, host):
    """size bytes from source to sink (each a context), checked by hash."""
    data = os.urandom(1 << 20) * (size >> 20)
    with sink:
        target = t.target(digest, host=host)
    with source:
        s = socket.create_connection((host, target.port), 10 * SLOW)
    with s:
        s.settimeout(60 * SLOW)
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        t.equal(s.recv(100), hashlib.sha256(data).digest(), f'TCP to {host}')


def udp_pair(t, far, here, there):
    """Two UDP sockets, connected to each other through the tunnel."""
    family = socket.AF_INET6 if ':' in here else socket.AF_INET
    a = socket.socket(family, socket.SOCK_DGRAM)
    with far:
        b = socket.socket(family, socket.SOCK_DGRAM)
    t.undo.callback(a.close)
    t.undo.callback(b.close)
    for s, address in ((a, here), (b, there)):
        s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        s.settimeout(5 * SLOW)
        s.bind((address, 0))
    a.connect(b.getsockname())
    b.connect(a.getsockname())
    return a, b


def carries(t, far, here=A, there=B, size=20 << 20):
    """ICMP, UDP and TCP, both ways."""
    lives(t, far, here)
    for host, where in ((here, far), (there, None)):
        t.equal(ping(host, far=where, count=20), 20, f'pings of {host}')
    a, b = udp_pair(t, far, here, there)
    for n in range(0, 1400, 7):
        for x, y in ((a, b), (b, a)):
            data = os.urandom(n)
            x.send(data)
            t.equal(y.recv(2000), data, f'a datagram of {n} bytes')
    near = contextlib.nullcontext()
    tcp(t, size, far, near, here)
    tcp(t, size, near, far, there)


# The stock client.

@case('ssh -f -w 0:0 host true stays and carries ICMP, TCP and UDP')
def _(t):
    far, srv = hosts(t)
    client = t.background(srv, '-w', '0:0', user=WHO, prefix=far.prefix,
                          host=far.ours)
    t.equal(client.status, 0, 'exit status of ssh -f')
    wait_for(lambda: 'tun0' in devices(), 5, 'no device')
    ours()
    theirs(far)
    for where in (None, far):
        t.equal(link('tun0', where)['mtu'], 1500, 'MTU')
    carries(t, far)
    t.true(client.alive(), 'the client ended')
    os.kill(client.pid, signal.SIGTERM)
    gone({'tun0'}, 1)
    wait_for(lambda: not client.alive(), 5, 'the client stays')


@case('the server configures its device by policy', 'aditd')
def _(t):
    far, srv = hosts(t, f'''{ADDRESSED}
TunnelAddress 10.10.0.1/24
TunnelAddress fd10::1/64
TunnelRoute 10.20.0.0/16
TunnelRoute fd20::/48
TunnelMTU 1400
TunnelTxQueueLen 77
''')
    client = tunnel(t, srv, far)
    d = link('tun0')
    t.equal((d['mtu'], d['txqlen'], 'UP' in d['flags'], d['link_type']),
            (1400, 77, True, 'none'), 'link')
    t.equal(d['linkinfo']['info_data']['type'], 'tun')
    t.true('POINTOPOINT' in d['flags'], d['flags'])
    a, = json.loads(run('ip', '-j', 'addr', 'show', 'dev', 'tun0'))
    t.equal({(x['local'], x.get('address'), x['prefixlen'])
             for x in a['addr_info']},
            {(A, B, 32), (A6, B6, 128), ('10.10.0.1', None, 24),
             ('fd10::1', None, 64)}, 'addresses')
    routes = {r['dst'] for v in ('-4', '-6') for r in json.loads(
        run('ip', v, '-j', 'route', 'show', 'dev', 'tun0'))}
    t.true({'10.20.0.0/16', 'fd20::/48', '10.10.0.0/24', 'fd10::/64', B,
            B6} <= routes, f'routes: {routes}')
    for key in ('accept_ra', 'accept_redirects'):
        with open(f'/proc/sys/net/ipv6/conf/tun0/{key}') as f:
            t.equal(f.read(), '0\n', key)
    # Nobody typed ip on the server.
    theirs(far)
    theirs(far, 'tun0', B6, A6)
    far.run('ip', 'link', 'set', 'tun0', 'mtu', '1400')
    for host in (A, A6):
        lives(t, far, host)
    client.stop()
    gone({'tun0'}, 1)
    t.equal(run('ip', 'route', 'show', '10.20.0.0/16'), '', 'a route is left')


@case('TunnelUp no leaves the device down', 'aditd')
def _(t):
    far, srv = hosts(t, f'TunnelUp no\n{ADDRESSED}')
    client = tunnel(t, srv, far)
    t.true('UP' not in link('tun0')['flags'], 'it is up')
    t.match(A, run('ip', 'addr', 'show', 'dev', 'tun0'))
    theirs(far)
    t.equal(ping(A, far=far, count=1), 0, 'pings')
    run('ip', 'link', 'set', 'tun0', 'up')
    lives(t, far, A)
    t.equal(link('tun0')['txqlen'], 500, "the queue is the kernel's")
    client.stop()
    m = srv.wait_log(r'(\d+) not taken by the device')
    t.true(int(m[1]) > 0, 'what a device that is down takes')


@case('TunnelName: a pattern, a fixed one, by Match', 'aditd')
def _(t):
    far, srv = hosts(t, '''TunnelName vpn-%u%n
Match User neighbour
TunnelName office
''')
    tunnel(t, srv, far, unit=3)
    tunnel(t, srv, far, unit=4, user='neighbour')
    t.equal(devices() - DEVICES - {'near'}, {f'vpn-{USER}3', 'office'})
    # A fixed name is given once.
    refused(t, srv, far, '-w', '5:any', user='neighbour',
            why='device office exists already')
    # One that gets too long for this unit is no device.
    refused(t, srv, far, '-w', '5:9999', why='no valid interface name')


@case('TunnelUnit: fixed, a range', 'aditd')
def _(t):
    t.tun_node()
    far, srv = hosts(t, '''TunnelUnit 5-6
Match User neighbour
TunnelUnit 9
''')
    first, _ = start(t, srv, far, '-w', '0:any')
    start(t, srv, far, '-w', '1:any')
    start(t, srv, far, '-w', '2:any', user='neighbour')
    t.equal(devices() - DEVICES - {'near'}, {'tun5', 'tun6', 'tun9'})
    refused(t, srv, far, '-w', '7:any', why='device tun6 ')
    refused(t, srv, far, '-w', '7:7', why=r'policy:\d+.*TunnelUnit 5-6',
            said='not permitted by policy')
    refused(t, srv, far, '-w', '7:5', user='neighbour',
            why=r'policy:5.*TunnelUnit 9', said='not permitted by policy')
    first.stop()
    gone({'tun5'})
    t.true(start(t, srv, far, '-w', '0:5')[1], 'tun5 is free again')


@case('PermitTunnel: which kind')
def _(t):
    far = t.far_host()
    ethernet = '-o', 'Tunnel=ethernet', '-w', '0:0'
    for word, want in (('yes', (True, True)), ('no', (False, False)),
                       ('point-to-point', (True, False)),
                       ('ethernet', (False, True))):
        srv = t.server(f'PermitTunnel {word}', address=(far.ours,))
        for options, may, name in ((('-w', '0:0'), want[0], 'tun0'),
                                   (ethernet, want[1], 'tap0')):
            if not may:
                refused(t, srv, far, *options,
                        why=rf'policy:1.*PermitTunnel {word}',
                        said='not permitted by policy')
                continue
            client, got = start(t, srv, far, *options)
            t.true(got and name in devices(), f'{word}: {options}')
            client.stop()
            gone({name})
        srv.stop()
    srv = t.server('', address=(far.ours,))
    refused(t, srv, far, '-w', '0:0', why='PermitTunnel no',
            said='not permitted')


@case('tunnel="N" on a key')
def _(t):
    far, srv = hosts(t)
    for option, unit, want in (('7', '7', 'tun7'), ('7', '8', None),
                               ('7', 'any', 'tun7'), ('any', '8', 'tun8'),
                               ('any', 'any', 'tun0')):
        # There, any matches but itself.
        if PEER == 'sshd' and option == 'any':
            want = None
        if PEER == 'sshd' and unit == 'any':
            continue
        authorize(WHO, f'tunnel="{option}" {public("id")}')
        if want is None:
            refused(t, srv, far, '-w', f'0:{unit}',
                    why=rf'authorized_keys:1.*tunnel="{option}"',
                    said='not permitted by policy')
            continue
        client, got = start(t, srv, far, '-w', f'0:{unit}')
        t.true(got, f'{option}: {unit}')
        t.equal(devices() - DEVICES - {'near'}, {want}, f'{option}: {unit}')
        client.stop()
        gone({want})


@case('restrict and no-port-forwarding stop -w, tunnel= lifts it')
def _(t):
    far, srv = hosts(t)
    for options, want in (('restrict', False), ('no-port-forwarding', False),
                          ('restrict,tunnel="0"', True),
                          ('no-port-forwarding,tunnel="any"', True),
                          ('restrict,port-forwarding', True),
                          ('restrict,tunnel="1"', False)):
        # sshd takes no notice but of the unit.
        if PEER == 'sshd':
            want = 'tunnel="1"' not in options and 'any' not in options
        authorize(WHO, f'{options} {public("id")}')
        if want:
            client, got = start(t, srv, far, '-w', '0:0')
            t.true(got, f'{options}: refused')
            client.stop()
            gone({'tun0'})
        else:
            refused(t, srv, far, '-w', '0:0', why='key option',
                    said='not permitted by policy')


@case('DisableForwarding stops -w', 'aditd')
def _(t):
    far, srv = hosts(t, 'DisableForwarding yes')
    refused(t, srv, far, '-w', '0:0', why=r'policy:3.*DisableForwarding yes',
            said='not permitted by policy')
    authorize(USER, f'tunnel="0" {public("id")}')
    refused(t, srv, far, '-w', '0:0', why=r'policy:3.*DisableForwarding yes',
            said='not permitted by policy')


# Devices that exist.

def prepare(t, name, mode='tun', *owner):
    run('ip', 'tuntap', 'add', 'dev', name, 'mode', mode, *owner)
    t.undo.callback(sh, 'ip', 'link', 'del', name, check=False)


def capabilities(p):
    return {k: int(p.status[k], 16)
            for k in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')}


def powerless(t, p):
    t.equal({k: v for k, v in capabilities(p).items() if k != 'CapBnd'},
            dict.fromkeys(('CapInh', 'CapPrm', 'CapEff', 'CapAmb'), 0),
            f'{p}: capabilities')


@case('a device prepared for the account is attached, without capability',
      'aditd')
def _(t):
    t.tun_node()
    # Policy configures what it makes, not what somebody else did.
    far, srv = hosts(t, f'PermitRootLogin no\nTunnelMTU 1300\n{ADDRESSED}')
    t.true(not t.logs_in(srv, user='root'), 'root logs in')
    prepare(t, 'tun7', 'tun', 'user', USER)
    ours('tun7', '10.8.0.1', '10.8.0.2')
    run('ip', 'link', 'set', 'tun7', 'mtu', '1480')
    client = tunnel(t, srv, far, unit=7)
    srv.wait_log(r'tunnel tun7 \(point-to-point, attached\)')
    powerless(t, one('broker'))
    powerless(t, one('session'))
    t.equal(one('broker').ids('Uid'), [4001] * 4)
    theirs(far, 'tun7', '10.8.0.2', '10.8.0.1')
    carries(t, far, '10.8.0.1', '10.8.0.2', 1 << 20)
    text = run('ip', 'addr', 'show', 'dev', 'tun7')
    t.match('mtu 1480', text)
    t.true(A not in text, text)
    # In use; and not for any.
    refused(t, srv, far, '-w', '3:7', why='device tun7 is in use')
    refused(t, srv, far, '-w', '3:7', user='neighbour',
            why='device tun7 belongs to another account')
    client.stop()
    wait_for(lambda: 'NO-CARRIER' in link('tun7')['flags'], 2, 'still held')
    t.true('tun7' in devices(), 'it is gone with the session')
    tunnel(t, srv, far, unit=7).stop()
    t.true('Accepted publickey for root' not in srv.log(), 'root logged in')


@case('devices that are no account\'s, or none', 'aditd')
def _(t):
    t.tun_node()
    far, srv = hosts(t)
    prepare(t, 'tun1', 'tun', 'user', 'neighbour')
    prepare(t, 'tun2', 'tap', 'user', USER)
    prepare(t, 'tun3', 'tun')
    t.device('link', 'tun4', 'type', 'bridge')
    t.device('link', 'tun5', 'type', 'veth', 'peer', 'name', 'tun5b')
    prepare(t, 'tap6', 'tun', 'user', USER)
    for unit, why in ((1, 'device tun1 belongs to another account'),
                      (2, 'device tun2 is not a point-to-point'),
                      (3, 'device tun3 belongs to no account'),
                      (4, 'device tun4 is not a point-to-point'),
                      (5, 'device tun5 is not a point-to-point')):
        refused(t, srv, far, '-w', f'9:{unit}', why=why)
    refused(t, srv, far, '-o', 'Tunnel=ethernet', '-w', '9:6',
            why='device tap6 is not an Ethernet')
    # What a session has is not another's, of the same account neither.
    tunnel(t, srv, far)
    for user in (USER, 'neighbour', 'root'):
        refused(t, srv, far, '-w', '9:0', user=user, why='device tun0 ')
    # Taken units are passed over.
    client, got = start(t, srv, far, '-w', 'any:any')
    t.true(got and 'tun6' in devices(), 'not the first free one')


@case('/dev/net/tun may be root\'s alone', 'aditd')
def _(t):
    if os.stat('/dev/net/tun').st_mode & 0o006:
        run('mount', '-t', 'tmpfs', 'tmpfs', '/dev/net')
        t.undo.callback(run, 'umount', '-l', '/dev/net')
        run('mknod', '-m', '600', '/dev/net/tun', 'c', '10', '200')
    far, srv = hosts(t)
    prepare(t, 'tun1', 'tun', 'user', USER)
    prepare(t, 'tun2', 'tun', 'user', 'neighbour')
    refused(t, srv, far, '-w', '2:2', why='belongs to another account')
    tunnel(t, srv, far, unit=1)
    srv.wait_log('tunnel tun1 .*attached')
    tunnel(t, srv, far)


# What goes through.

@case('IPv6 inside')
def _(t):
    far, srv = hosts(t, ADDRESSED if PEER == 'aditd' else '')
    tunnel(t, srv, far)
    if PEER == 'sshd':
        ours('tun0', A6, B6)
    theirs(far, 'tun0', B6, A6)
    carries(t, far, A6, B6, 4 << 20)


@case('TunnelMTU 16380: the largest that the client sends, whole', 'aditd')
def _(t):
    far, srv = hosts(t, f'TunnelMTU 16380\n{ADDRESSED}')
    tunnel(t, srv, far)
    theirs(far)
    far.run('ip', 'link', 'set', 'tun0', 'mtu', '16380')
    lives(t, far, A)
    for host, where in ((A, far), (B, None)):
        t.equal(ping(host, '-M', 'do', '-s', str(16380 - 28), far=where,
                     count=20), 20, f'pings of {host}')
    carries(t, far, size=4 << 20)
    # Larger than the MTU of the other end: the device takes it as it comes.
    far.run('ip', 'link', 'set', 'tun0', 'mtu', '1500')
    a, b = udp_pair(t, far, A, B)
    data = os.urandom(16000)
    a.send(data)
    t.equal(b.recv(20000), data, 'a datagram of 16000 bytes')


@case('what is larger than the client takes is dropped, the rest goes on',
      'aditd')
def _(t):
    far, srv = hosts(t, f'TunnelMTU 65521\n{ADDRESSED}')
    client = tunnel(t, srv, far)
    theirs(far)
    lives(t, far)
    a, b = udp_pair(t, far, A, B)
    for size in (32000, 32768 - 36, 32768, 40000, 65000):
        for _ in range(10):
            a.send(bytes(size))
    for _ in range(20):  # those of 32732 bytes are 32760 with their headers
        t.true(len(b.recv(65536)) <= 32768 - 36, 'too large')
    t.equal(ping(B, count=20), 20, 'pings')
    t.true('rcvd too much' not in client.err(), client.said())
    client.stop()
    m = srv.wait_log(r'(\d+) too large')
    t.equal(int(m[1]), 30, 'dropped')


@case('deleting the device closes its channel alone', 'aditd')
def _(t):
    far, srv = hosts(t, ADDRESSED)
    echo = t.target(host='192.0.2.1')
    client = tunnel(t, srv, far, '-L', f'1234:192.0.2.1:{echo.port}')
    theirs(far)
    lives(t, far)
    run('ip', 'link', 'del', 'tun0')
    srv.wait_log('tunnel tun0 of .* closed')
    t.true(far.reaches('127.0.0.1', 1234), 'the forward')
    t.true(client.process.poll() is None, 'the client ended')
    t.true(start(t, srv, far, '-w', '1:0', user='neighbour')[1],
           'tun0 for another session')


@case('a million datagrams each way, rekeys in between, no window drifts',
      timeout=600 if LONG else 90)
def _(t):
    far, srv = hosts(t, ADDRESSED if PEER == 'aditd' else '')
    client = tunnel(t, srv, far, '-vv', '-o', 'RekeyLimit=1M')
    if PEER == 'sshd':
        ours()
    theirs(far)
    lives(t, far)
    a, b = udp_pair(t, far, A, B)
    # A burst is shorter than the devices' queues, so none may be lost.
    data, burst, count = bytes(200), 200, 0
    end = time.monotonic() + 12
    while count < 1000000 and (LONG or time.monotonic() < end):
        for _ in range(burst):
            a.send(data)
            b.send(data)
        for s, what in ((b, 'to'), (a, 'from')):
            try:
                for _ in range(burst):
                    s.recv(2000)
            except TimeoutError:
                raise Failure(f'a datagram {what} the client is lost after '
                              f'{count}') from None
        count += burst
    err = client.err()
    rekeys = err.count('SSH2_MSG_NEWKEYS received')
    print(f'#   {count} datagrams each way, {rekeys} rekeys')
    t.true(count > 20000 and rekeys > 10, 'too few')
    # What the client counts when it sends is what it gets back; its own
    # window is never overrun.
    tx = link('tun0', far)['stats64']['tx']
    sent = tx['bytes'] + 4 * tx['packets']
    credit = sum(map(int, re.findall(r'channel 0: rcvd adjust (\d+)', err)))
    print(f'#   the client sent {sent} bytes, was credited {credit}')
    # sshd itself gives back four bytes a datagram too much.
    t.true(sent - (1 << 20) < credit and
           (credit <= sent or PEER == 'sshd'), 'credit')
    t.true(not re.search('rcvd too much|datagram too big', err), 'windows')
    t.equal(ping(A, far=far, count=20), 20, 'pings')
    carries(t, far, size=2 << 20)
    client.stop()


# A client of our own.

def raw(srv, user=USER, version=OPENSSH):
    return minimal.raw(srv, user=user, version=version)


class Tun:
    """A tunnel that counts its windows as OpenSSH does (extra: bytes a
    datagram that are counted on top of the string's)."""

    def __init__(self, c, channel, extra, window):
        self.c, self.channel, self.extra = c, channel, extra
        self.window = window  # what the server may send
        self.credited = 0     # what it gave us back

    def send(self, *strings):
        self.c.send(*(ssh.data(self.channel.remote, s) for s in strings))

    def recv(self, timeout=5):
        """The next string. The server stays within our window."""
        while True:
            p = self.c.recv(timeout * SLOW)
            r = ssh.Reader(p)
            if p[0] == ssh.WINDOW_ADJUST:
                r.u32()
                self.credited += r.u32()
                continue
            if p[0] != ssh.DATA:
                raise Failure(f'message {p[0]}')
            r.u32()
            got = r.string()
            self.window -= len(got) + self.extra
            if self.window < 0:
                raise Failure(f'window overrun by {-self.window} bytes')
            return got

    def drain(self, timeout):
        """What is there."""
        got = []
        with contextlib.suppress(TimeoutError):
            while True:
                got.append(self.recv(timeout))
        return got

    def settle(self):
        """All that was sent has been dealt with."""
        self.c.send(self.c.global_request('barrier@hostile'))
        while True:
            p = self.c.recv()
            if p[0] == ssh.REQUEST_FAILURE:
                return
            if p[0] == ssh.WINDOW_ADJUST:
                self.credited += struct.unpack('>I', p[5:])[0]

    def adjust(self, n):
        self.window += n
        self.c.send(ssh.on_channel(ssh.WINDOW_ADJUST, self.channel.remote,
                                   ssh.u32(n)))

    def close(self):
        self.c.send(ssh.on_channel(ssh.CLOSE, self.channel.remote))
        while self.c.recv()[0] != ssh.CLOSE:
            pass


def open_tun(c, mode=1, unit=ANY, window=ssh.WINDOW, extra=4):
    """A Tun, or (reason, text)."""
    c.send(c.open_request('tun@openssh.com', ssh.u32(mode) + ssh.u32(unit),
                          window=window))
    while (p := c.recv(10 * SLOW))[0] == ssh.DATA:
        pass  # of another device: the kernel greets its neighbours
    r = ssh.Reader(p)
    r.u32()
    if p[0] == ssh.OPEN_FAILURE:
        return r.u32(), r.string().decode()
    if p[0] != ssh.OPEN_CONFIRMATION:
        raise Failure(f'message {p[0]} for an answer')
    return Tun(c, ssh.Channel(0, r.u32(), r.u32(), r.u32()), extra, window)


def checksum(data):
    total = sum(struct.unpack(f'>{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ipv4(payload, source=B, destination=A, protocol=17):
    head = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(payload), 1, 0, 64,
                       protocol, 0, socket.inet_aton(source),
                       socket.inet_aton(destination))
    return head[:10] + struct.pack('>H', checksum(head)) + head[12:] + payload


def udp4(port, payload, from_port=4000):
    """A UDP packet from the client's end to ours, without checksum."""
    return ipv4(struct.pack('>HHHH', from_port, port, 8 + len(payload), 0) +
                payload)


def turned(packet):
    """An IPv4 UDP packet on its way back; its checksums hold."""
    h = (packet[0] & 15) * 4
    return (packet[:12] + packet[16:20] + packet[12:16] + packet[20:h] +
            packet[h + 2:h + 4] + packet[h:h + 2] + packet[h + 4:])


def layer3(packet, family=2):
    return ssh.u32(family) + packet


def udp_here(t, address=A):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    t.undo.callback(s.close)
    s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
    s.settimeout(5 * SLOW)
    s.bind((address, 0))
    return s


@case('several tunnels in a session, as many as MaxTunnels', 'aditd')
def _(t):
    srv = t.server('PermitTunnel yes\nMaxTunnels 3\nLogLevel VERBOSE')
    t.device('link', 'tun1', 'type', 'bridge')
    with raw(srv) as c, raw(srv, 'neighbour') as other:
        tuns = [open_tun(c), open_tun(c, mode=2), open_tun(c)]
        t.equal(devices() - DEVICES, {'tun0', 'tun1', 'tap0', 'tun2'})
        t.equal(open_tun(c),
                (1, 'this tunnel is not permitted by policy: MaxTunnels'))
        srv.wait_log(r'/policy:2\b.*MaxTunnels 3')
        t.true(isinstance(open_tun(other), Tun), 'another session')
        t.true('tun3' in devices(), 'tun3')
        tuns[0].close()
        gone({'tun0'})
        again = open_tun(c)
        t.true(isinstance(again, Tun) and 'tun0' in devices(), 'tun0 again')
        t.equal(open_tun(c)[0], 1, 'one more')
        # Opened and closed for ever. (A tun maker that is slow to end keeps
        # a device, which counts, for a moment longer.)
        for _ in range(20):
            again.close()
            gone({'tun0'})
            again = open_tun(c)
            t.true(isinstance(again, Tun), again)
    gone({'tun0', 'tun2', 'tun3', 'tap0'})


@case('tunnels opened and closed without end are paced', 'aditd')
def _(t):
    srv = t.server('PermitTunnel yes\nLogLevel VERBOSE')
    with raw(srv) as c:
        for n in range(150):
            got = open_tun(c)
            if not isinstance(got, Tun):
                break
            got.close()
        t.equal(got, (4, 'too many tunnels in too short a time'))
        t.true(n > 32, f'refused after {n}')
        srv.wait_log('refused tunnel .* too many in too short a time')
        time.sleep(1.2)
        t.true(isinstance(open_tun(c), Tun), 'a second later')
    gone({'tun0', 'tun1', 'tun2', 'tun3'})


@case('MaxTunnels 0, and opens all at once', 'aditd')
def _(t):
    srv = t.server('PermitTunnel yes\nMaxTunnels 4\nMatch User neighbour\n'
                   'MaxTunnels 0')
    with raw(srv, 'neighbour') as c:
        t.equal(open_tun(c)[0], 1, 'MaxTunnels 0')
        srv.wait_log(r'/policy:4\b.*MaxTunnels 0')
    with raw(srv) as c:
        c.send(*(c.open_request('tun@openssh.com', ssh.u32(1) + ssh.u32(ANY))
                 for _ in range(20)))
        answers = [c.opened(20 * SLOW) for _ in range(20)]
        t.equal(sum(isinstance(a, ssh.Channel) for a in answers), 4)
        t.equal(len(devices() - DEVICES), 4, 'devices')
    gone({f'tun{n}' for n in range(4)})


@case('windows, to the byte, from the server', 'aditd')
def _(t):
    """The server fills a small window again and again, never more, and always
    as far as a whole datagram fits."""
    srv = t.server(f'PermitTunnel yes\n{ADDRESSED}')
    for version, extra in ((OPENSSH, 4), (b'SSH-2.0-other', 0),
                           (b'SSH-2.0-AsyncSSH_2.13.0', -4)):
        with raw(srv, version=version) as c:
            tun = open_tun(c, window=20000, extra=extra)
            s = udp_here(t)
            total = 0
            for n in range(150):
                for i in range(30):
                    s.sendto(bytes((n * 37 + i * 101) % 1400), (B, 9))
                used = 0
                while tun.window >= 1500 + 4 + 4 + 18:
                    used += len(tun.recv()) + extra
                    total += 1
                used += sum(len(d) + extra for d in tun.drain(0))
                tun.adjust(used)
            # The queue's rest, and no more than it.
            left = tun.drain(0.3)
            t.true(total > 1500 and tun.window >= 0, f'{total} datagrams')
            for d in left:
                tun.adjust(len(d) + extra)
            print(f'#   {version.decode()}: {total} datagrams')
        gone({'tun0'})


@case('windows, to the byte, from the client', 'aditd')
def _(t):
    srv = t.server(f'PermitTunnel yes\nLogLevel VERBOSE\n{ADDRESSED}')
    with raw(srv) as c:
        tun = open_tun(c)
        s = udp_here(t)
        good = layer3(udp4(s.getsockname()[1], b'x' * 32))
        bad = layer3(bytes(60), 10)
        sent = goods = bads = 0
        for n in range(100):
            some = [good] * 300 + [bad] * 100
            tun.send(*some)
            tun.settle()
            sent += sum(map(len, some))
            goods, bads = goods + 300, bads + 100
            for _ in range(300):
                t.equal(s.recv(100), b'x' * 32)
        print(f'#   {goods + bads} datagrams, {sent} bytes, '
              f'{tun.credited} credited')
        t.true(sent - 3 * ssh.PACKET < tun.credited <= sent, 'credit')
        t.equal(rx_packets('tun0'), goods, 'packets of the device')
        tun.close()
        m = srv.wait_log(r'tunnel: .* (\d+) from it; .* (\d+) malformed')
        t.equal((int(m[1]), int(m[2])), (goods, bads), 'counted')


def next_udp(tun, head):
    """The next string that holds IPv4 and UDP, not the kernel's own."""
    while True:
        d = tun.recv()
        packet = d[head:]
        if packet[0] == 0x45 and packet[9] == 17 and \
                (head == 4 or d[12:14] == b'\x08\0'):
            return d


def echoes(t, tun, head, back):
    """What we send to the client's end comes back as it was."""
    s = udp_here(t)
    for n in list(range(0, 1472, 92)) + [1472]:
        data = os.urandom(n)
        s.sendto(data, (B, 4000))
        tun.send(back(next_udp(tun, head)))
        t.equal(s.recv(2000), data, f'a datagram of {n} bytes')


@case('a device deleted while its client takes nothing', 'aditd')
def _(t):
    srv = t.server(f'PermitTunnel yes\n{ADDRESSED}')
    with raw(srv) as c:
        tun = open_tun(c, window=3000)
        s = udp_here(t)
        for _ in range(100):
            s.sendto(bytes(1000), (B, 9))
        t.true(tun.drain(0.2), 'no datagram')
        run('ip', 'link', 'del', 'tun0')
        session = one('session').pid
        before = cpu_s(session)
        # What still comes for it is lost.
        for _ in range(300):
            tun.send(layer3(udp4(9, bytes(1000))))
        t.equal(c.recv(5 * SLOW)[0], ssh.CLOSE)
        time.sleep(1)
        t.true(cpu_s(session) - before < 0.5, 'it spins')
        c.send(ssh.on_channel(ssh.CLOSE, tun.channel.remote))
        t.true(isinstance(open_tun(c), Tun), 'another one')
    gone({'tun0'})


@case('a second client: layer 3', 'aditd')
def _(t):
    srv = t.server(f'PermitTunnel yes\n{ADDRESSED}')
    with raw(srv, version=b'SSH-2.0-other') as c:
        tun = open_tun(c, extra=0)

        def back(d):
            t.equal(d[:4], ssh.u32(2), 'head')
            return d[:4] + turned(d[4:])
        echoes(t, tun, 4, back)
        # IPv6 is family 24, OpenBSD's.
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
            s.sendto(b'hello', (B6, 9))
        d = tun.recv()
        t.equal((d[:4], d[4] >> 4, d[-5:]), (ssh.u32(24), 6, b'hello'))
    gone({'tun0'})


@case('a second client: layer 2', 'aditd')
def _(t):
    srv = t.server('PermitTunnel yes\nTunnelAddress 10.9.0.1/24')
    with raw(srv, version=b'SSH-2.0-other') as c:
        tun = open_tun(c, mode=2, unit=5, extra=0)
        mac = '02:00:00:00:00:02'
        run('ip', 'neigh', 'add', B, 'lladdr', mac, 'dev', 'tap5')
        echoes(t, tun, 14, lambda d: d[6:12] + d[:6] + d[12:14] +
               turned(d[14:]))
    gone({'tap5'})


@case('malformed datagrams reach no device, and are counted', 'aditd')
def _(t):
    srv = t.server(f'PermitTunnel yes\nLogLevel VERBOSE\n{ADDRESSED}')
    v4, v6 = udp4(9, b'x' * 32), b'\x60' + bytes(59)
    bad3 = [b'\0', bytes(3), bytes(4), bytes(64), layer3(b''),
            layer3(v4, 0), layer3(v4, 1), layer3(v4, 24), layer3(v4, 10),
            layer3(v6, 2), layer3(v6, 10), layer3(v6, 30),
            layer3(v4, 0x01000002), layer3(v4, 0x0200), layer3(v4[:19]),
            layer3(v6[:39], 24), layer3(b'\x50' + v4[1:]), v4, v6,
            ssh.u32(len(v4)) + layer3(v4), os.urandom(2) + bytes(62)]
    with raw(srv) as c:
        for mode, name, bad, good in (
                (1, 'tun0', bad3, layer3(udp4(9, b'good'))),
                (2, 'tap0', [b'\0', bytes(4), bytes(13)],
                 bytes(12) + b'\x88\xb5' + bytes(50))):
            tun = open_tun(c, mode=mode)
            before = rx_packets(name)
            tun.send(*bad)
            tun.settle()
            t.equal(rx_packets(name), before, f'packets of {name}')
            tun.send(good)
            tun.settle()
            t.equal(rx_packets(name), before + 1, f'packets of {name}')
            tun.close()
            srv.wait_log(rf'tunnel: .*1 from it; .* {len(bad)} malformed')
            gone({name})


def advertisement():
    """A router advertisement from fe80::1: a default route, a prefix."""
    source = socket.inet_pton(socket.AF_INET6, 'fe80::1')
    everybody = socket.inet_pton(socket.AF_INET6, 'ff02::1')
    body = struct.pack('>BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0)
    body += struct.pack('>BBBBIII', 3, 4, 64, 0xc0, 86400, 14400, 0) + \
        socket.inet_pton(socket.AF_INET6, 'fd66::')
    pseudo = source + everybody + struct.pack('>II', len(body), 58)
    body = body[:2] + struct.pack('>H', checksum(pseudo + body)) + body[4:]
    return struct.pack('>IHBB', 6 << 28, len(body), 58, 255) + source + \
        everybody + body


@case('router advertisements from the client are not believed', 'aditd')
def _(t):
    srv = t.server(f'PermitTunnel yes\n{ADDRESSED}')

    def learnt():
        return 'proto ra' in run('ip', '-6', 'route', 'show', 'table', 'all') \
            or 'fd66:' in run('ip', '-6', 'addr')
    with raw(srv) as c:
        tun = open_tun(c)
        for _ in range(3):
            tun.send(layer3(advertisement(), 24))
            tun.settle()
        t.equal(rx_packets('tun0'), 3, 'packets of the device')
        time.sleep(0.3)
        t.true(not learnt(), run('ip', '-6', 'route'))
        # Is it one that would be believed?
        with open('/proc/sys/net/ipv6/conf/tun0/accept_ra', 'w') as f:
            f.write('1')
        tun.send(layer3(advertisement(), 24))
        wait_for(learnt, 3, 'the test sends nonsense')


# Processes.

@case('who has which capability, before, during and after', 'aditd')
def _(t):
    far, srv = hosts(t, ADDRESSED)
    seen = {}

    def show(when):
        for p in processes():
            if p.comm.startswith('adit'):
                caps = capabilities(p)
                print(f'#   {when}: {p.comm} uid {p.ids("Uid")[0]} effective '
                      f'{caps["CapEff"]:x} permitted {caps["CapPrm"]:x} '
                      f'bounding {caps["CapBnd"]:x}')
                yield p

    def without(when):
        """The zygote has it to pass on, the listener for the next zygote,
        and nobody else."""
        for p in show(when):
            has = {k for k, v in capabilities(p).items() if v & NET_ADMIN}
            if p.comm == COMMS['brokerzyg']:
                t.true('CapPrm' in has, f'{p} has no CAP_NET_ADMIN')
            elif p.comm != COMMS['listener']:
                t.equal(has - {'CapBnd'}, set(), f'{p}')

    def watch(zygote, stop):
        """The short life of tun makers, in glimpses."""
        path = f'/proc/{zygote}/task/{zygote}/children'
        while not stop.is_set():
            with open(path) as f:
                children = f.read().split()
            for pid in children:
                with contextlib.suppress(OSError), \
                        open(f'/proc/{pid}/status') as f:
                    text = f.read()
                    if 'adit-tunmaker' in text and 'CapEff' in text:
                        seen.setdefault(pid, []).append(text)

    wait_for(lambda: not capabilities(one('sessionzyg'))['CapEff'], 5,
             'the session zygote is not confined')
    without('before')
    stop = threading.Event()
    zygote = one('brokerzyg').pid
    thread = threading.Thread(target=watch, args=(zygote, stop))
    thread.start()
    try:
        client = tunnel(t, srv, far)
        for _ in range(20):  # until one is seen at work
            if any('Seccomp:\t2' in s and 'CapEff:\t0000000000001000' in s
                   for texts in seen.values() for s in texts):
                break
            client.stop()
            gone({'tun0'})
            client = tunnel(t, srv, far)
    finally:
        stop.set()
        thread.join()
    print(f'#   {len(seen)} tun makers in '
          f'{sum(map(len, seen.values()))} glimpses')
    at_work = [text for texts in seen.values() for text in texts
               if re.search(r'^CapEff:\t0000000000001000$', text, re.M)]
    t.true(at_work, 'no tun maker was seen at work')
    for text in at_work:
        for key, want in (('CapPrm', '1000'), ('CapInh', '0'), ('CapAmb', '0'),
                          ('CapBnd', '0')):
            t.match(rf'^{key}:\t0*{want}$', text, 'a tun maker')
    theirs(far)
    lives(t, far)
    # Packets flow, and whoever made the device is gone.
    t.equal(processes('adit-tunmaker'), [])
    without('during')
    for role in ('broker', 'session'):
        powerless(t, one(role))
    for role in ('broker', 'session'):  # the broker's is a copy, to count by
        fds = list(one(role).fds().values())
        t.equal(fds.count('/dev/net/tun'), 1, f'devices of the {role}')
    client.stop()
    wait_for(lambda: not processes(COMMS['session']), 5, 'the session')
    without('after')


@case('kill -9 of any process: the device goes with its session', 'aditd',
      timeout=120)
def _(t):
    far, srv = hosts(t, f'''Match User neighbour
TunnelAddress 10.9.1.1 10.9.1.2
Match User {USER}
{ADDRESSED}''')
    bystander = tunnel(t, srv, far, unit=1, user='neighbour')
    theirs(far, 'tun1', '10.9.1.2', '10.9.1.1')
    lives(t, far, '10.9.1.1')
    for role in ('session', 'broker', 'brokerzyg', 'sessionzyg', 'keyholder',
                 'listener'):
        before = {p.pid for p in processes(COMMS[role])}
        client = tunnel(t, srv, far)
        theirs(far)
        lives(t, far)
        victims = [p.pid for p in processes(COMMS[role])]
        if role in ('session', 'broker'):
            victims = [pid for pid in victims if pid not in before]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        if role in ('session', 'broker'):
            gone({'tun0'})
            t.true(client.wait(3) != 0, 'exit status of the client')
        else:
            time.sleep(0.2)
            t.equal((client.process.poll(), ping(B)), (None, 3),
                    f'{role}: its tunnel')
            client.stop()
            gone({'tun0'})
        if role == 'listener':
            srv.process.wait()
        elif role not in ('session', 'broker'):
            wait_for(lambda: {p.pid for p in processes(COMMS[role])} -
                     set(victims), 10, f'{role} is not started again')
            wait_for(lambda: t.logs_in(srv, host=far.ours), 10, 'no login')
        t.equal((bystander.process.poll(), ping('10.9.1.2')), (None, 3),
                f'{role}: the other tunnel')
    bystander.stop()
    gone({'tun1'})
    wait_for(lambda: not [p for p in processes()
                          if p.comm.startswith('adit')], 10,
             lambda: f'left: {processes()}')


@case('a client that is killed, or cut off, leaves no device')
def _(t):
    far, srv = hosts(t, 'ClientAliveInterval 1\nClientAliveCountMax 1\n')
    client = tunnel(t, srv, far)
    client.process.kill()
    client.process.wait()
    gone({'tun0'}, 1)
    client = tunnel(t, srv, far)
    far.run('ip', 'link', 'set', 'far', 'down')
    gone({'tun0'}, 6)
    client.process.kill()
    client.process.wait()


if __name__ == '__main__':
    main()
