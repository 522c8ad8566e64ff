#!/usr/bin/python3
"""How a login goes: its log line, its limits, its end."""
import os
import re
import signal
import socket
import time

from harness import (COMMS, TOP, USER, case, connect, keygen, main, processes,
                     read_all, sh, wait_for)


@case("a login is logged in sshd's words")
def _(t):
    srv = t.server()
    t.true(t.logs_in(srv), 'login')
    fingerprint = sh('ssh-keygen', '-l', '-f', f'{TOP}/id').stdout.split()[1]
    srv.wait_log(f'Accepted publickey for {USER} from 127.0.0.1 port '
                 rf'\d+ ssh2: ED25519 {re.escape(fingerprint)}$')


@case('a refused key and a bad user are logged')
def _(t):
    srv = t.server('LogLevel VERBOSE')
    t.true(not t.logs_in(srv, key='id2'), 'let in')
    srv.wait_log(f'(Failed publickey for {USER} from|authenticating user '
                 f'{USER}) 127.0.0.1 port')
    t.true(not t.logs_in(srv, user='nosuch'), 'nobody is let in')
    srv.wait_log('Invalid user nosuch from 127.0.0.1 port')


@case('LoginGraceTime ends an idle start')
def _(t):
    srv = t.server('LoginGraceTime 2')
    started = time.monotonic()
    with connect(srv.port, timeout=20) as s:
        s.sendall(b'SSH-2.0-idle\r\n')
        read_all(s)
    t.true(1.5 < time.monotonic() - started < 8, 'the time it took')
    # Not after a login.
    client = t.client(srv)
    time.sleep(3)
    t.equal(client.process.poll(), None, 'the client')


@case('MaxAuthTries counts refused keys')
def _(t):
    options = []
    for i in range(5):
        options += ['-i', keygen(f'try{i}')]
    done = t.ssh(t.server('MaxAuthTries 3'), *options, '-W', '127.0.0.1:9',
                 key='try0')
    t.match('Too many authentication failures', done.stderr.decode())
    done = t.ssh(t.server('MaxAuthTries 9'), *options, '-i', f'{TOP}/id',
                 '-W', '127.0.0.1:9', key='try0')
    t.match('open failed', done.stderr.decode())


@case('MaxStartups limits connections before their login')
def _(t):
    srv = t.server('MaxStartups 3')
    held = []
    for _ in range(3):
        s = connect(srv.port)
        t.match('^SSH-2.0-', s.recv(100).decode())
        held.append(s)
    with connect(srv.port) as s:
        got = b''
        try:
            got = s.recv(100)
        except ConnectionResetError:
            pass
        t.true(not got.startswith(b'SSH-2.0'), 'a fourth one is served')
    for s in held:
        s.close()
    wait_for(lambda: t.logs_in(srv), 5, 'no login after they left')
    # Connections that logged in do not count.
    for _ in range(5):
        t.client(srv)


@case('ClientAliveInterval ends a connection whose client is gone')
def _(t):
    srv = t.server('ClientAliveInterval 1\nClientAliveCountMax 2')
    client, awake = t.client(srv), t.client(srv)

    def served():
        return len(processes(COMMS['session'])) if t.kind == 'aditd' else \
            len([p for p in processes('sshd') if p.ids('Uid')[0] == 4001])
    t.equal(served(), 2, 'sessions')
    os.kill(client.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: served() == 1, 8, 'still there')
    finally:
        os.kill(client.pid, signal.SIGCONT)
    t.equal(awake.process.poll(), None, 'the other client')


@case('a client that breaks off leaves nothing')
def _(t):
    srv = t.server()
    before = {p.pid for p in processes()}
    client = t.client(srv, '-R', f'{t.port()}:127.0.0.1:9')
    os.kill(client.pid, signal.SIGKILL)
    client.process.wait()
    wait_for(lambda: {p.pid for p in processes()} == before, 5,
             lambda: f'left: {processes()}')


@case('garbage instead of SSH is dropped')
def _(t):
    srv = t.server('LoginGraceTime 5')
    for junk in (b'GET / HTTP/1.0\r\n\r\n', b'\0' * 5000, b'x' * 70000,
                 b'SSH-1.5-old\r\n', b'SSH-2.0-x\r\n' + b'\xff' * 4000,
                 b'SSH-2.0-x\r\n' + b'\0\0\0\x0c\x0a\x5a' + b'\0' * 10):
        with connect(srv.port, timeout=12) as s:
            try:
                s.sendall(junk)
                s.shutdown(socket.SHUT_WR)
                read_all(s)
            except OSError:
                pass
    t.true(t.logs_in(srv), 'a login afterwards')
    t.true('killed by signal' not in srv.log(), 'a process crashed')


@case('LogLevel DEBUG3 says more, QUIET nothing of a login')
def _(t):
    loud = t.server('LogLevel DEBUG3')
    quiet = t.server('LogLevel QUIET')
    t.true(t.logs_in(loud) and t.logs_in(quiet), 'logins')
    t.true(len(loud.log()) > 500, 'DEBUG3 says little')
    t.true('Accepted' not in quiet.log(), 'QUIET speaks')


if __name__ == '__main__':
    main()
