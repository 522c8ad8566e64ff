#!/usr/bin/python3
"""Under a service manager: what it is told, the sockets that it gives, and a
restart that nobody notices. manager.py plays the service manager."""
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

from harness import (Failure, SLOW, Skip, TOP, USER, case, connect, devices,
                     keygen, listening, main, need, processes, public, run,
                     talk, wait_for)
from manager import service
from tunnelled import A, B, ping

SRC = os.environ.get('SRCDIR', '.')


@case('it says READY, how many there are, and STOPPING', 'aditd')
def _(t):
    srv = service(t)
    m = srv.manager
    t.equal(m.heard('MAINPID'), [str(srv.pid)])
    m.wait_heard('STATUS', '0 sessions, 0 logging in')
    client = t.client(srv)
    m.wait_heard('STATUS', '1 session, 0 logging in')
    client.stop()
    at = m.mark()
    m.wait_heard('STATUS', '0 sessions, 0 logging in', at)
    srv.stop()
    m.wait_heard('STOPPING', '1')
    t.equal(m.stranger, [])


@case('a reload is told, and over when new processes have it', 'aditd')
def _(t):
    srv = service(t)
    m, at = srv.manager, srv.manager.mark()
    before = {p.pid for p in processes('adit-brokerzyg')}
    srv.process.send_signal(signal.SIGHUP)
    m.wait_heard('READY', '1', at)
    t.true({p.pid for p in processes('adit-brokerzyg')} - before,
           'READY before the new zygote')
    t.equal(m.heard('RELOADING', at), ['1'])
    usec, = m.heard('MONOTONIC_USEC', at)
    t.true(0 < int(usec), 'no time')
    with open(srv.policy, 'a') as f:
        f.write('Nonsense yes\n')
    at = m.mark()
    srv.process.send_signal(signal.SIGHUP)
    m.wait_heard('READY', '1', at)
    t.match('the old policy stays in force', srv.log())


@case('WATCHDOG comes while all processes answer, and no longer', 'aditd')
def _(t):
    srv = service(t, watchdog_us=400000)
    m = srv.manager
    for comm in ('adit-keyholder', 'adit-brokerzyg', 'adit-sessionzyg'):
        at = m.mark()
        wait_for(lambda: len(m.heard('WATCHDOG', at)) > 2, 5, 'no WATCHDOG')
        role = next(p for p in processes(comm) if p.ppid == srv.pid)
        os.kill(role.pid, signal.SIGSTOP)
        try:  # one may be under way
            wait_for(lambda: quiet(m, 1), 10, f'{comm} is stopped, and all '
                     'is well')
        finally:
            os.kill(role.pid, signal.SIGCONT)


@case('a reader of PROXY headers that hangs costs no restart', 'aditd')
def _(t):
    srv = service(t, 'ProxyProtocolFrom 127.0.0.1\n', watchdog_us=1000000,
                  address=('127.0.0.1', '::1'))
    m = srv.manager
    for _ in range(2):
        at = m.mark()
        wait_for(lambda: len(m.heard('WATCHDOG', at)) > 2, 10, 'no WATCHDOG')
        reader, = processes('adit-proxy')
        os.kill(reader.pid, signal.SIGSTOP)
        at = m.mark()
        wait_for(lambda: len(m.heard('WATCHDOG', at)) > 3, 10,
                 'no WATCHDOG any more')
        t.true(t.logs_in(srv, host='::1'), 'no login')
        wait_for(lambda: [p.pid != reader.pid for p in
                          processes('adit-proxy')] == [True], 10, 'no other')


def quiet(m, seconds):
    """Was no WATCHDOG heard for so long? Each look is that long."""
    at = m.mark()
    try:
        m.wait_heard('WATCHDOG', since=at, timeout=seconds / SLOW)
    except Failure:
        return True
    return False


@case('without a watchdog there are no such words', 'aditd')
def _(t):
    srv = service(t)
    t.client(srv)
    t.equal(srv.manager.heard('WATCHDOG'), [])


@case('sockets of the manager are used instead of ListenAddress', 'aditd')
def _(t):
    port = t.port()
    with socket.create_server(('127.0.0.1', port)) as v4, \
            socket.create_server(('::1', port),
                                 family=socket.AF_INET6) as v6:
        for names in (('ssh', 'ssh'), ('aditd.socket', 'unknown')):
            srv = service(t, wait=False, sockets=list(zip(names, (v4, v6))))
            other, srv.port = srv.port, port
            srv.manager.wait_heard('READY', '1')
            t.match(rf'listening on 127.0.0.1 port {port} \(a socket of the',
                    srv.log())
            t.true(t.logs_in(srv), 'no login')
            t.true(t.logs_in(srv, host='::1'), 'no login by IPv6')
            try:
                connect(other)
                raise Failure('ListenAddress is served, too')
            except ConnectionRefusedError:
                pass
            srv.stop()


