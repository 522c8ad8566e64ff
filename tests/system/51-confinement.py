#!/usr/bin/python3
"""Every process is confined as the design says."""
import base64
import contextlib
import hashlib
import os
import re

from harness import (COMMS, TOP, case, connect, main, processes, wait_for)

CAPS = ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')
PRIVATE = ('mnt', 'net', 'ipc', 'uts')


def one(comm):
    return wait_for(lambda: len(processes(comm)) == 1 and processes(comm)[0],
                    5, lambda: f'not one {comm}: {processes()}')


def confined(t, p):
    """What holds for every process of adit's."""
    t.equal(p.status['NoNewPrivs'], '1', f'{p}: NoNewPrivs')
    t.equal(p.status['Seccomp'], '2', f'{p}: Seccomp')


def powerless(t, p):
    for cap in CAPS:
        t.equal(int(p.status[cap], 16), 0, f'{p}: {cap}')
    t.true(0 not in p.ids('Uid') + p.ids('Gid'), f'{p}: is root')
    # An undumpable process's folder in /proc belongs to root.
    t.equal(os.stat(f'/proc/{p.pid}/status').st_uid, 0, f'{p}: dumpable')


def cut_off(t, p):
    t.equal(os.listdir(f'/proc/{p.pid}/root/'), [], f'{p}: its root')
    for ns in PRIVATE:
        t.true(p.link(f'ns/{ns}') != os.readlink(f'/proc/self/ns/{ns}'),
               f'{p}: shares {ns}')


def descriptors(t, p, allowed):
    for fd, target in p.fds().items():
        t.match(allowed, target, f'{p}: descriptor {fd}')


@case('a session before the first byte of its client', 'aditd')
def _(t):
    srv = t.server()
    with connect(srv.port):
        session = one(COMMS['session'])

        def ready():
            return one(COMMS['session']).status['Seccomp'] == '2'
        wait_for(ready, 5, 'no seccomp')
        session = one(COMMS['session'])
        confined(t, session)
        powerless(t, session)
        cut_off(t, session)


@case('a session after login', 'aditd')
def _(t):
    srv = t.server()
    t.client(srv, '-R', f'{t.port()}:127.0.0.1:9')
    session, zygote = one(COMMS['session']), one(COMMS['sessionzyg'])
    for p in (session, zygote):
        confined(t, p)
        powerless(t, p)
        cut_off(t, p)
        t.equal(p.ids('Groups'), [], f'{p}: groups')
    broker, keyholder = one(COMMS['broker']), one(COMMS['keyholder'])
    t.true(session.ids('Uid')[0] not in
           (broker.ids('Uid')[0], keyholder.ids('Uid')[0]), 'a uid is shared')
    # No listening socket, no file: the client, the broker, events.
    descriptors(t, session, r'^(socket:|anon_inode:|pipe:|/dev/null)'
                r'|/log$')


@case('a session never holds a listening socket', 'aditd')
def _(t):
    srv, port = t.server(), t.port()
    t.client(srv, '-R', f'{port}:127.0.0.1:9')
    inodes = set()
    for name in ('tcp', 'tcp6'):
        with open(f'/proc/net/{name}') as f:
            inodes |= {w[9] for w in map(str.split, f) if w[3] == '0A'}
    t.true(inodes, 'no listener at all')
    held = {fd for fd in one(COMMS['session']).fds().values()}
    t.equal({i for i in inodes if f'socket:[{i}]' in held}, set(), 'listeners')


@case('a broker is its account, without any capability', 'aditd')
def _(t):
    srv = t.server()
    t.client(srv)
    broker = one(COMMS['broker'])
    confined(t, broker)
    powerless(t, broker)
    t.equal((broker.ids('Uid'), broker.ids('Gid')), ([4001] * 4, [4001] * 4))
    t.equal(sorted(broker.ids('Groups')), [4001, 4100], 'groups')


@case("root's broker has no capability either", 'aditd')
def _(t):
    srv = t.server()
    t.client(srv, user='root')
    broker = one(COMMS['broker'])
    confined(t, broker)
    for cap in CAPS:
        t.equal(int(broker.status[cap], 16), 0, cap)


@case('the keyholder is nobody else, sees nothing, can do nothing', 'aditd')
def _(t):
    srv = t.server()
    t.client(srv)
    keyholder = one(COMMS['keyholder'])
    confined(t, keyholder)
    powerless(t, keyholder)
    t.equal(os.listdir(f'/proc/{keyholder.pid}/root/'), [], 'its root')
    t.true(keyholder.link('ns/net') != os.readlink('/proc/self/ns/net'),
           'shares the network')


@case('listener and broker zygote: filtered, few capabilities', 'aditd')
def _(t):
    srv = t.server()
    t.client(srv)
    for role in ('listener', 'brokerzyg'):
        p = one(COMMS[role])
        confined(t, p)
        bounding = int(p.status['CapBnd'], 16)
        for cap in (16, 17, 19, 22):  # sys_module rawio ptrace boot
            t.equal(bounding >> cap & 1, 0, f'{p}: capability {cap}')


def private_key():
    """The secret half of the ed25519 host key."""
    with open(f'{TOP}/hostkey') as f:
        blob = base64.b64decode(''.join(
            line for line in f if not line.startswith('-')))
    with open(f'{TOP}/hostkey.pub') as f:
        public = base64.b64decode(f.read().split()[1])[-32:]
    return blob[blob.rindex(public) - 32:blob.rindex(public)]


def memory_holds(pid, secret):
    with open(f'/proc/{pid}/maps') as maps, \
            open(f'/proc/{pid}/mem', 'rb', 0) as mem:
        for line in maps:
            m = re.match(r'(\w+)-(\w+) rw', line)
            if not m:
                continue
            start, end = int(m[1], 16), int(m[2], 16)
            if end - start > 1 << 28:
                continue  # a sanitizer's shadow
            with contextlib.suppress(OSError, OverflowError):
                mem.seek(start)
                if secret in mem.read(end - start):
                    return True
    return False


@case('the private host key is in no memory but the keyholder\'s', 'aditd')
def _(t):
    srv = t.server()
    t.client(srv)
    with connect(srv.port) as s:  # and a connection before its login
        s.recv(100)
        secret = private_key()
        # Several libraries keep a digest of the seed instead of it.
        forms = (secret, hashlib.sha512(secret).digest()[:32])
        holders = {p.comm for p in processes() if p.comm != 'ssh'
                   and any(memory_holds(p.pid, f) for f in forms)}
    t.equal(holders, {'adit-keyholder'}, 'who holds it')


@case('each connection has its own session process, and its own broker',
      'aditd')
def _(t):
    srv = t.server()
    for _ in range(3):
        t.client(srv)
    for comm in (COMMS['session'], COMMS['broker']):
        t.equal(len(processes(comm)), 3, comm)


if __name__ == '__main__':
    main()
