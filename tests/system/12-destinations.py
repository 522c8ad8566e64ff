#!/usr/bin/python3
"""Where -L may lead and -R may listen: globs, networks, ranges, DenyOpen, and
names that have more addresses than one, or change them."""
import contextlib
import os
import re
import signal
import socket
import struct
import threading

from harness import (TOP, USER, append, authorize, case, connect, listening,
                     main, processes, public, reaches, sh, talk, wait_for)


def hosts(t, *lines):
    """Names of this case, in /etc/hosts alone."""
    t.keep('/etc/hosts')
    append('/etc/hosts', '\n' + '\n'.join(lines) + '\n')


def open_to(t, srv, host, port, **kw):
    """Does a forward to host:port echo? And what the client says of it."""
    local = t.port()
    client = t.client(srv, '-L', f'{local}:{host}:{port}', **kw)
    ok = reaches(local)
    if not ok:
        client.wait_err('open failed: ')
    client.stop()
    return ok, client.err()


def check(t, srv, rows):
    for host, port, want in rows:
        ok, said = open_to(t, srv, host, port)
        t.equal(ok, want, f'{host}:{port}')
        if not want:
            t.match('open failed: administratively prohibited: ', said)


@case('names and addresses are compared as they are')
def _(t):
    echo = t.target()
    hosts(t, '127.0.0.1 db.lan other.lan')
    srv = t.server(f'PermitOpen db.lan:{echo.port} 127.0.0.9:*')
    check(t, srv, [('db.lan', echo.port, True),
                   ('DB.LAN', echo.port, False),
                   ('other.lan', echo.port, False),
                   ('127.0.0.1', echo.port, False)])


@case('globs match the name that is asked for', 'aditd')
def _(t):
    echo = t.target()
    hosts(t, '127.0.0.1 a.internal b.c.internal 127.0.evil web1')
    srv = t.server('PermitOpen *.internal:* web?:* 127.0.*:*')
    check(t, srv, [('a.internal', echo.port, True),
                   ('B.C.Internal', echo.port, True),
                   ('web1', echo.port, True),
                   ('127.0.0.1', echo.port, True),
                   ('127.0.evil', echo.port, False),
                   ('localhost', echo.port, False)])


@case('ranges of ports', 'aditd')
def _(t):
    echo, other = t.target(), t.target()
    low, high = sorted((echo.port, other.port))
    srv = t.server(f'PermitOpen 127.0.0.1:{low}-{high - 1}')
    check(t, srv, [('127.0.0.1', low, True), ('127.0.0.1', high, False)])
    free, end = t.port(), t.port() + 5
    srv = t.server(f'PermitListen {free}-{end}')
    for port, want in ((free, True), (end, True), (end + 1, False),
                       (0, False)):  # a free port is none of a range
        client = t.client(srv, '-R', f'{port}:127.0.0.1:{echo.port}',
                          wait=False)
        if want:
            client.wait_ready()
            t.true(reaches(port), f'port {port}')
        else:
            t.true(client.wait() != 0, f'port {port} is granted')
        client.stop()


@case('a network matches an address, or what a name is found to be', 'aditd')
def _(t):
    echo = t.target(host='127.1.2.3')
    t.target(host='127.2.0.1', port=echo.port)
    hosts(t, '127.1.2.3 inside', '127.2.0.1 outside')
    srv = t.server(f'PermitOpen 127.1.0.0/16:{echo.port}')
    check(t, srv, [('127.1.2.3', echo.port, True),
                   ('127.66051', echo.port, True),  # 127.1.2.3, says libc
                   ('inside', echo.port, True),
                   ('127.2.0.1', echo.port, False),
                   ('outside', echo.port, False),
                   ('inside', echo.port + 1, False)])
    where = re.escape(srv.policy)
    srv.wait_log(f'refused direct-tcpip to outside port {echo.port}, address '
                 rf'127\.2\.0\.1 for .*: {where}:1: PermitOpen 127\.1')


@case("the policy's list and the key's, by name or by address", 'aditd')
def _(t):
    echo = t.target(host='127.1.2.3')
    t.target(host='127.2.0.1', port=echo.port)
    hosts(t, '127.1.2.3 good', '127.2.0.1 bad', '127.1.2.3 unnamed')
    authorize(USER, f'permitopen="good:*",permitopen="bad:*" {public("id")}')
    srv = t.server('PermitOpen 127.1.0.0/16:*')
    check(t, srv, [('good', echo.port, True), ('bad', echo.port, False),
                   ('unnamed', echo.port, False)])
    authorize(USER, f'permitopen="127.2.0.0/16:*" {public("id")}')
    srv = t.server('PermitOpen *:*')
    check(t, srv, [('bad', echo.port, True), ('good', echo.port, False)])