@case('what is no server socket of TCP is closed, and named', 'aditd')
def _(t):
    with socket.socket() as client, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, \
            socket.socket(socket.AF_UNIX) as unix, \
            open('/etc/passwd') as file:
        udp.bind(('127.0.0.1', 0))
        unix.bind(f'{t.folder}/unix')
        unix.listen()
        given = [('ssh', client), ('udp', udp), ('ssh', unix),
                 ('odd\\name', file)]
        srv = service(t, sockets=given)
        for name in ('ssh', 'udp', r'odd\\\\name'):
            t.match(rf'"{name}", of the service manager.s is not for us: '
                    'closed', srv.log())
        held = [p.fds().values() for p in processes() if p.ppid == srv.pid
                or p.pid == srv.pid]
        for s in (client, udp, unix):
            link = f'socket:[{os.fstat(s.fileno()).st_ino}]'
            t.true(not any(link in fds for fds in held), f'{link} is left')
        t.true(t.logs_in(srv), 'no login')


@case('words for another process are not taken', 'aditd')
def _(t):
    env = dict(os.environ, LISTEN_FDS='1', LISTEN_PID='1',
               LISTEN_FDNAMES='ssh', NOTIFY_SOCKET='/nowhere',
               WATCHDOG_USEC='1000', WATCHDOG_PID='1')
    srv = t.server(within=['env', *(f'{k}={v}' for k, v in env.items()
                                    if k not in os.environ)])
    t.match('NOTIFY_SOCKET /nowhere: No such file', srv.log())
    t.true(t.logs_in(srv), 'no login')


@case('no role has the manager\'s words', 'aditd')
def _(t):
    srv = service(t)
    t.client(srv)
    for p in processes():
        if p.comm.startswith('adit-'):
            with open(f'/proc/{p.pid}/environ') as f:
                t.true(not re.search('NOTIFY|LISTEN|WATCHDOG', f.read()),
                       f'{p} has them')


@case('aditd -t and others with LISTEN_FDS in the environment', 'aditd')
def _(t):
    srv = service(t, sockets=[])
    with socket.create_server(('127.0.0.1', 0)) as s:
        srv.sockets = [('ssh', s)]
        for words in (['-t', '-v'], ['-T'], ['-V']):
            srv.argv = [f'{TOP}/aditd', '-f', srv.policy,
                        f'-oHostKey={TOP}/hostkey', *words]
            with open(f'{t.folder}/out', 'w') as out:
                process = srv.spawn(out)
            t.equal(process.wait(20 * SLOW), 0, f'{words}')


@case('the units', 'aditd')
def _(t):
    analyze = need('systemd-analyze')
    units = f'{t.folder}/units'
    os.mkdir(units)
    with open(f'{SRC}/packaging/systemd/aditd.service.in') as f:
        text = f.read().replace('@sbindir@', TOP)
    with open(f'{units}/aditd.service', 'w') as f:
        f.write(text)
    shutil.copy(f'{SRC}/packaging/systemd/aditd.socket', units)
    done = subprocess.run(
        [analyze, 'verify', '--man=no', f'{units}/aditd.service',
         f'{units}/aditd.socket'], capture_output=True, text=True,
        timeout=60 * SLOW)
    if re.search('Failed to (initialize|create) manager|cgroup', done.stderr):
        raise Skip(done.stderr.splitlines()[0])
    t.equal([line for line in done.stderr.splitlines()
             if 'aditd' in line], [])
    t.equal(done.returncode, 0, done.stderr)


# ---- a restart ----

CONTROL = 'ControlSocket /run/adit/control\n'
STAYS = ('id', 'user', 'address', 'port', 'key', 'comment', 'rule', 'client',
         'cipher')


def ctl(*words):
    return run(f'{TOP}/aditctl', *words, timeout=20 * SLOW)


def sessions():
    return json.loads(ctl('--json', 'sessions'))['sessions']


