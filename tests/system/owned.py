"""A session that an attacker has taken over (tests/sandbox/owned.h), told what
to do from here."""
import contextlib
import hashlib
import os
import re
import socket
import struct
import subprocess

# Before the harness: it starts what this names.
if not os.environ.get('ADITD', '').endswith('/owned'):
    os.environ['ADITD'] = os.path.join(
        os.path.dirname(os.environ.get('ADITD', './aditd')),
        'tests/sandbox/owned')

from harness import SLOW, TOP, USER, Failure, Process, reaches, wait_for
import minimal  # skips all where there is no python3-cryptography
import owned_keys as keys

string, u32 = minimal.ssh.string, minimal.ssh.u32


def edge():
    """The messages between session and broker as the sources have them:
    their numbers, their fields."""
    top = os.environ.get('SRCDIR') or os.path.join(os.path.dirname(__file__),
                                                   '../..')
    with open(f'{top}/server/edges.h') as f:
        body = re.search(r'enum edge_session_msg {(.*?)};', f.read(), re.S)[1]
    body = re.sub(r'/\*.*?\*/', '', body, flags=re.S)
    names = [n.split('=')[0].strip() for n in body.split(',')]
    with open(f'{top}/server/edges.c') as f:
        rules = dict(re.findall(r'{ (\w+), "\w+", "(\w*)"', f.read()))
    numbers = {n: i for i, n in enumerate(names, 1)}
    return numbers, {numbers[n]: rules[n] for n in names if n in rules}


NUMBERS, FIELDS = edge()
INTENTS = {n for n in NUMBERS if n.startswith('SESSION_') and n[8] != '_'}
(SIGN, QUERY, AUTH, OTHER_AUTH, OPEN_TCP, OPEN_TUN, LISTEN, CANCEL, CLOSE,
 LOG) = (NUMBERS[f'SESSION_{n}'] for n in (
     'SIGN QUERY AUTH OTHER_AUTH OPEN_TCP OPEN_TUN LISTEN CANCEL CLOSE LOG'
 ).split())
(SIGNED, QUERIED, AUTHENTICATED, DENIED, OPENED, TUNNEL, REFUSED, LISTENING,
 CANCELLED, ACCEPTED, ACCEPTED_PATH, PROVED,
 COOKIE) = (NUMBERS[f'BROKER_{n}'] for n in (
     'SIGNED QUERIED AUTHENTICATED DENIED OPENED TUNNEL REFUSED LISTENING '
     'CANCELLED ACCEPTED ACCEPTED_PATH PROVED COOKIE').split())
GRANTS = (AUTHENTICATED, OPENED, TUNNEL, LISTENING, ACCEPTED, ACCEPTED_PATH,
          PROVED)
LOGIN, OPEN = 1, 2  # phases
VERSION = 'SSH-2.0-' + subprocess.run(
    [os.environ['ADITD'], '-V'], capture_output=True,
    text=True).stdout.split(',')[0]
HASHES = {32: 'sha256', 48: 'sha384', 64: 'sha512'}
PLAIN, HOSTBOUND = 'publickey', 'publickey-hostbound-v00@openssh.com'
CLIENT, BROKER = 0, 1  # which of its own descriptors goes along
SILENT, MESSAGE, ENDED = range(3)
POLICY = '''MaxStartups 500
LoginGraceTime 300
MaxAuthTries 500
'''


def encode(kind, *fields):
    out = struct.pack('>BH', 1, kind)
    for how, v in zip(FIELDS[kind], fields, strict=True):
        out += {'b': lambda n: bytes([n]), 'w': u32, 's': string}[how](v)
    return out


def open_tcp(host, port, number=1):
    return encode(OPEN_TCP, number, host, port, '127.0.0.1', 4000)


def open_tun(mode, unit, number=1):
    return encode(OPEN_TUN, number, mode, unit)


def listen(host, port, number=1):
    return encode(LISTEN, number, host, port)


