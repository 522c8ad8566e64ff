#!/usr/bin/python3
"""A broker in its account's hands, after a genuine login
(tests/sandbox/lying_broker.c): what it can do to others. `aditctl close` tells
it what to do, by number."""
import json
import os
import subprocess
import threading
import time

# Before the harness: it starts what this names.
if not os.environ.get('ADITD', '').endswith('/lying_broker'):
    os.environ['ADITD'] = os.path.join(
        os.path.dirname(os.environ.get('ADITD', './aditd')),
        'tests/sandbox/lying_broker')

from harness import (SLOW, TOP, USER, Failure, authorize, case, main,
                     processes, public, reaches, wait_for)
from manager import service

CTL = f'{os.path.dirname(os.environ["ADITD"])}/../../aditctl'
AUDIT = f'{TOP}/audit'
POLICY = 'ControlSocket /run/adit/control\nListenTakeover yes\n'
(DEAF, FORGE, STRANGE_ANSWERS, HELPERS, AGAIN, GIVE, NOT_READING,
 LEAVE) = range(1, 9)
FORKS = 11
LYING = 'it is lying now'


def ctl(*words):
    done = subprocess.run([CTL, '--json', *map(str, words)],
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=15 * SLOW)
    if done.returncode != 0:
        raise Failure(f'aditctl {words}: {done.stderr}')
    return json.loads(done.stdout)


def sessions():
    """Their ids, the oldest first."""
    return sorted(row['id'] for row in ctl('sessions')['sessions'])


def order(srv, connection, attack, argument=0):
    before = srv.log().count(LYING)
    ctl('close', f'{connection}.{16 * argument + attack}')
    wait_for(lambda: srv.log().count(LYING) > before, 5,
             'it does not do as it was told')


def end(*clients):
    """What they were told to do takes some seconds."""
    for client in clients:
        client.stop()
    wait_for(lambda: not processes('adit-broker'), 15, 'a broker is left')
    wait_for(lambda: len(processes('adit-brokerzyg')) == 1, 15,
             'a helper is left')


def meanwhile(t, srv, n=4):
    """Logins, while it is at it."""
    for _ in range(n):
        began = time.monotonic()
        t.true(t.logs_in(srv, timeout=20), 'no login')
        took = time.monotonic() - began
        t.true(took < 3 * SLOW, f'a login took {took:.1f} s')


@case('one that asks on and hears nothing keeps nobody else waiting', 'aditd')
def _(t):
    srv = t.server(f'{POLICY}AuditLog {AUDIT}\n')
    client = t.client(srv)
    order(srv, sessions()[0], DEAF)
    time.sleep(1)  # so long it does it, and then five seconds more
    meanwhile(t, srv)
    end(client)
    with open(AUDIT) as f:  # its flood has come
        t.true(sum('"refused"' in line for line in f) > 20, 'no flood')


@case('one that wants device after device gets a few at a time', 'aditd')
def _(t):
    srv = t.server(POLICY)
    client = t.client(srv)
    most, over = [0], threading.Event()

    def look():
        while not over.wait(0.05):
            most[0] = max(most[0], len(processes()))
    thread = threading.Thread(target=look)
    before = len(processes())
    thread.start()
    try:
        order(srv, sessions()[0], HELPERS)
        time.sleep(1)
        meanwhile(t, srv)
    finally:
        over.set()
        thread.join()
    end(client)
    # a helper is always there, beside the logins' processes
    t.true(before + 2 < most[0] < before + 30,
           f'{most[0]} processes, from {before}')


@case('in the audit log it speaks of its own connection alone', 'aditd')
def _(t):
    srv = t.server(f'{POLICY}AuditLog {AUDIT}-2\n')
    client = t.client(srv)
    order(srv, sessions()[0], FORGE)

    def events():
        with open(f'{AUDIT}-2') as f:
            return [json.loads(line) for line in f]
    wait_for(lambda: any(e['event'] == 'failed' for e in events()), 5,
             'nothing was said')
    client.stop()
    wait_for(lambda: any(e['event'] == 'logout' for e in events()), 5,
             'no logout')
    names = [e['event'] for e in events()]
    for name in ('start', 'login', 'logout'):
        t.equal(names.count(name), 1, f'{name}: {names}')
    for name in ('stop', 'reload', 'reopen', 'drop', 'killed'):
        t.true(name not in names, f'{name}: {names}')
    t.equal(names.count('control'), 1)
    for e in events():
        if 'user' in e:
            t.equal((e['user'], e['uid'], e['connection']), (USER, 4001, 1),
                    f'{e}')


