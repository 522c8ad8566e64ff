#!/usr/bin/python3
"""Every process is confined as its profile states (tests/golden/profile-*)."""
import os
import urllib.request

from harness import (COMMS, SLOW, case, connect, main, one, processes,
                     wait_for)

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../golden')
CAPABILITIES = {'dac_read_search': 2, 'kill': 5, 'setgid': 6, 'setuid': 7,
                'setpcap': 8, 'net_bind_service': 10, 'net_admin': 12,
                'ipc_lock': 14, 'sys_admin': 21}
NAMESPACES = {'mount': 'mnt', 'network': 'net', 'ipc': 'ipc', 'uts': 'uts',
              'cgroup': 'cgroup'}
LIMITS = {'core': 'core file size', 'nproc': 'processes',
          'nofile': 'open files', 'as': 'address space'}


def profile(role):
    """Keyword -> value of the profile's head; limits as a table."""
    stated = {'limit': {}}
    with open(f'{GOLDEN}/profile-{role}.ok') as f:
        for line in f:
            key, _, value = line.rstrip('\n').partition(' ')
            if key == 'limit':
                what, value = value.split(' ', 1)
                stated['limit'][what] = value
            elif key not in ('allow', 'fail', 'sanitizer'):
                stated[key] = value
    return stated


def confined(comm, srv):
    """Its own filter, the last step, is beside those it was born with."""
    def filters(process):
        return int(process.status['Seccomp_filters'])
    born = next(q for q in processes(COMMS['listener']) if q.pid == srv.pid)
    wait_for(lambda: [p for p in processes(comm)
                      if filters(p) > filters(born)], 10 * SLOW, 'no filter')
    return one(comm)


def mask(names):
    return sum(1 << CAPABILITIES[n] for n in names.split() if n != 'none')


def check(t, p, role, place=None):
    """p is confined as role; its root and namespaces are those of place."""
    stated, place = profile(role), profile(place or role)
    t.equal(p.status['Seccomp'], '2', f'{p}: Seccomp')
    t.equal(p.status['NoNewPrivs'], '1', f'{p}: NoNewPrivs')
    for cap, word in (('CapPrm', 'capabilities'), ('CapEff', 'capabilities'),
                      ('CapBnd', 'bounding'), ('CapInh', None),
                      ('CapAmb', None)):
        t.equal(int(p.status[cap], 16), mask(stated[word]) if word else 0,
                f'{p}: {cap}')
    # An undumpable process's folder in /proc belongs to root.
    t.equal(os.stat(f'/proc/{p.pid}/status').st_uid, 0, f'{p}: dumpable')
    if place['root'] == 'empty':
        t.equal(os.listdir(f'/proc/{p.pid}/root/'), [], f'{p}: its root')
    for name in place['namespaces'].split():
        if name != 'keep':
            ns = NAMESPACES[name]
            t.true(p.link(f'ns/{ns}') != os.readlink(f'/proc/self/ns/{ns}'),
                   f'{p}: shares {ns}')
    with open(f'/proc/{p.pid}/limits') as f:
        limits = f.read()
    for name, value in stated['limit'].items():
        if 'no sanitizer' in value and SLOW > 1:
            continue
        # A lower one may have been inherited.
        for limit in t.match(rf'Max {LIMITS[name]} +(\w+) +(\w+)',
                             limits).groups():
            t.true(limit.isdigit() and int(limit) <= int(value.split()[0]),
                   f'{p}: limit {name} {limit}')


def not_root(t, p):
    t.true(0 not in p.ids('Uid') + p.ids('Gid') + p.ids('Groups'),
           f'{p} is root')


@case('a session before the first byte of its client', 'aditd')
def _(t):
    srv = t.server()
    with connect(srv.port):
        wait_for(lambda: one('session').status['Seccomp'] == '2', 5,
                 'no seccomp')
        session = one('session')
        check(t, session, 'session', 'session-zygote')
        not_root(t, session)
        check(t, one('broker'), 'broker')


@case('every process of a connection after its login', 'aditd')
def _(t):
    srv = t.server()
    t.client(srv, '-R', f'{t.port()}:127.0.0.1:9')
    check(t, one('listener'), 'listener')
    check(t, one('keyholder'), 'keyholder')
    check(t, one('brokerzyg'), 'broker-zygote')
    check(t, one('broker'), 'account')
    check(t, one('sessionzyg'), 'session-zygote')
    check(t, one('session'), 'session', 'session-zygote')
    uids = set()
    for role in ('session', 'keyholder', 'broker', 'sessionzyg'):
        not_root(t, one(role))
        uids.add(one(role).ids('Uid')[0])
    t.equal(len(uids), 3, 'uids of session and its zygote, keyholder, broker')
    t.equal(one('session').ids('Groups'), [], 'groups of the session')


@case('what reads the headers of proxies', 'aditd')
def _(t):
    srv = t.server('ProxyProtocolFrom 127.0.0.1')
    proxy = confined('adit-proxy', srv)
    check(t, proxy, 'proxy')
    not_root(t, proxy)
    before = proxy.fds()
    with connect(srv.port):
        held = wait_for(lambda: set(one('adit-proxy').fds().items()) -
                        set(before.items()), 5, 'it is not given the socket')
        t.equal(len(held), 1, f'what it is given: {held}')


@case('what answers by HTTP', 'aditd')
def _(t):
    port = t.port()
    srv = t.server(f'MetricsListen 127.0.0.1:{port}')
    metrics = confined('adit-metrics', srv)
    check(t, metrics, 'metrics')
    not_root(t, metrics)
    url = f'http://127.0.0.1:{port}/metrics'
    with urllib.request.urlopen(url, timeout=10 * SLOW) as page:
        text = page.read().decode()
    for role in ('metrics', 'keyholder', 'broker-zygote', 'session-zygote'):
        t.match(rf'^adit_role_starts_total{{role="{role}"}} 1$', text)


@case('a session holds sockets, and none that listens', 'aditd')
def _(t):
    srv, port = t.server(), t.port()
    t.client(srv, '-R', f'{port}:127.0.0.1:9')
    inodes = set()
    for name in ('tcp', 'tcp6'):
        with open(f'/proc/net/{name}') as f:
            inodes |= {w[9] for w in map(str.split, f) if w[3] == '0A'}
    t.true(inodes, 'no listener at all')
    for fd, target in one('session').fds().items():
        t.match('^(socket:|anon_inode:|pipe:|/dev/null)|/log$', target,
                f'descriptor {fd}')
        t.true(target[8:-1] not in inodes, f'descriptor {fd} listens')


@case('a broker is its account', 'aditd')
def _(t):
    srv = t.server()
    t.client(srv)
    broker = one('broker')
    t.equal((broker.ids('Uid'), broker.ids('Gid')), ([4001] * 4, [4001] * 4))
    t.equal(sorted(broker.ids('Groups')), [4001, 4100], 'groups')


@case("root's broker has no capability either", 'aditd')
def _(t):
    srv = t.server()
    t.client(srv, user='root')
    check(t, one('broker'), 'account')


@case('each connection has its own session and its own broker', 'aditd')
def _(t):
    srv = t.server()
    for _ in range(3):
        t.client(srv)
    for role in ('session', 'broker'):
        t.equal(len(processes(COMMS[role])), 3, role)


if __name__ == '__main__':
    main()
