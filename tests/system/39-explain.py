#!/usr/bin/python3
"""Why: --explain, -T's origins, the chain of rules in the log and, of it, what
the client is told."""
import contextlib
import os
import random
import re
import socket
import subprocess
import threading

from certs import certify
from harness import (PEER, TOP, USER, Failure, Skip, append, authorize, case,
                     echo, keygen, main, public, reaches, sh, skip_all,
                     wait_for)

if PEER != 'aditd':
    skip_all('sshd explains nothing')

ADITD = f'{TOP}/aditd'
README = os.path.join(os.environ.get('SRCDIR', '.'), 'README.md')
SEED = int(os.environ.get('ADIT_SEED', '1'))


def aditd(*args, cwd=None, data=''):
    return subprocess.run([ADITD, *map(str, args)], input=data, text=True,
                          capture_output=True, timeout=60, cwd=cwd)


def written(t, text, name='policy'):
    path = f'{t.folder}/{name}'
    with open(path, 'w') as f:
        f.write(text)
    return path


def explain(path, *request, spec='', status=None):
    """The output; status: the one that it must have."""
    done = aditd('--explain', '-f', path, '-C',
                 f'user={USER},addr=127.0.0.1{spec}', *request)
    if done.returncode != status and status is not None or \
            done.returncode not in (0, 1):
        raise Failure(f'{request}: {done.returncode}: {done.stdout}'
                      f'{done.stderr}')
    if done.stdout.startswith('allowed: ') != (done.returncode == 0):
        raise Failure(f'{done.returncode}: {done.stdout}')
    return done.stdout


def chain(text):
    """[where rule, ...] without the names of folders."""
    return [re.sub(r'^/\S*/', '', ' '.join(line.split()))
            for line in text.splitlines()[1:]]


def strip(dump):
    return re.sub(r'(?m) +# .*$', '', dump)


@case('-T says where each value comes from, and can be read again')
def _(t):
    path = written(t, f'''HostKey {TOP}/hostkey
DenyOpen 10.0.0.0/8:* foo:22
AllowUsers a "b c"
AllowUsers d
Match User {USER}
    PermitOpen db.internal:5432
    DenyOpen bar:23
''')
    for spec, want in (
            ((), ('allowusers d +# policy:4', 'denyopen foo:22 +# policy:2',
                  'permitopen any +# default')),
            (('-C', f'user={USER}'),
             ('permitopen db.internal:5432 +# policy:6',
              'denyopen foo:22 +# policy:2', 'denyopen bar:23 +# policy:7',
              r'allowusers "b c" +# policy:3',
              r'listenaddress 0.0.0.0:7 +# command line:1'))):
        first = aditd('-T', '-f', 'policy', '-p', 7, *spec, cwd=t.folder)
        t.equal(first.returncode, 0, first.stderr)
        for line in want:
            t.match(f'^{line}$', first.stdout)
        for line in first.stdout.splitlines():
            t.match(r' # (default|policy:\d+|command line:1)$', line)
        again = aditd('-T', '-f', '-', data=first.stdout)
        t.equal(strip(again.stdout), strip(first.stdout), again.stderr)
        t.match(r'^allowusers d +# /dev/stdin:\d+$', again.stdout)
        # and without the comments
        bare = aditd('-T', '-f', path, '-p', 7, *spec)
        t.equal(strip(bare.stdout), strip(first.stdout))


@case('a request that cannot be understood, or a policy, ends with 2')
def _(t):
    path = written(t, 'PermitOpen a:1\n')
    who = ('-C', f'user={USER}')
    for words in (('open', 'a:1'), (*who,), (*who, 'open'),
                  (*who, 'open', 'a'), (*who, 'open', 'a:x'),
                  (*who, 'open', ':1'), (*who, 'open', '::1:1'),
                  (*who, 'open', 'a:65536'), (*who, 'open', 'a:1', 'b:2'),
                  (*who, 'listen', 'a:'), (*who, 'shell', 'x'),
                  (*who, 'tunnel', 'ppp'), (*who, 'tunnel', 'ethernet', 'x'),
                  (*who, 'tunnel', 'ethernet', '1', '2'),
                  (*who, 'login', f'{t.folder}/none'),
                  (*who, 'login', path), ('-C', 'user', 'open', 'a:1'),
                  ('-C', f'user={USER},what=x', 'open', 'a:1'),
                  (*who, '-Q', 'open', 'a:1'), (*who, '--what'),
                  ('-C', f'user={USER},key={t.folder}/none', 'open', 'a:1')):
        done = aditd('--explain', '-f', path, *words)
        t.equal((done.returncode, done.stdout), (2, ''), f'{words}')
        t.true(done.stderr, f'{words}: no word of it')
    t.equal(aditd('--explain', '-f', path, *who).stderr,
            'aditd: --explain: no request: open, listen, tunnel or login\n')
    done = aditd('--explain', *who, '-f', written(t, 'PermitOpen x\n', 'bad'),
                 'open', 'a:1')
    t.equal(done.returncode, 2, 'a bad policy')
    t.match('bad:1:12: ', done.stderr)
    done = aditd('-T', '-f', path, 'open', 'a:1')
    t.equal((done.returncode, done.stdout), (1, ''), 'without --explain')


