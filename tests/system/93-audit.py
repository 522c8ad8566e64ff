#!/usr/bin/python3
"""AuditLog, LogFormat, the journal, rotation: what happened is written down,
once, with its numbers, and nobody forges a line."""
import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time

from certs import Signer, answer, holder, request
from harness import (COMMS, Failure, SLOW, TOP, USER, Skip, append, authorize,
                     case, connect, keygen, main, need, processes,
                     public, read_all, run, sh, talk, wait_for)
from manager import service
from minimal import raw, ssh

try:
    import jsonschema
except ImportError:
    jsonschema = None

AUDIT = f'{TOP}/audit'
JOURNAL = '/run/systemd/journal/socket'
JOURNALD = '/usr/lib/systemd/systemd-journald'


def validators():
    """One for each event: all of them in turn take long."""
    if jsonschema is None:
        raise Skip('no python3-jsonschema')
    path = os.path.join(os.environ.get('SRCDIR', '.'),
                        'docs/audit.schema.json')
    with open(path) as f:
        schema = json.load(f)
    return {one['title']: jsonschema.Draft202012Validator(
        {**schema, 'oneOf': [one]}) for one in schema['oneOf']}


def check(event, against={}):
    if not against:
        against.update(validators())
    if event.get('event') not in against:
        raise Failure(f'{json.dumps(event)}: no such event')
    for error in against[event['event']].iter_errors(event):
        best = jsonschema.exceptions.best_match([error])
        raise Failure(f'{json.dumps(event)}\n{best.message}')


def read_lines(path):
    """Who reads may be in the midst of a write(2)."""
    lines = []

    def read():
        with open(path, 'rb') as f:
            lines[:] = f.read().split(b'\n')
        return lines[-1] == b''
    wait_for(read, 2, 'an unfinished line')
    return lines


def events(path=AUDIT, name=None, **fields):
    """The events of the file so far, each valid."""
    lines = read_lines(path)
    found = []
    for line in lines[:-1]:
        if re.search(rb'[^ -~]', line):
            raise Failure(f'not printable: {line}')
        event = json.loads(line)
        check(event)
        if (name in (None, event['event']) and
                all(event.get(k) == v for k, v in fields.items())):
            found.append(event)
    return found


def event(name, path=AUDIT, timeout=10, **fields):
    """The one such event, as soon as it is there."""
    found = wait_for(lambda: events(path, name, **fields), timeout,
                     lambda: f'no {name} {fields} among {events(path)}')
    if len(found) != 1:
        raise Failure(f'{len(found)} of {name} {fields}: {found}')
    return found[0]


def server(t, policy='', args=(), **kw):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(AUDIT)
    return t.server(f'AuditLog {AUDIT}\n{policy}', args, **kw)


def undo(text):
    """The bytes that were escaped."""
    return re.sub(rb'\\(\\|[0-7]{3})', lambda m: b'\\' if m[1] == b'\\'
                  else bytes([int(m[1], 8)]), text.encode('latin-1'))


def fields(line):
    """key=value as docs/audit.md says."""
    pairs = re.findall(r'(?:^| )([a-z_]+)=("[^"]*"|[^ "]*)(?= |$)', line)
    if ' '.join(f'{k}={v}' for k, v in pairs) != line:
        raise Failure(f'no key=value: {line!r}')
    return {k: v.strip('"') for k, v in pairs}


def lines(srv):
    """What the server logged, taken apart."""
    found = []
    for line in srv.log().splitlines():
        head = re.match(r'aditd\[\d+\]: ', line)
        if not head:
            raise Failure(f'whose line is {line!r}?')
        found.append(fields(line[head.end():]))
    return found


@case('start, login, logout, stop', 'aditd')
def _(t):
    authorize(USER, public('id').replace(' id', ' of the laptop'))
    srv = server(t)
    e = event('start')
    t.equal(e['process'], str(srv.pid))
    t.equal(e['policy'], srv.policy)
    t.equal(os.stat(AUDIT).st_mode & 0o7777, 0o640)
    client = t.client(srv)
    e = event('login')
    t.equal((e['user'], e['uid'], e['client'], e['connection']),
            (USER, 4001, '127.0.0.1', 1))
    t.equal(e['key'], sh('ssh-keygen', '-lf',
                         f'{TOP}/id.pub').stdout.split()[1])
    t.equal((e['key_type'], e['comment'], e['cert_id']),
            ('ED25519', 'of the laptop', None))
    t.equal(e['line'], f'/home/{USER}/.ssh/authorized_keys:1')
    t.match('^SSH-2.0-OpenSSH', e['version'])
    age = time.time() - time.mktime(time.strptime(
        e['time'][:19], '%Y-%m-%dT%H:%M:%S')) + time.timezone
    t.true(-2 < age < 60 * SLOW, f'{e["time"]}: {age} s ago')
    client.stop()
    out = event('logout')
    t.equal((out['user'], out['uid'], out['key']), (USER, 4001, e['key']))
    t.true(out['bytes_up'] > 1000 and out['bytes_down'] > 1000, f'{out}')
    t.true(out['duration_ms'] < 60000 * SLOW, f'{out}')
    srv.stop()
    t.equal(event('stop')['reason'], 'signal 15')


