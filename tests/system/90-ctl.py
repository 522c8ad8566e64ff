#!/usr/bin/python3
"""aditctl: what it shows, what it does, and who may."""
import contextlib
import json
import os
import pwd
import random
import re
import signal
import socket
import struct
import subprocess
import threading
import time

from bounds import cpu_s
from harness import (Failure, SLOW, TOP, USER, append, authorize, case,
                     connect, devices, keygen, main, need, processes,
                     public, run, sh, talk, wait_for)
from minimal import raw

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


def group_adit(t):
    """Whose members may control the server; for this case."""
    t.keep('/etc/group')
    append('/etc/group', 'adit:x:4200:\n')


@case('status: text and JSON', 'aditd')
def _(t):
    srv = t.server(CONTROL)
    text = ctl('status').stdout
    t.match(rf'^Process +{srv.pid}$', text)
    t.match(rf'^Listening +127.0.0.1:{srv.port}$', text)
    wait_for(lambda: ask('status')['accepting'], 10, 'it does not accept')
    status = ask('status')
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
    wait_for(lambda: ask('tunnels')['tunnels'], 10, 'no tunnel')
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
    group_adit(t)
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


def own_run(t):
    """USER's XDG_RUNTIME_DIR, for this case."""
    who = pwd.getpwnam(USER)
    run = f'{t.folder}/run'
    os.mkdir(run)
    os.chown(run, who.pw_uid, who.pw_gid)
    os.environ['XDG_RUNTIME_DIR'] = run
    t.undo.callback(os.environ.pop, 'XDG_RUNTIME_DIR')
    return run


@case('an ordinary user has a socket of his own', 'aditd')
def _(t):
    run = own_run(t)
    srv = t.server('# the default of ControlSocket\n', user=USER)
    wait_for(lambda: ask('status', prefix=as_user(USER))['accepting'],
             10, 'it does not accept')
    t.equal(ask('status', prefix=as_user(USER))['pid'], srv.pid)
    t.match('^allowed: login', ctl(
        'explain', '-C', f'user={USER},addr=127.0.0.1', 'login',
        f'{TOP}/id.pub', prefix=as_user(USER)).stdout)
    client = t.client(srv)
    ctl('kill', 1, prefix=as_user(USER))
    client.wait()
    t.equal(os.stat(f'{run}/adit/control').st_mode & 0o7777, 0o600)
    ctl('-s', f'{run}/adit/control', 'status',
        prefix=as_user('neighbour'), check=3)
    srv.stop()
    t.true(not os.path.exists(f'{run}/adit/control'), 'it is left')


@case('an aditctl for which no descriptor is left has to wait', 'aditd')
def _(t):
    who, me = pwd.getpwnam(USER), as_user(USER)
    run = f'{t.folder}/run'
    os.mkdir(run)
    os.chown(run, who.pw_uid, who.pw_gid)
    srv = t.server(f'ControlSocket {run}/control', user=USER)
    own = {int(n) for n in os.listdir(f'/proc/{srv.pid}/fd')}
    least = next(n for n in range(1024) if n not in own)

    def set_limit(n):
        sh(*me, 'prlimit', f'--nofile={n}:', '--pid', str(srv.pid))
    set_limit(least)
    with control_socket(f'{run}/control') as s:
        s.send(message(1, 1))
        before = cpu_s(srv.pid)
        time.sleep(1)  # is there nothing that it does all the time?
        t.true(cpu_s(srv.pid) - before < 0.3, 'it is busy')
        set_limit(1024)
        t.true(s.recv(1000), 'no answer')


# ---- limits and penalties ----

def limits():
    found = ask('limits')
    conforms('limits', found)
    for row in found['limits']:
        conforms('limit', row)
    return {(row['limit'], row['session'], row['of']): row
            for row in found['limits']}


def pour(s, done):
    with contextlib.suppress(OSError):
        while not done.is_set():
            s.sendall(b'z' * 65536)


def drain(s, done):
    """Read, elsewhere."""
    def read():
        with contextlib.suppress(OSError):
            while not done.is_set() and s.recv(65536):
                pass
    threading.Thread(target=read, daemon=True).start()