@case('chains: Match, lists, privileged ports, tunnels')
def _(t):
    path = written(t, f'''AllowTcpForwarding yes
PermitListen 8080
Match User nobody
    PermitOpen none
Match Address 127.0.0.0/8 User {USER}
    PermitOpen db.internal:5432 [::1]:*
    PermitTunnel ethernet
    TunnelUnit 5-6
''')
    block = f'policy:5 Match Address 127.0.0.0/8 User {USER}'
    for request, status, want in (
            ('open db.internal:5432', 0,
             ['policy:1 AllowTcpForwarding yes', block,
              'policy:6 PermitOpen db.internal:5432']),
            ('open [::1]:7', 0,
             ['policy:1 AllowTcpForwarding yes', block,
              'policy:6 PermitOpen [::1]:*']),
            ('open db:5432', 1,
             ['policy:1 AllowTcpForwarding yes', block,
              'policy:6 PermitOpen db.internal:5432 [::1]:*']),
            ('listen 8080', 0, ['policy:1 AllowTcpForwarding yes',
                                'policy:2 PermitListen *:8080']),
            ('listen *:9', 1, ['default PermitPrivilegedPorts no']),
            ('tunnel ethernet', 0, [block, 'policy:7 PermitTunnel ethernet',
                                    'policy:8 TunnelUnit 5-6']),
            ('tunnel ethernet 7', 1, [block, 'policy:7 PermitTunnel ethernet',
                                      'policy:8 TunnelUnit 5-6']),
            ('tunnel point-to-point', 1,
             [block, 'policy:7 PermitTunnel ethernet'])):
        got = explain(path, *request.split(), status=status)
        t.equal(chain(got), want, request)
        t.match(f' for {USER} from 127.0.0.1$', got.splitlines()[0])
    # who is not known to be there matches no Address
    done = aditd('--explain', '-f', path, '-C', f'user={USER}', 'open', 'x:1')
    t.equal((done.returncode, chain(done.stdout)),
            (0, ['policy:1 AllowTcpForwarding yes']))


@case('login: the line, its options, expiry, from; as the server does')
def _(t):
    srv = t.server(f'AllowUsers root {USER}\nMatch User neighbour\n'
                   'AllowUsers nobody')
    other = 'AllowUsers nobody'
    for user, options, want, status in (
            (USER, '', [f'policy:1 AllowUsers {USER}'], 0),
            (USER, 'from="10.0.0.0/8"', ['key option from="10.0.0.0/8"'], 1),
            (USER, 'from="127.*",restrict,permitopen="h:80"',
             ['key option from="127.*"',
              'options restrict,from="127.*",permitopen="h:80"'], 0),
            (USER, 'expiry-time="20200101Z"',
             ['key option expiry-time="20200101000000Z"'], 1),
            (USER, 'expiry-time="20990101Z"',
             ['key option expiry-time="20990101000000Z"'], 0),
            (USER, 'cert-authority', [': key is not authorised'], 1),
            (USER, 'unheard', [': key is not authorised'], 1),
            ('neighbour', '', [other, 'policy:2 Match User neighbour'], 1),
            ('locked', '', ['AllowUsers root'], 1),
            ('mallory', None, [': there is no such account'], 1)):
        if options is not None:
            authorize(user, f'# one\n{options} {public("id")}'.strip() + '\n')
        done = aditd('--explain', '-f', 'policy', '-C',
                     f'user={user},addr=127.0.0.1', 'login', f'{TOP}/id.pub',
                     cwd=os.path.dirname(srv.policy))
        shown = re.sub(r' +', ' ', done.stdout)
        t.equal(done.returncode, status, f'{user}, {options}: {shown}')
        for text in want:
            t.true(text in shown, f'no {text!r} in:\n{shown}')
        if status == 0 or 'key option' in shown:
            t.match(f'/home/{user}/.ssh/authorized_keys:2 ssh-ed25519 key$',
                    shown)
        t.equal(t.logs_in(srv, user=user), status == 0, f'{user}, {options}')
    # a file that the server does not believe
    keys = f'/home/{USER}/.ssh/authorized_keys'
    t.undo.callback(os.chmod, keys, 0o644)
    os.chmod(keys, 0o666)
    done = aditd('--explain', '-f', srv.policy, '-C',
                 f'user={USER},addr=127.0.0.1', 'login', f'{TOP}/id.pub')
    t.equal(done.returncode, 1)
    t.match('bad ownership or modes', done.stderr)
    # an account that is closed
    authorize('expired', public('id'))
    done = aditd('--explain', '-f', written(t, ''), '-C', 'user=expired',
                 'open', 'a:1')
    t.match('^refused: .*: the account has expired$', done.stdout)