def cancel(host, port, number=1):
    return encode(CANCEL, number, host, port)


class Answer:
    def __init__(self, state, nfds, data):
        self.state, self.nfds, self.fields = state, nfds, []
        self.kind, at = None, 3
        if state != MESSAGE:
            return
        self.kind = data[2]
        for how in FIELDS[self.kind]:
            if how == 'b':
                self.fields.append(data[at])
                at += 1
                continue
            if how == 'q':
                self.fields.append(struct.unpack_from('>Q', data, at)[0])
                at += 8
                continue
            n = struct.unpack_from('>I', data, at)[0]
            at += 4
            self.fields.append(n if how == 'w' else data[at:at + n])
            at += n if how == 's' else 0

    def __repr__(self):
        if self.state != MESSAGE:
            return ('silence', '', 'the end')[self.state]
        return f'message {self.kind} {self.fields} + {self.nfds} fds'


class Counts:
    """struct owned_counts."""

    def __init__(self, data):
        v = struct.unpack('>55I', data)
        self.sent, self.malformed = v[:2]
        self.answers = {n: c for n, c in enumerate(v[2:50]) if c}
        (self.fds, self.granted, self.beyond, self.kept,
         self.unread) = v[50:55]


def hostkey():
    return keys.Ed25519(f'{TOP}/hostkey').blob


def exchange(cookie, version=VERSION, host=None, secret=None, first=b'\x14'):
    """What an exchange hash is made of (RFC 4253, 8)."""
    lists = string('') * 10 + bytes(5)
    host = hostkey() if host is None else host
    secret = os.urandom(32) if secret is None else secret
    return b''.join(string(s) for s in (
        'SSH-2.0-owned', version, b'\x14' + bytes(16) + lists,
        first + cookie + lists, host, bytes(32), bytes(32), secret))


def to_sign(data, length=32, key=0, algorithm='ssh-ed25519'):
    return encode(SIGN, key, algorithm, length, data)


def signed_data(session_id, user, method, algorithm, blob, host=None):
    """RFC 4252, 7; with the host key's blob for the hostbound method."""
    if host is None:
        host = hostkey() if method == HOSTBOUND else b''
    return (string(session_id) + b'\x32' + string(user) +
            string('ssh-connection') + string(method) + b'\1' +
            string(algorithm) + string(blob) + (string(host) if host else b''))


