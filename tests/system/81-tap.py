#!/usr/bin/python3
"""Ethernet through ssh: -o Tunnel=ethernet -w N:N, with bridges."""
import contextlib
import hashlib
import os
import re
import signal
import socket
import struct
import time

from harness import (Failure, PEER, SLOW, USER, case, devices, main, need, run,
                     skip_all, wait_for)

if not os.path.exists('/dev/net/tun'):
    skip_all('no /dev/net/tun')

HERE, THERE = '10.98.0.1', '10.98.0.2'  # the server's end, the client's
PERMITTED = 'PermitTunnel ethernet\n'
BRIDGED = PERMITTED + 'TunnelBridge br0\nTunnelUp yes\n'
IMAGE_BYTES = 50 * 1000 * 1000
BLOCK = 1428  # of TFTP, as boot ROMs ask for: no fragments
LARGEST = 1472  # ping's, in a packet of 1500 bytes


def udp(port):
    """Is the UDP port bound?"""
    with open('/proc/net/udp') as f:
        return re.search(f':{port:04X} 0', f.read())


def prepare_far(far, *options, n=0, up=True):
    far.run('ip', 'tuntap', 'add', 'dev', f'tap{n}', 'mode', 'tap', *options)
    if up:
        far.run('ip', 'link', 'set', f'tap{n}', 'up')


def tap(t, srv, far, units='0:0', command=('true',)):
    """ssh -f with such a tunnel."""
    ssh = t.background(srv, '-o', 'Tunnel=ethernet', '-w', units,
                       *(() if command else ('-N',)), command=command,
                       prefix=far.prefix, host=far.ours)
    t.equal(ssh.status, 0, 'exit status of ssh -f')
    wait_for(lambda: 'tunnel forward established' in ssh.err(), 10,
             'no tunnel')
    return ssh


def prepared(t):
    """A tap made beforehand on both sides, the server's for the account:
    (the client's network, ssh, the server)."""
    far = t.far_host()
    t.tun_node()
    t.device('tuntap', 'tap0', 'mode', 'tap', 'user', USER)
    prepare_far(far)
    srv = t.server(PERMITTED, address=(far.ours,))
    return far, tap(t, srv, far), srv


def bridge(t, address=HERE):
    t.device('link', 'br0', 'type', 'bridge')
    run('ip', 'addr', 'add', f'{address}/24', 'dev', 'br0')


def bridged(t, *numbers, **kw):
    """Clients whose taps adit makes and puts into br0: (far, ssh), ..."""
    bridge(t)
    fars = [t.far_host(n) for n in numbers or (0,)]
    srv = t.server(BRIDGED, address=[far.ours for far in fars])
    for n, far in enumerate(fars):
        prepare_far(far, n=n)
    return [(far, tap(t, srv, far, f'{n}:{n}', **kw))
            for n, far in enumerate(fars)]


def ports(name='br0'):
    text = run('ip', '-o', 'link', 'show', 'master', name)
    return set(re.findall(r'^\d+: (\w+)', text, re.M))


def mac(dev, runner=run):
    return re.search(r'link/ether (\S+)',
                     runner('ip', 'link', 'show', 'dev', dev))[1]


def address(dev, text, runner=run):
    runner('ip', 'addr', 'add', text, 'dev', dev)


def ping(far, to, *args, size=56, count=2):
    far.run('ping', '-q', '-c', count, '-i', '0.2', '-W', 2 * SLOW, '-s', size,
            *args, to)


def dnsmasq(t, dev, *args):
    return t.service('dnsmasq', '--keep-in-foreground',
                     '--conf-file=/dev/null', '--user=root', '--group=root',
                     '--pid-file=', '--log-facility=-', '--port=0',
                     f'--interface={dev}', '--bind-interfaces', '--no-ping',
                     f'--dhcp-leasefile={t.folder}/leases',
                     '--dhcp-range=10.98.0.50,10.98.0.99,255.255.255.0,1h',
                     '--dhcp-authoritative', '--log-dhcp', *args,
                     ready=lambda s: udp(67))