@case('-C key=: what the key may not, is refused')
def _(t):
    path, key = written(t, ''), f',key={TOP}/id.pub'
    authorize(USER, f'permitopen="a:1" {public("id")}')
    t.equal(chain(explain(path, 'open', 'a:1', spec=key, status=0))[-1],
            'authorized_keys:1 key option permitopen a:1')
    t.equal(chain(explain(path, 'open', 'a:2', spec=key, status=1)),
            ['default AllowTcpForwarding yes',
             'authorized_keys:1 key option permitopen a:1'])
    explain(path, 'open', 'a:2', status=0)
    explain(path, 'listen', '8080', spec=key, status=0)
    got = explain(path, 'open', 'a:1', spec=f',key={TOP}/id2.pub', status=1)
    t.match('key is not authorised$', got)
    authorize(USER, f'restrict,tunnel="3" {public("id")}')
    explain(path, 'listen', '8080', spec=key, status=1)
    path = written(t, 'PermitTunnel yes\n')
    explain(path, 'tunnel', 'ethernet', '3', spec=key, status=0)
    explain(path, 'tunnel', 'ethernet', '4', spec=key, status=1)
    keygen('rsa-key', '-t', 'rsa', '-b', '2048')
    authorize(USER, public('rsa-key'))
    explain(path, 'login', f'{TOP}/rsa-key.pub', status=0)


@case('certificates, of each kind of key')
def _(t):
    keygen('ca')
    authorize(USER, '')
    trust = written(t, f'TrustedUserCAKeys {TOP}/ca.pub\n', 'trust')
    for kind in ('ed25519', 'ecdsa', 'rsa'):
        keygen(f'cert-{kind}', '-t', kind)
        certify('ca', f'cert-{kind}', '-O', 'source-address=127.0.0.0/8')
        name = f'{TOP}/cert-{kind}-cert.pub'
        got = explain(trust, 'login', name, status=0)
        t.true('ca.pub:1 certificate option source-address="127.0.0.0/8"' in
               ' '.join(got.split()), got)
        explain(trust, 'open', 'a:1', spec=f',key={name}', status=0)
        got = explain(trust, 'login', name, spec=',addr=10.0.0.1', status=1)
        t.match('source-address="127.0.0.0/8"$', got)
        t.match('key is not authorised$',
                explain(written(t, ''), 'login', name, status=1))
    name = f'{TOP}/cert-ed25519-cert.pub'
    certify('ca', 'cert-ed25519', '-O', 'no-port-forwarding')
    t.equal(chain(explain(trust, 'open', 'a:1', spec=f',key={name}',
                          status=1)),
            ['ca.pub:1 certificate without permit-port-forwarding'])
    certify('ca', 'cert-ed25519', principals='somebody')
    t.equal(chain(explain(trust, 'login', name, status=1))[-1],
            'ca.pub:1 Certificate invalid: name is not a listed principal')
    authorize(USER, f'cert-authority,principals="somebody",'
              f'permitopen="a:1" {public("ca")}')
    path = written(t, '')
    explain(path, 'login', name, status=0)
    explain(path, 'open', 'a:1', spec=f',key={name}', status=0)
    explain(path, 'open', 'a:2', spec=f',key={name}', status=1)