@case('limits: what is used, and what was refused', 'aditd')
def _(t):
    srv = t.server(f'{CONTROL}MaxConnections 1\nMaxStartups 5\n'
                   'PerSourceMaxStartups 2\nMaxChannels 2\n'
                   'PermitOpen 127.0.0.1:*')
    echo = t.target()
    port, closed = t.port(), t.port()
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}', '-L',
             f'{closed}:127.0.0.2:1')
    t.match('too many connections',
            t.ssh(srv, '-N').stderr.decode(), 'a second connection')
    with connect(port) as a, connect(port) as b:
        for s in (a, b):
            s.sendall(b'1')
            s.recv(1)
        t.equal(talk(port), b'')
        t.equal(talk(closed), b'')
        found = limits()
        one = found['MaxChannels', 1, USER]
        t.equal((one['now'], one['max']), (2, 2))
        t.equal(found['policy', 1, USER]['refused'], 2)
        one = found['MaxConnections', None, USER]
        t.equal((one['now'], one['max']), (1, 1))
        t.equal(found['MaxConnections', None, None]['refused'], 1)
    with connect(srv.port) as a, connect(srv.port) as b:
        for s in (a, b):
            s.recv(20)
        with connect(srv.port) as c:
            t.match('Exceeded', c.recv(100).decode())
        found = limits()
        t.equal(found['MaxStartups', None, None]['now'], 2)
        t.equal(found['PerSourceMaxStartups', None, '127.0.0.1']['now'], 2)
        t.equal(found['PerSourceMaxStartups', None, None]['refused'], 1)
    ctl('kill', 1)
    wait_for(lambda: limits()['policy', None, None]['refused'] == 2, 5,
             'what a session was refused is forgotten')
    t.match(r'^MaxStartups .* 5 +0$', ctl('limits').stdout)


@case('limits: RateLimit, what is used of it and what each may', 'aditd')
def _(t):
    srv = t.server(f'{CONTROL}RateLimit session up 2M/s user down 1M/s\n'
                   'Match User neighbour\nRateLimit none')
    done = threading.Event()
    source = t.target(lambda s: pour(s, done))
    port = t.port()
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{source.port}')
    t.client(srv, user='neighbour')
    up, down = ((f'RateLimit {way}', 1, USER) for way in ('up', 'down'))
    t.equal((limits()[up]['max'], limits()[down]['max']), (2 << 20, 1 << 20))
    t.equal([key[1] for key in limits() if 'RateLimit' in key[0]], [1, 1])
    with connect(port) as s:
        drain(s, done)
        use = wait_for(lambda: (now := limits())[down]['now'] > 400000 and
                       now, 20, lambda: f'{limits()}')
        done.set()
    t.true(use[down]['now'] < 1.5 * (1 << 20), f'{use[down]}')
    t.true(use[up]['now'] < 100000, f'{use[up]}')
    t.equal((use[up]['refused'], use[down]['refused']), (None, None))
    second = t.client(srv)
    wait_for(lambda: limits()[down]['max'] == 1 << 19, 5, 'not divided')
    second.stop()
    wait_for(lambda: limits()[down]['max'] == 1 << 20, 5, 'still divided')
    t.match(rf'RateLimit down +1 +{USER} ', ctl('show', 1).stdout)
    client.stop()


