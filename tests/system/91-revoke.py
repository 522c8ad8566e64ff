#!/usr/bin/python3
"""A login holds only as long as it would be let in: reload, LiveRevocation,
and what becomes of those who are there."""
import contextlib
import ctypes
import hashlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import types

from certs import holder
from harness import (COMMS, PEER, SHARED, SLOW, TOP, USER, Client, Failure,
                     Process, Skip, append, authorize, case, connect, devices,
                     keygen, listening, main, processes, public, reaches,
                     read_all, sh, skip_all, wait_for)

if PEER != 'aditd':
    skip_all('sshd lets them stay')
LONG = os.environ.get('ADIT_LONG') == '1'
# What "within a second" may take on a machine that others use, too.
SOON = 1.0 if SLOW == 1 else 6.0
OTHER = 'neighbour'
TOLD = 'your key is no longer authorised'
VERBOSE = 'LogLevel VERBOSE\n'


def policy(srv, text):
    """Another policy, in one piece."""
    with open(f'{srv.policy}.new', 'w') as f:
        f.write(text.rstrip('\n') + '\n')
    os.rename(f'{srv.policy}.new', srv.policy)


def reviews(srv):
    return len(re.findall(r'reviewed \d+ logins in', srv.log()))


def reload(srv, text=None):
    """SIGHUP; returns when every login was looked at."""
    before = reviews(srv)
    if text is not None:
        policy(srv, text)
    os.kill(srv.pid, signal.SIGHUP)
    wait_for(lambda: reviews(srv) > before, 10, 'no review')


def ended(t, client, since, said=TOLD):
    """It was ended within a second of since, with a word."""
    t.true(client.wait() != 0, 'exit status')
    took = time.monotonic() - since
    t.true(took < SOON, f'it took {took:.2f} s')
    t.match(said, client.err(), 'what the client is told')
    print(f'#   after {took:.2f} s')


def forward(t, srv, target, *options, **kw):
    """A client with -L to the target: (client, port)."""
    port = t.port()
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{target.port}', *options,
                      **kw)
    return client, port


class Stream:
    """Bytes through a forward and back, until stop(); then compared."""

    def __init__(self, port, host='127.0.0.1'):
        self.s = connect(port, host, 30)
        self.sent, self.got = hashlib.sha256(), hashlib.sha256()
        self.amount, self.done = 0, threading.Event()
        self.threads = [threading.Thread(target=fn, daemon=True)
                        for fn in (self.send, self.receive)]
        for thread in self.threads:
            thread.start()

    def send(self):
        with contextlib.suppress(OSError):
            while not self.done.is_set():
                data = os.urandom(32768)
                self.s.sendall(data)
                self.sent.update(data)
                self.amount += len(data)
            self.s.shutdown(socket.SHUT_WR)

    def receive(self):
        with contextlib.suppress(OSError):
            while data := self.s.recv(65536):
                self.got.update(data)

    def stop(self, t):
        before = self.amount
        wait_for(lambda: self.amount > before, 10, 'the stream stands')
        self.done.set()
        for thread in self.threads:
            thread.join(30 * SLOW)
        self.s.close()
        t.equal(self.got.hexdigest(), self.sent.hexdigest(),
                f'a stream of {self.amount} bytes')


def held(port):
    """A connection through a forward that is open and stays."""
    s = connect(port)
    s.sendall(b'hello')
    if s.recv(100) != b'hello':
        raise Failure('the forward does not echo')
    return s


def is_cut(s):
    s.settimeout(5 * SLOW)
    try:
        return s.recv(100) == b''
    except ConnectionResetError:
        return True


def quiet(t, srv):
    """No process is left but those that there always are."""
    wait_for(lambda: not processes('adit-reviewer') and
             len(processes(COMMS['brokerzyg'])) == 1 +
             bool(processes(COMMS['broker'])), 5,
             'a reviewer or a zygote is left')


# Keys.

@case('a key that is removed ends its session within a second; others go on')
def _(t):
    srv = t.server(VERBOSE + 'PermitTunnel yes')
    target = t.target()
    remote = t.port()
    authorize(OTHER, public('id2'))
    gone, port = forward(t, srv, target)
    s = held(port)
    stays, port = forward(t, srv, target, '-R',
                          f'{remote}:127.0.0.1:{target.port}', user=OTHER,
                          key='id2')
    streams = [Stream(port), Stream(remote)]
    authorize(USER, public('id2'))
    since = time.monotonic()
    reload(srv)
    ended(t, gone, since)
    t.true(is_cut(s), 'its forward')
    srv.wait_log(f'ending the connection of {USER} from 127.0.0.1 port .*: '
                 'key is not authorised')
    for stream in streams:
        stream.stop(t)
    t.equal(stays.process.poll(), None, 'the other client')
    t.true(not t.logs_in(srv), 'a new login')
    quiet(t, srv)


@case('a reload with nothing changed ends nothing')
def _(t):
    srv = t.server(VERBOSE)
    target = t.target()
    client, port = forward(t, srv, target)
    stream = Stream(port)
    for _ in range(5):
        reload(srv)
    stream.stop(t)
    t.equal(client.process.poll(), None, 'the client')
    srv.wait_log('reviewed 1 logins in .* 0 are void, of 0 it')
    quiet(t, srv)