@case('what is not known here is said: commands, further keys')
def _(t):
    authorize(USER, '')
    path = written(t, 'AuthorizedKeysCommand /bin/true\n'
                   'AuthorizedKeysCommandUser nobody\n'
                   'AuthenticationMethods publickey,publickey\n')
    key = f'{TOP}/id.pub'
    t.equal(chain(explain(path, 'login', key, status=1))[-1],
            'policy:1 AuthorizedKeysCommand is not run here')
    authorize(USER, public('id'))
    t.equal(chain(explain(path, 'login', key, status=0))[-1],
            'policy:3 AuthenticationMethods takes 2 keys')


@case('the log has the chain, the client a word of it')
def _(t):
    echo, a = t.target(), t.port()
    srv = t.server(f'LogLevel VERBOSE\nMatch User {USER}\n'
                   'PermitOpen 192.0.2.7:80\nPermitListen 9999')
    of = re.escape(srv.policy)
    who = rf'for {USER} from 127.0.0.1 port \d+: '
    client = t.client(srv, '-L', f'{a}:127.0.0.1:{echo.port}',
                      '-R', f'{t.port()}:127.0.0.1:9', wait=False,
                      strict=False)
    client.wait_err('remote forward failure')
    t.true(not reaches(a), 'granted')
    srv.wait_log(f'refused direct-tcpip to 127.0.0.1 port {echo.port} {who}'
                 rf'{of}:3: PermitOpen 192.0.2.7:80 \({of}:2: Match User '
                 rf'{USER}; default: AllowTcpForwarding yes\)$')
    srv.wait_log(rf'refused tcpip-forward on localhost port \d+ {who}'
                 rf'{of}:4: PermitListen \*:9999 \({of}:2: Match User {USER}; '
                 r'default: AllowTcpForwarding yes\)$')
    client.wait_err('open failed: administratively prohibited: this '
                    'destination is not permitted by policy: PermitOpen\\s*$')
    client.wait_err('debug1: Remote: this listener is not permitted by '
                    'policy: PermitListen\\s*$')
    for secret in (srv.policy, '192.0.2.7', '9999', 'Match'):
        t.true(secret not in client.err(), f'the client reads {secret}')
    client.stop()
    srv.stop()

    authorize(USER, f'permitopen="192.0.2.8:1",no-agent-forwarding '
              f'{public("id")}')
    srv = t.server('DenyUsers neighbour')
    client = t.client(srv, '-L', f'{a}:127.0.0.1:{echo.port}')
    t.true(not reaches(a), 'granted')
    client.wait_err("this destination is not permitted by policy: the key's "
                    r'permitopen\s*$')
    t.true('192.0.2.8' not in client.err(), 'the client reads the rule')
    srv.wait_log(rf'{who}/home/{USER}/.ssh/authorized_keys:1: key option '
                 r'permitopen 192.0.2.8:1 \(default: AllowTcpForwarding '
                 r'yes\)$')
    # before a login nothing is said
    t.true(not t.logs_in(srv, user='neighbour'), 'let in')
    srv.wait_log(rf'User neighbour from 127.0.0.1 not allowed: '
                 rf'{re.escape(srv.policy)}:1: DenyUsers neighbour$')
    authorize(USER, f'from="10.0.0.1" {public("id")}')
    done = t.ssh(srv, '-v', '-N')
    t.true(b'from=' not in done.stderr, 'the client reads the option')
    srv.wait_log(rf'key for {USER} not usable from 127.0.0.1 port \d+: '
                 rf'/home/{USER}/.ssh/authorized_keys:1: key option '
                 r'from="10.0.0.1" \(/home/.*:1: ssh-ed25519 key\)$')


