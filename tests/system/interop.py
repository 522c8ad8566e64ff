"""The clients of other people that 67-interop*.py connect.

What is a program is run as its users run it. What is a library is in a small
program of ours, tests/interop/client_*, each with the same words:

    CLIENT HOST PORT USER KEY FINGERPRINT VERB ...
    open HOST PORT   a channel to there, on standard input and output
    listen PORT      ask for that port, say `listening on N`, echo to all who
                     connect, until standard input ends; then cancel it
    exec WORDS       ask for a command
    socks PORT       be a SOCKS proxy, until standard input ends (asyncssh)

FINGERPRINT is the SHA-256 of the host key, in hex. REKEY in the environment
starts a key exchange after so many bytes, KEEPALIVE asks for a sign of life
after so many seconds. What is wrong is said on standard error, with status 1.
"""
import base64
import contextlib
import hashlib
import os
import random
import re
import subprocess
import threading

from harness import (COMMS, Client, Failure, PER_CONNECTION, SLOW, Skip, TOP,
                     USER, authorize, connect, listening, need, processes,
                     public, run, sh, wait_for)

SOURCES = os.path.join(os.environ.get('SRCDIR', '.'), 'tests/interop')
BUILT = os.path.join(os.path.dirname(os.environ['ADITD']), 'tests/interop')
KINDS = ('ed25519', 'rsa', 'ecdsa')
# Bytes between the client's own key exchanges.
REKEY = 3000000 if SLOW == 1 else 1000000


def keys():
    """A key of each kind, all of them authorised."""
    for kind in KINDS:
        if not os.path.exists(f'{TOP}/id_{kind}'):
            run('ssh-keygen', '-q', '-t', kind, '-N', '', '-f',
                f'{TOP}/id_{kind}')
    authorize(USER, ''.join(public(f'id_{kind}') for kind in KINDS))


def blob():
    return base64.b64decode(public('hostkey').split()[1])


def noise(size):
    return random.Random(size).randbytes(size)


def same(got, sent, what):
    """As told apart by their SHA-256, not by megabytes of a message."""
    if hashlib.sha256(got).digest() != hashlib.sha256(sent).digest():
        raise Failure(f'{what}: {len(sent)} bytes went, {len(got)} others '
                      'came back')


def exchange(port, data):
    """Both ways at once; what comes back until EOF."""
    with connect(port, timeout=20) as s:
        def feed():
            with contextlib.suppress(OSError):
                s.sendall(data)
                s.shutdown(1)
        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        got = b''.join(iter(lambda: s.recv(1 << 16), b''))
        feeder.join()
        return got


def ended(srv):
    """Nothing of a connection is left while the server goes on."""
    comms = {COMMS[role] for role in PER_CONNECTION} | {'sshd'}

    def left():
        parents = {p.pid for p in processes() if p.ppid == srv.pid}
        return [p for p in processes() if p.comm in comms
                and p.ppid in parents | {srv.pid}]
    wait_for(lambda: not left(), 5, lambda: f'left of it: {left()}')


