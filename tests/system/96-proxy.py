#!/usr/bin/python3
"""ProxyProtocolFrom: headers of versions 1 and 2, made by hand and by a real
haproxy in front of two nodes; policy goes by the client's address."""
import contextlib
import hashlib
import os
import re
import signal
import socket
import struct
import subprocess
import textwrap
import threading
import time

from harness import (COMMS, SLOW, TOP, USER, authorize, case, connect, main,
                     processes, public, reaches, read_all, run, talk,
                     wait_for)

CLIENT, OTHER, NODE = '192.0.2.7', '192.0.2.8', '198.51.100.1'
POLICY = 'LogLevel VERBOSE\nProxyProtocolFrom 127.0.0.1 2001:db8::/32\n'
OFF = 'crash:0 authfail:0 noauth:0 grace-exceeded:0 refuseconnection:0 min:0'
SIGNATURE = b'\r\n\r\n\0\r\nQUIT\n'
LOCAL = SIGNATURE + b'\x20\0\0\0'
SSH = b'SSH-2.0-test\r\n'


def v1(source=CLIENT, port=40000, to=NODE, to_port=22):
    kind = 'TCP6' if ':' in source else 'TCP4'
    return f'PROXY {kind} {source} {to} {port} {to_port}\r\n'.encode()


def v2(source=CLIENT, port=40000, to=NODE, to_port=22, more=b''):
    family = socket.AF_INET6 if ':' in source else socket.AF_INET
    body = socket.inet_pton(family, source) + socket.inet_pton(family, to)
    body += struct.pack('>HH', port, to_port) + more
    return SIGNATURE + bytes([0x21, 0x21 if ':' in source else 0x11]) + \
        struct.pack('>H', len(body)) + body


def dial(srv, data=b'', source='127.0.0.1'):
    """A connection from there that has said that."""
    s = socket.create_connection(('127.0.0.1', srv.port), 10 * SLOW,
                                 (source, 0))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.sendall(data)
    return s


def line(s):
    with contextlib.suppress(ConnectionResetError):
        return s.makefile('rb').readline()
    return b''


def answer(srv, data, **kw):
    with dial(srv, data, **kw) as s:
        return line(s)


def served(srv, data, **kw):
    return answer(srv, data, **kw).startswith(b'SSH-2.0-')


def unread(s):
    """What the other end of s, in our network, has not read yet."""
    def words(end):
        return '%08X:%04X' % (struct.unpack('=I', socket.inet_aton(end[0]))[0],
                              end[1])
    want = [words(s.getpeername()), words(s.getsockname())]
    with open('/proc/net/tcp') as f:
        for row in list(f)[1:]:
            if row.split()[1:3] == want:
                return int(row.split()[4].split(':')[1], 16)
    return 0


def pump(a, b):
    with contextlib.suppress(OSError):
        while data := a.recv(65536):
            b.sendall(data)
    with contextlib.suppress(OSError):
        b.shutdown(socket.SHUT_WR)


def front(t, srv, header, slowly=False):
    """A proxy of our own: its header and the client's first words in one
    segment; slowly: each byte of the header alone."""
    def serve(s):
        with dial(srv) as node:
            first = s.recv(65536)
            for b in header if slowly else ():
                node.sendall(bytes([b]))
                wait_for(lambda: unread(node) == 0, 5, 'it is not read')
            node.sendall(first if slowly else header + first)
            back = threading.Thread(target=pump, args=(node, s), daemon=True)
            back.start()
            pump(s, node)
            back.join()
    return t.target(serve)


def from_line(source, port=40000, to=NODE, to_port=22):
    return rf'Connection from {re.escape(source)} port {port} on ' \
           rf'{re.escape(to)} port {to_port}$'


# Headers.

def reader():
    """The server listens before each of its processes has its name."""
    wait_for(lambda: processes('adit-proxy'), 10, 'no reader')
    return processes('adit-proxy')[0]


@case('the client is who the header says, in both versions and families',
      'aditd')
