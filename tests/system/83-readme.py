#!/usr/bin/python3
"""README's tunnels, word for word: its policies on the server, its commands on
the client."""
import contextlib
import json
import os
import re
import signal

from harness import TOP, USER, case, main, public, run, sh, skip_all, wait_for

if not os.path.exists('/dev/net/tun'):
    skip_all('no /dev/net/tun')

README = os.path.join(os.environ.get('SRCDIR', '.'), 'README.md')


def blocks(title):
    """The indented blocks of the paragraphs that begin with **title**."""
    with open(README) as f:
        part = f.read().split(f'**{title}**', 1)[1]
    part = re.split(r'\n(?:\*\*|\||## )', part, maxsplit=1)[0]
    found = re.findall(r'(?:^    .*\n)+', part, re.M)
    return [b.replace('alice', USER) for b in found]


def end_clients(config):
    """ssh -f is nobody's child: it is known by its environment. It can miss a
    signal that comes just before its poll."""
    def ended():
        found = False
        for pid in filter(str.isdigit, os.listdir('/proc')):
            with contextlib.suppress(OSError):
                with open(f'/proc/{pid}/environ') as f:
                    if f'CONFIG={config}' in f.read().split('\0'):
                        os.kill(int(pid), signal.SIGTERM)
                        found = True
        return not found
    wait_for(ended, 5, 'ssh does not end', 0.1)


def shell(prefix, commands, folder, host, port):
    """As typed there: HOST is the server."""
    config = f'{folder}/config'
    with open(f'{TOP}/known_hosts', 'w') as f:
        f.write(f'* {public("hostkey")}')
    with open(config, 'w') as f:
        f.write(f'Host HOST\nHostName {host}\nPort {port}\n'
                f'IdentityFile {TOP}/id\nIdentitiesOnly yes\nBatchMode yes\n'
                f'UserKnownHostsFile {TOP}/known_hosts\n'
                'ControlMaster no\n')
    script = 'ssh() { command ssh -F "$CONFIG" "$@"; }\n' + commands
    sh(*prefix, 'env', f'CONFIG={config}', 'sh', '-e', '-x', '-c', script)


def pings(prefix, host):
    return sh(*prefix, 'ping', '-n', '-c', '1', '-W', '2', host,
              check=False).returncode == 0


def build(t, title):
    """(the client's network, what is left of the blocks after the policy)"""
    policy, *rest = blocks(title)
    far = t.far_host()
    srv = t.server(policy, address=(far.ours,))
    t.undo.callback(end_clients, f'{t.folder}/config')
    return far, srv, rest


def client(t, far, srv, commands):
    shell(far.prefix, commands, t.folder, far.ours, srv.port)


def address(name):
    return json.loads(run('ip', '-j', 'addr', 'show', 'dev', name))[0]


@case('a road warrior')
def _(t):
    far, srv, rest = build(t, 'A road warrior')
    client(t, far, srv, rest[0])
    wait_for(lambda: pings(far.prefix, '10.99.0.1'), 5, 'no ping')
    t.equal(address('tun0')['mtu'], 1400, 'MTU')
    # the network behind the server
    run('ip', 'addr', 'add', '10.20.0.1/32', 'dev', 'lo')
    t.undo.callback(sh, 'ip', 'addr', 'del', '10.20.0.1/32', 'dev', 'lo')
    wait_for(lambda: pings(far.prefix, '10.20.0.1'), 5,
             'no ping beyond the server')


@case('two sites')
def _(t):
    far, srv, rest = build(t, 'Two sites')
    client(t, far, srv, rest[0])
    wait_for(lambda: pings(far.prefix, '10.99.1.1'), 5, 'no ping')
    wait_for(lambda: pings(far.prefix, 'fd99::1'), 5, 'no ping by IPv6')
    far.run('ip', 'addr', 'add', '192.168.7.1/32', 'dev', 'lo')
    wait_for(lambda: pings([], '192.168.7.1'), 5,
             'no ping of the other site')


@case('one network on both ends')
def _(t):
    t.device('link', 'br0', 'type', 'bridge')
    run('ip', 'addr', 'add', '10.97.0.1/24', 'dev', 'br0')
    far, srv, rest = build(t, 'One network on both ends')
    client(t, far, srv, rest[0])
    far.run('ip', 'addr', 'add', '10.97.0.2/24', 'dev', 'tap0')
    wait_for(lambda: pings(far.prefix, '10.97.0.1'), 10, 'no ping')


@case('a device made beforehand')
def _(t):
    t.tun_node()
    far, srv, rest = build(t, 'A device made beforehand')
    t.undo.callback(sh, 'ip', 'link', 'del', 'tap0', check=False)
    sh('sh', '-e', '-c', rest[0])
    run('ip', 'addr', 'add', '10.97.0.1/24', 'dev', 'tap0')
    client(t, far, srv, rest[1])
    far.run('ip', 'addr', 'add', '10.97.0.2/24', 'dev', 'tap0')
    wait_for(lambda: pings(far.prefix, '10.97.0.1'), 10, 'no ping')


main()