class Program:
    """A client that is run as it is."""
    stdio_option = '-W'
    loud = []  # without it, not a word of a remote forward that failed
    fails = ()

    def __init__(self, name, program, has):
        self.name, self.program, self.has = name, program, set(has.split())

    def need(self):
        need(self.program)

    def _start(self, t, argv, ready):
        client = Client(argv, f'{t.folder}/{self.program}{len(t.talkers)}',
                        self.prefix(t))
        t.talkers.append(client)
        t.undo.callback(client.stop)
        wait_for(lambda: ready() or client.process.poll() is not None, 15,
                 lambda: f'{self.name} is not ready: {client.said()}')
        if client.process.returncode is not None:
            raise Failure(f'{self.name} ended: {client.said()}')
        return client

    def prefix(self, t):
        return ['env', f'HOME={t.folder}']

    @contextlib.contextmanager
    def _forward(self, t, srv, port, *words, **options):
        argv = self.argv(t, srv, '-N', *words, **options)
        client = self._start(t, argv, lambda: listening(port))
        yield client
        client.stop()
        ended(srv)
        t.true(not listening(port), 'its listener is left')

    @contextlib.contextmanager
    def local(self, t, srv, target, **options):
        """A function that sends bytes through a forward to target, once, and
        returns what came back."""
        port = t.port()
        with self._forward(t, srv, port, '-L',
                           f'{port}:127.0.0.1:{target.port}', **options):
            yield lambda data: exchange(port, data)

    @contextlib.contextmanager
    def remote(self, t, srv, target):
        """A port of the server's that leads to target."""
        port = t.port()
        with self._forward(t, srv, port, '-R',
                           f'{port}:127.0.0.1:{target.port}'):
            yield port

    @contextlib.contextmanager
    def socks(self, t, srv):
        """The port of a SOCKS proxy."""
        port = t.port()
        with self._forward(t, srv, port, '-D', str(port)):
            yield port

    def _run(self, t, argv, data=b''):
        return subprocess.run([*self.prefix(t), *argv], input=data,
                              capture_output=True, timeout=30 * SLOW)

    def stdio(self, t, srv, port, data=b'', **options):
        """Standard input and output joined to a port of the server's."""
        return self._run(t, self.argv(
            t, srv, self.stdio_option, f'127.0.0.1:{port}', **options), data)

    def command(self, t, srv):
        return self._run(t, self.argv(t, srv) + ['echo', 'hello'])

    def refused_remote(self, t, srv):
        """What it says of a remote forward that it does not get. It stays."""
        client = self._start(t, self.argv(
            t, srv, *self.loud, '-N', '-R', f'{t.port()}:127.0.0.1:9'),
            lambda: True)
        client.wait_err('(?i)fail|refused')
        client.stop()
        return client.said()


class OpenSSH(Program):
    def argv(self, t, srv, *words, kind='ed25519', rekey=False, alive=False):
        more = [f'-oRekeyLimit={REKEY}'] if rekey else []
        more += ['-oServerAliveInterval=1'] if alive else []
        return t.argv(srv, *more, *words, key=f'id_{kind}', verbose=False)

    def version(self):
        return sh('ssh', '-V').stderr


class Dropbear(Program):
    stdio_option = '-B'

    def argv(self, t, srv, *words, kind='ed25519', alive=False):
        os.makedirs(f'{t.folder}/.ssh', exist_ok=True)
        with open(f'{t.folder}/.ssh/known_hosts', 'w') as f:
            # a comment would be taken for a part of the key
            f.write(f'127.0.0.1 {" ".join(public("hostkey").split()[:2])}\n')
        key = f'{t.folder}/dropbear_{kind}'
        if not os.path.exists(key):
            run(need('dropbearconvert'), 'openssh', 'dropbear',
                f'{TOP}/id_{kind}', key)
        more = ['-K', '1'] if alive else []
        return [self.program, '-i', key, '-p', str(srv.port), *more, *words,
                f'{USER}@127.0.0.1']

    def version(self):
        return sh(self.program, '-V').stderr


class Plink(Program):
    stdio_option = '-nc'
    loud = ['-v']

    def argv(self, t, srv, *words, kind='ed25519', rekey=False, alive=False):
        """Some of its settings can only be had from a saved session."""
        sessions = f'{t.folder}/.putty/sessions'
        os.makedirs(sessions, exist_ok=True)
        with open(f'{sessions}/adit', 'w') as f:
            f.write(f'RekeyBytes={REKEY if rekey else "1G"}\n'
                    f'PingIntervalSecs={int(alive)}\nPingInterval=0\n')
        key = f'{t.folder}/{kind}.ppk'
        if not os.path.exists(key):
            run(need('puttygen'), f'{TOP}/id_{kind}', '-O', 'private', '-o',
                key)
        seen = base64.b64encode(hashlib.sha256(blob()).digest()).decode()
        return [self.program, '-load', 'adit', '-ssh', '-batch', '-hostkey',
                'SHA256:' + seen.rstrip('='), '-i', key, '-P', str(srv.port),
                *words, f'{USER}@127.0.0.1']

    def version(self):
        return sh(self.program, '-V', check=False).stdout