@case('penalties: listed, and cleared', 'aditd')
def _(t):
    srv = t.server(f'{CONTROL}PerSourcePenalties authfail:100s min:10s\n'
                   'PerSourceNetBlockSize 24')
    t.true(not t.logs_in(srv, key='id2'), 'it logs in')

    def listed():
        found = ask('penalties')
        conforms('penalties', found)
        for row in found['penalties']:
            conforms('penalty', row)
        return found['penalties']
    row = wait_for(listed, 5, 'no penalty')[0]
    t.equal((row['source'], row['kept_out'], row['why']),
            ('127.0.0.0/24', True, 'failed authentication'))
    t.true(80 < row['left_s'] <= 100, f'{row}')
    t.true(not t.logs_in(srv), 'it gets in')
    t.equal(limits()['PerSourcePenalties', None, None]['refused'], 1)
    t.match('^127.0.0.0/24 +yes', ctl('penalties').stdout)
    ctl('penalties', 'clear', '192.0.2.7', check=1)
    ctl('penalties', 'clear', 'nonsense', check=1)
    t.equal(ask('penalties', 'clear', '127.0.0.1'), {'cleared': 1})
    t.true(t.logs_in(srv), 'it is kept out')
    t.equal(listed(), [])
    t.true(not t.logs_in(srv, key='id2'), 'it logs in')
    wait_for(listed, 5, 'no penalty')
    ctl('penalties', 'clear', row['source'])
    t.equal(listed(), [])
    t.match('^0 cleared', ctl('penalties', 'clear').stdout)
    srv.wait_log('control: root .*: penalties clear 127.0.0.1')


# ---- the daemon ----

@case('reload: a good policy, and a bad one with its errors', 'aditd')
def _(t):
    srv = t.server(CONTROL + USERS)
    t.true(t.logs_in(srv), 'before')
    with open(srv.policy, 'w') as f:
        f.write(f'{CONTROL}DenyUsers {USER}\n')
    ctl('reload')
    t.true(not t.logs_in(srv), 'the old policy holds')
    with open(srv.policy, 'a') as f:
        f.write('MaxChannels many\n')
    done = ctl('reload', check=1)
    t.match(rf'^aditctl: {srv.policy}:3:13: MaxChannels', done.stderr)
    t.match('the old policy stays in force', done.stderr)
    done = ask('reload', check=1)
    t.equal(len(done['lines']), 2)
    t.equal(ask('status')['reloads'], 1)
    srv.wait_log(r'control: root \(uid 0, process \d+\): reload$')
    srv.wait_log('Told to reload; new connections use the new policy')


@case('reload: it is answered when the new policy holds', 'aditd')
def _(t):
    srv = t.server(CONTROL)
    for n in range(6):
        with open(srv.policy, 'w') as f:
            f.write(CONTROL + (f'DenyUsers {USER}\n' if n % 2 == 0 else ''))
        ctl('reload')
        t.equal(t.logs_in(srv), n % 2 == 1, 'a login right after a reload')


@case('reload: that no process of the new policy starts is said', 'aditd')
def _(t):
    own_run(t)
    srv = t.server('# the default of ControlSocket\n', user=USER)
    me = as_user(USER)
    wait_for(lambda: ask('status', prefix=me)['accepting'], 10,
             'it does not accept')
    sh(*me, 'prlimit', '--nproc=1', '--pid', str(srv.pid))
    done = ctl('--json', 'reload', prefix=me, check=1, timeout=40)
    for said in (done.stderr, json.loads(done.stdout)['error']):
        t.match('the new policy do not start', said)


@case('log-level: of every process, until a reload', 'aditd')
def _(t):
    echo = t.target()
    port = t.port()
    srv = t.server(CONTROL)
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    t.true('Connection from' not in srv.log(), 'it is verbose')
    ctl('log-level', 'debug3')
    t.equal(ask('status')['log_level'], 'DEBUG3')
    t.true(t.logs_in(srv), 'no login')
    srv.wait_log('Connection from')          # the listener
    t.true(not t.logs_in(srv, key='id2'), 'it logs in')
    srv.wait_log(f'Failed publickey for {USER} ')
    srv.wait_log('Disconnected from user')  # both are over
    srv.wait_log('Connection closed by .*preauth')
    ctl('log-level', 'QUIET')
    forwards()  # the broker has heard of it, too
    size = len(srv.log())
    t.equal(talk(port), b'through the tunnel')
    ctl('kill', 1)
    wait_for(lambda: not processes('adit-broker'), 5, 'its broker is left')
    t.equal(srv.log()[size:], '')
    ctl('reload')
    t.equal(ask('status')['log_level'], 'INFO')
    t.equal(ask('status')['log_level_set'], False)