@case('a policy that cannot be read changes nothing')
def _(t):
    srv = t.server(VERBOSE)
    client, port = forward(t, srv, t.target())
    s = held(port)
    policy(srv, 'AllowTcpForwarding no\nNoSuchKeyword yes\n')
    os.kill(srv.pid, signal.SIGHUP)
    srv.wait_log('the old policy stays in force')
    s.sendall(b'again')
    t.equal(s.recv(100), b'again', 'the forward')
    t.true(reaches(port), 'another one')
    t.true('reviewed' not in srv.log(), 'a review')


@case('AllowUsers, DenyUsers, PubkeyAuthentication and RefuseConnection')
def _(t):
    for line, why in (('AllowUsers neighbour', r'policy:\d+: AllowUsers'),
                      (f'DenyUsers {USER}', r'policy:\d+: DenyUsers'),
                      (f'Match User {USER}\nPubkeyAuthentication no',
                       'PubkeyAuthentication no'),
                      (f'Match User {USER}\nRefuseConnection yes',
                       'RefuseConnection yes'),
                      ('AllowGroups tunnellers\nDenyGroups nobody',
                       None),
                      ('AllowGroups nobody', 'AllowGroups'),
                      ('AuthenticationMethods publickey,publickey',
                       'AuthenticationMethods takes 2 keys')):
        srv = t.server(VERBOSE)
        client = t.client(srv)
        since = time.monotonic()
        reload(srv, VERBOSE + line)
        if why is None:
            t.equal(client.process.poll(), None, line)
        else:
            ended(t, client, since)
            srv.wait_log(f'ending the connection of {USER} .*{why}')
        client.stop()
        srv.stop()


def edit(path, pattern, new):
    with open(path) as f:
        text = f.read()
    with open(path, 'w') as f:
        f.write(re.sub(pattern, new, text))


@case('an account that expires or is removed')
def _(t):
    restore = t.keep('/etc/shadow', '/etc/passwd')
    for path, old, new, why in (
            ('/etc/shadow', rf'(?m)^{USER}:.*', f'{USER}:*:1:::::1:',
             'the account has expired'),
            ('/etc/passwd', rf'(?m)^{USER}:.*\n', '',
             'there is no such account'),
            ('/etc/passwd', f'{USER}:x:4001', f'{USER}:x:4009',
             'the account is another one now')):
        srv = t.server(VERBOSE)
        client = t.client(srv)
        edit(path, old, new)
        since = time.monotonic()
        reload(srv)
        ended(t, client, since)
        srv.wait_log(f'ending the connection of {USER} .*{why}')
        restore()
        srv.stop()


@case('a name service that does not answer ends nobody')
def _(t):
    t.keep('/etc/passwd', '/etc/nsswitch.conf')
    srv = t.server(VERBOSE)
    client, port = forward(t, srv, t.target())
    # Hesiod is a directory that is away: nobody has set it up.
    edit('/etc/nsswitch.conf', r'(?m)^passwd:.*', 'passwd: files hesiod')
    ctypes.set_errno(0)
    ctypes.CDLL(None, use_errno=True).getpwnam(b'no-such-account')
    if ctypes.get_errno() == 0:
        raise Skip('no nss_hesiod')
    edit('/etc/passwd', rf'(?m)^{USER}:.*\n', '')
    reload(srv)
    srv.wait_log('cannot be told now: the name service does not answer')
    t.true(reaches(port), 'the forward')
    edit('/etc/nsswitch.conf', r'(?m)^passwd:.*', 'passwd: files')
    since = time.monotonic()
    reload(srv)
    ended(t, client, since)


@case('/etc/nologin keeps nobody out who is there')
def _(t):
    srv = t.server(VERBOSE)
    client = t.client(srv)
    with open('/etc/nologin', 'w'):
        t.undo.callback(os.unlink, '/etc/nologin')
    reload(srv)
    t.true(not t.logs_in(srv), 'a new login')
    t.equal(client.process.poll(), None, 'the client')


# Certificates.

def certified(t):
    if not os.path.exists(f'{TOP}/ca'):
        keygen('ca')
    shutil.copy(f'{TOP}/ca.pub', f'{t.folder}/cas')
    return VERBOSE + f'TrustedUserCAKeys {t.folder}/cas\n'


@case('a KRL, a CA that is no longer trusted, a principal that is removed')
def _(t):
    text = certified(t)
    holder('held', serial=9)
    revoked = f'RevokedKeys {t.folder}/revoked\n'
    principals = f'AuthorizedPrincipalsFile {t.folder}/principals\n'
    sh('ssh-keygen', '-q', '-k', '-f', f'{t.folder}/revoked')

    def write(name, words):
        with open(f'{t.folder}/{name}', 'w') as f:
            f.write(words)
    write('spec', 'serial: 9\n')
    write('principals', f'{USER}\n')

    def krl():
        sh('ssh-keygen', '-q', '-k', '-f', f'{t.folder}/revoked', '-s',
           f'{TOP}/ca.pub', f'{t.folder}/spec')
    for more, change, new, why in (
            (revoked, krl, None, 'key is revoked'),
            ('', lambda: write('cas', public('id2')), None,
             'key is not authorised'),
            ('', lambda: None, VERBOSE, 'key is not authorised'),
            (principals, lambda: write('principals', 'somebody\n'), None,
             'does not contain an authorized principal')):
        shutil.copy(f'{TOP}/ca.pub', f'{t.folder}/cas')
        srv = t.server(text + more)
        client = t.client(srv, key='held')
        change()
        since = time.monotonic()
        reload(srv, new)
        ended(t, client, since)
        srv.wait_log(f'ending the connection of {USER} .*{why}')
        srv.stop()