@case('names: each address has a verdict where rules depend on it')
def _(t):
    append('/etc/hosts', '127.0.0.1 two.test\n::1 two.test\n')
    lines = {False: r'(?m)^  127.0.0.1 +refused: .*policy:1: ',
             True: r'(?m)^  ::1 +allowed: '}
    for policy, allowed, want in (
            ('DenyOpen 127.0.0.0/8:*', True, lines.values()),
            ('PermitOpen [::1/128]:*', True, lines.values()),
            ('PermitOpen 10.0.0.0/8:*', False, [lines[False]]),
            ('PermitOpen two.test:*', True, [])):
        path = written(t, f'{policy}\n')
        got = explain(path, 'open', 'two.test:80', status=int(not allowed))
        for line in want:
            t.match(line, got, policy)
        if not want:
            t.true('::1' not in got, f'looked up for nothing: {got}')
    path = written(t, 'DenyOpen 127.0.0.0/8:*\n')
    for name, words in (('two.test', ['--no-dns']), ('none.invalid', [])):
        got = explain(path, *words, 'open', f'{name}:80', status=0)
        t.match('^  name .*; rules of addresses are not applied$', got)
    path = written(t, 'PermitOpen 127.0.0.0/8:*\n')
    explain(path, '--no-dns', 'open', 'two.test:80', status=1)
    explain(path, '--no-dns', 'open', '127.0.0.1:80', status=0)


@case('unix sockets, MaxChannels, MaxListeners')
def _(t):
    path = written(t, 'PermitOpen /run/x.sock\nMaxListeners 0\n')
    got = explain(path, 'open', '/run/x.sock', status=0)
    t.match('^allowed: direct-streamlocal to /run/x.sock for ', got)
    t.equal(chain(got)[-1], 'policy:1 PermitOpen /run/x.sock')
    explain(path, 'open', '/run/y.sock', status=1)
    explain(path, 'open', 'a:1', status=1)
    for at in ('/run/x.sock', '8080'):
        t.equal(chain(explain(path, 'listen', at, status=1)),
                ['policy:2 MaxListeners 0'])


# ---- --explain says what the server does, whatever the policy ----

def unix_echo(t):
    s = socket.socket(socket.AF_UNIX)
    t.undo.callback(s.close)
    path = f'{t.folder}/echo'
    s.bind(path)
    os.chmod(path, 0o777)
    s.listen()

    def serve():
        with contextlib.suppress(OSError):
            while True:
                one, _ = s.accept()
                with one, contextlib.suppress(OSError):
                    one.settimeout(60)
                    echo(one)
    threading.Thread(target=serve, daemon=True).start()
    t.undo.callback(s.shutdown, socket.SHUT_RDWR)
    return path


class World:
    """What the requests are about, the same for all policies."""

    def __init__(self, t):
        self.echo = t.target()
        t.target(host='::1', port=self.echo.port)
        self.other = t.target()
        self.echo6 = t.target(host='::1')
        if 'two.test' not in open('/etc/hosts').read():
            append('/etc/hosts', '127.0.0.1 two.test\n::1 two.test\n')
        self.ports = [t.port() for _ in range(5)]
        path = unix_echo(t)
        r1, r2 = t.port(), t.port()
        self.opens = [f'127.0.0.1:{self.echo.port}',
                      f'127.0.0.1:{self.other.port}',
                      f'[::1]:{self.echo6.port}',
                      f'two.test:{self.echo.port}', path]
        self.listens = [str(r1), f'*:{r2}', '81', f'/home/{USER}/sock']
        self.deny_open = ['127.0.0.0/8:*', f'*:{self.other.port}',
                          'two.*:*', '[::1]:*', '10.0.0.0/8:*',
                          f'127.0.0.1:{self.other.port}-65535']
        self.permit_open = ['any', 'none', '*:*', f'*:{self.echo.port}',
                            '[::1]:*', '127.0.0.0/8:*', *self.opens]
        self.permit_listen = ['any', 'none', str(r1), f'localhost:{r2}',
                              f'*:{r2}', '*:81', 'localhost:*',
                              '/home/*/sock']


def some(r, words, least=1):
    return ' '.join(r.sample(words, r.randint(least, 2)))


def a_list(r, words):
    return r.choice(words[:2]) if r.random() < 0.2 else some(r, words[2:])