@case('log-level: a broker that was stopped hears all of it', 'aditd')
def _(t):
    port = t.port()
    srv = t.server(f'{CONTROL}PermitOpen none')
    t.client(srv, '-L', f'{port}:127.0.0.1:9')
    broker, = processes('adit-broker')
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        # more than its socket takes: what is behind waits in the listener
        with control_socket() as s:
            for n in range(320):
                s.send(message(LOG_LEVEL, n) + bytes([n >= 300 and 3]))
                s.recv(1000)
    finally:
        os.kill(broker.pid, signal.SIGCONT)

    def refusal():
        talk(port)
        return 'refused direct-tcpip' in srv.log()
    wait_for(refusal, 10, 'it is still quiet')


@case('drain: no new connections; it stops with the last one', 'aditd')
def _(t):
    srv = t.server(CONTROL)
    client = t.client(srv)
    drain = subprocess.Popen([CTL, 'drain'], stdout=subprocess.PIPE,
                             text=True)
    t.undo.callback(drain.kill)
    t.match('1 connection is left', drain.stdout.readline())
    t.true(ask('status')['draining'], 'it does not drain')
    try:
        connect(srv.port).close()
        raise Failure('it accepts')
    except ConnectionRefusedError:
        pass
    t.equal(len(sessions()), 1)
    client.stop()
    t.match('drained', drain.communicate(timeout=20 * SLOW)[0])
    t.equal(drain.returncode, 0)
    t.equal(srv.process.wait(10 * SLOW), 0)
    t.true(not os.path.exists(SOCKET), 'the socket is left')


@case('drain --timeout: then those that are left are ended', 'aditd')
def _(t):
    srv = t.server(CONTROL)
    client = t.client(srv)
    started = time.monotonic()
    ctl('drain', '--timeout', '2', timeout=40)
    t.true(time.monotonic() - started > 1.5, 'too early')
    client.wait()
    t.match('the server is stopped', client.err())
    t.equal(srv.process.wait(10 * SLOW), 0)


@case('explain: by the policy in force, with its exit status', 'aditd')
def _(t):
    srv = t.server(f'{CONTROL}PermitOpen 127.0.0.1:80 127.0.0.0/8:82\n'
                   'ListenTakeover always\nRateLimit session 5M/s')
    wait_for(lambda: ask('status')['accepting'], 10, 'it does not accept')
    spec = ('-C', f'user={USER},addr=192.0.2.1')
    text = ctl('explain', *spec, 'open', '127.0.0.1:80').stdout
    t.match(rf'^allowed: direct-tcpip to 127.0.0.1 port 80 for {USER}', text)
    t.match(rf'{srv.policy}:2', text)
    t.match('^allowed: direct-tcpip to localhost port 82', ctl(
        'explain', *spec, 'open', 'localhost:82').stdout)
    with open(srv.policy, 'w') as f:  # not read
        f.write('PermitOpen any\n')
    t.match('^refused:', ctl('explain', *spec, 'open', '127.0.0.1:81',
                             check=1).stdout)
    t.match('^allowed: login', ctl(
        'explain', *spec, 'login', f'{TOP}/id.pub').stdout)
    t.match('^refused: login', ctl(
        'explain', *spec, 'login', f'{TOP}/id2.pub', check=1).stdout)
    text = ctl('explain', '-C', f'user={USER},key={TOP}/id.pub', 'listen',
               '8080').stdout
    t.match('^allowed: tcpip-forward', text)
    t.match(rf'{srv.policy}:3 +ListenTakeover always: .*\n'
            rf' +{srv.policy}:4 +RateLimit session up {5 << 20}/s '
            rf'down {5 << 20}/s$', text)
    t.match('not HOST:PORT', ctl('explain', *spec, 'open', 'x',
                                 check=2).stderr)
    ctl('explain', *spec, 'login', '/nothing', check=2)
    found = ask('explain', '--no-dns', *spec, 'open', '127.0.0.1:80')
    conforms('explain', found)
    t.equal(found['allowed'], True)
    # the daemon opens no file that it is told
    group_adit(t)
    t.true('root' not in ctl('explain', '-C',
                             f'user={USER},key=/etc/shadow', 'listen', '80',
                             prefix=as_user('neighbour'),
                             check=2).stderr, 'it read a file')


EXPLAIN = 12  # enum edge_control_msg, as those below