@case('lists of revoked keys and of CAs that cannot be read end nobody')
def _(t):
    revoked = f'{t.folder}/revoked'
    with open(revoked, 'w') as f:
        f.write(public('id2'))
    srv = t.server(certified(t) + f'RevokedKeys {revoked}')
    holder('held')
    clients = [t.client(srv), t.client(srv, key='held')]

    def told(n, pattern):
        reload(srv)
        srv.wait_log(f'reviewed 2 logins in .*, of {n} it cannot')
        srv.wait_log(f'cannot be told now: {pattern}')
        for client in clients:
            t.equal(client.process.poll(), None, 'the client')
    with open(revoked, 'w') as f:
        f.write('garbage\n')
    told(2, 'RevokedKeys ')
    t.true(not t.logs_in(srv), 'a new login')
    with open(revoked, 'w') as f:
        f.write(public('id2'))
    os.unlink(f'{t.folder}/cas')
    told(1, 'TrustedUserCAKeys ')
    t.true(t.logs_in(srv), 'a new login by a line')


# What they have.

@case('permitopen that is narrowed closes that forward alone')
def _(t):
    srv = t.server(VERBOSE)
    one, two = t.target(), t.target()
    first, second = t.port(), t.port()
    client = t.client(srv, '-L', f'{first}:127.0.0.1:{one.port}', '-L',
                      f'{second}:localhost:{two.port}')
    a, b = held(first), held(second)
    authorize(USER, f'permitopen="localhost:{two.port}" {public("id")}')
    reload(srv)
    t.true(is_cut(a), 'the first forward')
    b.sendall(b'again')
    t.equal(b.recv(100), b'again', 'the second forward')
    t.true(reaches(second), 'a new one')
    t.true(not reaches(first), 'a new one that may not be')
    srv.wait_log(r'closing direct-tcpip to 127.0.0.1 port \d+ for '
                 rf'{USER} .*: .*authorized_keys:1: key option permitopen')
    # Wider again: new ones are permitted, by the policy alone now.
    authorize(USER, public('id'))
    reload(srv, f'{VERBOSE}PermitOpen 127.0.0.1:{one.port}')
    t.true(is_cut(b), 'the second forward')
    t.true(reaches(first), 'the first one, again')
    srv.wait_log(r'closing direct-tcpip to localhost .*policy:\d+: '
                 'PermitOpen')
    t.equal(client.process.poll(), None, 'the client')


@case('a new policy holds in the reviews after it, too')
def _(t):
    srv = t.server(VERBOSE)
    client, port = forward(t, srv, t.target())
    reload(srv, f'{VERBOSE}PermitOpen none')
    t.true(not reaches(port), 'it does not hold')
    reload(srv)  # the same: no broker is sent it again
    t.true(not reaches(port), 'that of the login holds again')
    reload(srv, VERBOSE)
    t.true(reaches(port), 'the third one does not hold')
    reload(srv, f'{VERBOSE}Match Group latecomers\nPermitOpen none')
    t.true(reaches(port), 'a group that there is not')
    append('/etc/group', f'latecomers:x:4555:{USER}\n')
    reload(srv)
    t.true(not reaches(port), 'its groups are those of the login')
    t.equal(client.process.poll(), None, 'the client')


@case('what both of two keys, or a certificate, permit')
def _(t):
    two = f'{VERBOSE}AuthenticationMethods publickey,publickey\n'
    target, other = t.target(), ('-i', f'{TOP}/id2')
    srv = t.server(two)
    elsewhere = 'permitopen="10.0.0.1:1" '
    for first, second in ((elsewhere, ''), ('', elsewhere)):
        authorize(USER, public('id') + public('id2'))
        client, port = forward(t, srv, target, *other)
        t.true(reaches(port), 'the forward')
        authorize(USER, first + public('id') + second + public('id2'))
        reload(srv)
        t.true(not reaches(port), f'{first}, {second}')
        client.stop()
    # Certificates are as they were: they permit no more, and no longer.
    if not os.path.exists(f'{TOP}/ca'):
        keygen('ca')
    authorize(USER, '')
    trust = f'TrustedUserCAKeys {TOP}/ca.pub\n'
    srv = t.server(VERBOSE + trust)
    for name, options, want in (('full', (), True),
                                ('weak', ('-O', 'clear'), False)):
        client, port = forward(t, srv, target,
                               key=holder(name, 'ca', *options))
        reload(srv)
        t.equal(reaches(port), want, name)
        client.stop()
    srv = t.server(two + trust)
    holder('brief', 'ca', '-V', f'-1h:+{6 * SLOW}s')
    client = t.client(srv, '-i', f'{TOP}/{holder("long")}', key='brief')
    reload(srv)
    client.wait(10)
    srv.wait_log('its certificate has expired')