def _(t):
    srv = t.server(POLICY)
    for n, (make, source, to) in enumerate((
            (v1, CLIENT, NODE), (v2, CLIENT, NODE),
            (v1, '2001:db8::7', '2001:db8::1'),
            (v2, '2001:db8::7', '2001:db8::1'))):
        t.true(served(srv, make(source, 40000 + n, to) + SSH), make.__name__)
        srv.wait_log(from_line(source, 40000 + n, to))
    t.true(served(srv, v2(port=40009, more=b'\4\0\3abc') + SSH), 'TLVs')
    srv.wait_log(from_line(CLIENT, 40009))
    t.true(served(srv, v1('::ffff:192.0.2.9', 1, '::ffff:' + NODE)), 'mapped')
    srv.wait_log(from_line('192.0.2.9', 1))


@case("LOCAL, UNKNOWN, and a family that is not said: the proxy's own",
      'aditd')
def _(t):
    srv = t.server(POLICY)
    for header in (LOCAL, SIGNATURE + b'\x20\x11\0\x0c' + b'\1' * 12,
                   SIGNATURE + b'\x21\0\0\0', b'PROXY UNKNOWN\r\n',
                   b'PROXY UNKNOWN 2001:db8::7 ::1 1 2\r\n'):
        with dial(srv, header) as s:
            t.match(b'^SSH-2.0-'.decode(), line(s).decode())
            srv.wait_log(from_line('127.0.0.1', s.getsockname()[1],
                                   '127.0.0.1', srv.port))
    t.true('2001:db8::7' not in srv.log(), 'an address that is not to be read')


@case('not a byte of the client is lost: in one segment, and byte by byte',
      'aditd')
def _(t):
    srv = t.server(POLICY)
    data = os.urandom(3 << 20)
    for make in (v1, v2):
        for slowly in (False, True):
            local, echo = t.port(), t.target()
            t.client(front(t, srv, make(), slowly), '-L',
                     f'{local}:127.0.0.1:{echo.port}')
            t.equal(hashlib.sha256(talk(local, data)).digest(),
                    hashlib.sha256(data).digest(), 'what comes back')
    srv.wait_log(rf'Accepted publickey for {USER} from {CLIENT} port 40000 ')


@case('a header that is none: closed without a word, and logged', 'aditd')
def _(t):
    srv = t.server(POLICY)
    for data, why in (
            (SSH, 'no PROXY header'),
            (os.urandom(64)[:-1] + b'\n', 'no PROXY header'),
            (b'PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n',
             'a PROXY line with a wrong port'),
            (b'PROXY ' + b'x' * 200, 'a PROXY line that is too long'),
            (SIGNATURE + b'\x21\x11\x03\0', 'a PROXY header that is too long'),
            (SIGNATURE + b'\x21\x31\0\xd8' + b'/' * 216,
             'a PROXY header of something else than TCP')):
        with dial(srv, data) as s:
            port = s.getsockname()[1]
            t.equal(line(s), b'', f'told after {data!r}')
        srv.wait_log(rf'drop connection from proxy \[127\.0\.0\.1\]:{port} on '
                     rf'\[127\.0\.0\.1\]:{srv.port}: {why}$')
    with dial(srv, v2()[:20]) as s:
        s.shutdown(socket.SHUT_WR)
        t.equal(line(s), b'')
    srv.wait_log('drop connection from proxy .*: closed within its PROXY '
                 'header$')
    dial(srv).close()
    srv.wait_log('proxy 127.0.0.1 port [0-9]+: closed before its PROXY header')
    t.true(CLIENT not in srv.log(), 'somebody came in')
    t.true(served(srv, v2()), 'the next one')


@case('hundreds of bad headers cost few lines', 'aditd')
def _(t):
    srv = t.server(POLICY)
    start = time.monotonic()
    for _ in range(300):
        answer(srv, SSH)
    t.true(served(srv, v2()), 'the next one')
    lines = 10 * (2 + time.monotonic() - start)
    t.true(srv.log().count('drop connection') <= lines, 'too many lines')
    # the line of how many comes with the first one of another second
    wait_for(lambda: answer(srv, SSH) + b'x' and re.search(
        r'\d+ more connections were dropped for their PROXY headers$',
        srv.log(), re.M), 5, 'how many more')


