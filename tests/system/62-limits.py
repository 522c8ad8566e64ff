#!/usr/bin/python3
"""What limits how many come, who is kept out for what, and what is known of
those who come: start-ups, penalties, connections of an account, names."""
import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

from harness import (COMMS, SLOW, TOP, USER, authorize, case, connect,
                     listening, main, processes, public, reaches, run, sh,
                     wait_for)

OFF = 'crash:0 authfail:0 noauth:0 grace-exceeded:0 refuseconnection:0 min:0'


def penalties(words):
    return f'LogLevel VERBOSE\nPerSourcePenalties {OFF} {words}\n'


def source(n):
    return f'127.0.0.{n}'


def greeted(srv, address='127.0.0.1'):
    """A connection from there, and the first line that it is told."""
    s = socket.create_connection(('127.0.0.1', srv.port), 10 * SLOW,
                                 (address, 0))
    try:
        return s, s.makefile('rb').readline()
    except OSError:
        return s, b''


def served(srv, address='127.0.0.1'):
    s, line = greeted(srv, address)
    s.close()
    return line.startswith(b'SSH-2.0-')


def hold(t, srv, n, address='127.0.0.1'):
    for _ in range(n):
        s, line = greeted(srv, address)
        t.undo.callback(s.close)
        t.match('^SSH-2.0-', line.decode())
        yield s


# Start-ups.

@case('past MaxStartups: the client is told, the log says when it is over')
def _(t):
    srv = t.server('MaxStartups 4\nLogLevel VERBOSE')
    held = list(hold(t, srv, 4))
    for _ in range(3):
        s, line = greeted(srv)
        t.equal(line, b'Exceeded MaxStartups\r\n')
        s.close()
    srv.wait_log('beginning MaxStartups throttling$')
    srv.wait_log(r'drop connection #4 from \[127\.0\.0\.1\]:\d+ on '
                 rf'\[127\.0\.0\.1\]:{srv.port} past MaxStartups$')
    t.equal(srv.log().count('beginning'), 1, 'times that it begins')
    for s in held:
        s.close()
    wait_for(lambda: served(srv), 5, 'nobody is served')
    wait_for(lambda: served(srv) and 'exited MaxStartups throttling after '
             in srv.log(), 5, 'it is not over')
    # those that looked whether it is over, too
    t.match(r'throttling after .*, [3-9]\d* connections dropped$', srv.log())


@case('between two of the numbers MaxStartups drops some, at random')
def _(t):
    srv = t.server('MaxStartups 1:50:1000')
    list(hold(t, srv, 1))
    n = sum(served(srv) for _ in range(40))
    t.true(0 < n < 40, f'{n} of 40 are served')


@case('PerSourceMaxStartups, by address and by block')
def _(t):
    for policy, others in (('', True), ('PerSourceNetBlockSize 24', False)):
        srv = t.server(f'PerSourceMaxStartups 2\nLogLevel VERBOSE\n{policy}')
        held = list(hold(t, srv, 2))
        t.true(not served(srv), 'a third one')
        t.equal(served(srv, source(2)), others, 'its neighbour')
        srv.wait_log('drop connection #2 from .* past (PerSource)?MaxStartups')
        held[0].close()
        wait_for(lambda: served(srv), 5, 'the place is not free')


@case('PerSourceMaxStartups does not count who has logged in')
def _(t):
    srv = t.server('PerSourceMaxStartups 1')
    for _ in range(3):
        t.client(srv)
    t.true(t.logs_in(srv), 'another login')


# Penalties.

def kept_out(t, srv, why, address='127.0.0.1', seconds=r'\d+'):
    """It is, and both are told."""
    srv.wait_log(rf'new penalty of {seconds} s for {re.escape(address)}/32: '
                 f'{why}$')
    s, line = greeted(srv, address)
    s.close()
    t.equal(line, b'Not allowed at this time\r\n')
    srv.wait_log(rf'drop connection #\d+ from \[{re.escape(address)}\]:\d+ on '
                 rf'\[127\.0\.0\.1\]:{srv.port} penalty: {why}, \d+ s left$')


