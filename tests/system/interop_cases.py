"""What each client of interop.py is asked to do, as cases, and what README's
table then has to say of it. register(clients) makes them."""
import contextlib
import subprocess
import time

from clients_table import NO, Table, readme_case
from harness import Failure, PEER, SLOW, Skip, case, need, processes
from interop import (KINDS, LIBRARIES, PROGRAMS, ended, exchange, keys, noise,
                     same)

SMALL = 1 << 20
# Under a sanitizer the server is slow, and what is new is soon seen.
BIG = 20 << 20 if SLOW == 1 else 4 << 20
LIMIT = 'RekeyLimit 4M\n' if SLOW == 1 else 'RekeyLimit 1M\n'
# How often a connection has the keyholder wake up that exchanges keys once.
ONCE = 4

COLUMNS = {'kinds': 'user keys', 'local': 'local forward',
           'remote': 'remote forward', 'socks': 'SOCKS',
           'stdio': 'stdin, stdout', 'rekey': 'rekeying',
           'keepalive': 'keepalives', 'reason': 'says why a forward failed',
           'shell': 'says that there is no shell'}
NOT_SHOWN = 'a library: there is a function to open a forward, and the rest ' \
    'is up to the program'
SILENT = 'the server says why; the client does not pass it on'
PASSIVE = 'when the server asks for it; it has no way to ask itself, or ' \
    'asks so late that no test waits for it'
TABLE = Table(
    'clients', ['client', 'version', *COLUMNS.values()],
    [c.name for c in PROGRAMS + LIBRARIES],
    [(c.name, COLUMNS['stdio'], NOT_SHOWN) for c in LIBRARIES] +
    [(c.name, COLUMNS['socks'], NOT_SHOWN) for c in LIBRARIES
     if 'socks' not in c.has] +
    [(c.name, COLUMNS['rekey'], PASSIVE) for c in PROGRAMS + LIBRARIES
     if 'rekey' not in c.has] +
    [('Dropbear dbclient', COLUMNS['socks'], 'there is no `-D`'),
     ('Dropbear dbclient', COLUMNS['reason'], SILENT),
     ('Dropbear dbclient', COLUMNS['shell'], SILENT),
     ('libssh2', COLUMNS['reason'], SILENT),
     ('libssh2', COLUMNS['shell'], SILENT),
     ('libssh2', COLUMNS['kinds'],
      'signs with RSA keys by SHA-1 alone, which is never accepted'),
     ('AsyncSSH', COLUMNS['rekey'],
      'before 2.15 (since 2.14.1, and with Debian\'s security fixes 2.10.1) '
      'it goes on to send while keys are exchanged, against RFC 4253, 7.1; '
      'sshd overlooks that, here the connection ends')])


def show(client, what, text='yes'):
    TABLE.show(client.name, COLUMNS[what], text)


def one(client, what, title):
    """A case of this client, if it can do that."""
    def register(fn):
        @case(f'{client.name}: {title}')
        def _(t):
            client.need()
            keys()
            TABLE.asked(client.name, COLUMNS[what])
            fn(t)
    if what in client.has | {'kinds', 'reason', 'shell'}:
        return register
    return lambda fn: None


def logins(client):
    @one(client, 'kinds', 'logs in with ed25519, RSA, ECDSA keys')
    def _(t):
        srv, echo = t.server(), t.target()
        good = [kind for kind in KINDS
                if client.stdio(t, srv, echo.port, b'hello',
                                kind=kind).stdout == b'hello']
        ended(srv)
        t.true('ed25519' in good, f'only {good}')
        show(client, 'kinds', ', '.join(good))


def forwards(client):
    @one(client, 'local', 'a local forward, and its end')
    def _(t):
        srv, data = t.server(), noise(SMALL)
        with client.local(t, srv, t.target()) as talk:
            same(talk(data), data, 'through the forward')
        show(client, 'local')

    @one(client, 'remote', 'a remote forward, and its end')
    def _(t):
        srv, data = t.server(), noise(SMALL)
        with client.remote(t, srv, t.target()) as port:
            for _ in range(2):
                same(exchange(port, data), data, 'through the forward')
        show(client, 'remote')

    @one(client, 'socks', 'a SOCKS proxy for curl')
    def _(t):
        curl = need('curl')

        def http(s):
            s.recv(4096)
            s.sendall(b'HTTP/1.0 200 OK\r\n\r\nthe page')
        srv, web = t.server(), t.target(http)
        with client.socks(t, srv) as port:
            done = subprocess.run(
                [curl, '-sS', '-m', str(20 * SLOW), '--socks5-hostname',
                 f'127.0.0.1:{port}', f'http://localhost:{web.port}/'],
                capture_output=True)
            t.equal(done.stdout, b'the page', done.stderr)
        show(client, 'socks')

    @one(client, 'stdio', 'standard input and output')
    def _(t):
        srv, echo, data = t.server(), t.target(), noise(SMALL)
        done = client.stdio(t, srv, echo.port, data)
        same(done.stdout, data, 'by standard input and output')
        ended(srv)
        show(client, 'stdio')