@case('no header in time: closed', 'aditd')
def _(t):
    srv = t.server(POLICY + 'LoginGraceTime 1')
    with dial(srv) as silent, dial(srv, v2()[:-1]) as slow:
        t.equal(line(silent), b'')
        t.equal(line(slow), b'')
    srv.wait_log(': no PROXY header in time$')
    srv.wait_log(': a PROXY header that is late$')
    reader()
    t.equal(len(processes('adit-proxy')), 1, 'readers')


@case('from elsewhere a header is no header', 'aditd')
def _(t):
    srv = t.server(POLICY)
    with dial(srv, v1() + SSH, source='127.0.0.2') as s:
        t.match('^SSH-2.0-', line(s).decode())
        srv.wait_log(from_line('127.0.0.2', s.getsockname()[1], '127.0.0.1',
                               srv.port))
        read_all(s)  # its "banner" is bad
    with connect(srv.port, '::1') as s:
        s.sendall(v2())
        t.match('^SSH-2.0-', line(s).decode())
    t.true(CLIENT not in srv.log(), 'it was believed')


@case('a proxy of IPv6', 'aditd')
def _(t):
    far = t.far_host()
    srv = t.server(f'LogLevel VERBOSE\nProxyProtocolFrom {far.theirs6}/128',
                   address=[far.ours6])
    with far:
        s = connect(srv.port, far.ours6)
    with s:
        s.sendall(v1())
        t.match('^SSH-2.0-', line(s).decode())
    srv.wait_log(from_line(CLIENT))


# Policy.

@case("Match Address, LocalPort and from= go by the header, in every way",
      'aditd')
def _(t):
    srv = t.server(POLICY + f'Match Address {OTHER}\n DenyUsers *\n'
                   'Match LocalPort 2222\n DenyUsers *\n'
                   'Match LocalAddress 198.51.100.9\n DenyUsers *\n')
    for make in (v1, v2):
        t.true(t.logs_in(front(t, srv, make())), 'from there')
        for kw in ({'source': OTHER}, {'to_port': 2222},
                   {'to': '198.51.100.9'}):
            t.true(not t.logs_in(front(t, srv, make(**kw))), f'with {kw}')
    authorize(USER, f'from="{CLIENT}" {public("id")}')
    t.true(t.logs_in(front(t, srv, v2())), 'from=')
    t.true(not t.logs_in(front(t, srv, v2('192.0.2.9'))), 'from= elsewhere')
    t.true(not t.logs_in(front(t, srv, LOCAL)), 'from= the proxy')


def fails(t, node):
    t.true(not t.logs_in(node, key='id2'), 'a wrong key')


@case("penalties are the client's, never the proxy's", 'aditd')
def _(t):
    srv = t.server(POLICY + f'PerSourcePenalties {OFF} authfail:100 '
                   'noauth:100\n')
    fails(t, front(t, srv, v2()))
    srv.wait_log(rf'new penalty of 100 s for {CLIENT}/32: ')
    t.equal(answer(srv, v2()), b'Not allowed at this time\r\n')
    srv.wait_log(rf'drop connection #\d+ from \[{CLIENT}\]:40000 on '
                 rf'\[{NODE}\]:22 penalty: ')
    t.true(t.logs_in(front(t, srv, v2(OTHER))), 'another client')
    # health checks, which never log in
    for _ in range(3):
        t.true(served(srv, LOCAL), 'a check')
    fails(t, front(t, srv, LOCAL))
    t.true(served(srv, LOCAL), 'the next check')
    t.true('for 127.0.0.1' not in srv.log(), 'the proxy has a penalty')


@case('start-up limits: of the client by its address, of all in between',
      'aditd')