def fail(t, srv, address='127.0.0.1'):
    done = t.ssh(srv, '-b', address, '-W', '127.0.0.1:9', key='id2')
    t.match('Permission denied', done.stderr.decode())


def no_penalty(t, srv):
    """Nor one that is still to come: a broker tells how it went at its
    end."""
    wait_for(lambda: not processes(COMMS['broker']), 10, 'a broker is left')
    t.true('penalty' not in srv.log(), 'a penalty')


def penalty_case(kind, why, provoke, policy=''):
    @case(f'a penalty for {kind}, for that source alone', 'aditd')
    def _(t):
        srv = t.server(penalties(f'{kind}:30') + policy)
        provoke(t, srv)
        kept_out(t, srv, why, seconds=30)
        t.true(served(srv, source(2)), 'another source')


def go_away(t, srv):
    t.true(served(srv), 'not served')


def idle(t, srv):
    with connect(srv.port, timeout=20) as s:
        s.sendall(b'SSH-2.0-idle\r\n')
        with contextlib.suppress(OSError):
            while s.recv(4096):
                pass


def refused_user(t, srv):
    t.match('Connection (closed|reset)', t.ssh(
        srv, '-W', '127.0.0.1:9', user='neighbour').stderr.decode())
    srv.wait_log('administratively prohibited connection for neighbour from '
                 rf'127.0.0.1 port \d+: {srv.policy}:4: RefuseConnection yes '
                 r'\(.*:3: Match User neighbour\)$')


penalty_case('authfail', 'failed authentication', fail)
penalty_case('noauth', 'connections without attempting authentication',
             go_away)
penalty_case('grace-exceeded', 'exceeded LoginGraceTime', idle,
             'LoginGraceTime 1\n')
penalty_case('refuseconnection', 'connection prohibited by RefuseConnection',
             refused_user, 'Match User neighbour\nRefuseConnection yes\n')


@case('RefuseConnection refuses the user that it matches alone', 'aditd')
def _(t):
    srv = t.server('PerSourcePenalties no\nMatch User neighbour\n'
                   'RefuseConnection yes')
    t.true(not t.logs_in(srv, user='neighbour'), 'neighbour')
    t.true(t.logs_in(srv), USER)
    t.true('Failed' not in srv.log(), 'it counts as a failure')


@case('penalties add up until they are more than min, and end', 'aditd')
def _(t):
    srv = t.server(penalties('authfail:50 min:120 max:200'))
    fail(t, srv)
    fail(t, srv)
    t.true(t.logs_in(srv), 'kept out too early')
    fail(t, srv)
    kept_out(t, srv, 'failed authentication', seconds=r'1[2-5]\d')
    t.equal(len(re.findall('deferred penalty of', srv.log())), 2, 'deferred')
    srv = t.server(penalties('authfail:3 min:1'))
    fail(t, srv)
    kept_out(t, srv, 'failed authentication')
    wait_for(lambda: served(srv), 10, 'kept out for ever')


@case('max bounds what adds up', 'aditd')
def _(t):
    srv = t.server(penalties('authfail:400 max:500 min:450'))
    fail(t, srv)
    fail(t, srv)
    kept_out(t, srv, 'failed authentication', seconds=500)


@case('who logs in is not penalised for the keys tried before', 'aditd')
def _(t):
    srv = t.server(penalties('authfail:100 noauth:100'))
    for _ in range(2):
        done = t.ssh(srv, '-i', f'{TOP}/id', '-W', '127.0.0.1:9', key='id2')
        t.match('open failed', done.stderr.decode())
        no_penalty(t, srv)


@case('PerSourcePenaltyExemptList and PerSourcePenalties no', 'aditd')
def _(t):
    for policy in (penalties('authfail:100') +
                   'PerSourcePenaltyExemptList 127.0.0.0/8',
                   'PerSourcePenalties no'):
        srv = t.server(policy)
        fail(t, srv)
        t.true(t.logs_in(srv), 'a login')
        no_penalty(t, srv)


