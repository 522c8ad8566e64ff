"""What the torture is done to (57-faults.py): a server with sessions of
several accounts, each with a stream of bytes that is checked, and what must
hold of all of them after a fault."""
import contextlib
import os
import random
import socket
import struct
import subprocess
import threading
import time

from harness import (COMMS, SHARED, SLOW, USER, Failure, Process, Server,
                     append, connect, devices, listening, processes, run, sh,
                     wait_for)

A, B = '10.9.0.1', '10.9.0.2'  # ours, theirs, inside the tunnel
CLOSE_S = 1 * SLOW  # how soon a client sees the end of its session
ENDED_S = 15 * SLOW  # a login is through, or refused
GROWTH_KB = 1024  # of a process's memory, in the life of a server


def policy(port):
    return f'''Port {port}
LogLevel VERBOSE
MaxStartups 100
LoginGraceTime {30 * SLOW}
PermitTunnel point-to-point
TunnelAddress {A} {B}
Match Address 198.51.1.0/24
ClientAliveInterval 1
ClientAliveCountMax 1
'''


def gone(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Process(pid).zombie
    return True


def nfds(pid):
    return len(os.listdir(f'/proc/{pid}/fd'))


def rss_kb(pid):
    return int(Process(pid).status['RssAnon'].split()[0])


class Stream:
    """Blocks of random bytes through a socket that echoes, for as long as it
    lives; error is what went wrong, wrong whether it was a wrong byte."""

    def __init__(self, sock):
        self.sock, self.random = sock, random.Random()
        self.count, self.error, self.wrong = 0, None, False
        self.halt = threading.Event()
        sock.settimeout(60 * SLOW)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.halt.wait(0.03):
                self.exchange(self.random.randbytes(
                    self.random.choice((1, 100, 3000, 40000))))
                self.count += 1
        except OSError as e:
            self.error = self.error or str(e)
        self.sock.close()

    def exchange(self, data):
        self.sock.sendall(data)
        got = 0
        while got < len(data):
            back = self.sock.recv(len(data) - got)
            if not back:
                raise OSError(f'end of file after {got} of {len(data)}')
            if back != data[got:got + len(back)]:
                self.wrong = True
                raise OSError('other bytes came back')
            got += len(back)

    def stop(self):
        self.halt.set()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(10 * SLOW)


def socks(port, host, to):
    """A socket through a SOCKS 4a proxy; the answer is not read yet."""
    s = connect(port)
    s.sendall(b'\4\1' + struct.pack('>H', to) + b'\0\0\0\1me\0' +
              host.encode() + b'\0')
    return s


def socks_open(port, host, to):
    s = socks(port, host, to)
    if s.recv(8)[1:2] != b'\x5a':
        s.close()
        raise OSError('refused')
    return s


# What the sessions do: (account, how they forward, from where, options).
REKEY = '-o', 'RekeyLimit=300K'
ROLES = ((USER, 'L', False, ()), ('neighbour', 'R', False, REKEY),
         ('root', 'D', False, ()), ('locked', 'L', False, REKEY),
         (USER, 'w', True, REKEY), ('neighbour', 'D', True, ()))


class Session:
    """One client, its stream, its two processes here."""

    def __init__(self, world, role):
        t, srv = world.t, world.srv
        self.world, self.role = world, role
        self.user, self.kind, self.is_far, options = role
        self.far = world.far if self.is_far else None
        self.where = self.far or contextlib.nullcontext()
        self.proxy, self.port = t.port(), t.port()
        args = [*options, '-D', self.proxy]
        to = f'{self.port}:127.0.0.1:{world.echo.port}'
        if self.kind in 'LR':
            args += [f'-{self.kind}', to]
        elif self.kind == 'w':
            args += ['-w', '0:0']
        kw = {'prefix': self.far.prefix, 'host': self.far.ours} \
            if self.far else {}
        before = {p.pid for p in processes()}
        self.client = t.client(srv, *args, user=self.user, **kw)
        self.pids = {role: self.find(role, before)
                     for role in ('session', 'broker')}
        self.stream = Stream(self.connect())

    def find(self, role, before):
        """The one that is no child of a broker's, either: a lookup."""
        new = {p.pid: p for p in processes(COMMS[role])
               if p.pid not in before}
        mine = [pid for pid, p in new.items() if p.ppid not in new]
        if len(mine) != 1:
            raise Failure(f'which {role}: {mine}')
        return mine[0]

    def connect(self):
        if self.kind == 'w':
            self.client.wait_err('tunnel forward established')
            self.far.run('ip', 'link', 'set', 'tun0', 'up')
            self.far.run('ip', 'addr', 'add', B, 'peer', A, 'dev', 'tun0')
            with self.far:
                return connect(self.world.echo.port, A)
        if self.kind == 'D':
            return self.open('127.0.0.1', self.world.echo.port)
        return connect(self.port)

    def open(self, host, port):
        """Another channel, by its SOCKS proxy."""
        with self.where:
            return socks_open(self.proxy, host, port)

    def channel_works(self):
        with contextlib.suppress(OSError):
            with self.open('127.0.0.1', self.world.echo.port) as s:
                s.sendall(b'hello')
                return s.recv(5) == b'hello'
        return False

    def alive(self):
        return self.client.process.poll() is None

    def stop(self):
        self.stream.stop()
        self.client.stop()

    def check_gone(self):
        """Nothing of it is left."""
        wait_for(lambda: all(gone(p) for p in self.pids.values()), 5,
                 lambda: f'left of a session: {self.pids}')
        if self.kind == 'R':
            wait_for(lambda: not listening(self.port), 2, 'its listener')
        if self.kind == 'w':
            wait_for(lambda: 'tun0' not in devices(), 2, 'its device')

    def __repr__(self):
        return f'-{self.kind} of {self.user}'


class World:
    """Everything under test. Between rounds all of ROLES are there."""

    def __init__(self, t, choice, log_folder, syslog):
        self.t, self.choice, self.syslog = t, choice, syslog
        self.far, self.faint = t.far_host(), t.far_host(1)
        self.echo = t.target(host='0.0.0.0')
        self.port = t.port()
        self.log_file = f'{log_folder}/log'
        append(self.log_file, '')
        self.sessions, self.dead, self.pending = [], [], []
        self.close_s, self.growth_kb, self.sources = [0], {}, 0
        self.srv = None
        self.start()

    # A server, and the sessions that it has.

    def start(self):
        """As an operator would, once there is none any more."""
        self.to_syslog = self.choice.random() < 0.5
        log = () if self.to_syslog else ('-E', self.log_file)
        folder = f'{self.t.folder}/server{len(self.t.talkers)}'
        os.mkdir(folder, 0o755)
        self.srv = Server(folder, policy(self.port), (), None, self.port,
                          'aditd', ('127.0.0.1', self.far.ours,
                                    self.faint.ours), log_to=log)
        self.t.talkers.append(self.srv)
        self.t.undo.callback(self.srv.stop)
        self.srv.wait_ready()
        self.base = self.at_rest()
        self.fill()
        self.memory = {role: (self.one(role), rss_kb(self.one(role)))
                       for role in ('listener', *SHARED)}

    def at_rest(self):
        """Role -> descriptors, without a connection. The last one's end is
        seen a little later by some."""
        wait_for(self.logs_in, 10, 'no login at all')
        wait_for(lambda: not processes(COMMS['session']) and
                 not processes(COMMS['broker']), 5, 'it does not end')
        counts = []
        for _ in range(10):
            counts.append({role: nfds(self.one(role))
                           for role in ('listener', *SHARED)})
            time.sleep(0.03)
        return {role: min(c[role] for c in counts) for role in counts[0]}

    def log(self):
        if self.to_syslog:
            return self.syslog.text()
        with open(self.log_file, errors='replace') as f:
            return f.read()

    def one(self, role):
        """The process that serves as role: the youngest."""
        if role == 'listener':
            return self.srv.pid
        return max(self.all(role))

    def all(self, role):
        return [p.pid for p in processes(COMMS[role])
                if p.ppid == self.srv.pid]

    def fill(self):
        """Make what is missing of the sessions."""
        for role in ROLES:
            if role not in [s.role for s in self.sessions]:
                self.sessions.append(Session(self, role))

    def logs_in(self, *args):
        done = self.t.ssh(self.srv, *args, '-W',
                          f'127.0.0.1:{self.echo.port}', data=b'hello')
        return done.stdout == b'hello'

    @contextlib.contextmanager
    def logins(self, n, must=False):
        """While the with runs, n logins are tried. They come to an end soon
        after it, and if they must, with success."""
        self.sources += 1  # each its own: a fault may get it penalised
        source = f'127.1.{self.sources >> 8}.{self.sources & 255}'
        argv = self.t.argv(self.srv, '-b', source, '-W',
                           f'127.0.0.1:{self.echo.port}', verbose=False)
        tries = [subprocess.Popen(argv, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE) for _ in range(n)]
        end = []
        try:
            yield
            end.append(time.monotonic() + ENDED_S)
            for p in tries:
                out, err = p.communicate(
                    b'hello', max(0.1, end[0] - time.monotonic()))
                if must and out != b'hello':
                    raise Failure(f'a login failed: {err.decode()}')
        except subprocess.TimeoutExpired:
            raise Failure('a login hangs') from None
        finally:
            for p in tries:
                p.kill()
                p.wait()

    # What must hold.

    def lost(self, session):
        """It has been hit: forget it; its end is checked after the round."""
        self.sessions.remove(session)
        self.dead.append(session)

    def sees_close(self, session, since):
        """The client of a session that died at since."""
        try:
            session.client.process.wait(max(0, since + CLOSE_S -
                                            time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Failure(f'the client of {session} sees no close') from None
        self.close_s.append(time.monotonic() - since)
        self.lost(session)

    def check_dead(self):
        for s in self.dead:
            s.stop()
            if s.stream.wrong:
                raise Failure(f'{s}: {s.stream.error}')
            s.check_gone()
        self.dead = []

    def check_alive(self):
        """Every session's stream goes on, and none has lost a byte."""
        before = {s: s.stream.count for s in self.sessions}
        for s in self.sessions:
            wait_for(lambda: s.stream.error or s.stream.count > before[s] + 1,
                     20, f'{s}: its stream stands still')
            if s.stream.error:
                raise Failure(f'{s}: {s.stream.error}: {s.client.said()}')

    def counts(self):
        """(what, descriptors, how many there may be) that do not agree, or
        which roles there are, if not all."""
        everyone, lookups = processes(), self.lookups()
        brokers = [p for p in everyone if p.comm == COMMS['broker'] and
                   p.pid not in lookups]
        roles = [p for p in everyone if p.ppid == self.srv.pid]
        if {p.comm for p in roles} != {COMMS[role] for role in SHARED}:
            return roles
        # of each connection its broker's edge and the client's socket
        wanted = {'listener': [self.srv.pid, 2 * len(brokers) + len(roles) -
                               len(SHARED)]}
        for role in SHARED:
            pid = self.one(role)
            wanted[role] = [pid, len([p for p in everyone if p.ppid == pid])]
        wanted['keyholder'][1] = len(brokers)
        got = [(role, nfds(pid), self.base[role] + more)
               for role, (pid, more) in wanted.items()]
        return [x for x in got if x[1] != x[2]]

    def check_counts(self):
        """No process or descriptor too many."""
        def right():
            n = {role: len(processes(COMMS[role]))
                 for role in ('session', 'broker')}
            return n['session'] == len(ROLES) and \
                n['broker'] == len(ROLES) + len(self.lookups())
        wait_for(right, 10, lambda: f'there are {processes()}')
        wait_for(lambda: not self.counts(), 10,
                 lambda: f'descriptors: {self.counts()}')

    def lookups(self, sessions=None):
        """Processes that look up names; they look like brokers."""
        brokers = {s.pids['broker'] for s in sessions or self.sessions}
        return [p.pid for p in processes(COMMS['broker'])
                if p.ppid in brokers]

    def check_pending(self, bound_s):
        """Opens that hang come to an end in time: (socket, since)."""
        for s, since in list(self.pending):
            s.settimeout(0.01)
            left = since + bound_s > time.monotonic()
            try:
                answer = s.recv(8)
                if answer[1:2] == b'\x5a':
                    raise Failure('a name without an address is opened')
            except socket.timeout:
                if left:
                    continue
                raise Failure('a lookup does not end') from None
            except OSError:
                pass
            s.close()
            self.pending.remove((s, since))

    def check_memory(self):
        """Of those that live since the start. A sanitizer hoards."""
        for role, (pid, at_start) in self.memory.items():
            if gone(pid) or SLOW > 1:
                continue
            more = rss_kb(pid) - at_start
            self.growth_kb[role] = max(more, self.growth_kb.get(role, more))
            if more > GROWTH_KB:
                raise Failure(f'{role} has grown by {more} kB')

    def check(self, bound_s):
        self.check_dead()
        self.check_alive()
        self.check_pending(bound_s)
        wait_for(self.logs_in, 10, 'no login any more')
        self.fill()
        self.check_counts()
        self.check_memory()

    def end(self):
        """Everybody leaves."""
        for s in list(self.sessions):
            s.stop()
            self.lost(s)
        self.check_dead()


class Syslog:
    """A syslog daemon that can go away and come back."""
    path = '/dev/log'

    def __init__(self):
        self.lines, self.socket = [], None
        self.start()

    def start(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o666)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        with contextlib.suppress(OSError):
            while line := self.socket.recv(4096):
                self.lines.append(line.decode(errors='replace'))

    def text(self):
        return '\n'.join(self.lines)

    def stop(self):
        os.unlink(self.path)
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()


@contextlib.contextmanager
def own_dev(folder):
    """A /dev with what a server needs, to have a /dev/log of one's own."""
    os.mkdir(folder)
    sh('mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', folder)
    for name in ('null', 'zero', 'full', 'random', 'urandom', 'net/tun'):
        os.makedirs(os.path.dirname(f'{folder}/{name}'), exist_ok=True)
        st = os.stat(f'/dev/{name}')
        os.mknod(f'{folder}/{name}', st.st_mode, st.st_rdev)
        os.chmod(f'{folder}/{name}', st.st_mode & 0o777)
    sh('mount', '--bind', folder, '/dev')
    try:
        yield
    finally:
        sh('umount', '-l', '/dev')
        sh('umount', '-l', folder)


@contextlib.contextmanager
def dead_dns(options):
    """A name server that never answers. /etc is our own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(('127.0.0.1', 53))
        for path, text in (
                ('/etc/resolv.conf', 'nameserver 127.0.0.1\n'
                                     f'options {options}\n'),
                ('/etc/nsswitch.conf', 'passwd: files\ngroup: files\n'
                                       'shadow: files\nhosts: files dns\n')):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # it may be a link
            append(path, text)
            os.chmod(path, 0o644)
        yield