def ask_explain(s, request):
    """Returns where the answer comes, or None and why it does not."""
    words = b''.join(struct.pack('>I', len(w)) + w for w in
                     (f'user={USER}'.encode(), b''))
    what = b'listen\0008080\0'
    s.send(message(EXPLAIN, request) + words + b'\0' +
           struct.pack('>I', len(what)) + what)
    first, fds, *_ = socket.recv_fds(s, 4096, 1)
    if not fds:
        return None, first.decode(errors='replace')
    s.recv(4096)  # DONE
    return os.fdopen(fds[0], 'rb'), None


@case('explain: eight at once, also of those that did not wait', 'aditd')
def _(t):
    t.server(CONTROL)
    wait_for(lambda: ask('status')['accepting'], 10, 'it does not accept')
    spec = ('-C', f'user={USER}', 'listen', '8080')
    zygote, = processes('adit-brokerzyg')
    with contextlib.ExitStack() as stack:
        os.kill(zygote.pid, signal.SIGSTOP)
        stack.callback(os.kill, zygote.pid, signal.SIGCONT)
        with control_socket() as s:  # all from one, which goes
            for n in range(7):
                ask_explain(s, n)[0].close()
        s = stack.enter_context(control_socket())
        answer, _ = ask_explain(s, 1)
        t.match('explained already', ask_explain(s, 2)[1])
        done = ctl('explain', *spec, check=4)
        t.match(r'explained already \(8\); try again', done.stderr)
        t.equal(len(sessions()), 0, 'nothing else can be asked')
    # each makes room when it is over
    with answer:
        t.match('^allowed: tcpip-forward', answer.read().decode())
    wait_for(lambda: ctl('explain', *spec, check=None).returncode == 0, 10,
             'no room')
    for _ in range(20):
        ctl('explain', *spec)


# ---- hostile text, many, slow ----

EVIL = '\x1b]0;owned\x07\x1b[2J\\ "quoted", {brace}\x7f'


@case('hostile names, comments and versions break neither table nor JSON',
      'aditd')
def _(t):
    name = 'a\x1b[2Jb"c'
    for path, line in (('passwd', f'{name}:x:4010:4010::/home/evil:/bin/sh'),
                       ('shadow', f'{name}:*:1::::::')):
        append(f'/etc/{path}', line + '\n')
    key = public('id').split()
    os.makedirs('/home/evil/.ssh', exist_ok=True)
    with open('/home/evil/.ssh/authorized_keys', 'wb') as f:
        f.write(f'{key[0]} {key[1]} {EVIL}'.encode() + b'\xff\xc3\xbc\n')
    for path in ('/home/evil', '/home/evil/.ssh',
                 '/home/evil/.ssh/authorized_keys'):
        os.chown(path, 4010, 4010)
    srv = t.server(CONTROL)
    version = b'SSH-2.0-x\\"\'{}[2J;`id`'
    with raw(srv, user=name, version=version) as c:
        row, = sessions()
        t.equal(row['user'], name)
        t.equal(row['client'], version.decode())
        t.match(r'owned.*\\377', row['comment'])
        for words in (('sessions',), ('show', 1), ('limits',),
                      ('watch', '-n', '1')):
            text = ctl(*words).stdout
            t.true(all(' ' <= ch <= '~' or ch == '\n' for ch in text),
                   f'{words}: {text!r}')
            t.match(r'a\\033\[2Jb"c', text)
        text = ctl('--json', 'sessions').stdout
        t.true(all(' ' <= ch <= '\x7f' or ch == '\n' for ch in text),
               f'{text!r}')
        t.equal(len(ctl('sessions').stdout.splitlines()), 2)
        t.equal(ask('kill', 'user', name)['count'], 1)
        c.close()


