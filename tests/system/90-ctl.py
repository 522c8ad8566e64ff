#!/usr/bin/env python3
"""aditctl: what it shows, what it does, and who may."""
import json
import os
import pwd
import re
import socket
import subprocess
import time

from harness import (Failure, SLOW, TOP, USER, append, authorize, case,
                     connect, devices, keygen, main, processes, public, sh, talk,
                     wait_for)

CTL = f'{TOP}/aditctl'
SOCKET = '/run/adit/control'
CONTROL = f'ControlSocket {SOCKET}\n'
USERS = f'AllowUsers {USER} neighbour\n'


def schema():
    """docs/aditctl.md's tables: {command: {field: type}}."""
    path = os.path.join(os.environ.get('SRCDIR', '.'), 'docs/aditctl.md')
    found, current = {}, None
    with open(path) as f:
        for line in f:
            head = re.match(r'### `([\w.-]+)`', line)
            if head:
                current = found.setdefault(head[1], {})
            row = re.match(r'\| `(\w+)` \| ([\w ]+?) \|', line)
            if row and current is not None:
                current[row[1]] = row[2]
    return found


TYPES = {'text': str, 'number': int, 'bool': bool, 'list': list,
         'object': dict}


def fits(name, value, kind):
    kinds = kind.split(' or ')
    if value is None:
        good = 'null' in kinds
    else:
        good = any(type(value) is TYPES.get(k) for k in kinds)
    if not good:
        raise Failure(f'{name}: {value!r} is no {kind}')


def conforms(name, value, tables=None):
    tables = tables or schema()
    if name not in tables:
        raise Failure(f'docs/aditctl.md does not describe {name}')
    if set(value) != set(tables[name]):
        raise Failure(f'{name}: has {sorted(value)}, documented are '
                      f'{sorted(tables[name])}')
    for field, kind in tables[name].items():
        fits(f'{name}.{field}', value[field], kind)


def ctl(*words, check=0, prefix=(), timeout=20):
    done = subprocess.run([*prefix, CTL, *map(str, words)],
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=timeout * SLOW)
    if check is not None and done.returncode != check:
        raise Failure(f'aditctl {words}: {done.returncode}\n{done.stdout}'
                      f'{done.stderr}')
    return done


def ask(*words, **kw):
    return json.loads(ctl('--json', *words, **kw).stdout)


def sessions(*words):
    rows = ask('sessions', *words)['sessions']
    for row in rows:
        conforms('session', row)
    return rows


def forwards(*words):
    found = ask('forwards', *words)
    conforms('forwards', found)
    for row in found['forwards']:
        conforms('forward', row)
    return found['forwards']


def as_user(name, *groups):
    who = pwd.getpwnam(name)
    more = [f'--groups={",".join(map(str, groups))}'] if groups \
        else ['--clear-groups']
    return ['setpriv', f'--reuid={who.pw_uid}', f'--regid={who.pw_gid}',
            *more, '--']


@case('status: text and JSON', 'aditd')
def _(t):
    srv = t.server(CONTROL)
    text = ctl('status').stdout
    t.match(rf'^Process +{srv.pid}$', text)
    t.match(rf'^Listening +127.0.0.1:{srv.port}$', text)
    status = wait_for(lambda: (lambda s: s['accepting'] and s)(ask('status')),
                      10, 'it does not accept')
    conforms('status', status)
    t.equal(status['pid'], srv.pid)
    t.equal(status['sessions'], 0)
    t.equal(os.stat(SOCKET).st_mode & 0o7777, 0o600, 'no group adit')
    srv.stop()
    t.true(not os.path.exists(SOCKET), 'the socket is left')


@case('sessions: who, by which key, since when, how much', 'aditd')
def _(t):
    authorize(USER, public('id').replace(' id', ' of the laptop'))
    echo = t.target()
    port = t.port()
    srv = t.server(CONTROL)
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}', '-c',
             'aes256-gcm@openssh.com')
    t.client(srv, user='neighbour')
    row, other = sessions()
    t.equal(row['user'], USER)
    t.equal(other['user'], 'neighbour')
    t.equal(row['state'], 'open')
    t.equal(row['address'], '127.0.0.1')
    t.equal(row['comment'], 'of the laptop')
    t.equal(row['key_type'], 'ED25519')
    t.equal(row['key'], sh('ssh-keygen', '-lf',
                           f'{TOP}/id.pub').stdout.split()[1])
    t.equal(row['certificate'], None)
    t.equal(row['rule'], f'/home/{USER}/.ssh/authorized_keys:1')
    t.match(r'^SSH-2.0-OpenSSH', row['client'])
    t.equal(row['cipher'], 'aes256-gcm@openssh.com')
    t.true(abs(time.time() - row['since']) < 60 * SLOW, 'since when?')
    before = row['bytes_up']
    t.equal(len(talk(port, b'x' * 100000)), 100000)
    row = sessions()[0]
    t.true(100000 <= row['bytes_up'] - before < 120000, f'{row} {before}')
    t.true(row['bytes_down'] >= 100000, f'{row}')
    text = ctl('sessions').stdout
    t.match(rf'^1 +{USER} +127.0.0.1 .*aes256-gcm', text)
    t.match(r' of the laptop$', text)