def _(t):
    srv = t.server(POLICY + 'MaxStartups 3\nPerSourceMaxStartups 1')
    with dial(srv, v2()) as held:
        t.match('^SSH-2.0-', line(held).decode())
        t.equal(answer(srv, v2(port=40001)), b'Exceeded MaxStartups\r\n')
        srv.wait_log(rf'drop connection #1 from \[{CLIENT}\]:40001 on '
                     rf'\[{NODE}\]:22 past PerSourceMaxStartups$')
        t.true(served(srv, v2(OTHER)), 'another client')
    wait_for(lambda: served(srv, v2()), 5, 'its place is not free')
    wait_for(lambda: not processes(COMMS['session']), 5, 'sessions stay')
    silent = [dial(srv) for _ in range(3)]
    try:
        wait_for(lambda: answer(srv, b'') == b'Exceeded MaxStartups\r\n', 2,
                 'those whose header is read do not count')
    finally:
        for s in silent:
            s.close()
    wait_for(lambda: served(srv, v2()), 5, 'the places are not free')


# The process.

@case('the reader is killed: its connections go, another one comes', 'aditd')
def _(t):
    srv = t.server(POLICY)
    client = t.client(front(t, srv, v2()))
    old = reader().pid
    fds = len(reader().fds())
    with dial(srv, v2()[:9]) as s:
        wait_for(lambda: len(processes('adit-proxy')[0].fds()) > fds, 5,
                 'it is not given the socket')
        os.kill(old, signal.SIGKILL)
        t.equal(line(s), b'')
    srv.wait_log(': the reader of its PROXY header is gone$')
    wait_for(lambda: [p.pid for p in processes('adit-proxy')
                      if p.pid != old], 5, 'no other one')
    t.true(served(srv, v2()), 'the next one')
    t.equal(client.process.poll(), None, 'who was in')


@case('one that does not answer is replaced', 'aditd')
def _(t):
    srv = t.server(POLICY + 'LoginGraceTime 1')
    t.true(served(srv, v2()), 'it is not ready')
    old = reader().pid
    os.kill(old, signal.SIGSTOP)
    t.equal(answer(srv, v2()), b'')
    srv.wait_log(r'proxy \(process \d+\) does not answer: killed$')
    wait_for(lambda: served(srv, v2()), 5, 'nobody is served')
    wait_for(lambda: old not in [p.pid for p in processes('adit-proxy')], 5,
             'it is still there')


@case('a reload brings the reader, renews it and takes it away', 'aditd')
def _(t):
    srv = t.server('LogLevel VERBOSE')
    t.equal(processes('adit-proxy'), [], 'readers')

    def reload(text):
        with open(srv.policy, 'w') as f:
            f.write(text)
        n = srv.log().count('Received SIGHUP')
        srv.process.send_signal(signal.SIGHUP)
        wait_for(lambda: srv.log().count('Received SIGHUP') > n, 5,
                 'it does not reload')

    reload(POLICY)
    wait_for(lambda: served(srv, v2()), 5, 'the header is not read')
    old = reader().pid
    with dial(srv) as s:  # what the old one has is still read
        wait_for(lambda: len(processes('adit-proxy')[0].fds()) > 5, 5,
                 'it is not given the socket')
        reload(POLICY)
        wait_for(lambda: {p.pid for p in processes('adit-proxy')} > {old}, 5,
                 'it is not renewed')
        s.sendall(v2(OTHER))
        t.match('^SSH-2.0-', line(s).decode())
        srv.wait_log(from_line(OTHER))
    wait_for(lambda: len(processes('adit-proxy')) == 1, 5, 'the old one stays')
    reload('LogLevel VERBOSE\n')
    wait_for(lambda: not processes('adit-proxy'), 5, 'it stays')
    t.true(served(srv, SSH), 'without a header')


@case('without root', 'aditd')
def _(t):
    srv = t.server(POLICY, user=USER)
    t.true(t.logs_in(front(t, srv, v2())), 'a login')
    srv.wait_log(rf'Accepted publickey for {USER} from {CLIENT} port 40000 ')