@case('200 idle sessions', 'aditd', timeout=180)
def _(t):
    srv = t.server(f'{CONTROL}LoginGraceTime 0')
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(raw(srv))
        started = time.monotonic()
        rows = sessions()
        t.equal([row['id'] for row in rows], list(range(1, 201)))
        t.equal(len(ctl('sessions').stdout.splitlines()), 201)
        t.equal(forwards(), [])
        t.equal(len([u for u in ask('limits')['limits']
                     if u['limit'] == 'MaxChannels']), 200)
        print(f'# four times all of 200 sessions: '
              f'{time.monotonic() - started:.2f} s')
        t.equal(ask('kill', 'user', USER)['count'], 200)
        t.equal(sessions('--all'), [])


def message(kind, request, *words):
    """A request as aditctl sends it."""
    return struct.pack('>BHI', 1, kind, request) + b''.join(
        struct.pack('>I', w) for w in words)


SESSIONS, THINGS, LOG_LEVEL = 2, 3, 10  # enum edge_control_msg


def control_socket(path=SOCKET):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(60 * SLOW)
    s.connect(path)
    return s


@case('an aditctl that never reads, asks twice, or asks nonsense', 'aditd',
      timeout=120)
def _(t):
    srv = t.server(CONTROL)
    t.client(srv)
    with control_socket() as s:
        s.send(message(SESSIONS, 1, 0) + b'x')
        t.equal(s.recv(100), b'')
    broker, = processes('adit-broker')
    os.kill(broker.pid, signal.SIGSTOP)
    try:  # two at once: of the first one the broker's answer is waited for
        with control_socket() as s:
            for n in (1, 2):
                s.send(message(THINGS, n, 0))
            t.equal(s.recv(100), b'')
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    srv.wait_log('a request before the last one was answered')
    with contextlib.ExitStack() as stack:
        stuck = stack.enter_context(control_socket())
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        stuck.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                stuck.send(message(SESSIONS, 1, 0))
        srv.wait_log(r'control: root \(uid 0, process \d+\) does not read: '
                     'dropped', 20)
    # it does not matter to others
    t.equal(len(sessions()), 1)
    rng = random.Random(int(os.environ.get('ADIT_SEED', '1')))
    for n in range(300):
        with control_socket() as s:
            body = rng.randbytes(rng.randrange(60))
            s.send(body if n % 2 else message(rng.choice(
                [1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 99]), n) + body)
            s.settimeout(0.02)
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                while s.recv(100):
                    pass
    t.equal(len(sessions()), 1)
    # no more than so many at once
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(control_socket()) for _ in range(16)]
        for s in many:
            s.send(message(1, 1))
            s.recv(1000)
        ctl('status', check=4)
        srv.wait_log('too many aditctl at once')
    ctl('status')


# ---- watch ----

@case('watch: plain lines where there is no terminal', 'aditd')
def _(t):
    echo = t.target()
    port = t.port()
    srv = t.server(CONTROL)
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    watch = subprocess.Popen([CTL, 'watch', '-i', '1', '-n', '3'],
                             stdout=subprocess.PIPE, text=True)
    t.undo.callback(watch.kill)
    watch.stdout.readline()
    talk(port, b'z' * 300000)
    text = watch.communicate(timeout=30 * SLOW)[0]
    t.equal(watch.returncode, 0)
    t.true('\x1b' not in text, 'it draws')
    t.match(rf'^1 +{USER} +127.0.0.1 +\d+s +[\d.]+K/s +[\d.]+K/s', text)
    rows = [json.loads(line) for line in
            ctl('--json', 'watch', '-i', 1, '-n', 2).stdout.splitlines()]
    t.equal(len(rows), 2)
    for row in rows:
        conforms('watch', row)
    t.equal(rows[0]['sessions'][0]['rate_up'], None)
    t.equal(type(rows[1]['sessions'][0]['rate_up']), int)