@case('sessions: one that logs in is shown with --all', 'aditd')
def _(t):
    srv = t.server(CONTROL)
    with connect(srv.port) as s:
        s.recv(100)
        row = wait_for(lambda: sessions('--all'), 5, 'no session')[0]
        t.equal((row['state'], row['user']), ('login', None))
        t.equal(sessions(), [])
        t.match('^State +login', ctl('show', row['id']).stdout)
        ctl('kill', row['id'])
        s.settimeout(10 * SLOW)
        while s.recv(1000):
            pass
    t.equal(sessions('--all'), [])


@case('a certificate: its ID, serial and CA', 'aditd')
def _(t):
    keygen('ca')
    keygen('certified')
    sh('ssh-keygen', '-q', '-s', f'{TOP}/ca', '-I', 'an ID', '-z', '42',
       '-n', USER, f'{TOP}/certified.pub')
    srv = t.server(f'{CONTROL}TrustedUserCAKeys {TOP}/ca.pub')
    t.client(srv, key='certified')
    row, = sessions()
    conforms('certificate', row['certificate'])
    t.equal(row['certificate']['id'], 'an ID')
    t.equal(row['certificate']['serial'], 42)
    t.match('^ED25519 SHA256:', row['certificate']['ca'])
    t.equal(row['key_type'], 'ED25519-CERT')
    t.equal(row['rule'], f'{TOP}/ca.pub:1')
    t.match('^Serial +42', ctl('show', row['id']).stdout)


@case('forwards: each channel and listener with its bytes', 'aditd')
def _(t):
    echo = t.target()
    local, remote = t.port(), t.port()
    srv = t.server(CONTROL)
    t.client(srv, '-L', f'{local}:localhost:{echo.port}', '-R',
             f'{remote}:127.0.0.1:{echo.port}')
    with connect(local) as a, connect(remote) as b:
        for s in (a, b):
            s.sendall(b'y' * 5000)
            t.equal(len(s.recv(5000, socket.MSG_WAITALL)), 5000)
        rows = {row['kind']: row for row in forwards()}
        t.equal(sorted(rows), ['direct-tcpip', 'forwarded-tcpip',
                               'tcpip-forward'])
        row = rows['direct-tcpip']
        t.equal((row['user'], row['host'], row['port'], row['bytes_up'],
                 row['bytes_down']),
                (USER, 'localhost', echo.port, 5000, 5000))
        t.match(r'^(127.0.0.1|::1)$', row['address'])
        t.equal(rows['tcpip-forward']['bytes_up'], None)
        t.equal(rows['tcpip-forward']['port'], remote)
        t.equal(rows['forwarded-tcpip']['bytes_up'], 5000)
        one = ask('show', row['id'])
        conforms('forward', one)
        t.equal(one['id'], row['id'])
        shown = ask('show', row['session'])
        conforms('show', shown)
        t.equal(len(shown['forwards']), 3)
        t.match(r'direct-tcpip +localhost', ctl('show', 1).stdout)
        limits = {use['limit']: use for use in shown['limits']}
        t.equal((limits['MaxChannels']['now'], limits['MaxListeners']['now']),
                (2, 1))
        # close a channel, then the listener
        ctl('close', row['id'])
        t.equal(a.recv(10), b'')
        ctl('close', rows['tcpip-forward']['id'])
        t.equal([r['kind'] for r in forwards()], ['forwarded-tcpip'])
        t.equal(talk(remote), b'')
        done = ctl('close', row['id'], check=1)
        t.match('aditctl forwards', done.stderr)
        b.sendall(b'still')
        t.equal(b.recv(5, socket.MSG_WAITALL), b'still')
    srv.wait_log(r'control: root \(uid 0, process \d+\): close 1\.')
    srv.wait_log('closing direct-tcpip to localhost.*told to by aditctl')


@case('tunnels: devices and what they counted; close takes one away', 'aditd')
def _(t):
    t.tun_node()
    srv = t.server(f'{CONTROL}PermitTunnel yes\nTunnelAddress 10.9.0.1/24')
    t.client(srv, '-w', 'any:any', user='root')
    found = ask('tunnels')
    conforms('tunnels', found)
    row, = found['tunnels']
    conforms('tunnel', row)
    t.match('^tun', row['device'])
    t.equal(row['user'], 'root')
    t.true(row['device'] in devices(), 'no such device')
    t.equal(type(row['bytes_up']), int, 'its bytes')
    t.match(row['device'], ctl('tunnels').stdout)
    conforms('tunnel', ask('show', row['id']))
    ctl('close', row['id'])
    wait_for(lambda: not ask('tunnels')['tunnels'], 5, 'it is still there')