@case('-t -v says which networks are too wide', 'aditd')
def _(t):
    for policy, found in (('ProxyProtocolFrom 0.0.0.0/0', True),
                          ('ProxyProtocolFrom 192.0.2.0/24', False)):
        path = f'{t.folder}/policy'
        with open(path, 'w') as f:
            f.write(f'HostKey {TOP}/hostkey\n{policy}\n')
        done = run('sh', '-c', f'{TOP}/aditd -t -v -f {path} 2>&1')
        t.equal('is dangerous:' in done, found, policy)
        t.equal('whoever can connect from there can claim any' in done, found,
                policy)


# haproxy.

def many_nodes():
    """The configuration in docs/many-nodes.md."""
    with open(f'{os.path.dirname(os.path.abspath(__file__))}/../../docs/'
              'many-nodes.md') as f:
        text = f.read()
    app = re.search(r'(?m)^    frontend app\n(?:^    .*\n)+', text)[0]
    return re.search(r'(?ms)^```haproxy\n(.*?)^```', text)[1] + \
        textwrap.dedent(app)


class Balancer:
    """A real haproxy, with what the page says, and two nodes."""

    def __init__(self, t, policy=POLICY, controls=('none', 'none')):
        self.nodes = [t.server(f'ControlSocket {control}\n{policy}')
                      for control in controls]
        self.port, self.stats = t.port(), f'{t.folder}/haproxy.sock'
        self.app, there = t.port(), t.port()
        self.remotes = [f'127.0.0.11:{there}', f'127.0.0.12:{there}']
        text = many_nodes()
        for this, that in (
                ('bind :22', f'bind 127.0.0.1:{self.port}'),
                ('/run/haproxy.sock', self.stats),
                ('10.0.0.11:22', f'127.0.0.1:{self.nodes[0].port}'),
                ('10.0.0.12:22', f'127.0.0.1:{self.nodes[1].port}'),
                ('bind :9000', f'bind 127.0.0.1:{self.app}'),
                ('10.0.0.11:9000', self.remotes[0]),
                ('10.0.0.12:9000', self.remotes[1])):
            t.equal(text.count(this), 1, f'{this} in the page')
            text = text.replace(this, that)
        with open(f'{t.folder}/haproxy.cfg', 'w') as f:
            f.write(text)
        t.service('haproxy', '-db', '-f', f'{t.folder}/haproxy.cfg',
                  ready=lambda s: self.up() == [True, True])

    def ask(self, words):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.stats)
            s.sendall(words.encode() + b'\n')
            return read_all(s).decode()

    def up(self):
        """Of each node, whether its checks have passed."""
        try:
            rows = self.ask('show stat').splitlines()
        except OSError:
            return None
        keys = rows[0].lstrip('# ').split(',')
        rows = [dict(zip(keys, row.split(','))) for row in rows[1:] if row]
        return [row['status'] == 'UP' and row['check_status'] == 'L7OK'
                for row in rows if row['pxname'] == 'nodes' and
                row['svname'].startswith('node')]


def logs_in_from(t, front, address):
    done = t.ssh(front, '-b', address, '-W', '127.0.0.1:9')
    return b'open failed' in done.stderr


def came(node, address):
    return node.log().count(f'Accepted publickey for {USER} from {address} ')


@case('haproxy: the true address at each node, transfers, one node drained, '
      'one stopped', 'aditd', timeout=120)
def _(t):
    front = Balancer(t)
    one, two = front.nodes
    data = os.urandom(4 << 20)
    clients = []
    for n in range(4):
        local, echo = t.port(), t.target()
        clients.append((t.client(front, '-b', f'127.0.0.{50 + n}', '-L',
                                 f'{local}:127.0.0.1:{echo.port}'), local))
        t.equal(sum(came(node, f'127.0.0.{50 + n}')
                    for node in front.nodes), 1, 'nodes that know the client')
        t.equal(hashlib.sha256(talk(local, data)).digest(),
                hashlib.sha256(data).digest(), 'what comes back')
    for node in front.nodes:  # one speaks version 2, one version 1
        t.true('Accepted publickey' in node.log(), 'a node nobody came to')
    # drained by the balancer: nobody new, and who is there stays
    front.ask('set server nodes/node1 state drain')
    t.true(t.logs_in(front, host='127.0.0.1'), 'a login')
    for n in range(60, 63):
        t.client(front, '-b', f'127.0.0.{n}').stop()
        t.equal((came(one, f'127.0.0.{n}'), came(two, f'127.0.0.{n}')),
                (0, 1), 'where it went')
    front.ask('set server nodes/node1 state ready')
    # stopped without a word to anybody: the same
    two.stop()
    for n in range(70, 73):
        t.client(front, '-b', f'127.0.0.{n}').stop()
        t.equal(came(one, f'127.0.0.{n}'), 1, 'at the other node')
    for client, local in clients:
        t.equal(client.process.poll(), None, 'who was in')
        t.equal(talk(local, b'still'), b'still', 'its forward')