class Session:
    """One connection, its session ours."""

    def __init__(self, srv, source=None):
        self.srv, self.session_id = srv, None
        self.sock = socket.create_connection(
            ('127.0.0.1', srv.port), timeout=60 * SLOW,
            source_address=(source, 0) if source else None)
        self.sock.sendall(b'O')
        self.port = self.sock.getsockname()[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def _read(self, n):
        got = b''
        while len(got) < n:
            data = self.sock.recv(n - len(got))
            if not data:
                raise Failure('the session is gone')
            got += data
        return got

    def tell(self, name, payload=b''):
        self.sock.sendall(string(name.encode() + payload))

    def hear(self):
        return self._read(struct.unpack('>I', self._read(4))[0])

    def command(self, name, payload=b''):
        self.tell(name, payload)
        return self.hear()

    def send(self, message, nfds=0, which=CLIENT):
        """Returns errno."""
        head = struct.pack('>HB', nfds, which)
        return struct.unpack('>i', self.command('S', head + message))[0]

    def send_as(self, message, pid, uid, gid):
        """With SCM_CREDENTIALS."""
        head = struct.pack('>HBIII', 0, 2, pid, uid, gid)
        return struct.unpack('>i', self.command('S', head + message))[0]

    def recv(self, timeout=10):
        got = self.command('R', u32(int(timeout * 1000 * SLOW)))
        return Answer(got[0], got[1], got[2:])

    def ask(self, message, nfds=0, which=CLIENT):
        self.send(message, nfds, which)
        return self.recv()

    def flood(self, n, message, reads=True):
        """The same message n times; kept: the broker lives."""
        return Counts(self.command('F', struct.pack('>IB', n, reads) +
                                   message))

    def random(self, seed, n, malformed_1000, phase):
        """At most n random messages, as words() has them."""
        return Counts(self.command('Z', struct.pack(
            '>QIII', seed, n, malformed_1000, phase)))

    def words(self, words, opens=(), listens=()):
        out = b''
        for kind, port, w in ([(0, 0, w) for w in words] +
                              [(1, p, h) for h, p in opens] +
                              [(2, p, h) for h, p in listens] +
                              [(3, 0, hostkey())]):
            w = w.encode() if isinstance(w, str) else w
            out += struct.pack('>BIH', kind, port, len(w)) + w
        self.command('W', out)

    def talk(self, data):
        """What the last descriptor that was granted sends back."""
        return self.command('T', u32(len(data)) + data)

    def call(self, name, pid=0):
        """A system call that a session has no use for."""
        return struct.unpack('>i', self.command('C', u32(pid) +
                                                name.encode()))[0]

    # What a client and an honest session do together.

    def cookie(self):
        """The broker's, of the next exchange of keys."""
        return self.command('K')

    def exchange(self, **how):
        return exchange(self.cookie(), **how)

    def sign(self, data=None, length=32):
        """Have a hash signed; that of the first one is the session id."""
        data = data or self.exchange()
        got = self.ask(to_sign(data, length))
        if got.kind != SIGNED:
            raise Failure(f'no signature of the host key: {got}')
        if not self.session_id:
            self.session_id = hashlib.new(HASHES[length], data).digest()
        return got.fields[0]

    def claim(self, key, user=USER, method=PLAIN, algorithm=None):
        """A genuine login."""
        algorithm = algorithm or key.algorithm
        data = signed_data(self.session_id, user, method, algorithm, key.blob)
        return encode(AUTH, user, method, algorithm, key.blob,
                      key.sign(data, algorithm))

    def login(self, key=None, user=USER):
        if self.session_id is None:
            self.sign()
        got = self.ask(self.claim(key or keys.Ed25519(f'{TOP}/id'), user))
        if got.kind != AUTHENTICATED:
            raise Failure(f'not let in: {got}')
        return self

    def ended(self, timeout=10):
        """Whether the broker ends, with the answers until then."""
        before = []
        while (got := self.recv(timeout)).state == MESSAGE:
            before.append(got)
        return got.state == ENDED, before

    def lines(self, pattern):
        """How many lines of this connection, which name its port, match."""
        return sum(f' port {self.port}' in line and
                   bool(re.search(pattern, line))
                   for line in self.srv.log().splitlines())

    def log(self, pattern):
        wait_for(lambda: self.lines(pattern), 10, lambda: f'not in the log of '
                 f'port {self.port}: {pattern}')


@contextlib.contextmanager
def attacked(t, policy='', log='VERBOSE'):
    """A server, and a forward of another client of it that still works
    afterwards. policy for the USER alone begins with a Match."""
    srv = t.server(f'LogLevel {log}\n{POLICY}{policy}')
    port, echo = t.port(), t.target()
    other = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}', user='root')
    srv.others_forward, srv.expected_deaths = port, 0
    yield srv
    t.true(reaches(port), "another client's forward")
    t.true(other.process.poll() is None, 'another client')
    t.equal(srv.log().count('killed by signal'), srv.expected_deaths,
            'processes that crashed')


def rss_kib(pid):
    return int(Process(pid).status['VmRSS'].split()[0])


def ends(t, s, what, why=None):
    """The broker ends, grants nothing until then, and says why."""
    over, before = s.ended()
    t.true(over, f'{what}: the broker goes on')
    t.true(not [a for a in before if a.kind in GRANTS or a.nfds],
           f'{what}: {before}')
    if why:
        s.log(why)