def a_rule(r, w):
    return r.choice((
        lambda: 'AllowTcpForwarding '
                + r.choice(('yes', 'yes', 'no', 'local', 'remote')),
        lambda: 'PermitOpen ' + a_list(r, w.permit_open),
        lambda: 'PermitOpen ' + a_list(r, w.permit_open),
        lambda: 'PermitListen ' + a_list(r, w.permit_listen),
        lambda: 'PermitListen ' + a_list(r, w.permit_listen),
        lambda: 'DenyOpen ' + some(r, w.deny_open),
        lambda: 'AllowStreamLocalForwarding '
                + r.choice(('yes', 'no', 'local', 'remote')),
        lambda: 'PermitPrivilegedPorts yes',
        lambda: 'DisableForwarding ' + r.choice(('yes', 'no', 'no')),
        lambda: 'AllowUsers ' + some(r, [USER, 'tunnel*', f'{USER}@127.*',
                                         f'{USER}@10.0.0.0/8', 'nobody']),
        lambda: 'DenyUsers ' + some(r, ['nobody', 'root', f'{USER}@10.*',
                                        f'{USER}@::1']),
        lambda: 'AllowGroups ' + some(r, ['tunnellers', 'wheel', 'tun*']),
        lambda: 'PubkeyAuthentication ' + r.choice(('yes', 'yes', 'no')),
    ))()


def a_policy(r, w):
    lines = [a_rule(r, w) for _ in range(r.randint(0, 3))]
    for _ in range(r.randint(0, 3)):
        lines.append('Match ' + r.choice((
            f'User {USER}', f'User *,!{USER}', 'Group tunnellers',
            'Group wheel', 'Address 127.0.0.0/8', 'Address 10.0.0.0/8',
            f'User {USER} Address !127.0.0.1,*', 'LocalPort 1',
            'LocalAddress 127.0.0.1', 'all')))
        lines += [a_rule(r, w) for _ in range(r.randint(1, 3))]
    return '\n'.join(lines) + '\n'


def key_options(r, w):
    words = [o for chance, o in (
        (0.1, 'restrict'), (0.1, 'no-port-forwarding'),
        (0.1, 'port-forwarding'), (0.1, 'from="127.*"'),
        (0.05, 'from="10.0.0.0/8"'), (0.05, 'expiry-time="20200101"'),
        (0.1, 'expiry-time="20990101"'),
        (0.2, f'permitopen="{r.choice(w.permit_open[2:])}"'),
        (0.2, f'permitlisten="{r.choice(w.permit_listen[2:])}"'))
        if r.random() < chance]
    return ','.join(words)


def done_by(t, srv, w):
    """What the stock client gets: the requests that are granted; None: it may
    not even log in."""
    args = []
    for port, to in zip(w.ports, w.opens):
        args += ['-L', f'{port}:{to}']
    for at in w.listens:
        args += ['-R', f'{at}:127.0.0.1:{w.echo.port}']
    client = t.client(srv, *args, wait=False, strict=False)
    wait_for(lambda: client.process.poll() is not None or
             len(re.findall('remote forward (?:success|failure) for',
                            client.err())) == len(w.listens),
             20, 'no answers')
    if client.process.poll() is not None:
        t.match('Permission denied', client.err())
        return None
    granted = {f'open {to}' for port, to in zip(w.ports, w.opens)
               if reaches(port)}
    for at in w.listens:
        if re.search(rf'remote forward success for: listen {re.escape(at)}',
                     client.err()):
            granted.add(f'listen {at}')
    client.stop()
    return granted


def compare(t, r, w):
    policy, options = a_policy(r, w), key_options(r, w)
    authorize(USER, f'{options} {public("id")}'.lstrip())
    srv = t.server(policy)
    granted = done_by(t, srv, w)
    srv.stop()
    spec = f',laddr=127.0.0.1,lport={srv.port},key={TOP}/id.pub'
    said = set()
    for request in [f'open {to}' for to in w.opens] + \
            [f'listen {at}' for at in w.listens]:
        if explain(srv.policy, *request.split(),
                   spec=spec).startswith('allowed'):
            said.add(request)
    text = f'policy:\n{policy}key: {options}'
    t.equal(said, granted or set(), f'--explain, of {text}')
    got = explain(srv.policy, 'login', f'{TOP}/id.pub', spec=spec)
    t.equal(got.startswith('allowed'), granted is not None, f'login, {text}')
    return granted


for number in range(3):
    @case(f'random policies: --explain says what the server does, {number}',
          timeout=180)
    def _(t, number=number):
        r, w = random.Random(SEED * 1000 + number), World(t)
        results = [compare(t, r, w) for _ in range(20)]
        # they are not all the same
        counts = {len(g or ()) for g in results}
        t.true(len(counts) > 3, f'dull policies: {counts}')
        print(f'#   granted: {sorted(len(g or ()) for g in results)}')