@case('haproxy: aditctl drain, interrupted, with an end; who is in stays in',
      'aditd', timeout=120)
def _(t):
    folder = f'{t.folder}/control'
    os.mkdir(folder)
    front = Balancer(t, controls=[f'{folder}/{n}' for n in (1, 2)])
    one, two = front.nodes
    echo = t.target()
    ports, clients = [], []
    for n in range(6):  # some at each node
        ports.append(t.port())
        clients.append(t.client(front, '-b', f'127.0.0.{50 + n}', '-L',
                                f'{ports[n]}:127.0.0.1:{echo.port}'))
    at_one = [n for n in range(6) if came(one, f'127.0.0.{50 + n}')]
    t.true(0 < len(at_one) < 6, f'at the first node: {at_one}')
    drain = subprocess.Popen([f'{TOP}/aditctl', '-s', f'{folder}/1', 'drain'],
                             stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, text=True)
    try:
        t.match(' left$', drain.stdout.readline())
    finally:
        drain.terminate()
        drain.communicate()
    for n in range(70, 73):
        t.client(front, '-b', f'127.0.0.{n}').stop()
        t.equal((came(one, f'127.0.0.{n}'), came(two, f'127.0.0.{n}')),
                (0, 1), 'where it went')
    for port in ports:
        t.equal(talk(port, b'still'), b'still', 'a forward')
    status = run(f'{TOP}/aditctl', '-s', f'{folder}/1', 'status')
    t.match('^Draining +yes', status)
    t.match('^Accepting +no', status)
    listed = run(f'{TOP}/aditctl', '-s', f'{folder}/1', 'sessions')
    for n in at_one:
        t.match(rf'127\.0\.0\.{50 + n} ', listed)
    run(f'{TOP}/aditctl', '-s', f'{folder}/1', 'drain', '--timeout', '1')
    t.equal(one.process.wait(10 * SLOW), 0)
    for n, client in enumerate(clients):
        if n in at_one:
            client.wait()
            t.match('the server is stopped', client.err())
        else:
            t.equal(talk(ports[n], b'still'), b'still', 'at the other node')


@case("haproxy: a port of -R is found at the node of its client", 'aditd',
      timeout=120)
def _(t):
    front = Balancer(t, POLICY + 'GatewayPorts clientspecified\n')
    echo = t.target()
    for remote in front.remotes:
        client = t.client(front, '-R', f'{remote}:127.0.0.1:{echo.port}')
        wait_for(lambda: reaches(front.app), 10, 'it is not found')
        client.stop()
        wait_for(lambda: not reaches(front.app), 5, 'somebody else answers')


@case("haproxy: policy by the client's address; checks cost no penalty",
      'aditd', timeout=120)
def _(t):
    front = Balancer(t, POLICY + f'PerSourcePenalties {OFF} authfail:100 '
                     'noauth:100\nMatch Address 127.0.0.66\n DenyUsers *\n')
    t.true(t.logs_in(front), 'a login')
    t.true(not logs_in_from(t, front, '127.0.0.66'), 'a denied address')
    wait_for(lambda: any('new penalty of 100 s for 127.0.0.66/32: ' in
                         node.log() for node in front.nodes), 5,
             'no penalty for the client')
    for node in front.nodes:
        t.true('s for 127.0.0.1/' not in node.log(),
               'the balancer has a penalty')
    t.equal(front.up(), [True, True], 'nodes that pass their checks')


if __name__ == '__main__':
    main()
