#!/usr/bin/python3
"""docs/troubleshooting.md: each symptom is made to happen, and what the stock
client and the log say is what the page says."""
import os
import re
import shutil
import signal

from harness import (TOP, USER, Skip, append, authorize, case, connect,
                     keygen, main, public, run, sh, wait_for)

PAGE = os.path.join(os.environ.get('SRCDIR', '.'), 'docs/troubleshooting.md')
FENCE = r'```\n(.*?)```\n'


def sections():
    """{name of a symptom: (what the terminal shows, what the log says)}"""
    with open(PAGE) as f:
        found = re.findall(rf'<!-- ([^\n]*) -->\n{FENCE}(?:\n{FENCE})?',
                           f.read(), re.S)
    return {name: (shown, log) for name, shown, log in found}


def missing(lines, text):
    """The first of the page's lines that is not in text."""
    for line in lines.splitlines():
        here = re.sub(r'\bann\b', USER, line)
        here = re.sub(r'\bHOST\b(?! ID)|192\.0\.2\.7', '127.0.0.1', here)
        here = here.replace('/etc/adit/policy', '…/policy')
        pattern = '.*'.join(map(re.escape, here.split('…')))
        if not re.search(f'^{pattern}', text, re.M):
            return line
    return None


TOLD = set()


def symptom(name):
    """fn(t) makes it happen: what a terminal showed, and the server."""
    def register(fn):
        def check(t):
            got = fn(t)
            shown, srv = got if isinstance(got, tuple) else (got, None)
            want, log = sections()[name]
            line = missing(want, shown)
            t.true(line is None, f'{line!r} is not in:\n{shown}')
            if log:
                wait_for(lambda: not missing(log, srv.log()), 5,
                         lambda: f'{missing(log, srv.log())!r} is not in:\n'
                         f'{srv.log()}')
        TOLD.add(name)
        return case(name, 'aditd')(check)
    return register


STRICT = ('-o', 'ExitOnForwardFailure=yes')


def ssh(t, srv, *args, **kw):
    """What ssh says until it ends."""
    return t.ssh(srv, *args, **kw).stderr.decode()


def logs_in(t, srv, *args, **kw):
    return ssh(t, srv, '-W', '127.0.0.1:9', *args, **kw)


@symptom('unknown key')
def _(t):
    srv = t.server()
    return logs_in(t, srv, key='id2'), srv


@symptom('no key')
def _(t):
    srv = t.server()
    return logs_in(t, srv, '-o', 'PreferredAuthentications=password'), srv


@symptom('StrictModes')
def _(t):
    srv = t.server()
    os.chmod(f'/home/{USER}/.ssh', 0o777)
    t.undo.callback(os.chmod, f'/home/{USER}/.ssh', 0o755)
    return logs_in(t, srv), srv


@symptom('AllowUsers')
def _(t):
    srv = t.server('AllowUsers bob')
    return logs_in(t, srv), srv


@symptom('no such account')
def _(t):
    srv = t.server()
    return logs_in(t, srv, user='nosuch'), srv


@symptom('expired account')
def _(t):
    srv = t.server()
    return logs_in(t, srv, user='expired'), srv


@symptom('nologin')
def _(t):
    srv = t.server()
    append('/etc/nologin', 'Back at noon.\n')
    t.undo.callback(os.unlink, '/etc/nologin')
    return logs_in(t, srv), srv


@symptom('from')
def _(t):
    srv = t.server()
    authorize(USER, 'from="198.51.100.0/24" ' + public('id'))
    return logs_in(t, srv), srv


@symptom('too many keys')
def _(t):
    srv = t.server('MaxAuthTries 2')
    more = []
    for n in range(3):
        if not os.path.exists(f'{TOP}/more{n}'):
            keygen(f'more{n}')
        more += ['-i', f'{TOP}/more{n}']
    return logs_in(t, srv, *more, key='id2'), srv


@symptom('penalties')
def _(t):
    srv = t.server('PerSourcePenalties authfail:60s min:1s')
    logs_in(t, srv, key='id2')
    return logs_in(t, srv), srv


@symptom('MaxStartups')
def _(t):
    srv = t.server('MaxStartups 1:100:1')
    with connect(srv.port) as s:
        s.recv(1)
        return logs_in(t, srv), srv


@symptom('not running')
def _(t):
    srv = t.server()
    srv.stop()
    return logs_in(t, srv)