@case('a certificate: ID, serial, CA', 'aditd')
def _(t):
    keygen('ca')
    keygen('certified')
    sh('ssh-keygen', '-q', '-s', f'{TOP}/ca', '-I', 'an "ID"\\', '-z', '42',
       '-n', USER, f'{TOP}/certified.pub')
    srv = server(t, f'TrustedUserCAKeys {TOP}/ca.pub')
    t.client(srv, key='certified')
    e = event('login')
    t.equal(undo(e['cert_id']), b'an "ID"\\')
    t.equal(e['cert_serial'], 42)
    t.match('^ED25519 SHA256:', e['cert_ca'])
    t.equal(e['key_type'], 'ED25519-CERT')


@case('certificates that are refused: ID, serial, CA, if its word counts',
      'aditd')
def _(t):
    for name in ('their-ca', 'our-ca'):
        keygen(name)
    authorize(USER, f'cert-authority {public("their-ca")}')
    for name, ca, options, serial in (
            ('expired', 'our-ca', ['-V', '20200101:20200102'], 1),
            ('of-another', 'their-ca', ['-n', 'somebody'], 2),
            ('revoked', 'our-ca', [], 3), ('strange', 'id2', [], 4),
            ('good', 'our-ca', [], 5)):
        holder(name, ca, *options, identity=f'"{name}" \\\r\n',
               serial=serial)
    with open(f'{t.folder}/revoked', 'w') as f:
        f.write(public('revoked'))
    srv = server(t, f'TrustedUserCAKeys {TOP}/our-ca.pub\n'
                 f'RevokedKeys {t.folder}/revoked\n'
                 'PerSourcePenalties no\nMaxAuthTries 100')
    for serial, name in enumerate(('expired', 'of-another', 'revoked'), 1):
        t.true(not t.logs_in(srv, key=name), name)  # the key alone, too
        e = event('login-failed', key_type='ED25519-CERT', connection=serial)
        t.equal(undo(e['cert_id']), f'"{name}" \\\r\n'.encode())
        t.equal((e['cert_serial'], e['user']), (serial, USER))
        t.match('^ED25519 SHA256:', e['cert_ca'])
    key, strange = (Signer(name, cert=True) for name in ('good', 'strange'))
    altered = key.blob.replace(ssh.u32(0) + ssh.u32(5),
                               ssh.u32(0) + ssh.u32(6), 1)
    with raw(srv, login=False) as c:
        bad = request(c, key, signed=b'something else')
        for n, (what, wanted) in enumerate((
                (bad, 5), (request(c, key, blob_=altered), None), (bad, 5),
                (request(c, strange), None), (bad, 5),
                (request(c, strange, algorithm='x'), None),
                (request(c, Signer('good')), None))):
            t.equal(answer(c, what), 'failure')
            e = wait_for(lambda: events(name='login-failed',
                                        connection=4)[n:], 5, 'no event')[0]
            t.equal(e['cert_serial'], wanted)
            t.equal([e[k] is None for k in ('cert_id', 'cert_ca')],
                    [wanted is None] * 2)