@case('of the addresses of a name only those permitted are tried', 'aditd')
def _(t):
    good = t.target(host='127.1.0.1')
    bad = t.target(host='127.2.0.1', port=good.port)
    worse = t.target(host='::1', port=good.port)
    hosts(t, '127.2.0.1 both', '::1 both', '127.1.0.1 both')
    srv = t.server('PermitOpen 127.1.0.0/16:*')
    t.true(open_to(t, srv, 'both', good.port)[0], 'the permitted address')
    srv.stop()
    srv = t.server('DenyOpen 127.2.0.0/16:* [::1]:*')
    t.true(open_to(t, srv, 'both', good.port)[0], 'the one not denied')
    srv.wait_log(r'address 127\.2\.0\.1 for .*:1: DenyOpen 127\.2\.0\.0/16')
    srv.wait_log(r'address ::1 for .*:1: DenyOpen \[::1\]')
    t.equal((good.accepted, bad.accepted, worse.accepted), (2, 0, 0),
            'connections')


@case('DenyOpen wins over every Permit', 'aditd')
def _(t):
    echo, echo6 = t.target(), t.target(host='::1')
    hosts(t, '127.0.0.1 alias.corp mirror')
    authorize(USER, f'permitopen="127.0.0.1:*",permitopen="mirror:*",'
                    f'permitopen="*.corp:*",permitopen="[::1]:*" '
                    f'{public("id")}')
    srv = t.server('PermitOpen *:*\nDenyOpen 127.0.0.0/8:1-65535\n'
                   'DenyOpen *.corp:*')
    check(t, srv, [('127.0.0.1', echo.port, False),
                   ('mirror', echo.port, False),
                   ('alias.CORP', echo.port, False),
                   ('[::1]', echo6.port, True)])
    where = re.escape(srv.policy)
    srv.wait_log(f'{where}:2: DenyOpen 127.0.0.0/8:1-65535')
    srv.wait_log(rf'{where}:3: DenyOpen \*\.corp:\*')
    t.equal(echo.accepted, 0, 'connections')


@case('no spelling of this host gets around DenyOpen', 'aditd')
def _(t):
    echo, echo6 = t.target(), t.target(host='::1')
    hosts(t, '127.0.0.1 here', '0.0.0.0 zero', '::ffff:127.0.0.1 mapped',
          ':: any')
    # As a matter of fact they all lead here.
    srv = t.server()
    spellings = ['127.0.0.1', '127.1', '2130706433', '0x7f000001', '0177.1',
                 '127.0.0.2', '0.0.0.0', '0', '[::ffff:127.0.0.1]', 'here',
                 'zero', 'localhost', 'mapped', '[::ffff:0.0.0.0]']
    reached = [s for s in spellings if open_to(t, srv, s, echo.port)[0]]
    t.true(len(reached) >= 10 and '0.0.0.0' in reached,
           f'only {reached} lead here')
    t.true(open_to(t, srv, '[::]', echo6.port)[0], ':: does not lead here')
    srv.stop()
    before = echo.accepted, echo6.accepted
    srv = t.server('DenyOpen 127.0.0.0/8:* [::1]:*')
    for s in (*spellings, 'any', '[::]', '[::1]', '[::1%lo]'):
        for port in (echo.port, echo6.port):
            t.true(not open_to(t, srv, s, port)[0], s)
    t.equal((echo.accepted, echo6.accepted), before, 'connections')


SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../..')
METADATA = ('169.254.169.254', '[::ffff:169.254.169.254]',
            '[64:ff9b::169.254.169.254]', '169.254.170.2',
            '[fe80::a9fe:a9fe%near]', '[fd00:ec2::254]', '[fd00:0ec2:0::23]',
            '[fd20:ce::254]', '[fd00:c1::a9fe:a9fe]', '[fd00:42::42]',
            '100.100.100.200', '168.63.129.16')


def denials(name, before):
    with open(f'{SOURCE}/{name}') as f:
        return re.findall(rf'(?m)^{before}(DenyOpen .*)', f.read())