@symptom('host key changed')
def _(t):
    srv = t.server()
    if not os.path.exists(f'{TOP}/otherhost'):
        keygen('otherhost')
    known = f'{t.folder}/known'
    with open(known, 'w') as f:
        f.write(f'[127.0.0.1]:{srv.port} {public("otherhost")}')
    argv = t.argv(srv, '-W', '127.0.0.1:9', verbose=False)
    argv = [f'UserKnownHostsFile={known}' if a.startswith('UserKnown') else a
            for a in argv]
    return sh(*argv, check=False).stderr, srv


@symptom('no matching host key type')
def _(t):
    srv = t.server()
    return logs_in(t, srv, '-o', 'HostKeyAlgorithms=ssh-rsa'), srv


@symptom('no matching cipher')
def _(t):
    srv = t.server()
    return logs_in(t, srv, '-c', 'aes128-cbc'), srv


@symptom('short RSA')
def _(t):
    srv = t.server()
    if not os.path.exists(f'{TOP}/short'):
        sh('ssh-keygen', '-q', '-t', 'rsa', '-b', '1024', '-N', '', '-f',
           f'{TOP}/short')
    authorize(USER, public('short'))
    return logs_in(t, srv, key='short'), srv


@symptom('no PROXY header')
def _(t):
    srv = t.server('ProxyProtocolFrom 127.0.0.1')
    return logs_in(t, srv), srv


@symptom('PROXY header unexpected')
def _(t):
    srv = t.server('LogLevel VERBOSE')
    with connect(srv.port) as s:
        s.sendall(b'PROXY TCP4 192.0.2.7 192.0.2.1 4711 22\r\nSSH-2.0-x\r\n')
        return srv.wait_log('.*not an SSH 2 client')[0]


@symptom('MaxConnections')
def _(t):
    srv = t.server('MaxConnections 1')
    t.client(srv)
    return logs_in(t, srv), srv


@symptom('RefuseConnection')
def _(t):
    srv = t.server(f'Match User {USER}\nRefuseConnection yes')
    return logs_in(t, srv), srv


@symptom('PermitOpen')
def _(t):
    srv = t.server('PermitOpen intranet:80')
    return ssh(t, srv, '-W', 'db:5432'), srv


@symptom('DenyOpen')
def _(t):
    localhost()
    srv = t.server('DenyOpen 127.0.0.0/8:*')
    return ssh(t, srv, '-W', 'localhost:5432'), srv


@symptom('connection refused')
def _(t):
    localhost()
    srv = t.server()
    return ssh(t, srv, '-W', 'localhost:9'), srv


@symptom('no such name')
def _(t):
    srv = t.server()
    return ssh(t, srv, '-W', 'nosuch.invalid:9', timeout=60), srv


@symptom('local port taken')
def _(t):
    srv = t.server()
    target = t.target()
    return ssh(t, srv, '-N', *STRICT, '-L',
               f'127.0.0.1:{target.port}:localhost:9')


@symptom('PermitListen')
def _(t):
    srv = t.server('PermitListen 9000')
    return ssh(t, srv, '-N', *STRICT, '-R', '9001:localhost:9'), srv


@symptom('port taken')
def _(t):
    srv = t.server()
    target = t.target()
    t.target(host='::1', port=target.port)
    return ssh(t, srv, '-N', *STRICT, '-R', f'{target.port}:localhost:9'), srv


@symptom('port of a living session')
def _(t):
    srv = t.server()
    port = t.port()
    t.client(srv, '-R', f'{port}:localhost:9')
    return ssh(t, srv, '-N', *STRICT, '-R', f'{port}:localhost:9'), srv


@symptom('privileged port')
def _(t):
    srv = t.server()
    return ssh(t, srv, '-N', *STRICT, '-R', '80:localhost:9'), srv


@symptom('shell')
def _(t):
    srv = t.server()
    return ssh(t, srv, '-tt'), srv


@symptom('sftp')
def _(t):
    srv = t.server()
    argv = t.argv(srv, verbose=False)
    done = sh('sftp', *argv[1:argv.index('-p')], '-P', str(srv.port),
              f'{USER}@127.0.0.1', check=False)
    scp = sh('scp', *argv[1:argv.index('-p')], '-P', str(srv.port),
             '/etc/hosts', f'{USER}@127.0.0.1:', check=False)
    return done.stderr + scp.stderr, srv


@symptom('unix socket')
def _(t):
    srv = t.server('PermitOpen localhost:80')
    port = t.port()
    c = t.client(srv, '-L', f'{port}:/run/app.sock')
    with connect(port) as s:
        s.recv(1)
    c.wait_err('open failed')
    return c.said(), srv


