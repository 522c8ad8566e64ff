#!/usr/bin/python3
"""Real servers of Debian inside `ssh -f -w 0:0 host true`."""
import hashlib
import os
import re

from harness import (Failure, SLOW, case, devices, main, need, sh, skip_all,
                     wait_for)

if not os.path.exists('/dev/net/tun'):
    skip_all('no /dev/net/tun')

HERE, THERE = '10.99.0.1', '10.99.0.2'  # the server's end, the client's
HERE6, THERE6 = 'fd99::1', 'fd99::2'
POLICY = f'''PermitTunnel point-to-point
TunnelAddress {HERE} {THERE}
TunnelAddress {HERE6}/64
'''
TIME = 4 * SLOW  # seconds that a single answer may take


def udp(port):
    """Is the UDP port bound?"""
    text = ''
    for name in ('udp', 'udp6'):
        with open(f'/proc/net/{name}') as f:
            text += f.read()
    return re.search(f':{port:04X} 0', text)


def tunnel(t, server):
    """(the client's network, ssh), with addresses on both ends."""
    need(server)
    far = t.far_host()
    srv = t.server(POLICY, address=(far.ours,))
    ssh = t.background(srv, '-w', '0:0', prefix=far.prefix, host=far.ours)
    t.equal(ssh.status, 0, 'exit status of ssh -f')
    far.run('ip', 'addr', 'add', THERE, 'peer', HERE, 'dev', 'tun0')
    far.run('ip', 'addr', 'add', f'{THERE6}/64', 'dev', 'tun0', 'nodad')
    far.run('ip', 'link', 'set', 'tun0', 'up')
    wait_for(lambda: 'tun0' in devices(), 5, 'no device on the server')
    return far, ssh


def dnsmasq(t, *args, ready=lambda s: udp(53)):
    return t.service('dnsmasq', '--keep-in-foreground',
                     '--conf-file=/dev/null', '--user=root', '--group=root',
                     '--pid-file=', '--log-facility=-', '--no-resolv',
                     '--no-hosts', '--bind-interfaces',
                     f'--listen-address={HERE},{HERE6}', *args, ready=ready)


@case('DNS: dnsmasq, by UDP and by TCP', 'aditd')
def _(t):
    far, _ = tunnel(t, 'dnsmasq')
    many = [f'10.98.{i // 250}.{i % 250 + 1}' for i in range(200)]
    dnsmasq(t, '--host-record=one.adit.test,10.98.9.9,fd98::9',
            *(f'--host-record=many.adit.test,{a}' for a in many))
    with open('/etc/nsswitch.conf', 'w') as f:
        f.write('hosts: dns\npasswd: files\ngroup: files\nshadow: files\n')

    def resolve(database, name, server):
        with open('/etc/resolv.conf', 'w') as f:
            f.write(f'nameserver {server}\noptions timeout:{TIME}\n')
        return {line.split()[0] for line in far.run(
            'getent', database, name).splitlines()}
    for server in (HERE, HERE6):
        t.equal(resolve('ahostsv4', 'one.adit.test', server), {'10.98.9.9'},
                f'A from {server}')
        t.equal(resolve('ahostsv6', 'one.adit.test', server), {'fd98::9'},
                f'AAAA from {server}')
        # Far above what an answer by UDP may have: it is asked for by TCP.
        t.equal(resolve('ahostsv4', 'many.adit.test', server), set(many),
                f'200 addresses from {server}')


@case('NTP: chronyd asks chronyd', 'aditd')
def _(t):
    far, _ = tunnel(t, 'chronyd')
    common = ['-x', '-u', 'root', '-F', '0']  # -x: no clock is touched
    quiet = ['cmdport 0', 'bindcmdaddress /', 'pidfile /run/chronyd.pid']
    t.service('chronyd', '-d', *common, 'local stratum 5', 'allow',
              f'bindaddress {HERE}', *quiet, ready=lambda s: udp(123))
    said = sh(*far.prefix, need('chronyd'), '-Q', '-t', '20', *common,
              f'server {HERE} iburst maxsamples 1', 'cmdport 0',
              'bindcmdaddress /', f'pidfile {t.folder}/client.pid',
              check=False)
    wrong = re.search(r'wrong by (-?[\d.]+) seconds', said.stderr)
    if said.returncode != 0 or not wrong:
        raise Failure(f'chronyd -Q: {said.returncode}\n{said.stdout}'
                      f'{said.stderr}')
    # Both have the same clock: what is wrong is the way.
    t.true(abs(float(wrong[1])) < 0.1, f'off by {wrong[1]} s')


@case('TFTP: tftpd, blocks of 512 and of 8192 bytes', 'aditd')
def _(t):
    curl = need('curl')
    far, ssh = tunnel(t, 'in.tftpd')
    folder = f'{t.folder}/tftp'
    os.mkdir(folder, 0o755)
    image = os.urandom(500 * 1000 + 1)
    with open(f'{folder}/image', 'wb') as f:
        f.write(image)
    with open(f'{folder}/upload', 'wb'):
        os.chmod(f'{folder}/upload', 0o666)
    t.service('in.tftpd', '--foreground', '--user', 'root', '--address',
              f'{HERE}:69', '--secure', folder, ready=lambda s: udp(69))
    for size in (512, 8192):
        far.run(curl, '-sS', '-m', 15 * SLOW, '--tftp-blksize', size, '-o',
                f'{t.folder}/got', f'tftp://{HERE}/image')
        with open(f'{t.folder}/got', 'rb') as f:
            t.equal(hashlib.sha256(f.read()).hexdigest(),
                    hashlib.sha256(image).hexdigest(), f'blocks of {size}')
    far.run(curl, '-sS', '-m', 15 * SLOW, '-T', f'{t.folder}/got',
            f'tftp://{HERE}/upload')
    with open(f'{folder}/upload', 'rb') as f:
        t.equal(f.read() == image, True, 'what was sent up')
    t.true(ssh.alive(), 'the tunnel')


if __name__ == '__main__':
    main()