def dhcp(t, far, dev='tap0'):
    """Get a lease and use it: what udhcpc's script is told."""
    script, said = f'{t.folder}/lease.sh', f'{t.folder}/lease'
    with open(script, 'w') as f:
        f.write('#!/bin/sh\n[ "$1" = bound ] || exit 0\n'
                'ip addr add "$ip/$mask" dev "$interface"\n'
                f'env >{said}\n')
    os.chmod(script, 0o755)
    far.run(need('busybox'), 'udhcpc', '-i', dev, '-f', '-q', '-n', '-t', 10,
            '-T', SLOW, '-s', script, '-O', 'tftp', '-O', 'bootfile')
    with open(said) as f:
        lease = dict(line.rstrip('\n').split('=', 1) for line in f
                     if '=' in line)
    with open(f'{t.folder}/leases') as f:
        t.match(f'{mac(dev, far.run)} {lease["ip"]} ', f.read(),
                "the server's leases")
    return lease


def link_detected(dev, *prefix):
    text = run(*prefix, need('ethtool'), dev)
    return re.search(r'Link detected: (\w+)', text)[1]


@case('a tap made beforehand: link detected, ARP, the largest frame')
def _(t):
    far, ssh, srv = prepared(t)
    for prefix in ([], far.prefix):
        t.equal(link_detected('tap0', *prefix), 'yes', f'link of {prefix}')
    address('tap0', f'{HERE}/24')
    address('tap0', f'{THERE}/24', far.run)
    ping(far, HERE, '-M', 'do', size=LARGEST)
    t.match(f'lladdr {mac("tap0")} ', far.run('ip', 'neigh', 'show', HERE,
                                              'dev', 'tap0'), 'ARP there')
    t.match(f'lladdr {mac("tap0", far.run)} ',
            run('ip', 'neigh', 'show', THERE, 'dev', 'tap0'), 'ARP here')
    if PEER == 'aditd':
        srv.wait_log(rf'tunnel tap0 \(ethernet, attached\) for {USER} ')
    ssh.stop()
    # It was there before us, and stays; unplugged.
    wait_for(lambda: link_detected('tap0') == 'no', 5, 'still plugged in')
    t.equal(link_detected('tap0', *far.prefix), 'no', "the client's")


@case('a tap made beforehand carries DHCP')
def _(t):
    need('dnsmasq')
    far, _, _ = prepared(t)
    address('tap0', f'{HERE}/24')
    dnsmasq(t, 'tap0')
    lease = dhcp(t, far)
    t.match(r'^10\.98\.0\.[5-9]\d$', lease['ip'], 'the lease')
    ping(far, HERE)


@case('a tap made beforehand works as port of a bridge')
def _(t):
    need('dnsmasq')
    far, ssh, _ = prepared(t)
    bridge(t)
    run('ip', 'link', 'set', 'tap0', 'master', 'br0')
    # Another port of it: a machine of the server's network.
    other = t.far_host(1)
    run('ip', 'addr', 'flush', 'dev', other.near)
    run('ip', 'link', 'set', other.near, 'master', 'br0')
    address('far', '10.98.0.3/24', other.run)
    dnsmasq(t, 'br0')
    lease = dhcp(t, far)
    ping(far, HERE, '-M', 'do', size=LARGEST)
    ping(far, '10.98.0.3', '-M', 'do', size=LARGEST)
    ping(other, lease['ip'])
    t.equal(ports(), {'tap0', other.near}, 'ports')
    ssh.stop()
    t.equal(ports(), {'tap0', other.near}, 'ports, afterwards')


@case('IPv6 neighbour discovery between taps')
def _(t):
    far, _, _ = prepared(t)
    run('ip', 'addr', 'add', 'fd98::1/64', 'dev', 'tap0')
    far.run('ip', 'addr', 'add', 'fd98::2/64', 'dev', 'tap0')
    for runner in (run, far.run):  # also that nobody else has the address
        wait_for(lambda: 'tentative' not in
                 runner('ip', '-6', 'addr', 'show', 'dev', 'tap0'), 10,
                 'an address stays tentative')
    ping(far, 'fd98::1', '-M', 'do', size=1452)
    local = re.search(r'inet6 (fe80::\S+)/64',
                      run('ip', '-6', 'addr', 'show', 'dev', 'tap0'))[1]
    ping(far, f'{local}%tap0')
    for who in ('fd98::1', local):
        t.match(f'lladdr {mac("tap0")} ', far.run(
            'ip', '-6', 'neigh', 'show', who, 'dev', 'tap0'), f'ND of {who}')