@case('an expiry-time that is moved')
def _(t):
    def expires(seconds):
        end = time.time() + seconds
        stamp = time.strftime('%Y%m%d%H%M%SZ', time.gmtime(end))
        authorize(USER, f'expiry-time="{stamp}" {public("id")}')
        return end
    srv = t.server(VERBOSE)
    first = expires(5 * SLOW)
    client = t.client(srv)
    expires(3600)
    reload(srv)
    time.sleep(max(0, first + 2 - time.time()))
    t.equal(client.process.poll(), None, 'the client')
    expires(3)
    reload(srv)
    client.wait(10)
    srv.wait_log('its key has expired')


@case('-R, its channels and unix sockets')
def _(t):
    srv = t.server(f'{VERBOSE}GatewayPorts clientspecified')
    target = t.target()
    ports = [t.port() for _ in range(3)]
    back = f'127.0.0.1:{target.port}'
    folder = f'{t.folder}/sockets'
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    client = t.client(srv, '-R', f'{ports[0]}:{back}', '-R',
                      f'{ports[1]}:{back}', '-R', f'*:{ports[2]}:{back}',
                      '-R', f'{folder}/a:{back}', '-R', f'{folder}/b:{back}')
    a, b = held(ports[0]), held(ports[1])
    reload(srv, f'{VERBOSE}PermitListen localhost:{ports[1]} {folder}/b '
           f'*:{ports[2]}')
    t.true(is_cut(a), 'what came by the first listener')
    b.sendall(b'again')
    t.equal(b.recv(100), b'again', 'what came by the second')
    t.equal([bool(listening(p)) for p in ports], [False, True, False],
            'the listeners')
    t.equal(os.listdir(folder), ['b'], 'the unix sockets')
    srv.wait_log(r'closing tcpip-forward on \* port .*: GatewayPorts no')
    srv.wait_log(r'closing streamlocal-forward on .*/a .*PermitListen')
    t.equal(client.process.poll(), None, 'the client')
    reload(srv, f'{VERBOSE}AllowStreamLocalForwarding no')
    t.equal(os.listdir(folder), [], 'the unix sockets')
    t.true(reaches(ports[1]), 'the second listener')


@case('a port that the server chose is judged as it was asked for')
def _(t):
    srv = t.server(VERBOSE)
    target = t.target()
    client = t.client(srv, '-R', f'0:127.0.0.1:{target.port}')
    port = int(client.wait_err(r'Allocated port (\d+)')[1])
    reload(srv, f'{VERBOSE}PermitListen *:*')
    t.true(reaches(port), 'any port is permitted')
    reload(srv, f'{VERBOSE}PermitListen *:1000-65535')
    t.true(not listening(port), '0 is in no range')


@case('tunnels: PermitTunnel, and the unit that a key may have')
def _(t):
    if not os.path.exists('/dev/net/tun'):
        raise Skip('no /dev/net/tun')
    far = t.far_host()
    srv = t.server(f'{VERBOSE}PermitTunnel yes', address=(far.ours,))
    target = t.target(host=far.ours)
    port = t.port()

    def tunnel(unit, **kw):
        return t.client(srv, '-w', f'{unit}:{unit}', '-L',
                        f'{port}:{far.ours}:{target.port}', '-o',
                        'ServerAliveInterval=5', prefix=far.prefix,
                        host=far.ours, **kw)
    client = tunnel(3)
    wait_for(lambda: 'tun3' in devices(), 5, 'no device')
    with far:
        stream = Stream(port)
    authorize(USER, f'tunnel="3" {public("id")}')
    reload(srv)
    t.true('tun3' in devices(), 'the device')
    authorize(USER, f'tunnel="4" {public("id")}')
    reload(srv)
    wait_for(lambda: 'tun3' not in devices(), 3, 'the device is left')
    srv.wait_log('closing tunnel tun3 for .*authorized_keys:1: key option '
                 'tunnel="4"')
    time.sleep(1.2)  # who does not give it up in a second is ended
    stream.stop(t)
    t.equal(client.process.poll(), None, 'the client')
    client.stop()
    authorize(USER, public('id'))
    client = tunnel(6)
    wait_for(lambda: 'tun6' in devices(), 5, 'no device')
    reload(srv, f'{VERBOSE}PermitTunnel yes\nTunnelUnit 5-6')
    t.true('tun6' in devices(), 'the device')
    reload(srv, f'{VERBOSE}PermitTunnel yes\nTunnelUnit 5')
    wait_for(lambda: 'tun6' not in devices(), 3, 'the device is left')
    srv.wait_log(r'closing tunnel tun6 .*policy:\d+: TunnelUnit 5')
    client.stop()
    tunnel(5)
    wait_for(lambda: 'tun5' in devices(), 5, 'no device')
    reload(srv, f'{VERBOSE}PermitTunnel no')
    wait_for(lambda: 'tun5' not in devices(), 3, 'the device is left')
    srv.wait_log(r'closing tunnel tun5 .*policy:\d+: PermitTunnel no')