@case('-L and -R: destination, address, bytes each way, duration', 'aditd')
def _(t):
    def answer(s):
        """One byte for three, and a farewell."""
        n = 0
        while data := s.recv(65536):
            n += len(data)
        s.sendall(b'z' * (n // 3))
        s.shutdown(socket.SHUT_WR)
    target = t.target(answer)
    append('/etc/hosts', '127.0.0.1 the-target.example\n')
    local, remote = t.port(), t.port()
    srv = server(t)
    t.client(srv, '-L', f'{local}:the-target.example:{target.port}', '-R',
             f'{remote}:127.0.0.1:{target.port}')
    e = event('listen-open')
    t.equal((e['kind'], e['port'], e['host']),
            ('tcpip-forward', remote, 'localhost'))
    for port, size in ((local, 300000), (remote, 3000), (local, 0),
                       (local, 3)):
        started = time.monotonic()
        with connect(port) as s:
            s.sendall(b'x' * size)
            s.shutdown(socket.SHUT_WR)
            t.equal(len(read_all(s)), size // 3)
        took = (time.monotonic() - started) * 1000
        done = wait_for(lambda: [e for e in events(name='forward-close')
                                 if e['number'] not in seen(t)], 10,
                        'no forward-close')
        t.equal(len(done), 1)
        e = done[0]
        seen(t).add(e['number'])
        opened = event('forward-open', number=e['number'])
        for name in ('kind', 'host', 'port', 'address', 'address_port',
                     'connection', 'key', 'user'):
            t.equal(opened[name], e[name], name)
        t.true(e['duration_ms'] <= took + 2000 * SLOW, f'{e} in {took} ms')
        if port == local:
            t.equal((e['kind'], e['host'], e['port'], e['address'],
                     e['address_port']),
                    ('direct-tcpip', 'the-target.example', target.port,
                     '127.0.0.1', target.port))
            want = size, size // 3
        else:  # what the peer sends goes down, to the client
            t.equal((e['kind'], e['port'], e['address']),
                    ('forwarded-tcpip', remote, '127.0.0.1'))
            want = size // 3, size
        t.equal((e['bytes_up'], e['bytes_down']), want, f'{port} {size}')


def seen(t):
    if not hasattr(t, 'seen'):
        t.seen = set()
    return t.seen


@case('what is open when the connection ends is closed', 'aditd')
def _(t):
    echo = t.target()
    local, remote = t.port(), t.port()
    srv = server(t)
    client = t.client(srv, '-L', f'{local}:127.0.0.1:{echo.port}', '-R',
                      f'{remote}:127.0.0.1:{echo.port}')
    with contextlib.ExitStack() as stack:
        for _n in range(30):
            s = stack.enter_context(connect(local))
            s.sendall(b'12345')
            t.equal(len(s.recv(5, socket.MSG_WAITALL)), 5)
        client.process.send_signal(signal.SIGKILL)
        client.process.wait()
        event('logout')
    closed = events(name='forward-close')
    t.equal(len(closed), 30)
    for e in closed:
        t.equal((e['bytes_up'], e['bytes_down'], e['reason']),
                (5, 5, 'the connection is over'))
    t.equal(event('listen-close')['reason'], 'the connection is over')
    t.equal([e['event'] for e in events()][-1], 'logout')


@case('unix sockets, which count no bytes', 'aditd')
def _(t):
    folder = f'/home/{USER}'
    there, here = f'{folder}/there', t.port()
    other, local = f'{folder}/other', f'{t.folder}/local'
    srv = server(t, 'AllowStreamLocalForwarding yes')
    t.client(srv, '-R', f'{there}:127.0.0.1:{here}', '-L',
             f'{local}:{other}')
    e = event('listen-open')
    t.equal((e['kind'], e['host'], e['port']),
            ('streamlocal-forward', there, None))
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(local)
        read_all(s)
    e = event('failed')
    t.equal((e['kind'], e['host']), ('direct-streamlocal', other))
    t.match('No such file', e['reason'])
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(there)
        read_all(s)
    e = event('forward-close')
    t.equal((e['kind'], e['host'], e['bytes_up']),
            ('forwarded-streamlocal', there, None))


@case('refusals with file, line and rule; failures with why', 'aditd')
def _(t):
    echo = t.target()
    ports = [t.port() for _ in range(4)]
    closed = t.port()
    srv = server(t, f'''# a comment
PermitOpen 127.0.0.1:{echo.port} 127.0.0.1:{closed} localhost:*
PermitListen none
DenyOpen 127.0.0.0/8:1-100
''')
    t.client(srv, '-L', f'{ports[0]}:127.0.0.1:9999', '-L',
             f'{ports[1]}:localhost:99', '-L',
             f'{ports[2]}:127.0.0.1:{closed}')
    t.client(srv, '-R', f'{ports[3]}:127.0.0.1:1', strict=False, wait=False)
    e = event('refused', kind='tcpip-forward')
    t.equal((e['rule_file'], e['rule_line'], e['rule'], e['port']),
            (srv.policy, 4, 'PermitListen none', ports[3]))
    for port in ports[:3]:
        with connect(port) as s:
            read_all(s)
    e = event('refused', port=9999)
    t.equal((e['rule_file'], e['rule_line']), (srv.policy, 3))
    t.match('^PermitOpen', e['rule'])
    t.match(f'^{srv.policy}:3: PermitOpen', e['rules'])
    e = wait_for(lambda: events(name='refused', port=99), 5, 'no event')[0]
    t.equal((e['rule_line'], e['host'], e['reason']),
            (5, 'localhost', 'policy'))
    t.match('^DenyOpen', e['rule'])
    e = event('failed')
    t.equal((e['port'], e['reason']), (closed, 'Connection refused'))


@case('logins that fail or are refused', 'aditd')
def _(t):
    srv = server(t, 'DenyUsers neighbour\nMaxConnections 1\n')
    t.true(not t.logs_in(srv, key='id2'), 'the wrong key')
    e = event('login-failed', user=USER)
    t.equal((e['method'], e['key']),
            ('publickey', sh('ssh-keygen', '-lf',
                             f'{TOP}/id2.pub').stdout.split()[1]))
    t.true(e['reason'], 'no reason')
    t.true(not t.logs_in(srv, user='neighbour'), 'denied')
    e = event('login-refused', user='neighbour')
    t.equal((e['rule_line'], e['rule']), (2, 'DenyUsers neighbour'))
    t.true(not t.logs_in(srv, user='nobody-here'), 'nobody')
    t.equal(event('login-refused', user='nobody-here')['reason'],
            'no such account')
    t.client(srv)
    done = sh(*t.argv(srv, '-N'), check=False, timeout=20 * SLOW)
    t.match('too many connections', done.stderr)
    e = event('login-refused', rule='MaxConnections 1')
    t.equal((e['rule_line'], e['user']), (3, USER))


@case('drops at the door, and how many more', 'aditd')
def _(t):
    srv = server(t, 'MaxStartups 1:100:1\n')
    with contextlib.ExitStack() as stack:
        stack.enter_context(connect(srv.port)).recv(10)
        for _n in range(40):
            with connect(srv.port) as s:
                read_all(s)

        def counted():
            return len(events(name='drop')) + sum(
                e['count'] for e in events(name='omitted', of='drop')) == 40
        wait_for(counted, 5, lambda: f'{events()}')
    e = events(name='drop')[0]
    t.equal((e['client'], e['reason']), ('127.0.0.1', 'MaxStartups'))
    t.true(len(events(name='drop')) < 40, 'none was left out')


@case('drops of proxies: without a header, with a bad one, too late', 'aditd')
def _(t):
    srv = server(t, 'ProxyProtocolFrom 127.0.0.0/8\nLoginGraceTime 1\n')

    def dropped(data, why):
        with connect(srv.port) as s:
            s.sendall(data)
            read_all(s)
            e = event('drop', client_port=s.getsockname()[1])
        t.equal((e['client'], e['reason']), ('127.0.0.1', why))
    connect(srv.port).close()  # a health check: no event
    dropped(b'SSH-2.0-x\r\n', 'no PROXY header')
    dropped(b'PROXY TCP4 192.0.2.7 192.0.2.8 1 65536\r\n',
            'a PROXY line with a wrong port')
    dropped(b'PROXY TCP4 192.0.2.7 ', 'a PROXY header that is late')
    with connect(srv.port) as s:
        s.sendall(b'PROXY TCP4 192.0.2.7 192.0.2.8 4000 22\r\n')
        t.match('^SSH-2.0', s.recv(100).decode())
    t.equal(len(events(name='drop')), 3)


def send(device, packets):
    """So many datagrams of 1,028 bytes out through a device, to nobody."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE,
                     device.encode())
        for _n in range(packets):
            s.sendto(b'x' * 1000, ('192.0.2.99', 9))


def received(device):
    with open('/proc/net/dev') as f:
        return int(re.search(rf'^ *{device}: *(\d+)', f.read(), re.M)[1])


@case('a tunnel: up, down, for how long, bytes each way', 'aditd')
def _(t):
    t.tun_node()
    srv = server(t, 'PermitTunnel yes\nMaxTunnels 1\n')
    client = t.client(srv, '-o', 'Tunnel=point-to-point', '-w', '7:8',
                      user='root')
    e = event('tunnel-up')
    t.equal((e['kind'], e['host'], e['user']), ('tunnel', 'tun8', 'root'))
    for device in ('tun7', 'tun8'):
        sh('ip', 'link', 'set', device, 'up')
    up, down = 30 * 1028, 100 * 1028
    send('tun7', 30)
    send('tun8', 100)
    wait_for(lambda: received('tun8') >= up and
             received('tun7') >= down, 10, 'packets are lost')
    client.stop()
    e = event('tunnel-down')
    t.equal(e['host'], 'tun8')
    # and a solicitation or two of the kernel's
    t.true(up <= e['bytes_up'] < up + 3000 and
           down <= e['bytes_down'] < down + 3000, f'{e}')


@case('a tunnel on a device of the operator\'s: its own bytes', 'aditd')
def _(t):
    t.tun_node()
    t.device('tuntap', 'tun9', 'mode', 'tun', 'user', USER)
    srv = server(t, 'PermitTunnel yes\n')
    for i, packets in enumerate((20, 50)):
        client = t.client(srv, '-o', 'Tunnel=point-to-point', '-w', '7:9')
        wait_for(lambda: len(events(name='tunnel-up')) == i + 1, 10,
                 'no tunnel')
        for device in ('tun7', 'tun9'):
            sh('ip', 'link', 'set', device, 'up')
        send('tun9', packets)
        wait_for(lambda: received('tun7') >= packets * 1028, 10,
                 'packets are lost')
        client.stop()
        e = wait_for(lambda: events(name='tunnel-down')[i:], 10,
                     'the tunnel is still up')[0]
        t.true(0 <= e['bytes_down'] - packets * 1028 < 3000 and
               e['bytes_up'] < 3000, f'{e}')


@case('reload, aditctl, a process that is killed', 'aditd')
def _(t):
    srv = server(t, 'ControlSocket /run/adit/control\n')
    t.client(srv)
    run(f'{TOP}/aditctl', 'reload')
    t.equal(event('reload')['done'], True)
    t.match('uid 0|root', event('control')['by'])
    append(srv.policy, 'Nonsense\n')
    sh(f'{TOP}/aditctl', 'reload', check=False)
    t.equal(event('reload', done=False)['reason'], 'the policy has errors')
    t.client(srv, user='neighbour')
    run(f'{TOP}/aditctl', 'kill', 'user', 'neighbour')
    t.match('^root', event('control', action='kill user neighbour')['by'])
    t.equal(event('logout', user='neighbour')['reason'],
            'ended by the administrator')
    wait_for(lambda: len(processes(COMMS['session'])) == 1, 5,
             'the neighbour is there')
    os.kill(processes(COMMS['session'])[0].pid, signal.SIGKILL)
    e = event('killed')
    t.equal((e['process'], e['signal'], e['connection']),
            ('session', 9, 1))
    t.equal(event('logout', user=USER)['connection'], 1)


@case('what a reload takes away, and from whom', 'aditd')
def _(t):
    kept, gone, remote = t.target(), t.target(), t.port()
    local = t.port()
    srv = server(t)
    t.client(srv, '-R', f'{remote}:127.0.0.1:{kept.port}',
             '-L', f'{local}:127.0.0.1:{gone.port}')
    event('listen-open', port=remote)
    with connect(local):
        event('forward-open', port=gone.port)
        append(srv.policy, f'PermitOpen 127.0.0.1:{kept.port}\n'
               'PermitListen none\n')
        os.kill(srv.pid, signal.SIGHUP)
        for name, port in (('forward', gone.port), ('listen', remote)):
            t.match(f'{srv.policy}:[0-9]+: Permit',
                    event(f'{name}-close', port=port)['reason'])
    authorize(USER, public('id2'))
    os.kill(srv.pid, signal.SIGHUP)
    t.equal(event('logout', user=USER)['reason'], 'key is not authorised')


@case('a restart under a service manager: sessions go on, audited', 'aditd')
def _(t):
    log = f'{t.folder}/log'
    echo, port = t.target(), t.port()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(AUDIT)
    srv = service(t, f'AuditLog {AUDIT}\nLogLevel VERBOSE\n',
                  args=('-E', log))
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    t.equal(event('start')['count'], 0)
    t.equal(len(talk(port)), 18)
    e = event('forward-close')
    srv.process.send_signal(signal.SIGTERM)
    srv.process.wait(10 * SLOW)
    t.equal(len(talk(port)), 18)
    os.rename(log, f'{log}.0')
    os.rename(AUDIT, f'{AUDIT}.0')
    srv.start()
    t.equal(event('start')['count'], 1)
    # what it did meanwhile
    now = event('forward-close')
    t.equal([now[k] for k in ('user', 'uid', 'connection', 'key')],
            [e[k] for k in ('user', 'uid', 'connection', 'key')])
    wait_for(lambda: not any(f'{log}.0' in p.fds().values()
                             for p in processes(COMMS['broker'])), 10,
             'the old log is open')
    t.equal(events(f'{AUDIT}.0', 'logout'), [])
    client.stop()
    out = event('logout')
    t.equal((out['uid'], out['connection']), (4001, 1))
    t.true(out['duration_ms'] >= now['duration_ms'], f'{out}')


HOSTILE = [b'a\nevent=login user=root', b'"},{"event":"login"',
           b'\x1b[2J\x1b]0;x\x07', b'\xff\xfe\x80', b'a b=c "d" \\012',
           b'\\', b'"', b'x' * 200, b'\xe2\x80\xae', b'\r\nMESSAGE=x',
           b'tab\there']


def hostile_names(srv):
    """Users by a client that says what it wants, one login each."""
    for word in HOSTILE:
        with raw(srv, login=False) as c:
            for _n in range(2):
                c.send(ssh.byte(ssh.USERAUTH_REQUEST) + ssh.string(word) +
                       ssh.string('ssh-connection') + ssh.string('none'))
                c.expect(ssh.USERAUTH_FAILURE)


@case('hostile names forge no line: JSON and sentences', 'aditd')
def _(t):
    srv = server(t, 'PermitOpen none\n')
    hostile_names(srv)
    got = wait_for(lambda: len(events(name='login-refused')) >=
                   len(HOSTILE) and events(name='login-refused'), 10,
                   lambda: f'{events()}')
    t.equal([undo(e['user']) for e in got], HOSTILE)
    t.equal(len(events(name='login')), 0)
    with raw(srv) as c:
        for word in HOSTILE:
            t.equal(c.open_direct(word, 80)[0], 1, 'opened')
        c.open_direct(b'a\0b', 80)
        got = wait_for(lambda: len(events(name='refused')) >= len(HOSTILE) and
                       events(name='refused'), 10, 'no refusals')
    t.equal([undo(e['host']) for e in got if e['host']], HOSTILE)
    for line in srv.log().splitlines():
        t.match(r'^aditd\[\d+\]: [ -~]*$', line)


@case('LogFormat fields: every line is key=value, nobody forges one', 'aditd')
def _(t):
    echo = t.target()
    port = t.port()
    srv = server(t, 'LogFormat fields\nLogLevel VERBOSE\n'
                 f'PermitOpen 127.0.0.1:{echo.port}\n')
    hostile_names(srv)
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    t.equal(len(talk(port, b'x' * 777)), 777)
    event('forward-close')
    client.stop()
    event('logout')
    srv.wait_log('event=logout')
    found = lines(srv)
    t.equal([undo(e['user']) for e in found
             if e['event'] == 'login-refused'], HOSTILE)
    login, = (e for e in found if e['event'] == 'login')
    t.equal(login['user'], USER)
    closed, = (e for e in found if e['event'] == 'forward-close')
    t.equal((closed['bytes_up'], closed['bytes_down'], closed['host'],
             closed['address_port']),
            ('777', '777', '127.0.0.1', str(echo.port)))
    t.true(not any('Accepted' in e.get('message', '') for e in found),
           'a sentence, too')
    said = {e['event'] for e in found}
    t.true({'start', 'login', 'logout', 'forward-open', 'note'} <= said,
           f'{said}')


@case('SIGUSR1: log and audit log go to new files', 'aditd')
def _(t):
    log = f'{t.folder}/log'
    echo = t.target()
    port = t.port()

    srv = server(t, 'LogLevel VERBOSE\nLiveRevocation yes\n'
                 'ControlSocket /run/adit/control\n', ('-E', log))
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    t.equal(len(talk(port)), 18)
    event('forward-close')

    def text(path):
        with open(path) as f:
            return f.read()
    for n, how in enumerate((
            lambda: os.kill(srv.pid, signal.SIGUSR1),
            lambda: run(f'{TOP}/aditctl', 'reload'),
            lambda: os.kill(srv.pid, signal.SIGUSR1))):
        os.rename(log, f'{log}.{n}')
        os.rename(AUDIT, f'{AUDIT}.{n}')
        how()
        wait_for(lambda: os.path.exists(AUDIT) and os.path.exists(log), 10,
                 'no new files')
        if n != 1:
            event('reopen')
        # a sanitizer's reports need standard error where there is no log
        roles = [p for p in processes() if p.comm.startswith('adit') and
                 (SLOW == 1 or p.comm in ('aditd', 'adit-broker'))]
        t.true('adit-watcher' in {p.comm for p in processes()}, 'no watcher')
        wait_for(lambda: not any(f'{log}.{n}' in p.fds().values()
                                 for p in roles), 10, 'the old file is open')
        old = os.path.getsize(f'{log}.{n}'), os.path.getsize(f'{AUDIT}.{n}')
        # the session that was there before
        t.equal(len(talk(port)), 18)
        e = event('forward-close')
        t.equal((e['user'], e['connection']), (USER, 1))
        wait_for(lambda: 'direct-tcpip to' in text(log), 5, 'no line')
        # and a new one
        t.true(t.logs_in(srv, user='neighbour'), 'no login')
        event('login', user='neighbour')
        wait_for(lambda: 'Accepted publickey for neighbour' in text(log), 5,
                 'no line')
        t.equal((os.path.getsize(f'{log}.{n}'),
                 os.path.getsize(f'{AUDIT}.{n}')), old)


@case('copytruncate: the files are appended to', 'aditd')
def _(t):
    srv = server(t)
    t.true(t.logs_in(srv), 'no login')
    event('logout')
    os.truncate(AUDIT, 0)
    os.truncate(srv.log_path, 0)
    t.true(t.logs_in(srv), 'no login')
    event('logout')
    t.equal([e['event'] for e in events() if e['event'] != 'failed'],
            ['login', 'logout'])


@case('no AuditLog that is a link, a pipe or not there', 'aditd')
def _(t):
    for n, make in enumerate((
            lambda p: os.symlink('/etc/passwd', p), os.mkfifo, os.mkdir,
            lambda p: None)):
        path = f'{t.folder}/audit{n}' + ('/x' if n == 3 else '')
        make(path)
        srv = t.server(f'AuditLog {path}\n', wait=False)
        t.equal(srv.process.wait(20 * SLOW), 1)
        t.match(f'AuditLog {path}: ', srv.log())
        check = t.server(f'AuditLog {path}\n', wait=False, args=['-t'])
        t.equal(check.process.wait(20 * SLOW), 1, f'-t, {path}')
        t.match(rf':\d+: AuditLog {path}: ', check.log())
    check = t.server(f'AuditLog {t.folder}/new\n', wait=False, args=['-t'])
    t.equal(check.process.wait(20 * SLOW), 0, check.log())
    t.true(not os.path.exists(f'{t.folder}/new'), '-t makes a file')
    srv = server(t)
    with open(srv.policy, 'w') as f:
        f.write(f'AuditLog {t.folder}/none/x\n')
    os.kill(srv.pid, signal.SIGHUP)
    t.equal(event('reload')['done'], False)
    srv.wait_log('the old policy stays in force')
    t.true(t.logs_in(srv), 'no login')
    event('login')


@case('AuditLog by a reload holds for connections that are there', 'aditd')
def _(t):
    echo = t.target()
    port = t.port()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(AUDIT)
    srv = t.server('LogLevel INFO\n')
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    with open(srv.policy, 'w') as f:
        f.write(f'AuditLog {AUDIT}\n')
    os.kill(srv.pid, signal.SIGHUP)
    wait_for(lambda: os.path.exists(AUDIT), 10, 'no audit log')
    event('reload')
    t.equal(len(talk(port)), 18)
    e = event('forward-close')
    t.equal((e['user'], e['uid'], e['bytes_up']), (USER, 4001, 18))


@case('a full disk: counted, said, and the next line is whole', 'aditd')
def _(t):
    folder = f'{t.folder}/small'
    os.mkdir(folder)
    sh('mount', '-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', folder)
    t.undo.callback(sh, 'umount', '-l', folder)
    path = f'{folder}/audit'
    srv = t.server(f'AuditLog {path}\n')

    def full():
        t.true(t.logs_in(srv), 'no login')
        return 'AuditLog cannot be written' in srv.log()
    wait_for(full, 40, 'it is never full')
    t.true(t.logs_in(srv), 'no login')
    t.true(events(path), 'and each that is there is whole')
    os.truncate(path, 0)
    t.true(t.logs_in(srv), 'no login')
    srv.wait_log(r'AuditLog: \d+ events are not in it')
    e = event('omitted', path)
    t.equal((e['of'], e['reason']), ('any', 'No space left on device'))
    t.true(e['count'] >= 2, f'{e}')
    wait_for(lambda: events(path, 'logout'), 5, 'no logout')


@case('a flood of refusals: some, and how many more', 'aditd')
def _(t):
    many = 3000
    srv = server(t, 'PermitOpen none\nMaxChannels 2000\n')
    with raw(srv) as c:
        for _n in range(many // 100):
            c.send(*[c.direct_request('127.0.0.1', 1) for _m in range(100)])
            for _m in range(100):
                c.opened()

    def all_told():
        return len(events(name='refused')) + sum(
            e['count'] for e in events(name='omitted')) == many
    wait_for(all_told, 10, lambda: f'{len(events())}')
    t.true(len(events(name='refused')) >= 100, 'too few')
    t.equal(events(name='omitted')[:1] and
            events(name='omitted')[0]['of'], 'refused, failed')


@case('thousands of forwards: none is missing', 'aditd')
def _(t):
    many = 2000
    target = t.target(lambda s: s.recv(1))
    srv = server(t)
    with raw(srv) as c:
        for _n in range(many // 50):
            c.send(*[c.direct_request('127.0.0.1', target.port)
                     for _m in range(50)])
            left = 50
            for p in iter(lambda: left and c.recv(), 0):
                if p[0] == ssh.OPEN_CONFIRMATION:
                    number = ssh.Reader(p, 5).u32()
                    c.send(ssh.byte(ssh.CLOSE) + ssh.u32(number))
                elif p[0] == ssh.CLOSE:
                    left -= 1
    event('logout')
    opened, closed = events(name='forward-open'), events(name='forward-close')
    t.equal((len(opened), len(closed)), (many, many))
    t.equal({e['number'] for e in opened}, {e['number'] for e in closed})
    t.equal(events(name='omitted'), [])


class Journal:
    """A socket in journald's place, which takes its native protocol."""

    def __init__(self, t, reads=True):
        os.makedirs(os.path.dirname(JOURNAL), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(JOURNAL)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(JOURNAL)
        self.entries = []
        t.undo.callback(os.unlink, JOURNAL)
        self.over = threading.Event()
        self.reader = threading.Thread(target=self.keep_reading)
        if reads:
            self.reader.start()
            t.undo.callback(self.reader.join)
        t.undo.callback(self.over.set)
        if not reads:
            t.undo.callback(self.sock.close)

    def keep_reading(self):
        self.sock.settimeout(0.1)
        while not self.over.is_set():
            with contextlib.suppress(TimeoutError):
                self.take(self.sock.recv(1 << 20))
        self.sock.close()

    def read(self):
        """All that is there, where nobody reads as it comes."""
        if self.reader.ident:
            return list(self.entries)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.take(self.sock.recv(1 << 20, socket.MSG_DONTWAIT))
        return self.entries

    def take(self, data):
        """systemd's JOURNAL_NATIVE_PROTOCOL."""
        entry = {}
        while data:
            line, data = data.split(b'\n', 1)
            name, equals, value = line.partition(b'=')
            if not equals:
                n, = struct.unpack_from('<Q', data)
                value, data = data[8:8 + n], data[9 + n:]
            if not re.fullmatch(b'[A-Z][A-Z0-9_]{0,63}', name):
                raise Failure(f'no field: {line}')
            if name.decode() in entry:
                raise Failure(f'twice: {line}')
            entry[name.decode()] = value.decode('ascii')
        self.entries.append(entry)

    def find(self, **want):
        return [e for e in self.read()
                if all(e.get(k) == v for k, v in want.items())]

    def wait(self, **want):
        return wait_for(lambda: self.find(**want), 10,
                        lambda: f'no {want} in {self.entries}')[0]


@case('AuditLog journal: native fields, and nobody forges one', 'aditd')
def _(t):
    journal = Journal(t)
    srv = t.server('AuditLog journal\n')
    hostile_names(srv)
    t.client(srv)
    e = journal.wait(ADIT_EVENT='login')
    t.equal((e['ADIT_USER'], e['ADIT_UID'], e['SYSLOG_IDENTIFIER']),
            (USER, '4001', 'adit-audit'))
    t.equal(fields(e['MESSAGE'])['user'], USER)
    t.equal([undo(e['ADIT_USER'])
             for e in journal.find(ADIT_EVENT='login-refused')], HOSTILE)
    t.match('Accepted publickey', srv.log())


@case('the journal that is stopped loses events, and that is said', 'aditd')
def _(t):
    journal = Journal(t, reads=False)
    srv = t.server('AuditLog journal\n')
    journal.wait(ADIT_EVENT='start')

    def lost():
        hostile_names(srv)
        return 'AuditLog cannot be written' in srv.log()
    wait_for(lost, 50, 'its queue is never full')
    t.true(t.logs_in(srv), 'no login')
    journal.read()
    t.true(t.logs_in(srv), 'no login')
    t.true(int(journal.wait(ADIT_EVENT='omitted')['ADIT_COUNT']) > 0, '')


@case('-e where standard error is the journal: sentences with fields',
      'aditd')
def _(t):
    journal = Journal(t)
    real = subprocess.Popen

    def popen(argv, **kw):
        if 'aditd' in argv[0]:
            st = os.fstat(kw['stderr'].fileno())
            kw['env'] = dict(os.environ,
                             JOURNAL_STREAM=f'{st.st_dev}:{st.st_ino}')
        return real(argv, **kw)
    subprocess.Popen = popen
    t.undo.callback(setattr, subprocess, 'Popen', real)
    for policy in ('LogFormat words\n', 'LogFormat fields\n'):
        journal.entries.clear()
        srv = t.server(policy)
        hostile_names(srv)
        t.client(srv)
        e = journal.wait(ADIT_EVENT='login')
        t.equal((e['ADIT_USER'], e['SYSLOG_IDENTIFIER'], e['PRIORITY'],
                 e['SYSLOG_FACILITY']), (USER, 'aditd', '6', '4'))
        if 'words' in policy:
            t.match(f'^Accepted publickey for {USER} from', e['MESSAGE'])
        else:
            t.equal(fields(e['MESSAGE'])['event'], 'login')
        t.equal([undo(e['ADIT_USER'])
                 for e in journal.find(ADIT_EVENT='login-refused')], HOSTILE)
        t.match('Server listening on', ' '.join(
            e['MESSAGE'] for e in journal.read()))
        t.equal(srv.log(), '')
        srv.stop()


@case('the real journald has the fields', 'aditd')
def _(t):
    if not os.path.exists(JOURNALD):
        raise Skip('no systemd-journald')
    ctl = need('journalctl')
    for folder in ('/run/systemd/journal', '/run/log/journal'):
        os.makedirs(folder, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(JOURNAL)
    t.service(JOURNALD, ready=lambda _s: os.path.exists(JOURNAL))
    srv = t.server('AuditLog journal\n')
    t.client(srv)

    def found():
        done = sh(ctl, '-o', 'json', '--no-pager', 'ADIT_EVENT=login',
                  check=False)
        return [json.loads(line) for line in done.stdout.splitlines()]
    e = wait_for(found, 20, 'journalctl finds nothing', 0.2)[0]
    t.equal((e['ADIT_USER'], e['ADIT_UID'], e['_PID']),
            (USER, '4001', str(srv.pid)))


main()
