#!/usr/bin/python3
"""The walk-throughs of docs/, typed as they stand. With ADIT_WRITE=1 the pages
get what the terminals showed."""
import contextlib
import os
import shutil

from harness import TOP, Failure, Skip, case, main, need, sh
from walk import FENCE, World

DOCS = os.path.join(os.environ.get('SRCDIR', '.'), 'docs')


def programs(t):
    """aditd and aditctl where `make install` has them."""
    sh('mount', '-t', 'tmpfs', 'tmpfs', '/usr/local')
    t.undo.callback(sh, 'umount', '-l', '/usr/local')
    os.makedirs('/usr/local/sbin', exist_ok=True)
    os.makedirs('/usr/local/bin', exist_ok=True)
    shutil.copy(f'{TOP}/aditd', '/usr/local/sbin/aditd')
    shutil.copy(f'{TOP}/aditctl', '/usr/local/sbin/aditctl')


def key(world, host):
    """Its user has a key."""
    host = world.hosts[host]
    user = host.user or 'root'
    host.run('setpriv', f'--reuid={user}', f'--regid={user}', '--init-groups',
             'env', f'HOME=/home/{user}', 'sh', '-c', 'mkdir -m 700 ~/.ssh; '
             'ssh-keygen -q -t ed25519 -N "" -f ~/.ssh/id_ed25519')


def host_key(world, host):
    world.hosts[host].run(
        'sh', '-c', 'mkdir -p /etc/adit; ssh-keygen -q -t ed25519 -N "" -f '
        '/etc/adit/ssh_host_ed25519_key')


def serve(world, host, port, text):
    """A web server there."""
    host = world.hosts[host]
    host.run('sh', '-c', f'mkdir /run/www; echo {text} >/run/www/index.html;'
             f'{need("busybox")} httpd -p {port} -h /run/www')


def walk(world, name):
    page = f'{DOCS}/{name}'
    new, wrong = world.walk(page)
    if world.writes():
        with open(page, 'w') as f:
            f.write(new)
    elif wrong:
        for host in world.hosts:
            with contextlib.suppress(FileNotFoundError):
                with open(world.hosts[host].path('/var/log/aditd.log')) as f:
                    print(*(f'#   {host}: {line}' for line in f), sep='',
                          end='')
        raise Failure(f'{name} is not what happens:\n' +
                      '\n---\n'.join(wrong))


@case('docs/bastion.md', 'aditd')
def _(t):
    programs(t)
    world = World(t, {'laptop': 'ann', 'bastion': None, 'db': 'ann'},
                  {'internet': {'laptop': '192.0.2.10/24',
                                'bastion': '192.0.2.1/24'},
                   'inside': {'bastion': '10.20.0.1/24',
                              'db': '10.20.0.5/24'}},
                  ['192.0.2.1 bastion.example.com', '10.20.0.5 db.internal',
                   '10.20.0.6 mail.internal'])
    db = world.hosts['db']
    db.run('sh', '-c', 'rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 '
           '-N "" -f /etc/ssh/ssh_host_ed25519_key; '
           '/usr/sbin/sshd -oUsePAM=no')
    key(world, 'laptop')
    with open(world.hosts['laptop'].path('.ssh/id_ed25519.pub', False)) as f:
        db.run('install', '-D', '-o', 'ann', '-m', '600', '/dev/stdin',
               '/home/ann/.ssh/authorized_keys', data=f.read())
    db.run('chown', 'ann', '/home/ann/.ssh')
    walk(world, 'bastion.md')


@case('docs/partner.md', 'aditd')
def _(t):
    programs(t)
    world = World(t, {'acme': 'acme', 'gate': None, 'app': None},
                  {'internet': {'acme': '203.0.113.7/24',
                                'gate': '203.0.113.1/24'},
                   'inside': {'gate': '10.20.0.1/24',
                              'app': '10.20.0.8/24'}},
                  ['192.0.2.1 gate.example.com', '10.20.0.8 app.internal',
                   '10.20.0.5 db.internal'])
    for host, args in (('gate', ('addr', 'add', '192.0.2.1/32', 'dev', 'lo')),
                       ('acme', ('route', 'add', 'default', 'via',
                                 '203.0.113.1'))):
        world.hosts[host].run('ip', *args)
    key(world, 'acme')
    host_key(world, 'gate')
    serve(world, 'app', 8080, 'our orders')
    serve(world, 'acme', 8000, 'their stock')
    walk(world, 'partner.md')


@case('docs/site-to-site.md', 'aditd')
def _(t):
    if not os.path.exists('/dev/net/tun'):
        raise Skip('no /dev/net/tun')
    programs(t)
    world = World(t, dict.fromkeys(('hq', 'branch', 'files', 'printer')),
                  {'internet': {'hq': '192.0.2.1/24',
                                'branch': '192.0.2.99/24'},
                   'hqlan': {'hq': '10.1.0.1/24', 'files': '10.1.0.10/24'},
                   'branchlan': {'branch': '192.168.7.1/24',
                                 'printer': '192.168.7.20/24'}},
                  ['192.0.2.1 hq.example.com'])
    for host, way in (('files', '10.1.0.1'), ('printer', '192.168.7.1')):
        world.hosts[host].run('ip', 'route', 'add', 'default', 'via', way)
    key(world, 'branch')
    host_key(world, 'hq')
    walk(world, 'site-to-site.md')


@case('docs/migration.md', 'aditd')
def _(t):
    programs(t)
    world = World(t, {'laptop': 'ann', 'gate': None, 'app': None},
                  {'internet': {'laptop': '203.0.113.7/24',
                                'gate': '203.0.113.1/24'},
                   'inside': {'gate': '10.20.0.1/24',
                              'app': '10.20.0.8/24'}},
                  ['203.0.113.1 gate.example.com', '10.20.0.8 app.internal'])
    key(world, 'laptop')
    serve(world, 'app', 8080, 'our orders')
    gate, laptop = world.hosts['gate'], world.hosts['laptop']
    gate.run('sh', '-e', '-c', """
        mkdir /etc/adit; rm -f /etc/ssh/ssh_host_*
        ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
        groupadd partners; useradd -m -p '*' -G partners acme
        mkdir -m 755 /home/acme/.ssh""")
    for source, host, target in (
            (laptop.path('.ssh/id_ed25519.pub', False), gate,
             '/home/acme/.ssh/authorized_keys'),
            (gate.path('/etc/ssh/ssh_host_ed25519_key.pub'), laptop,
             '/etc/ssh/ssh_known_hosts')):
        with open(source) as f, open(host.path(target), 'w') as g:
            g.write('gate.example.com ' * (host is laptop) + f.read())
    with open(f'{DOCS}/migration.md') as f, \
            open(gate.path('/etc/ssh/sshd_config'), 'w') as g:
        g.write(FENCE.search(f.read())[2])
    gate.run('/usr/sbin/sshd')
    walk(world, 'migration.md')


main()
