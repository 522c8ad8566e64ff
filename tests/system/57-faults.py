#!/usr/bin/python3
"""One fault after another, at random, under live sessions: each harms what it
hits and nothing else, and leaves nothing behind.

    ADIT_SEED=N      the same faults again
    ADIT_TORTURE=1   200 rounds (so does ADIT_LONG=1)
    ADIT_ROUNDS=N    that many
    ADIT_FAULT=WORD  only faults whose name contains it
    ADIT_VERBOSE=1   say each round
"""
import contextlib
import os
import random
import re
import signal
import socket
import struct
import threading
import time

from faults import Syslog, World, dead_dns, gone, nfds, own_dev, socks
from harness import (COMMS, PER_CONNECTION, SHARED, SLOW, TOP, USER, Failure,
                     Process, authorize, case, connect, main, processes,
                     public, reaches, run, sh, skip_all, talk, wait_for)

if not os.path.exists('/dev/net/tun'):
    skip_all('no /dev/net/tun')

LONG = '1' in (os.environ.get('ADIT_LONG'), os.environ.get('ADIT_TORTURE'))
ROUNDS = int(os.environ.get('ADIT_ROUNDS', 200 if LONG else 25))
# A lookup: until the resolver library gives up, or until adit does.
DNS = 'timeout:30 attempts:2' if LONG else 'timeout:2 attempts:1'
LOOKUP_S = (30 if LONG else 4) + 10 * SLOW

FAULTS = []


def fault(name, weight=2):
    def register(fn):
        FAULTS.append((name, weight, fn))
        return fn
    return register


def pause(w):
    """For as long as a fault lasts; nothing is waited for."""
    time.sleep(w.choice.uniform(0.1, 0.8))


# Death.

@fault('kill -9 of the listener', 1)
def _(w):
    """Its sessions live on, rekey, and end with their clients."""
    w.srv.process.kill()
    w.srv.process.wait()
    w.check_alive()
    for s in w.sessions:
        if not s.channel_works():
            raise Failure(f'{s}: no channel without the listener')
    w.end()
    wait_for(lambda: not [p for p in processes() if p.comm[:4] == 'adit'], 10,
             lambda: f'left: {processes()}')
    w.start()


@fault('kill -9 of a role')
def _(w):
    role = w.choice.choice(SHARED)
    old = w.one(role)
    os.kill(old, signal.SIGKILL)
    with w.logins(2):  # these may be lost with it
        wait_for(lambda: [pid for pid in w.all(role) if pid != old], 10,
                 lambda: f'{role} is not started again')
    return role


@fault('kill -9 of a session or a broker', 4)
def _(w):
    s = w.choice.choice(w.sessions)
    role = w.choice.choice(PER_CONNECTION)
    since = time.monotonic()
    os.kill(s.pids[role], signal.SIGKILL)
    w.sees_close(s, since)
    return f'{role} of {s}'


# Shortage.

LIMITS = {'nofile': 'Max open files', 'as': 'Max address space'}


@contextlib.contextmanager
def limited(pid, what, soft):
    """As who it is: another's limits take CAP_SYS_RESOURCE, which root has
    not everywhere."""
    p = Process(pid)

    def limit(value):
        run('prlimit', '--pid', pid, f'--{what}={value}:',
            user=p.ids('Uid')[0], group=p.ids('Gid')[0], extra_groups=[])
    with open(f'/proc/{pid}/limits') as f:
        old = re.search(rf'{LIMITS[what]} +(\w+)', f.read())[1]
    limit(soft)
    try:
        yield
    finally:
        with contextlib.suppress(Failure):  # it may be gone
            limit(old)


def use(w, s):
    """Its session opens channels, which may be refused: whether none was."""
    good = [s.channel_works() for _ in range(3)]
    with contextlib.suppress(OSError):
        s.open('localhost', w.echo.port).close()
    if s.kind == 'R':
        good.append(reaches(s.port))
    return all(good)


def starve_role(w, what, soft, role):
    pid = w.one(role)
    with w.logins(3), limited(pid, what, soft(pid)):
        pause(w)
    if gone(w.srv.pid):
        raise Failure('the listener is gone')
    return role


def starve(w, what, soft):
    """Have a role, or a process of a session's, run short while it is asked
    for more. A session may end of it."""
    role = w.choice.choice(('listener', *SHARED, *PER_CONNECTION))
    if role not in PER_CONNECTION:
        return starve_role(w, what, soft, role)
    s = w.choice.choice(w.sessions)
    pid = s.pids[role]
    with limited(pid, what, soft(pid)):
        good = use(w, s)
    with contextlib.suppress(Failure):
        wait_for(lambda: good or gone(pid), 0.5, '')
    if gone(pid):
        w.lost(s)
    return f'{role} of {s}{", which ended" if gone(pid) else ""}'


def memory(p):
    """The bytes of address space that it has."""
    return int(p.status['VmSize'].split()[0]) * 1024


@fault('no descriptor is left', 4)
def _(w):
    return starve(w, 'nofile',
                  lambda pid: max(4, nfds(pid) + w.choice.randint(-4, 5)))


if SLOW == 1:  # a sanitizer ends a process that gets no memory
    @case('keyholder that gets no memory lives on what it has', 'aditd')
    def _(t):
        srv = t.server('MaxStartups 100')
        t.true(t.logs_in(srv), 'login')
        p, = processes(COMMS['keyholder'])
        with contextlib.ExitStack() as held, limited(p.pid, 'as', memory(p)):
            for _ in range(50):
                held.enter_context(connect(srv.port)).recv(100)
            t.true(t.logs_in(srv), 'a login meanwhile')
        t.equal([q.pid for q in processes(COMMS['keyholder'])], [p.pid],
                'is it restarted')


@case('an expiry-time that passes ends no session, and lets nobody in')
def _(t):
    """The one thing that goes by the clock that can be set."""
    end = time.gmtime(time.time() + 3 + SLOW)
    text = time.strftime('%Y%m%d%H%M%SZ', end)
    authorize(USER, f'expiry-time="{text}" {public("id")}')
    srv, echo, port = t.server(), t.target(), t.port()
    t.client(srv, '-o', 'RekeyLimit=100K', '-L',
             f'{port}:127.0.0.1:{echo.port}')
    wait_for(lambda: not t.logs_in(srv), 10, 'it stays valid')
    t.true(time.gmtime() > end, 'it is refused too soon')
    for _ in range(5):
        t.equal(len(talk(port, bytes(100000))), 100000, 'the session')


if __name__ == '__main__':
    main()