@case('kill: by session, user and key; the client reads why', 'aditd')
def _(t):
    authorize('neighbour', public('id2'))
    srv = t.server(CONTROL)
    one = t.client(srv)
    two = t.client(srv)
    three = t.client(srv, user='neighbour', key='id2')
    ctl('kill', sessions()[0]['id'])
    one.wait()
    t.match('ended by the administrator', one.err())
    t.equal(len(sessions()), 2)
    t.equal(ask('kill', 'user', USER)['count'], 1)
    two.wait()
    fingerprint = sessions()[0]['key']
    t.match('^1 session ended$', ctl('kill', 'key', fingerprint).stdout)
    three.wait()
    t.equal(sessions(), [])
    for words in (('7',), ('user', USER), ('key', fingerprint)):
        t.match('aditctl sessions', ctl('kill', *words, check=1).stderr)
    srv.wait_log(rf'control: root \(uid 0, process \d+\): kill user {USER}$')


@case('kill: a session whose broker is stopped ends, too', 'aditd')
def _(t):
    srv = t.server(CONTROL)
    client = t.client(srv)
    broker, = processes('adit-broker')
    os.kill(broker.pid, 19)
    started = time.monotonic()
    found = ask('forwards')
    t.equal(found['silent'], [1])
    t.match('does not answer', ctl('forwards').stderr)
    t.true(time.monotonic() - started < 8 * SLOW, 'it took too long')
    ctl('kill', '1')
    client.wait()
    wait_for(lambda: not processes('adit-broker'), 5, 'a broker is left')


@case('a wrong use: status 2, and help', 'aditd')
def _(t):
    for words in ((), ('nothing',), ('show',), ('show', 'x'), ('kill',),
                  ('close', '1'), ('kill', 'user'), ('close', '1.2.3'),
                  ('drain', '--timeout'), ('log-level', 'LOUD'),
                  ('sessions', 'x'), ('watch', '-i', '0'), ('-x', 'status'),
                  ('forwards', '1', '2'), ('show', '99999999999')):
        t.match('aditctl', ctl(*words, check=2).stderr)
    t.match('kill', ctl('--help').stdout)


@case('no daemon: status 3, and what to do', 'aditd')
def _(t):
    done = ctl('-s', '/run/nothing', 'status', check=3)
    t.match('Is aditd running', done.stderr)
    done = ctl('--json', '-s', '/run/nothing', 'status', check=3)
    t.match('No such file', json.loads(done.stdout)['error'])
    srv = t.server(CONTROL)
    os.kill(srv.pid, 9)
    srv.process.wait()
    t.match('start aditd', ctl('status', check=3).stderr)
    wait_for(lambda: not processes('adit-keyholder'), 5, 'roles are left')
    # what it left is replaced; what a living one has is not
    srv = t.server(CONTROL)
    ctl('status')
    other = t.server(CONTROL, wait=False)
    wait_for(lambda: other.process.poll() is not None, 10, 'it serves')
    t.match(rf'{SOCKET} is that of process {srv.pid}', other.log())
    ctl('status')
    with open('/run/adit/plain', 'w'):
        pass
    other = t.server('ControlSocket /run/adit/plain', wait=False)
    wait_for(lambda: other.process.poll() is not None, 10, 'it serves')
    t.true(os.path.isfile('/run/adit/plain'), 'a file was removed')


@case('group adit may, others may not', 'aditd')
def _(t):
    append('/etc/group', 'adit:x:4200:\n')
    srv = t.server(CONTROL)
    st = os.stat(SOCKET)
    t.equal((st.st_mode & 0o7777, st.st_uid, st.st_gid), (0o660, 0, 4200))
    ctl('status', prefix=as_user('neighbour', 4200))
    done = ctl('status', prefix=as_user('neighbour'), check=3)
    t.match('usermod -aG adit', done.stderr)
    # past the file's mode: the daemon looks itself
    os.chmod(SOCKET, 0o666)
    done = ctl('status', prefix=as_user('neighbour'), check=4)
    srv.wait_log('security: uid 4002 may not control us')
    t.client(srv)
    ctl('kill', 1, prefix=as_user('neighbour', 4200))
    srv.wait_log(r'control: neighbour \(uid 4002, process \d+\): kill')
    sh('sed', '-i', '/^adit:/d', '/etc/group')


@case('an ordinary user has a socket of his own', 'aditd')
def _(t):
    who = pwd.getpwnam(USER)
    run = f'{t.folder}/run'
    os.mkdir(run)
    os.chown(run, who.pw_uid, who.pw_gid)
    os.environ['XDG_RUNTIME_DIR'] = run
    try:
        srv = t.server('# the default of ControlSocket\n', user=USER)
        t.equal(ask('status', prefix=as_user(USER))['pid'], srv.pid)
        t.equal(os.stat(f'{run}/adit/control').st_mode & 0o7777, 0o600)
        ctl('-s', f'{run}/adit/control', 'status',
            prefix=as_user('neighbour'), check=3)
        srv.stop()
        t.true(not os.path.exists(f'{run}/adit/control'), 'it is left')
    finally:
        del os.environ['XDG_RUNTIME_DIR']


if __name__ == '__main__':
    main()