@case('watch: redrawn in a terminal, resized, ended by ^C', 'aditd')
def _(t):
    tmux = [need('tmux'), '-S', f'{t.folder}/tmux', '-f', '/dev/null']
    srv = t.server(CONTROL)
    t.client(srv)
    env = dict(os.environ, TERM='xterm', LC_ALL='C.UTF-8')

    def screen():
        return run(*tmux, 'capture-pane', '-p', env=env)

    def on_screen(pattern):
        return lambda: re.search(pattern, screen(), re.M)
    run(*tmux, 'new-session', '-d', '-x', '100', '-y', '20', '/bin/sh',
        env=env)
    t.undo.callback(sh, *tmux, 'kill-server', check=False)
    run(*tmux, 'set-option', '-g', 'window-size', 'manual', env=env)
    run(*tmux, 'send-keys', f'echo before; {CTL} watch -i 1', 'Enter',
        env=env)
    wait_for(on_screen(rf'^1 +{USER} '), 15, 'no table')
    t.match(r'^\d\d:\d\d:\d\d  1 sessions', screen())
    second = t.client(srv, user='neighbour')
    wait_for(on_screen('^2 +neighbour '), 15, 'not redrawn')
    second.stop()
    wait_for(lambda: 'neighbour' not in screen(), 15, 'it is still drawn')
    run(*tmux, 'resize-window', '-x', '40', '-y', '10', env=env)
    wait_for(lambda: len(screen().splitlines()) <= 10 and
             on_screen(rf'^1 +{USER}')(), 15, 'not resized')
    t.true(all(len(line) <= 40 for line in screen().splitlines()), 'wrapped')
    run(*tmux, 'send-keys', 'C-c', env=env)
    wait_for(lambda: 'sessions' not in screen() and 'before' in screen(), 15,
             lambda: f'not as it was before:\n{screen()}')
    run(*tmux, 'send-keys', 'echo status=$?', 'Enter', env=env)
    wait_for(on_screen('^status=0'), 15, 'no clean end')
    run(*tmux, 'send-keys', f'{CTL} watch -i 1', 'Enter', env=env)
    wait_for(on_screen(rf'^1 +{USER} '), 15, 'no table')
    srv.stop()
    wait_for(on_screen('^aditctl: aditd is gone'), 15, 'it does not say')


# ---- completion ----

COMPLETION = os.path.join(os.path.abspath(os.environ.get('SRCDIR', '.')),
                          'packaging/completion')


def completed(*words):
    """What bash offers for the last of the words."""
    script = (f'. {COMPLETION}/aditctl.bash; COMP_WORDS=("$@"); '
              'COMP_CWORD=$(($# - 1)); _aditctl; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    return run('bash', '-c', script, '-', 'aditctl', *words,
               env=dict(os.environ, PATH=f'{TOP}:{os.environ["PATH"]}')
               ).split()


@case('bash completes commands, and what there is', 'aditd')
def _(t):
    port = t.port()
    srv = t.server(CONTROL)
    t.client(srv, '-R', f'{port}:127.0.0.1:9')
    t.equal(completed('ses'), ['sessions'])
    t.equal(completed('show', ''), ['1', '1.1'])
    t.equal(completed('kill', ''), ['user', 'key', '1'])
    t.equal(completed('kill', 'user', ''), [USER])
    t.equal(completed('-s', SOCKET, 'close', ''), ['1.1'])
    key = sessions()[0]['key']
    t.equal(completed('kill', 'key', ''), [key])
    # every command of --help is offered, and nothing else
    listed = re.findall(r'^  (\S+)', ctl('--help').stdout, re.M)[:-1]
    t.equal([w for w in completed('') if w[0] != '-'], listed)


@case('zsh takes its file, and completes', 'aditd')
def _(t):
    zsh = need('zsh')
    run(zsh, '-n', f'{COMPLETION}/_aditctl')
    srv = t.server(CONTROL)
    t.client(srv)
    path = f'{TOP}:{os.environ["PATH"]}'
    script = (f'fpath=({COMPLETION} $fpath); zmodload zsh/zpty; '
              f'zpty z "PATH={path} TERM=dumb {zsh} -f -i"; '
              f'zpty -w z "fpath=({COMPLETION} \\$fpath); '
              'autoload -Uz compinit; compinit -u -D; PS1=ready'
              '; PS1=\\$PS1\\>"; '
              'zpty -r z got "*ready>*"; '
              "zpty -w -n z $'aditctl kill user tun\\t'; "
              f'zpty -r z got "*user {USER}*" && print found; '
              'zpty -d z')
    t.match('found', run(zsh, '-f', '-c', script, timeout=30 * SLOW))


if __name__ == '__main__':
    main()