@case('link-local and metadata addresses, as README denies them', 'aditd')
def _(t):
    far, echo = t.far_host(), t.target()
    srv = t.server('\n'.join(denials('README.md', ' +')))
    zone = socket.if_nametoindex(far.near)
    for host in (*METADATA, f'[fe80::1%{zone}]'):
        ok, said = open_to(t, srv, host, 80)
        t.true(not ok, host)
        t.match('administratively prohibited', said, host)
    t.true(not open_to(t, srv, 'localhost', echo.port)[0], 'loopback')


@case('the packaged policy denies them, to who has a Match block, too',
      'aditd')
def _(t):
    t.equal(denials('packaging/policy', '#?'), denials('README.md', ' +'))
    t.far_host()
    echo = t.target()
    with open(f'{SOURCE}/packaging/policy') as f:
        policy = re.sub('(?m)^Port .*', '', f.read())
    srv = t.server(f'{policy}\nMatch User {USER}\nDenyOpen 192.0.2.1:*')
    for host in METADATA:
        # nothing is there anyway: it is the policy that must refuse it
        ok, said = open_to(t, srv, host, 80)
        t.true(not ok, host)
        t.match('administratively prohibited', said, host)
    t.match('DenyOpen 168.63.129.16:', srv.log())
    t.true(open_to(t, srv, 'localhost', echo.port)[0], 'loopback')
    # with all that is in it as a remark
    whole = f'{t.folder}/whole'
    with open(whole, 'w') as f:
        f.write(re.sub('(?m)^#(?=[A-Z][A-Za-z]+ [^ ]+$|DenyOpen|Match|\t)', '',
                       policy))
    done = sh(f'{TOP}/aditd', '-t', '-v', '-h', f'{TOP}/hostkey', '-f', whole)
    applies = done.stderr.split('is otherwise than in sshd')[0]
    for line in (r'DenyOpen 127\.0\.0\.0/8:.*', 'PermitTunnel no',
                 'PermitListen none'):
        t.match(rf'/whole:\d+ +{line}$', applies)


@case('a range and a network of PermitListen', 'aditd')
def _(t):
    far, echo, port = t.far_host(), t.target(), t.port()
    srv = t.server('GatewayPorts clientspecified\n'
                   'PermitListen 192.0.2.0/24:*')
    client = t.client(srv, '-R', f'{far.ours}:{port}:127.0.0.1:{echo.port}')
    t.equal(listening(port), {far.ours}, 'listeners')
    client.stop()
    for host in ('127.0.0.1', 'localhost', '*', '[2001:db8::1]'):
        client = t.client(srv, '-R', f'{host}:{port}:127.0.0.1:{echo.port}',
                          wait=False)
        t.true(client.wait() != 0, f'{host} is granted')
    srv.wait_log(r'refused tcpip-forward on localhost port \d+ .*'
                 r':2: PermitListen 192\.0\.2\.0/24:\*')