class Flow:
    """Bytes through an echo server, for as long as it takes, and their sum."""

    def __init__(self, port):
        self.socket = connect(port, timeout=30)
        self.over = threading.Event()
        self.sent, self.got = hashlib.sha256(), hashlib.sha256()
        self.moved, self.failed = 0, None
        self.threads = [threading.Thread(target=self.run, args=(fn,))
                        for fn in (self.send, self.receive)]
        for thread in self.threads:
            thread.start()

    def run(self, fn):
        try:
            fn()
        except OSError as e:
            self.failed = e

    def send(self):
        chunk = os.urandom(65536)
        while not self.over.is_set():
            self.sent.update(chunk)
            self.socket.sendall(chunk)
            self.over.wait(0.001)  # some 50 MB/s: others work, too
        self.socket.shutdown(socket.SHUT_WR)

    def receive(self):
        while data := self.socket.recv(1 << 20):
            self.got.update(data)
            self.moved += len(data)

    def more(self, size):
        """Another size bytes came through."""
        want = self.moved + size
        wait_for(lambda: self.failed or self.moved >= want, 60,
                 f'{self.moved} bytes, and no more')
        if self.failed:
            raise Failure(f'after {self.moved} bytes: {self.failed}')

    def end(self, t):
        self.over.set()
        for thread in self.threads:
            thread.join(60 * SLOW)
        self.socket.close()
        t.equal(self.failed, None)
        t.equal(self.got.hexdigest(), self.sent.hexdigest(), 'SHA-256')


class Knocking:
    """Does somebody who connects all the time notice?"""

    def __init__(self, port):
        self.port, self.refused, self.served = port, 0, 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.over.is_set():
            try:
                with connect(self.port) as s:
                    self.served += s.recv(4) == b'SSH-'
            except OSError:
                self.refused += 1
            self.over.wait(0.01)

    def end(self):
        self.over.set()
        self.thread.join()


def only_own(t, srv):
    """Old zygotes ended; the store has nothing of sessions."""
    m = srv.manager
    wait_for(lambda: not [n for n in m.names() if n.startswith('conn-')] and
             len([n for n in m.names() if n.startswith('role-')]) == 2, 15,
             lambda: f'in the store: {m.names()}')
    for comm in ('adit-keyholder', 'adit-brokerzyg', 'adit-sessionzyg'):
        wait_for(lambda: len(processes(comm)) == 1, 15,
                 f'more than one {comm}')


def fds_of(pid):
    return len(os.listdir(f'/proc/{pid}/fd'))


@case('-L, -R and a tunnel under load outlive restarts and a crash',
      'aditd', timeout=300)