@case('it answers for itself alone when aditctl asks', 'aditd')
def _(t):
    srv = t.server(POLICY)
    ports = [t.port(), t.port()]
    for port in ports:
        t.client(srv, '-R', f'{port}:127.0.0.1:9')
    t.client(srv)
    old, older, newest = sessions()
    order(srv, newest, STRANGE_ANSWERS)
    for _ in range(3):
        found = ctl('forwards')
        t.equal(sorted(row['port'] for row in found['forwards']),
                sorted(ports), f'{found}')
    try:
        ctl('close', f'{newest}.1')
    except Failure as e:
        t.match('does not answer', str(e))
    ctl('limits')


@case('after a restart it says nobody else\'s name', 'aditd')
def _(t):
    port, echo = t.port(), t.target()
    authorize('neighbour', public('id'))
    srv = service(t, f'{POLICY}AllowUsers {USER} neighbour\n')
    t.client(srv, '-R', f'{port}:127.0.0.1:{echo.port}', user='neighbour')
    client = t.client(srv)
    srv.restart()
    wait_for(lambda: len(sessions()) == 2, 10, 'they are not ours')
    order(srv, sessions()[1], AGAIN, port)
    client.wait(15)
    t.equal([row['user'] for row in ctl('sessions')['sessions']],
            ['neighbour'])
    t.true(reaches(port), 'the port is lost')


@case('what is given and not taken does not pile up', 'aditd')
def _(t):
    srv = t.server(POLICY)
    clients = [t.client(srv), t.client(srv)]
    old, new = sessions()
    before = len(os.listdir(f'/proc/{srv.pid}/fd'))
    most = 0
    order(srv, new, NOT_READING, 1)
    order(srv, old, GIVE)
    until = time.monotonic() + 4
    while time.monotonic() < until:
        most = max(most, len(os.listdir(f'/proc/{srv.pid}/fd')))
        time.sleep(0.01)
    t.true(before < most < before + 60,
           f'{most} descriptors, from {before}')
    meanwhile(t, srv, 1)
    end(*clients)


@case('one that leaves the listener leaves its connection', 'aditd')
def _(t):
    port, echo = t.port(), t.target()
    srv = t.server(f'{POLICY}MaxConnections 2\n')
    other = t.client(srv)
    client = t.client(srv, '-R', f'{port}:127.0.0.1:{echo.port}')
    order(srv, sessions()[1], LEAVE)
    client.wait(15)
    wait_for(lambda: len(processes('adit-broker')) == 1 and
             len(processes('adit-session')) == 1, 5, 'it is there')
    t.true(not reaches(port), 'its port is there')
    t.equal(len(sessions()), 1)
    other.stop()


def brokers(seconds):
    """Those that are there within that time, however short."""
    seen, until = set(), time.monotonic() + seconds
    while time.monotonic() < until:
        seen |= {p.pid for p in processes('adit-broker')}
    return seen


@case('what it forks does not outlive it', 'aditd')
def _(t):
    port, echo = t.port(), t.target()
    srv = t.server(POLICY)
    other = t.client(srv)
    client = t.client(srv, '-R', f'{port}:127.0.0.1:{echo.port}')
    order(srv, sessions()[1], FORKS)
    seen = set()  # two that wait, and one after the other
    wait_for(lambda: seen.update(brokers(0.1)) or len(seen) > 6, 20,
             'it does not fork')
    ctl('kill', sessions()[1])
    client.wait(15)
    wait_for(lambda: len(processes('adit-broker')) == 1, 5,
             'what it forked is there')
    t.equal(len(brokers(1)), 1)
    t.true(not reaches(port), 'its port is there')
    other.stop()


if __name__ == '__main__':
    main()