SOL_PACKET, PACKET_AUXDATA = 263, 8


def raw(dev):
    """A socket for whole frames."""
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    s.bind((dev, 3))
    return s


def receive(s, start, timeout=5):
    """The frame that starts so. Its VLAN tag, which the kernel takes out and
    keeps beside it, is put back."""
    s.settimeout(0.2)
    end = time.monotonic() + timeout * SLOW
    while time.monotonic() < end:
        with contextlib.suppress(TimeoutError):
            data, aux, _, source = s.recvmsg(65536, 256)
            status, _, _, _, _, tci, tpid = struct.unpack(
                '=IIIHHHH', next(d for level, kind, d in aux
                                 if (level, kind) == (SOL_PACKET,
                                                      PACKET_AUXDATA)))
            if status & 16:  # TP_STATUS_VLAN_VALID
                data = data[:12] + struct.pack('>HH', tpid, tci) + data[12:]
            if source[2] != socket.PACKET_OUTGOING and data.startswith(start):
                return data
    raise Failure('the frame does not come')


@case('VLAN-tagged frames pass whole, the largest has 1518 bytes')
def _(t):
    far, _, _ = prepared(t)
    with far:
        there = raw('tap0')
    with raw('tap0') as here, there:
        for tx, rx in ((here, there), (there, here)):
            for size in (60, 1514, 1518):
                # To a group, from nobody; VLAN 7, a protocol of its own.
                start = bytes.fromhex('3333adad0001' '02adadad0001'
                                      '81000007' '88b5')
                frame = start + os.urandom(size - len(start))
                tx.send(frame)
                t.equal(receive(rx, start) == frame, True,
                        f'a frame of {size} bytes')


@case('a tap that adit makes is a port of TunnelBridge, and goes', 'aditd')
def _(t):
    (far, ssh), = bridged(t)
    t.equal(ports(), {'tap0'}, 'ports of the bridge')
    for prefix in ([], far.prefix):
        t.equal(link_detected('tap0', *prefix), 'yes', f'link of {prefix}')
    t.equal(mac('tap0')[:2], 'fe', 'start of its hardware address')
    t.match('state forwarding', run('bridge', 'link', 'show', 'dev', 'tap0'),
            'the port')
    address('tap0', f'{THERE}/24', far.run)
    ping(far, HERE, '-M', 'do', size=LARGEST)
    t.match(f'lladdr {mac("br0")} ', far.run('ip', 'neigh', 'show', HERE,
                                             'dev', 'tap0'), 'ARP')
    ssh.stop()
    wait_for(lambda: 'tap0' not in devices(), 5, 'tap0 is left')
    t.equal(ports(), set(), 'ports, afterwards')


@case('SIGTERM on the client removes the device, kill -9 too', 'aditd')
def _(t):
    bridge(t)
    far = t.far_host()
    prepare_far(far)
    srv = t.server(BRIDGED, address=(far.ours,))
    for how in (signal.SIGTERM, signal.SIGKILL):
        ssh = tap(t, srv, far)
        t.equal('tap0' in devices(), True, 'the device')
        os.kill(ssh.pid, how)
        wait_for(lambda: 'tap0' not in devices(), 5, f'{how.name}: tap0 left')
        ssh.stop()


@case('taps of two clients talk to each other over the bridge', 'aditd')
def _(t):
    (one, _), (two, ssh) = bridged(t, 0, 1)
    t.equal(ports(), {'tap0', 'tap1'}, 'ports of the bridge')
    address('tap0', '10.98.0.2/24', one.run)
    address('tap1', '10.98.0.3/24', two.run)
    ping(one, '10.98.0.3', '-M', 'do', size=LARGEST)
    ping(two, '10.98.0.2', '-M', 'do', size=LARGEST)
    t.match(f'lladdr {mac("tap1", two.run)} ',
            one.run('ip', 'neigh', 'show', '10.98.0.3'), 'ARP')
    ssh.stop()
    wait_for(lambda: ports() == {'tap0'}, 5, 'the other port is left')
    ping(one, HERE)