class Library:
    """A program of ours around one. fails: what goes wrong on its side."""

    def __init__(self, name, words, version, has, fails=()):
        self.name, self.words, self.fails = name, words, fails
        self.version_argv, self.has = version, set(has.split())

    def need(self):
        if not os.path.exists(self.words[-1]):
            raise Skip(f'no {os.path.basename(self.words[-1])}')
        if sh(*self.version_argv, check=False).returncode != 0:
            raise Skip(f'no {self.name}')

    def version(self):
        return sh(*self.version_argv).stdout

    def argv(self, srv, *words, kind='ed25519', rekey=False, alive=False):
        env = [f'REKEY={REKEY}'] * rekey + ['KEEPALIVE=1'] * alive
        return ['env', *env, *self.words, '127.0.0.1', str(srv.port), USER,
                f'{TOP}/id_{kind}', hashlib.sha256(blob()).hexdigest(),
                *map(str, words)]

    def _popen(self, t, argv):
        client = subprocess.Popen(argv, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
        t.undo.callback(client.wait)
        t.undo.callback(client.kill)
        return client

    def _finish(self, client, data=b''):
        out, err = client.communicate(data, timeout=40 * SLOW)
        if client.returncode != 0:
            raise Failure(f'{self.name} ended with {client.returncode}: '
                          f'{err.decode()[-2000:]}')
        return out

    @contextlib.contextmanager
    def local(self, t, srv, target, **options):
        argv = self.argv(srv, 'open', '127.0.0.1', target.port, **options)
        client = self._popen(t, argv)
        yield lambda data: self._finish(client, data)
        ended(srv)

    @contextlib.contextmanager
    def _listens(self, t, srv, verb):
        client = self._popen(t, self.argv(srv, verb, t.port()))
        line = client.stdout.readline().decode()
        port = re.match(r'listening on (\d+)$', line)
        if not port:
            self._finish(client)
            raise Failure(f'{self.name} said {line!r}')
        yield int(port[1])
        self._finish(client)
        ended(srv)
        t.true(not listening(int(port[1])), 'its listener is left')

    def remote(self, t, srv, _target):
        return self._listens(t, srv, 'listen')

    def socks(self, t, srv):
        return self._listens(t, srv, 'socks')

    def stdio(self, t, srv, port, data=b'', **options):
        return subprocess.run(
            self.argv(srv, 'open', '127.0.0.1', port, **options), input=data,
            capture_output=True, timeout=30 * SLOW)

    def refused_remote(self, t, srv):
        done = subprocess.run(self.argv(srv, 'listen', t.port()),
                              stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=30 * SLOW)
        t.true(done.returncode != 0 and not done.stdout, 'it listens')
        return done.stderr.decode()

    def command(self, t, srv):
        return subprocess.run(self.argv(srv, 'exec', 'echo hello'),
                              stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=30 * SLOW)


PYTHON, NODE = '/usr/bin/python3', '/usr/bin/env node'.split()
PROGRAMS = [
    OpenSSH('OpenSSH ssh', 'ssh',
            'local remote socks stdio rekey keepalive'),
    Dropbear('Dropbear dbclient', 'dbclient',
             'local remote stdio keepalive'),
    Plink('PuTTY plink', 'plink',
          'local remote socks stdio rekey keepalive'),
]
LIBRARIES = [
    Library('libssh', [f'{BUILT}/client_libssh'],
            ['pkg-config', '--modversion', 'libssh'],
            'local remote rekey keepalive'),
    Library('libssh2', [f'{BUILT}/client_libssh2'],
            ['pkg-config', '--modversion', 'libssh2'],
            'local remote keepalive'),
    Library('Go x/crypto/ssh', [f'{BUILT}/client_go'],
            ['dpkg-query', '-W', '-f', '${Version}',
             'golang-golang-x-crypto-dev'],
            'local remote rekey keepalive'),
    Library('Paramiko', [PYTHON, f'{SOURCES}/client_paramiko.py'],
            [PYTHON, '-c', 'import paramiko; print(paramiko.__version__)'],
            'local remote rekey keepalive'),
    Library('AsyncSSH', [PYTHON, f'{SOURCES}/client_asyncssh.py'],
            [PYTHON, '-c', 'import asyncssh; print(asyncssh.__version__)'],
            'local remote socks rekey keepalive', fails=['rekey']),
    Library('ssh2 of Node.js', [*NODE, f'{SOURCES}/client_ssh2.js'],
            [*NODE, '-p', 'require("ssh2/package.json").version'],
            'local remote keepalive'),
]