@case('PerSourceNetBlockSize: neighbours are one source', 'aditd')
def _(t):
    srv = t.server(penalties('authfail:100') + 'PerSourceNetBlockSize 24')
    fail(t, srv, source(2))
    srv.wait_log(r'new penalty of 100 s for 127\.0\.0\.2/24: ')
    t.true(not served(srv, source(3)), 'its neighbour')
    t.true(served(srv, '127.0.1.1'), 'another source')


@case('overflow: who ends first is forgotten, or all are kept out', 'aditd')
def _(t):
    for mode in ('permissive', 'deny-all'):
        srv = t.server(penalties(f'authfail:100 max-sources4:2 overflow:{mode}'
                                 ))
        for n in (2, 3):
            fail(t, srv, source(n))
            srv.wait_log(f'new penalty .* for {re.escape(source(n))}/32')
        if mode == 'deny-all':
            t.true(not served(srv, source(4)), 'a third one')
            srv.wait_log('penalty: too many penalised addresses, 0 s left')
            continue
        fail(t, srv, source(4))
        srv.wait_log(f'new penalty .* for {re.escape(source(4))}/32')
        t.equal([served(srv, source(n)) for n in (2, 3, 4)],
                [True, False, False], 'served')


@case('a flood from a source that is kept out costs few lines', 'aditd')
def _(t):
    srv = t.server(penalties('authfail:100'))
    fail(t, srv)
    srv.wait_log('new penalty of')
    wait_for(lambda: not processes(COMMS['session']), 5, 'it stays')
    started = time.monotonic()
    for _ in range(200):
        with connect(srv.port) as s, contextlib.suppress(OSError):
            s.recv(100)
    took = time.monotonic() - started
    n = srv.log().count('drop connection')
    t.true(0 < n <= 10 * (took + 2), f'{n} lines in {took:.1f} s')
    if took > 2:
        t.match(r'\d+ more connections were dropped for penalties', srv.log())
    t.equal(processes(COMMS['session']), [], 'sessions')


@case('a reloaded policy forgets no penalty', 'aditd')
def _(t):
    srv = t.server(penalties('authfail:100'))
    fail(t, srv)
    kept_out(t, srv, 'failed authentication')
    srv.process.send_signal(signal.SIGHUP)
    srv.wait_log('Received SIGHUP')
    t.true(not served(srv), 'served')


@case('who is exempt is let in, whatever was before', 'aditd')
def _(t):
    for full in ('', ' max-sources4:1 overflow:deny-all'):
        srv = t.server(penalties(f'authfail:100{full}'))
        fail(t, srv)
        srv.wait_log('new penalty')
        t.true(not served(srv), 'served')
        with open(srv.policy, 'a') as f:
            f.write('PerSourcePenaltyExemptList 127.0.0.1\n')
        srv.process.send_signal(signal.SIGHUP)
        wait_for(lambda: served(srv), 5, 'not served')
        t.equal(served(srv, source(2)), not full, 'another one')


# Connections of an account.

@case('MaxConnections bounds the connections of an account', 'aditd')
def _(t):
    srv = t.server(f'LogLevel VERBOSE\nMatch User {USER}\nMaxConnections 2')
    first, _ = t.client(srv), t.client(srv)
    third = t.client(srv, wait=False)
    third.wait_err('Received disconnect from .*:12: too many connections of '
                   'this account')
    t.true(third.wait() != 0, 'exit status')
    srv.wait_log(rf'refused a login for {USER} from 127.0.0.1 port \d+: '
                 rf'{srv.policy}:3: MaxConnections 2')
    t.true(t.logs_in(srv, user='neighbour'), 'another account')
    t.equal(srv.log().count('Accepted'), 3, 'logins')
    first.stop()
    wait_for(lambda: t.logs_in(srv), 5, 'the place is not free')