@case('tunnels: --explain says what the server does')
def _(t):
    if not os.path.exists('/dev/net/tun'):
        raise Skip('no /dev/net/tun')
    far = t.far_host()
    for policy, options, request in (
            ('PermitTunnel yes', '-w any:any', 'point-to-point'),
            ('PermitTunnel ethernet', '-w any:any', 'point-to-point'),
            ('PermitTunnel yes\nDisableForwarding yes', '-w any:3',
             'point-to-point 3'),
            ('PermitTunnel yes\nTunnelUnit 5-6', '-w any:7',
             'point-to-point 7'),
            ('PermitTunnel yes\nTunnelUnit 5-6', '-o Tunnel=ethernet -w any:6',
             'ethernet 6'),
            ('PermitTunnel yes\nMaxTunnels 0', '-w any:any',
             'point-to-point')):
        srv = t.server(policy, address=(far.ours,))
        client = t.client(srv, *options.split(), prefix=far.prefix,
                          host=far.ours, wait=False, strict=False)
        m = srv.wait_log(r'(refused )?tunnel (\w+ )?\((point|ether).*')
        client.stop()
        done = aditd('--explain', '-f', srv.policy, '-C',
                     f'user={USER},addr={far.theirs}', 'tunnel',
                     *request.split())
        t.equal(done.returncode, 1 if m[1] else 0, f'{policy}: {done.stdout}')
        srv.stop()


@case('ListenTakeover and RateLimit, where they are set')
def _(t):
    path = written(t, f'''RateLimit session up 5M/s user 40M/s
PermitOpen 127.0.0.1:*
Match Address 192.0.2.0/24
    ListenTakeover no
Match User {USER}
    ListenTakeover always
    RateLimit none
''')
    rate = (f'policy:1 RateLimit session up {5 << 20}/s user up {40 << 20}/s '
            f'down {40 << 20}/s')
    inside = ',addr=192.0.2.7'
    for request in (('login', f'{TOP}/id.pub'), ('open', '127.0.0.1:22'),
                    ('listen', '8080')):
        done = aditd('--explain', '-f', path, '-C',
                     'user=neighbour,addr=192.0.2.7', *request)
        t.equal(done.returncode, 0, done.stdout + done.stderr)
        t.equal(rate in chain(done.stdout), True, done.stdout)
        t.equal('policy:4 ListenTakeover no: not while an older session of '
                'the same key listens there' in chain(done.stdout),
                request[0] == 'listen', done.stdout)
    text = explain(path, 'listen', '8080', status=0)
    t.equal(chain(text)[-1], 'policy:6 ListenTakeover always: also from an '
            'older session of the same key')
    t.true('RateLimit' not in text, text)
    text = explain(path, 'open', '127.0.0.2:22', spec=inside, status=1)
    t.true('RateLimit' not in text, 'of what is refused')
    path = written(t, 'ListenTakeover yes\n')
    t.match('policy:1 +ListenTakeover yes: .*client does not answer$',
            explain(path, 'listen', '8080', status=0))
    path = written(t, '# defaults\n')
    for request in (('listen', '8080'), ('open', '127.0.0.1:22')):
        text = explain(path, *request, status=0)
        t.true('Takeover' not in text and 'RateLimit' not in text, text)


# ---- README ----

@case("README's example, word for word")
def _(t):
    for path, line in (('passwd', 'alice:x:4010:4010::/home/alice:/bin/sh'),
                       ('group', 'alice:x:4010:'),
                       ('shadow', 'alice:*:1::::::')):
        append(f'/etc/{path}', f'{line}\n')
    with open(README) as f:
        part = f.read().split('### Why', 1)[1]
    policy, *rest = re.findall(r'(?:^    .*\n|^\n(?=    ))+',
                               re.split('\n##', part)[0], re.M)
    policy, *rest = [re.sub('(?m)^    ', '', b).strip('\n')
                     for b in (policy, *rest)]
    written(t, f'{policy}\n')
    sh('ln', '-s', ADITD, f'{t.folder}/aditd')
    shown = re.findall(r'^\$ (.*)\n((?:(?!\$).+\n?)+)', '\n'.join(rest), re.M)
    t.true(len(shown) >= 2, f'{len(shown)} commands')
    for command, want in shown:
        done = sh('sh', '-c', f'PATH=.:$PATH; {command}', cwd=t.folder,
                  check=False)
        t.equal(done.stdout + done.stderr, want.rstrip('\n') + '\n', command)


if __name__ == '__main__':
    main()