@case('a tunnel goes on, byte for byte, while others are ended')
def _(t):
    if not os.path.exists('/dev/net/tun'):
        raise Skip('no /dev/net/tun')
    ours, theirs = '10.9.0.1', '10.9.0.2'
    far = t.far_host()
    srv = t.server(f'{VERBOSE}PermitTunnel yes\n'
                   f'TunnelAddress {ours} {theirs}', address=(far.ours,))
    authorize(OTHER, public('id2'))
    stays = t.client(srv, '-w', '3:3', user=OTHER, key='id2',
                     prefix=far.prefix, host=far.ours)
    wait_for(lambda: 'tun3' in devices(), 5, 'no device')
    far.run('ip', 'link', 'set', 'tun3', 'up')
    far.run('ip', 'addr', 'add', theirs, 'peer', ours, 'dev', 'tun3')
    target = t.target(host=ours)
    with far:
        stream = Stream(target.port, ours)
    for text in (None, f'{VERBOSE}PermitTunnel point-to-point\n'):
        authorize(USER, public('id'))
        client = t.client(srv, prefix=far.prefix, host=far.ours)
        authorize(USER, public('id2'))
        since = time.monotonic()
        reload(srv, text)
        ended(t, client, since)
    stream.stop(t)
    t.equal(stays.process.poll(), None, 'the other client')


@case('SessionLifetime and RateLimit of the new policy')
def _(t):
    srv = t.server(f'{VERBOSE}RateLimit session up 50M/s down 50M/s')
    client, port = forward(t, srv, t.target())
    reload(srv, f'{VERBOSE}RateLimit session up 100K/s down 100K/s')
    with connect(port, timeout=60) as s:
        since = time.monotonic()
        s.sendall(bytes(300 << 10))
        s.shutdown(socket.SHUT_WR)
        t.equal(len(read_all(s)), 300 << 10, 'bytes')
        took = time.monotonic() - since
    t.true(took > 1.5, f'300 kB took {took:.1f} s')
    # From the login on, which is seconds ago.
    reload(srv, f'{VERBOSE}SessionLifetime 1')
    t.true(client.wait() != 0, 'exit status')
    srv.wait_log(r'policy:\d+: SessionLifetime 1')


@case('who logs in while the policy changes goes by the new one')
def _(t):
    srv = t.server(VERBOSE)
    # It has its broker, of the old policy, and says nothing yet.
    gate = t.port()
    held_back = threading.Event()
    listener = socket.create_server(('127.0.0.1', gate))
    t.undo.callback(listener.close)

    def relay():
        a, _ = listener.accept()
        b = connect(srv.port)
        a.settimeout(30 * SLOW)

        def back():
            with contextlib.suppress(OSError):
                while data := b.recv(65536):
                    a.sendall(data)
        threading.Thread(target=back, daemon=True).start()
        first = True
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                if not first:
                    held_back.wait(30 * SLOW)
                first = False
                b.sendall(data)
    threading.Thread(target=relay, daemon=True).start()
    client = t.client(types.SimpleNamespace(port=gate), wait=False)
    srv.wait_log('Connection from')
    os.kill(srv.pid, signal.SIGHUP)
    policy(srv, f'{VERBOSE}DenyUsers {USER}')
    os.kill(srv.pid, signal.SIGHUP)
    srv.wait_log('Received SIGHUP; new connections use the new policy')
    held_back.set()
    t.true(client.wait() != 0, 'exit status')
    srv.wait_log(f'Accepted publickey for {USER}')
    srv.wait_log(f'ending the connection of {USER} .*DenyUsers')


# Many.

def descriptors(srv):
    """Of the listener and of the zygotes that serve."""
    return {p.comm: len(p.fds()) for p in processes() if p.pid == srv.pid or
            (p.ppid == srv.pid and p.comm in {COMMS[r] for r in SHARED})}


@case('many sessions are reviewed in seconds, beside logins', timeout=300)
def _(t):
    n = 1000 if LONG else 200
    srv = t.server(f'{VERBOSE}MaxStartups 200')
    t.true(t.logs_in(srv), 'no login')  # after it all are as they stay
    wait_for(lambda: not processes(COMMS['broker']), 30, 'a broker is left')
    quiet(t, srv)
    clean = descriptors(srv)
    before = srv.log().count('Accepted publickey')
    argv = t.argv(srv, '-N', verbose=False)
    other = t.argv(srv, '-N', user=OTHER, verbose=False)
    clients = []

    def start(many, words):
        for _ in range(many):
            clients.append(subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL))
            if len(clients) % 20 == 0:
                wait_for(lambda: accepted(srv) >= len(clients) - 10, 60,
                         'logins')

    def accepted(srv):
        return srv.log().count('Accepted publickey') - before

    def stop():
        for client in clients:
            client.kill()
        for client in clients:
            client.wait()
    t.undo.callback(stop)
    start(n, argv)
    wait_for(lambda: accepted(srv) == n, 60, 'logins')
    reload(srv)
    took = int(re.findall(r'reviewed \d+ logins in (\d+) ms', srv.log())[-1])
    print(f'#   {n} sessions: {took} ms')
    t.true(took < 10_000 * SLOW * (n / 200), f'{took} ms')
    t.match(rf'reviewed {n} logins in .* 0 are void, of 0 it', srv.log())
    # A storm of logins, and meanwhile a reload that ends all but them.
    storm = threading.Thread(target=start, args=(40, other))
    authorize(USER, public('id2'))
    storm.start()
    reload(srv)
    storm.join()
    wait_for(lambda: sum(c.poll() is not None for c in clients[:n]) == n,
             30, lambda: f'{sum(c.poll() is None for c in clients[:n])} stay')
    wait_for(lambda: accepted(srv) == n + 40, 60, 'logins')
    t.equal([c.poll() for c in clients[n:]], [None] * 40, 'the others')
    stop()
    wait_for(lambda: not processes(COMMS['broker']), 30, 'a broker is left')
    quiet(t, srv)
    # not one each; a zygote that is being replaced may have a few more
    wait_for(lambda: all(n <= clean[comm] + 4
                         for comm, n in descriptors(srv).items()), 60,
             lambda: f'{descriptors(srv)}, not {clean}')