def image(folder, size):
    """An image to boot, and its digest."""
    os.mkdir(folder, 0o755)
    digest, block = hashlib.sha256(), os.urandom(1 << 20)
    with open(f'{folder}/boot.img', 'wb') as f:
        while f.tell() < size:
            part = f.tell().to_bytes(4, 'big') + block[4:]
            part = part[:size - f.tell()]
            f.write(part)
            digest.update(part)
    return digest.hexdigest()


def fetch(t, far, server, name, size):
    """By TFTP: the digest, and how long it took."""
    got = f'{t.folder}/got'
    started = time.monotonic()
    far.run(need('curl'), '-sS', '-m', 60 * SLOW, '--tftp-blksize', BLOCK,
            '-o', got, f'tftp://{server}/{name}')
    took = time.monotonic() - started
    t.equal(os.path.getsize(got), size, 'bytes')
    with open(got, 'rb') as f:
        return hashlib.file_digest(f, 'sha256').hexdigest(), took


@case('PXE: DHCP names server and image, TFTP brings its 50 MB', 'aditd',
      timeout=90)
def _(t):
    need('dnsmasq')
    (far, ssh), = bridged(t, command=())
    folder = f'{t.folder}/tftp'
    digest = image(folder, IMAGE_BYTES)
    dnsmasq(t, 'br0', '--enable-tftp', f'--tftp-root={folder}',
            f'--dhcp-option=66,{HERE}', '--dhcp-option=67,boot.img')
    lease = dhcp(t, far)
    t.equal((lease['tftp'], lease['bootfile']), (HERE, 'boot.img'),
            'options 66 and 67')
    got, took = fetch(t, far, lease['tftp'], lease['bootfile'], IMAGE_BYTES)
    t.equal(got, digest, 'sha256')
    t.true(took < 40 * SLOW, f'it took {took:.0f} s')  # 4, on a quiet machine
    t.true(ssh.alive(), 'the tunnel')


# A client whose session was refused never sets TCP_NODELAY: what it sends
# after a WINDOW_ADJUST waits for our TCP to acknowledge that. When that is
# late (40 ms), it is so with every 98304 bytes.
@case('TFTP does not wait for TCP, with `host true` neither', 'aditd')
def _(t):
    need('dnsmasq')
    (far, _), = bridged(t)
    size = 6 * 1000 * 1000
    digest = image(f'{t.folder}/tftp', size)
    address('tap0', f'{THERE}/24', far.run)
    dnsmasq(t, 'br0', '--enable-tftp', f'--tftp-root={t.folder}/tftp')
    late = size / 98304 * 0.04 * SLOW
    for _ in range(3):  # a busy machine is late by itself
        got, took = fetch(t, far, HERE, 'boot.img', size)
        t.equal(got, digest, 'sha256')
        if took < late * 0.8:
            return
    raise Failure(f'{took:.1f} s, as if each wait were late')


@case("another account's tap is refused, and why is said")
def _(t):
    t.tun_node()
    far = t.far_host()
    for n, owner in ((5, ('user', 'neighbour')), (6, ('user', USER)), (7, ())):
        t.device('tuntap', f'tap{n}', 'mode', 'tap', *owner)
    srv = t.server(PERMITTED, address=(far.ours,))

    def refused(unit, why, wanted=True):
        client = t.client(srv, '-o', 'Tunnel=ethernet', '-w', f'0:{unit}',
                          wait=False, prefix=far.prefix, host=far.ours)
        if wanted:
            t.equal(client.wait(), 255, 'exit status of the client')
            t.match('Tunnel forwarding failed|Could not request tunnel',
                    client.said(), 'the client')
        if PEER == 'aditd':
            t.match(f'open failed: connect failed: {why}', client.said(),
                    'the client')
            srv.wait_log(rf'tunnel \(ethernet, tap{unit}\) for {USER} from '
                         rf'{far.theirs} port \d+ failed: {why}')
        client.stop()
    refused(5, 'device tap5 belongs to another account')
    if PEER == 'aditd':
        refused(7, 'device tap7 belongs to no account')
    # While somebody has it, nobody else gets it.
    prepare_far(far, n=6)
    tap(t, srv, far, '6:6')
    refused(6, 'device tap6 is in use')
    t.equal({'tap5', 'tap6', 'tap7'} - devices(), set(), 'all are left')
    t.equal(link_detected('tap5'), 'no', 'link of tap5')


if __name__ == '__main__':
    main()