class Names:
    """A name server that says of each name another address each time. The
    answers may be kept for no time at all."""

    def __init__(self, answers):
        self.answers, self.asked = list(answers), []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(('127.0.0.1', 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                query, who = self.socket.recvfrom(512)
                if not query:  # closed
                    return
                self.may_answer.wait(20)
                self.socket.sendto(self._answer(query), who)

    def _answer(self, query):
        end = query.index(b'\0', 12) + 5
        kind, = struct.unpack('>H', query[end - 4:end - 2])
        head = struct.pack('>2sHHHHH', query[:2], 0x8580, 1, kind == 1, 0, 0)
        if kind != 1:
            return head + query[12:end]
        address = self.answers.pop(0) if len(self.answers) > 1 \
            else self.answers[0]
        self.asked.append(address)
        return (head + query[12:end]
                + struct.pack('>HHHIH', 0xc00c, 1, 1, 0, 4)
                + socket.inet_aton(address))

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def name_server(t, *answers):
    names = Names(answers)
    t.undo.callback(names.close)
    t.keep('/etc/resolv.conf', '/etc/nsswitch.conf')
    for path, text in (('/etc/resolv.conf', 'nameserver 127.0.0.1\n'),
                       ('/etc/nsswitch.conf', 'hosts: dns\npasswd: files\n'
                        'group: files\nshadow: files\n')):
        with open(path, 'w') as f:
            f.write(text)
    return names


@case('a name that changes between the check and the connection', 'aditd')
def _(t):
    good = t.target(host='127.1.0.1')
    bad = t.target(host='127.2.0.1', port=good.port)
    names = name_server(t, '127.1.0.1', '127.2.0.1', '127.1.0.1', '127.2.0.1')
    srv = t.server('PermitOpen 127.1.0.0/16:*\nDenyOpen 127.2.0.0/16:*')
    port = t.port()
    client = t.client(srv, '-L', f'{port}:rebind.test:{good.port}')
    for n, want in enumerate((True, False, True, False)):
        t.equal(reaches(port), want, f'lookup {n}')
        # One lookup each: nothing is asked twice.
        t.equal(len(names.asked), n + 1, 'lookups')
    client.wait_err('open failed: administratively prohibited')
    t.equal((good.accepted, bad.accepted), (2, 0), 'connections')


@case('a name of -R that is found after a new policy forbade it', 'aditd')
def _(t):
    port, names = t.port(), name_server(t, '127.0.0.1')
    names.may_answer.clear()
    t.undo.callback(names.may_answer.set)
    srv = t.server('LogLevel VERBOSE\nGatewayPorts clientspecified')
    client = t.client(srv, '-R', f'slow.test:{port}:127.0.0.1:9', wait=False)
    wait_for(lambda: processes('adit-broker')[1:], 5, 'no lookup')
    with open(srv.policy, 'a') as f:
        f.write('PermitListen none\n')
    os.kill(srv.pid, signal.SIGHUP)
    srv.wait_log('reviewed 1 logins')
    names.may_answer.set()
    t.true(client.wait() != 0, 'it is granted')
    srv.wait_log(r'refused tcpip-forward on slow\.test .*PermitListen none')
    t.equal(listening(port), set(), 'listeners')


@case('MaxChannels counts what is open, both ways, and names its rule',
      'aditd')
def _(t):
    echo, port, remote = t.target(), t.port(), t.port()
    srv = t.server('LogLevel VERBOSE\nMaxChannels 3')
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}',
                      '-R', f'{remote}:127.0.0.1:{echo.port}')
    held, broker = [], processes('adit-broker')[0]
    before = len(broker.fds())
    for p in (port, port, remote):
        s = connect(p)
        t.undo.callback(s.close)
        s.sendall(b'x')
        t.equal(s.recv(1), b'x', 'one of three')
        held.append(s)
    t.equal(talk(port), b'', 'a fourth')
    client.wait_err('open failed: resource shortage: too many channels')
    where = re.escape(srv.policy)
    srv.wait_log(rf'refused direct-tcpip to 127\.0\.0\.1 port {echo.port} .*'
                 f'{where}:2: MaxChannels 3')
    t.equal(talk(remote), b'', 'a fourth, the other way')
    srv.wait_log(f'refused a connection by tcpip-forward on localhost port '
                 f'{remote} .*{where}:2: MaxChannels 3')
    held[0].close()
    wait_for(lambda: reaches(port), 10, 'what was closed still counts')
    t.true(client.process.poll() is None, 'the client')
    for s in held[1:]:
        s.close()
    wait_for(lambda: len(broker.fds()) == before, 10,
             lambda: f'descriptors of the broker: {broker.fds()}')


@case('MaxChannels 0, MaxListeners 0 and N', 'aditd')
def _(t):
    echo, port = t.target(), t.port()
    a, b, c, path = (t.port() for _ in range(4))
    srv = t.server('MaxChannels 0\nMaxListeners 2\nPermitTunnel yes')
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}',
             '-L', f'{path}:/run/nobody')
    t.equal(talk(port), b'', 'a channel')
    t.equal(talk(path), b'', 'a channel to a unix socket')
    srv.wait_log('refused direct-streamlocal to /run/nobody .*:1: '
                 'MaxChannels 0')
    t.client(srv, '-w', 'any:any', user='root', wait=False)
    srv.wait_log('refused tunnel .* for root .*:1: MaxChannels 0')
    client = t.client(srv, '-R', f'{a}:127.0.0.1:{echo.port}',
                      '-R', f'/home/{USER}/s:127.0.0.1:{echo.port}',
                      '-R', f'{c}:127.0.0.1:{echo.port}', strict=False,
                      wait=False)
    client.wait_err('Remote: too many listeners')
    srv.wait_log(rf'refused tcpip-forward on localhost port {c} .*'
                 ':2: MaxListeners 2')
    t.true(listening(a) and not listening(c), 'listeners')
    client.stop()
    srv = t.server('MaxListeners 0')
    client = t.client(srv, '-R', f'{b}:127.0.0.1:{echo.port}', wait=False)
    t.true(client.wait() != 0, 'a listener')


if __name__ == '__main__':
    main()