# LiveRevocation.

LIVE = f'{VERBOSE}LiveRevocation yes\n'


def keys_of(user):
    return f'{pwd.getpwnam(user).pw_dir}/.ssh/authorized_keys'


def watched(srv, n=1):
    """As soon as n reviews are over that a file's fresh age asks for."""
    wait_for(lambda: processes('adit-watcher'), 5, 'no watcher')
    wait_for(lambda: reviews(srv) >= n, 5, 'not looked at yet')


def rename_over(path, text):
    """As most editors do."""
    shutil.copy2(path, f'{path}.new')
    with open(f'{path}.new', 'w') as f:
        f.write(text)
    st = os.stat(path)
    os.chown(f'{path}.new', st.st_uid, st.st_gid)
    os.rename(f'{path}.new', path)


def cut_and_write(path, text):
    """As the others do: for a moment the file is empty."""
    with open(path, 'w') as f:
        time.sleep(0.05)  # the moment
        f.write(text)


def move_away(path, text):
    """vim with a backup: for a moment there is no file."""
    st = os.stat(path)
    os.rename(path, f'{path}~')
    with open(path, 'w') as f:
        f.write(text)
    os.chown(path, st.st_uid, st.st_gid)


@case('LiveRevocation: a key that is removed, however the file is saved')
def _(t):
    srv = t.server(LIVE)
    target = t.target()
    authorize(OTHER, public('id2'))
    stays, port = forward(t, srv, target, user=OTHER, key='id2')
    stream = Stream(port)
    for save in (rename_over, cut_and_write, move_away):
        authorize(USER, public('id'))
        client = t.client(srv)
        before = reviews(srv)
        # Another line comes: nobody notices.
        save(keys_of(USER), public('id') + public('id2'))
        wait_for(lambda: reviews(srv) > before, 5, 'it is not noticed')
        t.equal(client.process.poll(), None, 'the client')
        time.sleep(0.6)  # the pause between two reviews
        since = time.monotonic()
        save(keys_of(USER), public('id2'))
        ended(t, client, since)
    stream.stop(t)
    t.equal(stays.process.poll(), None, 'the other client')


@case('LiveRevocation: a file that goes, by itself or with its folder')
def _(t):
    srv = t.server(LIVE)
    for go in (os.unlink, lambda path: shutil.rmtree(os.path.dirname(path)),
               lambda path: os.rename(os.path.dirname(path),
                                      os.path.dirname(path) + '.not')):
        authorize(USER, public('id'))
        client = t.client(srv)
        time.sleep(1.2)  # looked at once, as the file is fresh
        since = time.monotonic()
        go(keys_of(USER))
        ended(t, client, since)


@case('LiveRevocation: RevokedKeys, CAs, principals, and a link')
def _(t):
    text = certified(t).replace(VERBOSE, LIVE)
    revoked, principals = f'{t.folder}/revoked', f'{t.folder}/principals'
    for path, line in ((revoked, ''), (principals, f'{USER}\n'),
                       (f'{t.folder}/real', public('id'))):
        with open(path, 'w') as f:
            f.write(line)
    os.symlink(f'{t.folder}/real', f'{t.folder}/link')
    holder('held')
    for more, key, path, line in (
            (f'RevokedKeys {revoked}\n', 'id', revoked, public('id')),
            ('', 'held', f'{t.folder}/cas', public('id2')),
            (f'AuthorizedPrincipalsFile {principals}\n', 'held', principals,
             'somebody\n'),
            (f'AuthorizedKeysFile {t.folder}/link\nStrictModes no\n', 'id',
             f'{t.folder}/real', public('id2'))):
        shutil.copy(f'{TOP}/ca.pub', f'{t.folder}/cas')
        if key == 'held':
            authorize(USER, '')
        srv = t.server(text + more)
        client = t.client(srv, key=key)
        time.sleep(1.2)
        since = time.monotonic()
        with open(path, 'w') as f:
            f.write(line)
        ended(t, client, since)
        srv.stop()
        authorize(USER, public('id'))


@case('LiveRevocation: permitopen that is narrowed, and a new policy')
def _(t):
    srv = t.server(LIVE)
    client, port = forward(t, srv, t.target())
    s = held(port)
    rename_over(keys_of(USER), 'permitopen="10.0.0.1:1" ' + public('id'))
    t.true(is_cut(s), 'the forward')
    t.equal(client.process.poll(), None, 'the client')
    # What a reload names is watched from then on, and no more than that.
    shutil.copy(keys_of(USER), f'{t.folder}/keys')
    reload(srv, f'{LIVE}AuthorizedKeysFile {t.folder}/keys')
    time.sleep(1.2)
    before = reviews(srv)
    authorize(USER, public('id2'))
    since = time.monotonic()
    with open(f'{t.folder}/keys', 'w') as f:
        f.write(public('id2'))
    ended(t, client, since)
    t.true(reviews(srv) <= before + 1, 'a file that does not count')