@case('MaxConnections holds when many log in at once, and over a reload',
      'aditd')
def _(t):
    srv = t.server('MaxStartups 100\nMaxConnections 1')
    clients = [t.client(srv, wait=False) for _ in range(6)]

    def settled():
        return all(c.process.poll() is not None or
                   'Entering interactive' in c.err() for c in clients)
    wait_for(settled, 20, 'they do not settle')
    t.equal([c.process.poll() for c in clients].count(None), 1, 'connected')
    srv.process.send_signal(signal.SIGHUP)
    srv.wait_log('Received SIGHUP')
    refused = t.ssh(srv, '-W', '127.0.0.1:9')
    t.match('too many connections', refused.stderr.decode())


@case('the refusal by MaxConnections is no failed login', 'aditd')
def _(t):
    srv = t.server(penalties('authfail:100 noauth:100') + 'MaxConnections 1')
    client = t.client(srv)
    t.match('too many connections',
            t.ssh(srv, '-W', '127.0.0.1:9').stderr.decode())
    client.stop()
    wait_for(lambda: t.logs_in(srv), 5, 'no login')
    no_penalty(t, srv)


# Sockets.

@case('AddressFamily: of the server, and of what is forwarded')
def _(t):
    for family, every, loopback in (('inet', '0.0.0.0', '127.0.0.1'),
                                    ('inet6', '::', '::1')):
        srv = t.server(f'AddressFamily {family}', address=())
        t.equal(listening(srv.port), {every}, family)
        port = t.port()
        t.client(srv, '-R', f'{port}:127.0.0.1:9', host=loopback)
        t.equal(listening(port), {loopback}, f'-R, {family}')
        other = '::1' if family == 'inet' else '127.0.0.1'
        echo, port = t.target(host=other), t.port()
        t.client(srv, '-L', f'{port}:[{other}]:{echo.port}', host=loopback)
        t.true(not reaches(port), f'-L to {other}, {family}')


def timers(port):
    """Of the server's connected sockets, what ss says of timers."""
    return sh('ss', '-Htno', f'sport = :{port}').stdout


@case('TCPKeepAlive')
def _(t):
    for value, want in (('yes', True), ('no', False)):
        srv = t.server(f'TCPKeepAlive {value}')
        t.client(srv)
        wait_for(lambda: ('keepalive' in timers(srv.port)) == want, 5,
                 lambda: f'{value}: {timers(srv.port)}')