def wakes(srv):
    """Grows with each key exchange: the keyholder wakes up to sign."""
    for p in processes('adit-keyholder'):
        if p.ppid == srv.pid:
            return int(p.status['voluntary_ctxt_switches'])
    return None


def rekeying(client):
    def transfer(t, policy, **options):
        """How often the keyholder was asked for more than one signature."""
        srv, data = t.server(policy), noise(BIG)
        before = wakes(srv)
        with client.local(t, srv, t.target(), **options) as talk:
            same(talk(data), data, 'while keys were exchanged')
            after = wakes(srv)
        return 0 if before is None else after - before - ONCE

    known = ', known to fail' if 'rekey' in client.fails else ''

    @one(client, 'kinds',
         f'the server asks for new keys while data flows{known}')
    def _(t):
        if 'rekey' in client.fails:  # in a race, but not in a hundred
            try:
                transfer(t, 'RekeyLimit 256K\n')
                show(client, 'rekey')
            except Failure:
                show(client, 'rekey', 'no')
            return
        n = transfer(t, LIMIT)
        t.true(PEER != 'aditd' or n > 1, f'{n} exchanges more')
        show(client, 'rekey')

    if 'rekey' in client.fails:
        return

    @one(client, 'rekey', 'it asks for new keys itself while data flows')
    def _(t):
        n = transfer(t, '', rekey=True)
        t.true(PEER != 'aditd' or n > 1, f'{n} exchanges more')
        show(client, 'rekey')


def refusals(client):
    def told(done, why):
        """How much of it comes out; that it came to its end is known."""
        said = (done.stdout + done.stderr).decode(errors='replace')
        if why in said and done.returncode != 0:
            return 'yes'
        return 'that it was' if 'prohibited' in said else 'no'

    @one(client, 'reason', 'a forward that is refused ends, with a reason')
    def _(t):
        srv, echo = t.server('PermitOpen 127.0.0.1:1\n'), t.target()
        done = client.stdio(t, srv, echo.port, b'x')
        ended(srv)
        t.equal((echo.accepted, done.stdout), (0, b''), 'it came through')
        show(client, 'reason', told(done, 'not permitted by policy'))

    @one(client, 'reason', 'a remote forward that is refused, is said to be')
    def _(t):
        srv = t.server('PermitListen none\n')
        said = client.refused_remote(t, srv)
        ended(srv)
        t.match('(?i)fail|refused|denied|unable', said, 'what it says')

    @one(client, 'shell', 'a command is refused, with a reason')
    def _(t):
        if PEER != 'aditd':
            raise Skip('sshd has commands')
        srv = t.server()
        done = client.command(t, srv)
        ended(srv)
        t.true(b'hello' not in done.stdout, 'a command ran')
        show(client, 'shell', told(done, 'this server only forwards'))


def keepalives(clients):
    @case('all of them: keepalives of both sides, for 4 seconds')
    def _(t):
        keys()
        with contextlib.ExitStack() as stack:
            talkers = []
            for client in clients:
                with contextlib.suppress(Skip):
                    client.need()
                    TABLE.asked(client.name, COLUMNS['keepalive'])
                    srv = t.server('ClientAliveInterval 1\n'
                                   'ClientAliveCountMax 2\n')
                    talkers.append((client, stack.enter_context(
                        client.local(t, srv, t.target(), alive=True))))
            if not talkers:
                raise Skip('none of them is here')
            time.sleep(4)  # one that did not answer would have been put out
            for client, talk in talkers:
                same(talk(b'hello'), b'hello', client.name)
                show(client, 'keepalive')


def register(clients):
    for client in clients:
        for what in ('socks', 'stdio'):
            if what not in client.has:
                show(client, what, NO)
        for group in (logins, forwards, rekeying, refusals):
            group(client)
    keepalives(clients)
    readme_case(TABLE, {c.name: c for c in clients})