def _(t):
    if not os.path.exists('/dev/net/tun'):
        raise Skip('no /dev/net/tun')
    echo, far = t.target(), t.far_host()
    local, remote = t.port(), t.port()
    srv = service(t, f'{CONTROL}PermitTunnel point-to-point\n'
                  'MaxStartups 100\nLoginGraceTime 30\n',
                  address=('127.0.0.1', far.ours))
    one = t.client(srv, '-L', f'{local}:127.0.0.1:{echo.port}', '-R',
                   f'{remote}:127.0.0.1:{echo.port}', '-o', 'RekeyLimit=4M')
    two = t.client(srv, '-w', '0:0', prefix=far.prefix, host=far.ours)
    wait_for(lambda: 'tun0' in devices(), 10, 'no device')
    run('ip', 'link', 'set', 'tun0', 'up')
    run('ip', 'addr', 'add', A, 'peer', B, 'dev', 'tun0')
    far.run('ip', 'link', 'set', 'tun0', 'up')
    far.run('ip', 'addr', 'add', B, 'peer', A, 'dev', 'tun0')
    wait_for(lambda: ping(far, A) == 1, 10, 'no ping')
    wait_for(lambda: len(sessions()) == 2, 10, 'no sessions')
    before = sessions()
    flows = [Flow(local), Flow(remote)]
    knocking = Knocking(srv.port)
    pinging = subprocess.Popen(
        [*far.prefix, 'ping', '-n', '-i', '0.05', '-W', '60', A],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    for how in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        for flow in flows:
            flow.more(20000000)
        srv.restart(how)
        for flow in flows:
            flow.more(20000000)
        rows = sessions()
        for row, was in zip(rows, before, strict=True):
            t.equal({k: row[k] for k in STAYS}, {k: was[k] for k in STAYS})
            t.true(abs(row['since'] - was['since']) <= 2, 'since')
            t.true(row['bytes_up'] >= was['bytes_up'], 'its bytes')
        t.true(t.logs_in(srv), 'no login')
    knocking.end()
    pinging.send_signal(signal.SIGINT)
    text = pinging.communicate(timeout=20 * SLOW)[0]
    m = t.match(r'(\d+) packets transmitted, (\d+) received', text)
    t.true(int(m[1]) - int(m[2]) <= 1, f'lost pings: {m[0]}')  # the last one
    for flow in flows:
        flow.end(t)
    t.true(one.err().count('SSH2_MSG_NEWKEYS received') > 20, 'rekeys')
    t.equal(knocking.refused, 0, 'refused connections')
    t.true(knocking.served > 10, 'connections')
    t.equal(srv.log().count('2 sessions of the daemon before us are ours'), 3)
    third = t.client(srv)
    ids = [row['id'] for row in sessions()]
    t.true(ids[-1] > max(ids[:2]) or ids[0] > max(ids[1:]), f'ids: {ids}')
    third.stop()
    ctl('kill', before[0]['id'])
    ctl('kill', before[1]['id'])
    for client in (one, two):
        client.wait()
    only_own(t, srv)
    t.equal(srv.manager.stranger, [])


@case('other host keys after a restart: old sessions rekey with theirs',
      'aditd')
def _(t):
    echo, local = t.target(), t.port()
    srv = service(t, CONTROL)
    client = t.client(srv, '-L', f'{local}:127.0.0.1:{echo.port}', '-o',
                      'RekeyLimit=100K')
    keygen('other')
    srv.argv = [word.replace(f'{TOP}/hostkey', f'{TOP}/other')
                for word in srv.argv]
    srv.restart()
    scanned = run(need('ssh-keyscan'), '-t', 'ed25519', '-p', str(srv.port),
                  '127.0.0.1')
    t.true(public('other').split()[1] in scanned, 'the new key is not used')
    for _ in range(3):
        rekeys = client.err().count('SSH2_MSG_NEWKEYS received')
        t.equal(len(talk(local, bytes(500000))), 500000)
        wait_for(lambda: client.err().count('SSH2_MSG_NEWKEYS received') >
                 rekeys, 10, 'no rekey')
    client.stop()
    wait_for(lambda: len(processes('adit-keyholder')) == 1, 10,
             'the old keyholder is left')


@case('limits count the old sessions', 'aditd')
def _(t):
    srv = service(t, f'{CONTROL}MaxConnections 2\nRateLimit user 100M/s\n')
    clients = [t.client(srv), t.client(srv)]
    for _ in range(2):
        done = t.ssh(srv, '-W', '127.0.0.1:9')
        t.match('too many connections of this account', done.stderr.decode())
        srv.restart()
    clients.pop().stop()
    wait_for(lambda: len(sessions()) == 1, 10, 'it is not over')
    t.true(t.logs_in(srv), 'none after one ended')


@case('old sessions keep their share of the user\'s RateLimit', 'aditd')
def _(t):
    srv = service(t, f'{CONTROL}RateLimit user 1M/s\n')
    for _ in range(3):
        t.client(srv)
    srv.restart()
    wait_for(lambda: len(sessions()) == 3, 10, 'they are not ours')
    port, size = t.port(), 1 << 20
    source = t.target(lambda s: s.sendall(bytes(size)))
    t.client(srv, '-L', f'{port}:127.0.0.1:{source.port}')
    with connect(port, timeout=60) as s:
        began = time.monotonic()
        t.equal(len(b''.join(iter(lambda: s.recv(1 << 16), b''))), size)
    took = time.monotonic() - began  # alone it would be one second
    t.true(took > 2, f'{took:.1f} s')


@case('what ended while there was no daemon is over afterwards', 'aditd')
def _(t):
    srv = service(t, f'{CONTROL}MaxConnections 1\n')
    client = t.client(srv)
    row, = sessions()
    # one more number, which is nobody's any more
    t.true(t.logs_in(srv, user='neighbour'), 'another one')
    wait_for(lambda: len(processes('adit-broker')) == 1 and
             set(srv.manager.names()) & {'conn-1', 'conn-2'} == {'conn-1'}, 10,
             lambda: f'in the store: {srv.manager.names()}')
    srv.stop()
    client.stop()
    wait_for(lambda: not processes('adit-broker'), 10, 'its broker is left')
    srv.start()
    t.equal(sessions(), [])
    client = t.client(srv)  # or it is still counted
    t.true(sessions()[0]['id'] > row['id'] + 1, 'a number was given again')
    client.stop()
    only_own(t, srv)


@case('a policy that is another one after a restart is the old sessions\', '
      'too', 'aditd')
def _(t):
    srv = service(t, CONTROL)
    stays, goes = t.client(srv, user='neighbour'), t.client(srv)
    srv.stop()
    with open(srv.policy, 'a') as f:
        f.write(f'DenyUsers {USER}\n')
    srv.start()
    t.true(goes.wait() != 0, 'exit status')
    srv.wait_log(f'ending the connection of {USER} .*DenyUsers')
    t.equal(stays.process.poll(), None, 'the other client')
    stays.stop()
    only_own(t, srv)


@case('descriptors and zygotes do not pile up', 'aditd')
def _(t):
    srv = service(t, CONTROL)
    client = t.client(srv)
    srv.restart()
    before = fds_of(srv.pid)
    for _ in range(4):
        srv.restart()
    wait_for(lambda: fds_of(srv.pid) <= before, 10,
             lambda: f'{fds_of(srv.pid)} descriptors, not {before}')
    t.true(len(srv.manager.names()) <= 20, f'{srv.manager.names()}')
    # the host keys are the same: the old session goes to the new one's
    wait_for(lambda: len(processes('adit-keyholder')) == 1, 10,
             'old keyholders are left')
    client.stop()
    only_own(t, srv)


@case('a listener is taken over from an old session', 'aditd')
def _(t):
    echo, remote = t.target(), t.port()
    srv = service(t, f'{CONTROL}ListenTakeover always\n')
    way = ['-R', f'{remote}:127.0.0.1:{echo.port}']
    old = t.client(srv, *way)
    srv.restart()
    new = t.client(srv, *way)
    old.stop()
    t.equal(talk(remote), b'through the tunnel')
    new.stop()


@case('SIGINT and drain leave nothing to the next daemon', 'aditd')
def _(t):
    srv = service(t, CONTROL)
    client = t.client(srv)
    srv.process.send_signal(signal.SIGINT)
    client.wait()
    srv.process.wait(10 * SLOW)
    wait_for(lambda: not srv.manager.names(), 10,
             lambda: f'kept: {srv.manager.names()}')
    srv.start()
    client = t.client(srv)
    ctl('drain', '--timeout', '0')
    srv.process.wait(10 * SLOW)
    client.wait()
    names = {n.split('-')[0] for n in srv.manager.names()}
    t.true(not names & {'conn', 'listen'}, f'kept: {names}')


@case('another Port after a restart, and the old one is closed', 'aditd')
def _(t):
    first, second = t.port(), t.port()
    srv = service(t, f'{CONTROL}Port {first}\n')
    client = t.client(srv)
    for port, other in ((second, first), (first, second)):
        with open(srv.policy, 'w') as f:
            f.write(f'{CONTROL}Port {port}\nListenAddress 127.0.0.1\n')
        srv.port = port
        srv.restart()
        t.true(t.logs_in(srv), 'no login')
        t.equal(listening(other), set(), 'the old port')
    t.equal(len(sessions()), 1)
    client.stop()


def stopped_with_one(t):
    echo, local = t.target(), t.port()
    srv = service(t, CONTROL)
    t.client(srv, '-L', f'{local}:127.0.0.1:{echo.port}')
    srv.stop()
    return srv, local


def write_registry(srv, at, data, cut=None):
    (name, fd), = [(n, fd) for n, fd in srv.manager.store
                   if n.startswith('registry')]
    if cut is not None:
        os.ftruncate(fd, cut)
    os.pwrite(fd, data, at)


def without_control(t, srv, local):
    srv.start()
    t.match('connection 1 is not ours to control any more', srv.log())
    t.equal(sessions(), [])
    t.equal([n for n in srv.manager.names() if 'conn' in n], [])
    t.equal(talk(local), b'through the tunnel', 'the session itself')
    client = t.client(srv)
    row, = sessions()
    t.true(row['id'] > 1, 'its number is given again')
    client.stop()


@case('a registry that is garbled, or of another version, is refused', 'aditd')
def _(t):
    for at, data, cut, why in (
            (0, b'nonsense', None, 'it does not begin as one'),
            (0, b'', 3, 'it does not begin as one'),
            (20, b'\x63', None, 'another protocol version'),
            (22, b'\x63', None, 'unknown type'),
            (26, b'\x63', None, 'an entry is damaged'),
            (16, b'\0\0\0\1', None, 'too short')):
        srv, local = stopped_with_one(t)
        write_registry(srv, at, data, cut)
        without_control(t, srv, local)
        t.match(f'registry of the daemon before us is refused.*: {why}$',
                srv.log())
        t.undo.close()


@case('random damage to the registry: the next daemon serves', 'aditd',
      timeout=240)
def _(t):
    seed = int(os.environ.get('ADIT_SEED') or random.randrange(1 << 30))
    print(f'#   ADIT_SEED={seed}')
    rng = random.Random(seed)
    srv = service(t, f'{CONTROL}MaxStartups 100\n')
    for _ in range(15):
        client = t.client(srv)
        srv.stop()
        (_, fd), = [(n, fd) for n, fd in srv.manager.store
                    if n.startswith('registry')]
        size = os.fstat(fd).st_size
        for _ in range(rng.randrange(1, 4)):
            os.pwrite(fd, rng.randbytes(rng.choice((1, 1, 2, 4, 64))),
                      rng.randrange(size))
        if rng.randrange(4) == 0:
            os.ftruncate(fd, rng.randrange(size * 2))
        srv.start()
        t.true(t.logs_in(srv), 'no login')
        t.true(client.process.poll() is None, 'the session is over')
        client.stop()
        wait_for(lambda: not sessions(), 10, 'it is still there')


@case('a registry that is cut off says what it says', 'aditd')
def _(t):
    srv, local = stopped_with_one(t)
    write_registry(srv, 0, b'', 16 + 4 + 7)
    without_control(t, srv, local)
    t.true('is refused' not in srv.log(), 'refused')
    t.undo.close()
    # The last entry lacks some bytes: those before it hold.
    srv, local = stopped_with_one(t)
    (_, fd), = [(n, fd) for n, fd in srv.manager.store
                if n.startswith('registry')]
    write_registry(srv, 0, b'', os.fstat(fd).st_size - 5)
    srv.start()
    t.equal([row['id'] for row in sessions()], [1])
    t.true('is refused' not in srv.log(), 'refused')


@case('what is no session of ours is closed', 'aditd')
def _(t):
    srv = service(t, CONTROL)
    client = t.client(srv)
    srv.stop()
    ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for _ in range(3)]
    ends.append(socket.socketpair())
    os.seteuid(4001)  # a pair knows whose it is
    ends.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    os.seteuid(0)
    m = srv.manager
    for name, (a, b) in zip(('conn-77', 'role-78', 'conn-0', 'conn-1',
                             'conn-1'), ends, strict=True):
        m.keep(name, os.dup(a.fileno()))
        with m.lock:  # before the session's own
            m.store.insert(0, m.store.pop())
        a.close()
        b.settimeout(10 * SLOW)
    srv.start()
    t.match('connection 77 is not ours to control', srv.log())
    t.match('"conn-0", of the service manager.s is not for us', srv.log())
    for _, b in ends[:2]:
        t.equal(b.recv(100), b'', 'it is open')
    row, = sessions()
    t.equal(row['id'], 1)
    t.true(not {'conn-77', 'role-78'} & set(m.names()), f'{m.names()}')
    # and by its own descriptor
    t.equal(json.loads(ctl('--json', 'forwards'))['silent'], [])
    ctl('kill', 1)
    client.wait()
    for _, b in ends:
        b.close()


@case('who is not the daemon cannot hand in a session', 'aditd')
def _(t):
    # systemd sees to it, as the manager here does: where the unit says so
    with open(f'{SRC}/packaging/systemd/aditd.service.in') as f:
        t.equal(re.findall('(?m)^NotifyAccess=.*', f.read()),
                ['NotifyAccess=main'])


@case('many logins: the registry is written anew, and small', 'aditd',
      timeout=240)
def _(t):
    srv = service(t, f'{CONTROL}MaxStartups 100\n')
    client = t.client(srv)
    row, = sessions()
    size = []
    for _ in range(40):
        t.true(t.logs_in(srv), 'no login')
        (_, fd), = [(n, fd) for n, fd in srv.manager.store
                    if n.startswith('registry')]
        size.append(os.fstat(fd).st_size)
    t.true(size[-1] < 40 * 1000, f'{size[-1]} bytes for 40 logins')
    srv.restart()
    (_, fd), = [(n, fd) for n, fd in srv.manager.store
                if n.startswith('registry')]
    t.true(os.fstat(fd).st_size < 3000, 'old sessions are in it')
    t.equal([r['id'] for r in sessions()], [row['id']])
    client.stop()


if __name__ == '__main__':
    main()
