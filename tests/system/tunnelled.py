"""What the tests of what a tunnel carries have in common."""
import re

from harness import SLOW, sh

# Ours, theirs: the addresses inside a tunnel.
A, B = '10.9.0.1', '10.9.0.2'
A6, B6 = 'fd09::1', 'fd09::2'
MODES = {'tun': ('point-to-point', f'{A} {B}', f'{A6} {B6}'),
         'tap': ('ethernet', f'{A}/24', f'{A6}/64')}


def address(far, device, mtu):
    far.run('ip', 'link', 'set', device, 'mtu', mtu, 'up')
    for a, b, bits in ((B, A, 24), (B6, A6, 64)):
        if device.startswith('tun'):
            far.run('ip', 'addr', 'add', a, 'peer', b, 'dev', device)
        else:
            far.run('ip', 'addr', 'add', f'{a}/{bits}', 'dev', device,
                    'nodad')


def pings(where, *args):
    """ping(8)'s output; where: a far host, or None for here."""
    done = sh(*(where.prefix if where else []), 'ping', '-n', '-W',
              str(5 * SLOW), *args, check=False)
    return done.stdout


def ping(where, host, *args, count=1):
    m = re.search(r'(\d+) received', pings(where, '-c', str(count), '-i',
                                           '0.02', *args, host))
    return int(m[1]) if m else 0


def errors(where=None):
    """Counters of what is wrong with packets that came in. Not Tcp:InErrs: a
    SYN that is sent again to a slow server counts there."""
    prefix = where.prefix if where else []
    found = {}
    lines = sh(*prefix, 'cat', '/proc/net/snmp').stdout.splitlines()
    for names, values in zip(lines[::2], lines[1::2]):
        kind, *names = names.split()
        found.update((kind + n, int(v))
                     for n, v in zip(names, values.split()[1:]))
    for line in sh(*prefix, 'cat', '/proc/net/snmp6').stdout.splitlines():
        name, value = line.split()
        found[name] = int(value)
    return {k: v for k, v in found.items()
            if v and re.search(r'CsumErrors|InHdrErrors|ReasmFails|'
                               r'InTruncatedPkts', k)}


def right(t, far):
    for where, what in ((None, 'the server'), (far, 'the client')):
        t.equal(errors(where), {}, f'errors of {what}')