@case('LiveRevocation: who writes all the time has two reviews a second')
def _(t):
    srv = t.server(LIVE)
    client, port = forward(t, srv, t.target())
    before, end = reviews(srv), time.monotonic() + 4
    while time.monotonic() < end:
        rename_over(keys_of(USER), public('id'))
        time.sleep(0.005)
    n = reviews(srv) - before
    t.true(1 <= n <= 10, f'{n} reviews in 4 s')
    t.true(reaches(port), 'the forward')
    t.equal(client.process.poll(), None, 'the client')


@case('LiveRevocation no: nobody looks, until a reload')
def _(t):
    srv = t.server(VERBOSE)
    client = t.client(srv)
    authorize(USER, public('id2'))
    time.sleep(1)
    t.equal(processes('adit-watcher'), [], 'a watcher')
    t.equal(client.process.poll(), None, 'the client')
    since = time.monotonic()
    reload(srv)
    ended(t, client, since)


@case('LiveRevocation: the watcher is not root, and comes again')
def _(t):
    srv = t.server(LIVE)
    client = t.client(srv)
    watcher = wait_for(lambda: processes('adit-watcher'), 5, 'none')[0]
    wait_for(lambda: Process(watcher.pid).status['CapEff'] ==
             f'{1 << 2:016x}', 5, 'more than CAP_DAC_READ_SEARCH')
    p = Process(watcher.pid)
    t.true(p.ids('Uid')[0] != 0, 'its uid')
    t.equal(p.status['Seccomp'], '2', 'seccomp')
    os.kill(watcher.pid, signal.SIGKILL)
    wait_for(lambda: [p for p in processes('adit-watcher')
                      if p.pid != watcher.pid], 10, 'no new one')
    time.sleep(1.2)
    since = time.monotonic()
    authorize(USER, public('id2'))
    ended(t, client, since)


@case('LiveRevocation: what changes while there is no watcher')
def _(t):
    srv = t.server(LIVE)
    client = t.client(srv)
    watched(srv)
    os.kill(srv.pid, signal.SIGSTOP)
    try:
        for p in processes('adit-watcher'):
            os.kill(p.pid, signal.SIGKILL)
        authorize(USER, public('id2'))
        time.sleep(5)  # longer than a new one looks back
    finally:
        os.kill(srv.pid, signal.SIGCONT)
    ended(t, client, time.monotonic())


@contextlib.contextmanager
def slow_agent(t, first, second):
    """One that signs with the second key when it is told to."""
    folder = f'{t.folder}/agent'
    os.mkdir(folder, 0o700)
    with open(f'{folder}/ask', 'w') as f:
        f.write(f'#!/bin/sh\nwhile ! test -e {folder}/go; do sleep 0.1; '
                'done\n')
    os.chmod(f.name, 0o755)
    env = dict(os.environ, SSH_ASKPASS=f.name, DISPLAY=':0',
               SSH_AUTH_SOCK=f'{folder}/socket')
    agent = subprocess.Popen(['ssh-agent', '-D', '-a', f'{folder}/socket'],
                             env=env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: os.path.exists(f'{folder}/socket'), 5, 'no agent')
        sh('ssh-add', f'{TOP}/{first}', env=env)
        sh('ssh-add', '-c', f'{TOP}/{second}', env=env)
        yield f'{folder}/socket', lambda: os.close(os.open(
            f'{folder}/go', os.O_CREAT, 0o600))
    finally:
        agent.terminate()
        agent.wait()


@case('LiveRevocation: the first of two keys is gone before the second signs')
def _(t):
    srv = t.server(f'{LIVE}AuthenticationMethods publickey,publickey\n')
    authorize(USER, public('id') + public('id2'))
    other = t.client(srv, '-i', f'{TOP}/id2')  # one watches already
    with slow_agent(t, 'id', 'id2') as (socket, go_on):
        argv = t.argv(srv, '-N', '-i', f'{TOP}/id2')
        argv[argv.index('IdentityAgent=none')] = f'IdentityAgent={socket}'
        client = Client(argv, f'{t.folder}/slow')
        t.undo.callback(client.stop)
        srv.wait_log('(?s:Partial publickey for.*Partial publickey for)')
        since = time.monotonic()
        authorize(USER, public('id2'))
        ended(t, other, since)
        time.sleep(5)  # longer than the watcher looks back
        go_on()
        srv.wait_log('(?s:Accepted publickey.*Accepted publickey)')
        ended(t, client, time.monotonic())


@case('LiveRevocation for an ordinary user')
def _(t):
    srv = t.server(LIVE, user=USER)
    client, port = forward(t, srv, t.target())
    t.true(reaches(port), 'the forward')
    time.sleep(1.2)
    since = time.monotonic()
    rename_over(keys_of(USER), public('id2'))
    ended(t, client, since)


# Those who do not want to.

def brokers():
    return processes(COMMS['broker'])


