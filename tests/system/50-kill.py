#!/usr/bin/python3
"""kill -9 of any process, and what is left of its connection."""
import os
import signal

from harness import (COMMS, PER_CONNECTION, SHARED, case, listening, main,
                     processes, reaches, talk, wait_for)


def kill(comm, which=0):
    found = sorted(processes(comm), key=lambda p: p.pid)
    os.kill(found[which].pid, signal.SIGKILL)
    return found[which].pid


def names():
    """How many processes of each kind, without clients. A zygote that was
    replaced stays for as long as it has children: zygotes count as one."""
    counts = {}
    for p in processes():
        if p.comm.endswith('zyg'):
            counts[p.comm] = 1
        elif p.comm != 'ssh':
            counts[p.comm] = counts.get(p.comm, 0) + 1
    return counts


def settled(t, srv):
    """What runs while nobody is logged in, once somebody was."""
    t.true(t.logs_in(srv), 'login')
    wait_for(lambda: not processes(COMMS['session']) and
             not processes(COMMS['broker']), 5, 'still there')
    return names()


def forwards(t, srv):
    """A client with -L and -R: (client, -L port, -R port)."""
    local, remote = t.port(), t.port()
    echo = t.target()
    client = t.client(srv, '-L', f'{local}:127.0.0.1:{echo.port}',
                      '-R', f'{remote}:127.0.0.1:{echo.port}')
    t.true(reaches(local) and reaches(remote), 'the forwards')
    return client, local, remote


def register(comm):
    @case(f'kill -9 of {comm} ends its connection alone', 'aditd')
    def _(t):
        srv = t.server()
        settled(t, srv)
        bystander, local, remote = forwards(t, srv)
        before = names()
        fds = len(next(p for p in processes() if p.pid == srv.pid).fds())
        zygote = {p.pid for p in processes(COMMS['sessionzyg'])}
        victim, _, gone = forwards(t, srv)
        kill(comm, -1)
        t.true(victim.wait(3) != 0, 'exit status of the client')
        wait_for(lambda: names() == before, 5,
                 lambda: f'left: {names()}, not {before}')
        # A session's death by any signal renews its zygote; the old one stays
        # for the bystander. A broker that is logged in is its account's.
        if comm == COMMS['session']:
            wait_for(lambda: {p.pid for p in processes(COMMS['sessionzyg'])} -
                     zygote, 5, 'the zygote is not renewed')
            fds += 1
        t.equal(listening(gone), set(), 'its listener')
        wait_for(lambda: len(next(p for p in processes()
                                  if p.pid == srv.pid).fds()) <= fds, 5,
                 'descriptors of the listener')
        t.true(reaches(local) and reaches(remote), 'the bystander')
        t.true(t.logs_in(srv), 'a new login')
        bystander.stop()
        wait_for(lambda: len(processes()) == 4, 5,
                 lambda: f'left: {processes()}')
        t.match(r'127\.0\.0\.1.*signal 9', srv.log(), 'the log')


for role in PER_CONNECTION:
    register(COMMS[role])


def register_shared(role):
    comm = COMMS[role]

    @case(f'kill -9 of {comm}: connections live on, logins go on', 'aditd')
    def _(t):
        srv = t.server()
        client, local, remote = forwards(t, srv)
        old = kill(comm)
        wait_for(lambda: [p for p in processes(comm) if p.pid != old], 10,
                 'it is not started again')
        wait_for(lambda: t.logs_in(srv), 10, 'no new login')
        t.true(reaches(local) and reaches(remote), 'the connection')
        client.stop()
        wait_for(lambda: not names().get('adit-session') and
                 not names().get('adit-broker'), 5, 'the connection is left')


for role in SHARED:
    register_shared(role)


@case('kill -9 of the listener: connections live on, rekey, then end',
      'aditd')
def _(t):
    srv = t.server()
    local, remote, echo = t.port(), t.port(), t.target()
    client = t.client(srv, '-o', 'RekeyLimit=100K',
                      '-L', f'{local}:127.0.0.1:{echo.port}',
                      '-R', f'{remote}:127.0.0.1:{echo.port}')
    srv.process.kill()
    srv.process.wait()
    wait_for(lambda: not listening(srv.port), 5, 'it listens still')
    rekeys = client.err().count('SSH2_MSG_NEWKEYS received')
    for _ in range(40):
        t.equal(len(talk(local, bytes(20000))), 20000, 'the forward')
    t.true(reaches(remote), 'the other forward')
    t.true(client.err().count('SSH2_MSG_NEWKEYS received') > rekeys, 'rekey')
    client.stop()
    wait_for(lambda: not names(), 10, lambda: f'left: {names()}')
    t.equal(listening(remote), set(), 'its listener')


@case('kill -9 of the listener without connections leaves nothing', 'aditd')
def _(t):
    srv = t.server()
    srv.process.kill()
    srv.process.wait()
    wait_for(lambda: not names(), 5, lambda: f'left: {names()}')


@case('SIGTERM ends the listener and frees its port')
def _(t):
    srv = t.server()
    t.client(srv)
    srv.stop()
    t.true(srv.process.returncode in ((0,) if t.kind == 'aditd' else (0, 255)),
           'exit status')
    t.equal(listening(srv.port), set(), 'its port')


@case('a stopped session is killed with its broker', 'aditd')
def _(t):
    srv = t.server()
    before = settled(t, srv)
    client = t.client(srv)
    session, = processes(COMMS['session'])
    os.kill(session.pid, signal.SIGSTOP)
    kill(COMMS['broker'])
    wait_for(lambda: names() == before, 5,
             lambda: f'left: {names()}, not {before}')
    t.true(client.wait() != 0, 'the client')


@case('a stopped session is killed with its broker, without the listener, '
      'too', 'aditd')
def _(t):
    srv = t.server()
    client = t.client(srv)
    srv.process.kill()
    srv.process.wait()
    session, = processes(COMMS['session'])
    os.kill(session.pid, signal.SIGSTOP)
    kill(COMMS['broker'])
    wait_for(lambda: not names(), 5, lambda: f'left: {names()}')
    t.true(client.wait() != 0, 'the client')


if __name__ == '__main__':
    main()
