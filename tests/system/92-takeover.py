#!/usr/bin/env python3
"""A client whose network is gone: how soon it gets its -R ports back, and how
soon the server lets go of it."""
import contextlib
import os
import signal
import socket
import threading
import time

import certs
from harness import (COMMS, SLOW, TOP, USER, authorize, case, connect,
                     listening, main, processes, public, reaches, read_all,
                     sockets, wait_for)


def flood(s):
    while True:
        s.sendall(bytes(65536))


def cut(far):
    """Its packets go nowhere, and nobody is told."""
    far.run('ip', 'link', 'set', 'far', 'down')


def server(t, policy='', n=0):
    far = t.far_host(n)
    return far, t.server(policy, address=(far.ours,))


# Liveness.

def towards(srv, far):
    """The states of the server's sockets to that host."""
    return [s[4] for s in sockets() if s[1] == srv.port and s[2] == far.theirs]


def gone_in(t, policy, n):
    """Seconds until the kernel, too, has given up a client that is cut off in
    the middle of a download."""
    far, srv = server(t, policy, n)
    source, port = t.target(flood), t.port()
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{source.port}',
                      prefix=far.prefix, host=far.ours)
    with far:
        s = connect(port)
    with s:
        t.true(s.recv(10000), 'no download')
        t.equal(towards(srv, far), ['01'], 'its socket')
        threading.Thread(target=drain, args=(s,), daemon=True).start()
        cut(far)
        cut_at = time.monotonic()
        wait_for(lambda: not towards(srv, far), 30,
                 lambda: f'still there: {towards(srv, far)}')
        took = time.monotonic() - cut_at
    client.stop()
    return took


def drain(s):
    with contextlib.suppress(OSError):
        while s.recv(65536):
            pass


@case('a client that acknowledges nothing is gone when ClientAlive says so',
      'aditd', timeout=90)
def _(t):
    for n, where in enumerate(('', f'ClientAliveInterval 0\n'
                                   f'Match User {USER}\n')):
        took = gone_in(t, f'{where}ClientAliveInterval 1\n'
                          'ClientAliveCountMax 2\n', n)
        print(f'#   {took:.1f} s')
        t.true(took < 4 * SLOW, f'{took:.1f} s')


# ListenTakeover.