@symptom('MaxChannels')
def _(t):
    srv = t.server('MaxChannels 1')
    echo = t.target()
    port = t.port()
    c = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    with connect(port), connect(port) as second:
        second.recv(1)
    c.wait_err('open failed')
    return c.said(), srv


def localhost():
    """Not every root has an /etc/hosts."""
    append('/etc/hosts', '127.0.0.1 localhost\n')


def tun():
    if not os.path.exists('/dev/net/tun'):
        raise Skip('no /dev/net/tun')


@symptom('-w without root')
def _(t):
    srv = t.server('PermitTunnel yes')
    argv = t.argv(srv, '-N', *STRICT, '-w', '0:0', verbose=False)
    for name in ('id', 'known_hosts'):
        shutil.copy(f'{TOP}/{name}', t.folder)
        os.chown(f'{t.folder}/{name}', 4002, 4002)
    argv = [a.replace(f'{TOP}/', f'{t.folder}/') for a in argv]
    return sh('setpriv', '--reuid=4002', '--regid=4002', '--clear-groups',
              *argv, check=False).stderr, srv


@symptom('PermitTunnel')
def _(t):
    tun()
    srv = t.server()
    return ssh(t, srv, '-N', *STRICT, '-w', '0:0'), srv


@symptom('no tun on the server')
def _(t):
    tun()
    srv = t.server('PermitTunnel yes', within=(
        'unshare', '--mount', 'sh', '-c',
        'mount -t tmpfs tmpfs /dev/net; exec "$0" "$@"'))
    return ssh(t, srv, '-N', *STRICT, '-w', '0:5'), srv


@symptom('unit in use')
def _(t):
    tun()
    srv = t.server('PermitTunnel yes')
    t.client(srv, '-w', '0:5')
    return ssh(t, srv, '-N', *STRICT, '-w', '1:5'), srv


@symptom('revoked')
def _(t):
    srv = t.server('ControlSocket /run/adit/control')
    c = t.client(srv)
    authorize(USER, public('id2'))
    srv.process.send_signal(signal.SIGHUP)
    c.wait()
    return c.said(), srv


@symptom('killed')
def _(t):
    srv = t.server('ControlSocket /run/adit/control')
    c = t.client(srv)
    run(f'{TOP}/aditctl', 'kill', 'user', USER)
    c.wait()
    return c.said(), srv


@symptom('SessionLifetime')
def _(t):
    srv = t.server('SessionLifetime 1')
    c = t.client(srv)
    c.wait()
    return c.said(), srv


@symptom('unused')
def _(t):
    srv = t.server('UnusedConnectionTimeout 1')
    c = t.client(srv)
    c.wait()
    return c.said(), srv


@symptom('interrupted')
def _(t):
    srv = t.server('ControlSocket /run/adit/control')
    c = t.client(srv)
    srv.process.send_signal(signal.SIGINT)
    c.wait()
    return c.said(), srv


@symptom('aditctl, nobody there')
def _(t):
    return sh(f'{TOP}/aditctl', 'status', check=False).stderr


@symptom('aditctl, not root')
def _(t):
    srv = t.server('ControlSocket /run/adit/control')
    return sh('setpriv', '--reuid=4002', '--regid=4002', '--clear-groups',
              f'{TOP}/aditctl', 'status', check=False).stderr, srv


@symptom('bad policy')
def _(t):
    srv = t.server('ControlSocket /run/adit/control')
    append(srv.policy, 'PermitOpen intranet\nMaxSessions many\n')
    return sh(f'{TOP}/aditctl', 'reload', check=False).stderr, srv


def starts(t, policy):
    with open(f'{t.folder}/policy', 'w') as f:
        f.write(policy)
    return sh(f'{TOP}/aditd', '-D', '-e', '-f', f'{t.folder}/policy',
              '-oPidFile=none', '-oControlSocket=none', check=False).stderr


@symptom('AuditLog')
def _(t):
    return starts(t, f'Port {t.port()}\nHostKey {TOP}/hostkey\n'
                  'AuditLog /var/log/adit/audit\n')


@symptom('no host key')
def _(t):
    return starts(t, f'Port {t.port()}\nHostKey {t.folder}/none\n')


@symptom('port in use at start')
def _(t):
    target = t.target()
    return starts(t, f'Port {target.port}\nListenAddress 127.0.0.1\n'
                  f'HostKey {TOP}/hostkey\n')


@case('every symptom of the page is made to happen', 'aditd')
def _(t):
    t.equal(sorted(set(sections()) ^ TOLD), [])


main()