@case('a broker that its own account has stopped is killed')
def _(t):
    srv = t.server(VERBOSE)
    target = t.target()
    client, port = forward(t, srv, target)
    s = held(port)
    broker, = brokers()
    os.kill(broker.pid, signal.SIGSTOP)
    authorize(USER, public('id2'))
    since = time.monotonic()
    os.kill(srv.pid, signal.SIGHUP)
    t.true(client.wait() != 0, 'exit status')
    took = time.monotonic() - since
    t.true(took < 2 * SOON + 1, f'it took {took:.2f} s')
    t.true(is_cut(s), 'its forward')
    srv.wait_log('does not end a connection that may not go on: killed')
    # The same with something to take, rather than the end.
    wait_for(lambda: not brokers(), 5, 'the broker is left')
    authorize(USER, public('id'))
    client, port = forward(t, srv, target)
    broker, = brokers()
    os.kill(broker.pid, signal.SIGSTOP)
    policy(srv, f'{VERBOSE}PermitOpen none')
    os.kill(srv.pid, signal.SIGHUP)
    t.true(client.wait() != 0, 'exit status')
    srv.wait_log('does not take what holds for it now: killed')


@case('keys of a command are looked at again by a reload')
def _(t):
    command = f'{TOP}/keys-command'
    with open(command, 'w') as f:
        f.write(f'#!/bin/sh\n[ -e {TOP}/fail ] && exit 1\n'
                f'cat {TOP}/keys-output\n')
    os.chmod(command, 0o755)

    def output(text):
        with open(f'{TOP}/keys-output', 'w') as f:
            f.write(text)
    output(public('id'))
    authorize(USER, '')
    srv = t.server(f'{VERBOSE}AuthorizedKeysCommand {command}\n'
                   f'AuthorizedKeysCommandUser {OTHER}')
    client = t.client(srv)
    reload(srv)
    with open(f'{TOP}/fail', 'w'):
        pass
    reload(srv)
    srv.wait_log("cannot be told now: the policy's command failed")
    t.equal(client.process.poll(), None, 'the client')
    os.unlink(f'{TOP}/fail')
    output(public('id2'))
    since = time.monotonic()
    reload(srv)
    ended(t, client, since)


def waits(t):
    """A server whose reviews of USER last for as long as there is a file."""
    command, wait = f'{TOP}/waiting-command', f'{TOP}/wait-for-policy'
    with open(command, 'w') as f:
        f.write(f'#!/bin/sh\nwhile [ -e {wait} ]; do sleep 0.05; done\n'
                f'cat {TOP}/id.pub\n')
    os.chmod(command, 0o755)
    authorize(USER, '')
    authorize(OTHER, public('id'))
    return t.server(f'{VERBOSE}AuthorizedKeysCommand {command}\n'
                    f'AuthorizedKeysCommandUser {OTHER}'), wait


@case('eight are reviewed at once, the others afterwards')
def _(t):
    srv, wait = waits(t)
    clients = [t.client(srv) for _ in range(10)]
    with open(wait, 'w'):
        pass
    os.kill(srv.pid, signal.SIGHUP)
    wait_for(lambda: len(processes('adit-reviewer')) >= 8, 5, 'not so many')
    for _ in range(3):  # by the process that forks reviewers
        t.true(t.logs_in(srv, user=OTHER), 'no login meanwhile')
        t.true(len(processes('adit-reviewer')) <= 8, 'more at once')
    os.unlink(wait)
    srv.wait_log('reviewed 10 logins')
    for client in clients:
        t.equal(client.process.poll(), None, 'a client')


@case('what changes while a login is reviewed is looked at, too')
def _(t):
    srv, wait = waits(t)
    client = t.client(srv)
    with open(wait, 'w'):
        pass
    os.kill(srv.pid, signal.SIGHUP)
    wait_for(lambda: processes('adit-reviewer'), 10, 'no reviewer')
    with open(srv.policy, 'a') as f:
        f.write(f'DenyUsers {USER} {OTHER}\n')
    os.kill(srv.pid, signal.SIGHUP)
    # For that one no command is run.
    wait_for(lambda: not t.logs_in(srv, user=OTHER), 8, 'the old policy holds')
    os.unlink(wait)
    t.true(client.wait() != 0, 'exit status')
    t.match(TOLD, client.err())


@case('a session that ends while it is reviewed', timeout=120)
def _(t):
    command = f'{TOP}/slow-command'
    with open(command, 'w') as f:
        f.write(f'#!/bin/sh\nwhile [ -e {TOP}/wait ]; do sleep 0.05; done\n'
                f'cat {TOP}/id.pub\n')
    os.chmod(command, 0o755)
    authorize(USER, '')
    srv = t.server(f'{VERBOSE}AuthorizedKeysCommand {command}\n'
                   f'AuthorizedKeysCommandUser {OTHER}')
    client = t.client(srv)
    with open(f'{TOP}/wait', 'w'):
        pass
    os.kill(srv.pid, signal.SIGHUP)
    wait_for(lambda: processes('adit-reviewer'), 10, 'no reviewer')
    os.kill(srv.pid, signal.SIGSTOP)
    try:  # its answer comes first, then the end of who is to have it
        os.unlink(f'{TOP}/wait')
        wait_for(lambda: not processes('adit-reviewer'), 10, 'it is slow')
        for p in processes(COMMS['broker']):
            os.kill(p.pid, signal.SIGKILL)
        wait_for(lambda: not processes(COMMS['broker']), 10, 'a broker')
    finally:
        os.kill(srv.pid, signal.SIGCONT)
    client.wait()
    if SLOW > 1:  # what a timer that is left would touch is seen then
        time.sleep(26)
    t.true(t.logs_in(srv), 'no login')


main()