@contextlib.contextmanager
def asleep(client):
    """It answers nothing, and nobody is told."""
    os.kill(client.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(client.pid, signal.SIGCONT)


def spec(port, echo, host='localhost'):
    return ('-R', f'{host}:{port}:127.0.0.1:{echo.port}')


def gets(t, srv, *args, **kw):
    """A client that asks for a -R: does it get it, and in what time?"""
    client = t.client(srv, *args, wait=False, **kw)
    began = time.monotonic()
    said = client.wait_err('remote forward success|remote port forwarding '
                           'failed', 20)
    return 'success' in said[0], time.monotonic() - began, client


class Connector:
    """Connects again and again, and counts who is refused."""

    def __init__(self, port, hosts):
        self.port, self.hosts = port, hosts
        self.made = self.refused = 0
        self.over = False
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.over:
            for host in self.hosts:
                try:
                    connect(self.port, host).close()
                    self.made += 1
                except ConnectionRefusedError:
                    self.refused += 1
            time.sleep(0.002)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join(30)


def reconnect(t, kind, policy=''):
    """One whose network is cut comes again by another one, and again, until it
    has its port back. The server, the port, the time, how often it tried, what
    a connector saw."""
    one, two = t.far_host(2), t.far_host(3)
    srv = t.server(policy, kind=kind, address=(one.ours, two.ours))
    with two:
        echo = t.target()
    port = t.port()
    first = t.client(srv, *spec(port, echo), prefix=one.prefix, host=one.ours)
    t.equal(listening(port), {'127.0.0.1', '::1'}, 'the old listener')
    cut(one)
    began, tries, got = time.monotonic(), 0, False
    # sshd's ClientAlive is late for as long as somebody connects.
    hosts = ('127.0.0.1', '::1') if kind == 'aditd' else ()
    with Connector(port, hosts) as seen:
        while not got and tries < 100:
            got, _, client = gets(t, srv, *spec(port, echo),
                                  prefix=two.prefix, host=two.ours)
            tries += 1
        took = time.monotonic() - began
        t.true(got, 'it does not get it back')
        wait_for(lambda: not hosts or seen.made > 20, 10, 'no connection')
    t.true(reaches(port), 'the echo')
    t.true(reaches(port, '::1'), 'the echo, ::1')
    first.process.kill()
    client.stop()
    # The first one cannot say that it is gone.
    for p in processes(COMMS['broker'] if kind == 'aditd' else 'sshd'):
        if p.pid != srv.pid:
            os.kill(p.pid, signal.SIGKILL)
    return srv, port, took, tries, seen


@case('who comes back by another network has its port in under two seconds',
      'aditd')
def _(t):
    srv, port, took, tries, seen = reconnect(t, 'aditd')
    print(f'#   {took:.2f} s; {seen.made} connections meanwhile')
    t.equal(tries, 1, 'tries')
    t.true(took < 2 * SLOW, f'{took:.2f} s')
    t.equal(seen.refused, 0, 'connections refused meanwhile')
    srv.wait_log('goes to the session from .*: no answer of this client')
    srv.wait_log(f'took over tcpip-forward on localhost port {port} for '
                 f'{USER} from .*: from the session from')


@case('sshd has it for the one that is gone until ClientAlive ends that',
      'aditd')
def _(t):
    *_, took, tries, _ = reconnect(t, 'sshd', 'ClientAliveInterval 1\n'
                                      'ClientAliveCountMax 3')
    print(f'#   sshd: {took:.2f} s, {tries} tries')
    t.true(took > 2 and tries > 1, f'{took:.2f} s')


def listeners():
    """As the links of descriptors have them."""
    found = set()
    for name in ('tcp', 'tcp6'):
        with open(f'/proc/net/{name}') as f:
            found |= {f'socket:[{w[9]}]' for w in map(str.split, f)
                      if w[3] == '0A'}
    return found


@case('data flows through what was taken, and it is cancelled as ever',
      'aditd')
def _(t):
    srv, echo, port = t.server(), t.target(), t.port()
    path = f'{t.folder}/control'
    old = t.client(srv, *spec(port, echo))
    with asleep(old):
        got, _, new = gets(t, srv, *spec(port, echo), '-M', '-S', path)
        t.true(got, 'refused')
        for host in ('127.0.0.1', '::1'):
            t.true(reaches(port, host), host)
    t.true(reaches(port), 'after the old one is back')
    for p in processes(COMMS['session']):
        t.equal(listeners() & set(p.fds().values()), set(), f'{p} has it')
    t.equal(old.process.poll(), None, 'the old one')
    done = t.ssh(srv, '-S', path, '-O', 'cancel', *spec(port, echo))
    t.equal(done.returncode, 0, done.stderr.decode())
    wait_for(lambda: not listening(port), 5, 'still listening')
    old.stop()
    new.stop()


@case('one that answers keeps its port; but with always', 'aditd')
def _(t):
    for policy, want in (('', False), ('ListenTakeover no', False),
                         ('ListenTakeover always', True),
                         (f'ListenTakeover no\nMatch User {USER}\n'
                          'ListenTakeover always', True)):
        srv, echo, port = t.server(policy), t.target(), t.port()
        old = t.client(srv, *spec(port, echo))
        got, took, new = gets(t, srv, *spec(port, echo))
        t.equal(got, want, policy)
        t.true(took < 3 * SLOW, f'{policy}: {took:.2f} s')
        t.true(reaches(port), f'{policy}: the echo')
        (old if want else new).process.terminate()
        t.true(reaches(port), f'{policy}: the echo of the one that has it')
        if policy == '':
            new.wait_err('in use by an older session of this key, whose '
                         'client is alive')
            srv.wait_log('no takeover of tcpip-forward on localhost port '
                         rf'{port} .*: the session from 127.0.0.1 port \d+ '
                         'has it for')


@case('an older session takes nothing from a newer one, nor from itself',
      'aditd')
def _(t):
    srv, echo, port = t.server('ListenTakeover always'), t.target(), t.port()
    path = f'{t.folder}/control'

    def forward(host):
        words = spec(port, echo, host)
        return t.ssh(srv, '-S', path, '-O', 'forward', *words).returncode == 0
    old = t.client(srv, '-M', '-S', path)
    new = t.client(srv, *spec(port, echo, '127.0.0.1'))
    t.true(not forward('127.0.0.1'), 'taken by the older one')
    new.stop()
    wait_for(lambda: not listening(port), 5, 'still listening')
    t.true(forward('127.0.0.1') and forward('localhost'), 'the other address')
    t.true(reaches(port) and reaches(port, '::1'), 'the echo')
    t.true('took over' not in srv.log(), 'taken over')
    old.stop()


@case('ListenTakeover no: not from one that is gone, either', 'aditd')
def _(t):
    for n in (0, 1):
        # As it is asked for, and as it is had.
        srv = t.server('ListenTakeover yes\nMatch LocalAddress '
                       f'{("127.0.0.1", "::1")[n]}\nListenTakeover no')
        echo, port = t.target(), t.port()
        old = t.client(srv, *spec(port, echo), host='::1')
        with asleep(old):
            t.true(not gets(t, srv, *spec(port, echo))[0], 'taken')


@case('of another key, of another account: nothing', 'aditd')
def _(t):
    srv, echo, port = t.server('ListenTakeover always'), t.target(), t.port()
    authorize(USER, public('id') + public('id2'))
    old = t.client(srv, *spec(port, echo))
    with asleep(old):
        for how in ({'key': 'id2'}, {'user': 'neighbour'}):
            t.true(not gets(t, srv, *spec(port, echo), **how)[0],
                   f'{how}: taken')
        t.true(gets(t, srv, *spec(port, echo))[0], 'of the same')


@case('a certificate that was renewed is of the same key', 'aditd')
def _(t):
    certs.keygen('ca')
    srv = t.server(f'TrustedUserCAKeys {TOP}/ca.pub')
    echo, port = t.target(), t.port()
    certs.holder('renewed')
    old = t.client(srv, *spec(port, echo), key='renewed')
    certs.certify('ca', 'renewed', serial=8)
    with asleep(old):
        t.true(gets(t, srv, *spec(port, echo), key='renewed')[0], 'refused')
    srv.wait_log('serial 7')
    srv.wait_log('serial 8')


@case('what was asked for, and no more', 'aditd')
def _(t):
    srv = t.server('GatewayPorts clientspecified')
    echo, port, other = t.target(), t.port(), t.port()
    old = t.client(srv, *spec(port, echo), *spec(other, echo, '127.0.0.1'))
    with asleep(old):
        # One address of two: the other one is nobody's then.
        got, _, new = gets(t, srv, *spec(port, echo, '127.0.0.1'))
        t.true(got, 'one of two')
        t.equal(listening(port), {'127.0.0.1'}, 'one of two')
        t.true(reaches(port), 'one of two')
        # All addresses are not what the old one had.
        got, took, _ = gets(t, srv, *spec(other, echo, '0.0.0.0'))
        t.true(not got, 'all for one')
        t.equal(listening(other), {'127.0.0.1'}, 'as it was')
        # One more than the old one had.
        got, _, _ = gets(t, srv, *spec(other, echo))
        t.true(got, 'two of one')
        t.equal(listening(other), {'127.0.0.1', '::1'}, 'two of one')
        for host in ('127.0.0.1', '::1'):
            t.true(reaches(other, host), host)
    old.stop()
    t.true(reaches(port) and reaches(other), 'without the old one')
    new.stop()


@case('many ports at once, in one second', 'aditd')
def _(t):
    srv, echo = t.server('MaxListeners 60'), t.target()
    ports = [t.port() for _ in range(60)]
    all_of_them = [w for p in ports for w in spec(p, echo)]
    old = t.client(srv, *all_of_them)
    with asleep(old):
        began = time.monotonic()
        new = t.client(srv, *all_of_them)
        took = time.monotonic() - began
        print(f'#   {took:.2f} s')
        t.true(took < 4 * SLOW, f'{took:.2f} s')
        t.true(all(reaches(p) for p in ports[::7]), 'the echo')
        new.stop()
    old.stop()


@case('a unix socket goes with its path', 'aditd')
def _(t):
    srv, echo = t.server(), t.target()
    path = f'/home/{USER}/socket'
    words = ('-R', f'{path}:127.0.0.1:{echo.port}')
    old = t.client(srv, *words)
    inode = os.stat(path).st_ino
    with asleep(old):
        got, _, new = gets(t, srv, *words)
        t.true(got, 'refused')
    t.equal(os.stat(path).st_ino, inode, 'its inode')
    t.equal(asked(path), b'hello', 'the echo')
    old.stop()
    wait_for(lambda: 'Disconnected' in srv.log(), 5, 'the old one stays')
    t.equal(asked(path), b'hello', 'the echo without the old one')
    got, _, third = gets(t, srv, *words)
    t.true(not got, 'taken from one that answers')
    third.wait_err('in use by an older session of this key')
    new.stop()
    wait_for(lambda: not os.path.exists(path), 5, 'the path stays')


def asked(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10 * SLOW)
        s.connect(path)
        s.sendall(b'hello')
        s.shutdown(socket.SHUT_WR)
        return read_all(s)


@case('another file in its place is nobody\'s to give', 'aditd')
def _(t):
    srv, echo = t.server(), t.target()
    path = f'/home/{USER}/socket'
    words = ('-R', f'{path}:127.0.0.1:{echo.port}')
    old = t.client(srv, *words)
    os.rename(path, path + '2')
    with open(path, 'w') as f:
        f.write('mine')
    with asleep(old):
        t.true(not gets(t, srv, *words)[0], 'taken')
    t.equal(asked(path + '2'), b'hello', 'the old one')
    with open(path) as f:
        t.equal(f.read(), 'mine', 'the file')
    old.stop()
    os.unlink(path)
    os.unlink(path + '2')


@case('port 0 is never in use', 'aditd')
def _(t):
    srv, echo = t.server('ListenTakeover always'), t.target()
    clients = [t.client(srv, *spec(0, echo)) for _ in range(2)]
    t.true('took over' not in srv.log(), 'taken over')
    for c in clients:
        c.stop()


@case('a broker that is stopped keeps what it has', 'aditd')
def _(t):
    srv, echo, port = t.server(), t.target(), t.port()
    t.client(srv, *spec(port, echo))
    broker = processes(COMMS['broker'])[0].pid
    os.kill(broker, signal.SIGSTOP)
    try:
        got, took, new = gets(t, srv, *spec(port, echo))
    finally:
        os.kill(broker, signal.SIGCONT)
    t.true(not got, 'taken')
    t.true(1 < took < 3 * SLOW, f'{took:.2f} s')
    new.wait_err('which does not give it up')
    # It finds the question when it goes on, and that it is too late.
    t.true(reaches(port), 'the echo')
    t.true(not gets(t, srv, *spec(port, echo))[0], 'taken')
    t.true(reaches(port), 'the echo')


def brokers():
    return {p.pid for p in processes(COMMS['broker'])}


@case('either of them may end meanwhile', 'aditd')
def _(t):
    srv, echo, port = t.server(), t.target(), t.port()
    old = t.client(srv, *spec(port, echo))
    before = brokers()
    with asleep(old):
        # The new one: nobody has it then, or the old one.
        gone = t.client(srv, *spec(port, echo), wait=False)
        wait_for(lambda: srv.log().count('Accepted') == 2, 10, 'no login')
        gone.process.kill()
        wait_for(lambda: brokers() == before, 10, 'its broker stays')
        got, _, second = gets(t, srv, *spec(port, echo))
        t.true(got, 'refused after one that went')
    old.stop()
    wait_for(lambda: len(brokers()) == 1, 10, 'its broker stays')
    # The old one, by an accident.
    before = brokers()
    with asleep(second):
        third = t.client(srv, *spec(port, echo), wait=False)
        wait_for(lambda: brokers() - before, 10, 'no broker')
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        third.wait_ready()
    t.true(reaches(port) and reaches(port, '::1'), 'the echo')


@case('as an ordinary user', 'aditd')
def _(t):
    srv, echo, port = t.server(user=USER), t.target(), t.port()
    old = t.client(srv, *spec(port, echo))
    with asleep(old):
        t.true(gets(t, srv, *spec(port, echo))[0], 'refused')
        t.true(reaches(port), 'the echo')


@case('who asks again and again is not asked as often', 'aditd', timeout=90)
def _(t):
    srv, echo, port = t.server('LogLevel VERBOSE'), t.target(), t.port()
    path = f'{t.folder}/control'
    old = t.client(srv, *spec(port, echo))
    t.client(srv, '-M', '-S', path)
    asked = 0
    end = time.monotonic() + 3
    while time.monotonic() < end:
        done = t.ssh(srv, '-S', path, '-O', 'forward', *spec(port, echo))
        t.true(done.returncode != 0, 'taken')
        asked += 1
    pings = old.err().count('keepalive@openssh.com')
    print(f'#   {asked} requests, {pings} keepalives')
    t.true(1 <= pings <= 1 + (time.monotonic() - end + 3), f'{pings}')
    t.true(asked > 2 * pings, f'only {asked} requests')


if __name__ == '__main__':
    main()