def marks(port, until):
    """The TOS bytes of the packets with data that port sends in until()."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0x0300) as s:
        s.bind(('lo', 0x0003))
        s.settimeout(10 * SLOW)
        until()
        seen = set()
        s.settimeout(0.2)
        with contextlib.suppress(OSError):
            while True:
                p = s.recv(65536)
                head = 40 if p[0] >> 4 == 6 else (p[0] & 15) * 4
                if struct.unpack('>H', p[head:head + 2])[0] == port and \
                        len(p) > head + (p[head + 12] >> 4) * 4:
                    word = struct.unpack('>H', p[:2])[0]
                    seen.add(word >> 4 & 255 if p[0] >> 4 == 6 else word & 255)
        return seen


@case('IPQoS marks the packets of all connections', 'aditd')
def _(t):
    for value, tos in (('cs1', 0x20), ('af21 0x88', 0x88), ('none', 0)):
        srv = t.server(f'IPQoS {value}')
        for host in ('127.0.0.1', '::1'):
            def login():
                t.true(t.logs_in(srv, host=host), f'login to {host}')
            t.equal(marks(srv.port, login), {tos}, f'{value}, {host}')


@case('IPQoS in a Match block marks what comes after the login', 'aditd')
def _(t):
    echo = t.target()
    for before, tos in (('', 0), ('IPQoS af21\n', 0x48)):
        srv = t.server(f'{before}Match User neighbour\nIPQoS cs1\n'
                       'Match User root\nIPQoS none')
        for user, want in ((USER, tos), ('neighbour', 0x20), ('root', 0)):
            for host in ('127.0.0.1', '::1'):
                port = t.port()
                client = t.client(srv, '-L',
                                  f'{port}:127.0.0.1:{echo.port}', user=user,
                                  host=host)
                with connect(port) as s:
                    def talk():
                        s.sendall(b'x')
                        t.equal(s.recv(1), b'x')
                    talk()
                    t.equal(marks(srv.port, talk), {want},
                            f'{before!r}, {user}, {host}')
                client.stop()
        # what fails to log in is let go of
        listener, = [p for p in processes(COMMS['listener'])
                     if p.pid == srv.pid]
        count = len(os.listdir(f'/proc/{listener.pid}/fd'))
        t.true(not t.logs_in(srv, user='nobody-such'), 'a stranger')
        # fewer, if the last client's had not gone yet when they were counted
        wait_for(lambda: len(os.listdir(f'/proc/{listener.pid}/fd')) <= count,
                 5, 'the socket of a client that is gone')
        srv.stop()


@case('SyslogFacility', 'aditd')
def _(t):
    folder = f'{t.folder}/dev'
    os.mkdir(folder)
    sh('mount', '-t', 'tmpfs', 'tmpfs', folder)
    t.undo.callback(sh, 'umount', '-l', folder)
    for name in ('null', 'zero', 'full', 'random', 'urandom'):
        sh('cp', '-a', f'/dev/{name}', folder)
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(f'{folder}/log')
    log.settimeout(10 * SLOW)
    t.undo.callback(log.close)
    sh('mount', '--bind', folder, '/dev')
    t.undo.callback(sh, 'umount', '-l', '/dev')
    for value, facility in (('', 4), ('SyslogFacility LOCAL3\n', 19)):
        policy = f'{t.folder}/policy'
        with open(policy, 'w') as f:
            f.write(f'{value}HostKey {TOP}/hostkey\nPidFile none\n'
                    f'ListenAddress 127.0.0.1:{t.port()}\n')
        daemon = subprocess.Popen([f'{TOP}/aditd', '-D', '-f', policy],
                                  stdin=subprocess.DEVNULL)
        t.undo.callback(daemon.wait)
        t.undo.callback(daemon.terminate)
        line = log.recv(2048).decode()
        while 'Server listening' not in line:
            line = log.recv(2048).decode()
        t.equal(int(t.match(r'^<(\d+)>', line)[1]), facility * 8 + 6, line)


# Names of clients.

class Names(threading.Thread):
    """A name server that knows of 127.0.0.N, by N: the name, and the N that
    the name has itself. It never answers about others."""

    def __init__(self, names):
        super().__init__(daemon=True)
        self.names = names
        self.asked = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(('127.0.0.153', 53))

    def answer(self, name, kind):
        """(record type, data), or None; () is silence."""
        m = re.fullmatch(r'(\d+)\.0\.0\.127\.in-addr\.arpa', name)
        if kind == 12 and m:
            known = self.names.get(int(m[1]))
            return (12, wire(known[0])) if known else ()
        for text, n in self.names.values():
            if kind == 1 and name == text.lower() and n:
                return 1, bytes([127, 0, 0, n])
        return None

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                query, peer = self.socket.recvfrom(512)
                if not query:
                    return
                at, labels = 12, []
                while query[at]:
                    labels.append(query[at + 1:at + 1 + query[at]].decode())
                    at += 1 + query[at]
                kind, end = query[at + 2], at + 5
                name = '.'.join(labels).lower()
                self.asked.append(name)
                got = self.answer(name, kind)
                if got == ():
                    continue
                head = query[:2] + struct.pack(
                    '>5H', 0x8180, 1, 1 if got else 0, 0, 0)
                record = b''
                if got:
                    record = b'\xc0\x0c' + struct.pack(
                        '>HHIH', got[0], 1, 1, len(got[1])) + got[1]
                self.socket.sendto(head + query[12:end] + record, peer)

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def wire(name):
    return b''.join(bytes([len(x)]) + x.encode()
                    for x in name.split('.')) + b'\0'


def names(t):
    for path in ('resolv.conf', 'nsswitch.conf', 'hosts'):
        shutil.copy(os.path.realpath(f'/etc/{path}'), f'{t.folder}/{path}')
    with open(f'{t.folder}/resolv.conf', 'w') as f:
        f.write('nameserver 127.0.0.153\noptions timeout:30 attempts:1\n')
    with open(f'{t.folder}/nsswitch.conf', 'w') as f:
        f.write('passwd: files\ngroup: files\nshadow: files\n'
                'hosts: files dns\n')
    with open(f'{t.folder}/hosts', 'w') as f:
        f.write('127.0.0.1 localhost\n')
    for path in ('resolv.conf', 'nsswitch.conf', 'hosts'):
        sh('mount', '--bind', f'{t.folder}/{path}', f'/etc/{path}')
        t.undo.callback(sh, 'umount', f'/etc/{path}')
    server = Names({5: ('Good.Test', 5), 6: ('bad.test', 60),
                    7: ('lost.test', 0), 8: ('10.0.0.8', 8)})
    server.start()
    t.undo.callback(server.close)
    return server


def comes_in(t, srv, n):
    done = t.ssh(srv, '-b', source(n), '-W', '127.0.0.1:9', timeout=40)
    err = done.stderr.decode()
    t.match('Permission denied|open failed', err)
    return 'open failed' in err


@case('UseDNS: names that map back count, in AllowUsers and from=',
      timeout=120)
def _(t):
    names(t)
    srv = t.server(f'UseDNS yes\nLogLevel VERBOSE\nAllowUsers {USER}@*.test')
    t.equal([comes_in(t, srv, n) for n in (5, 6, 7, 8)],
            [True, False, False, False], 'AllowUsers')
    srv.wait_log('[Aa]ddress 127.0.0.6 maps to bad.test, but this does not map'
                 ' back to the address.')
    srv.wait_log(r'reverse mapping checking getaddrinfo for lost.test '
                 r'\[127.0.0.7\] failed.')
    srv.wait_log('Nasty PTR record "10.0.0.8" is set up for 127.0.0.8, '
                 'ignoring')
    srv = t.server('UseDNS yes')
    authorize(USER, f'from="good.test" {public("id")}')
    t.equal([comes_in(t, srv, n) for n in (5, 6)], [True, False], 'from=')
    authorize(USER, f'from="!good.test,*" {public("id")}')
    t.equal([comes_in(t, srv, n) for n in (5, 6)], [False, True], 'not from=')


@case('without UseDNS no name is asked for')
def _(t):
    server = names(t)
    srv = t.server(f'UseDNS no\nAllowUsers {USER}@*.test')
    t.true(not comes_in(t, srv, 5), 'let in')
    t.equal([n for n in server.asked if n.endswith('arpa')], [], 'questions')


@case('UseDNS: a name server that does not answer delays a login, no more',
      'aditd')
def _(t):
    names(t)
    srv = t.server(f'UseDNS yes\nAllowUsers {USER}@127.0.0.9')
    started = time.monotonic()
    t.true(comes_in(t, srv, 9), 'not let in')
    t.true(4 < time.monotonic() - started < 10 * SLOW, 'the time it took')
    srv.wait_log('no answer in time on the name of 127.0.0.9')


@case('UseDNS: a client that goes while its name is looked up leaves nothing',
      'aditd')
def _(t):
    names(t)
    srv = t.server('UseDNS yes')
    before = {p.pid for p in processes()}
    client = t.client(srv, '-b', source(9), wait=False)
    client.wait_err('Authenticating to')
    client.wait_err('SSH2_MSG_SERVICE_ACCEPT|SSH2_MSG_NEWKEYS received')
    os.kill(client.pid, signal.SIGKILL)
    client.process.wait()
    wait_for(lambda: {p.pid for p in processes()} == before, 10,
             lambda: f'left: {processes()}')


if __name__ == '__main__':
    main()
