#!/usr/bin/python3
"""-L, -R, -D, -W, ProxyJump, and what becomes of their listeners."""
import os
import signal
import subprocess

from harness import (SLOW, TOP, USER, case, connect, listening, main, need,
                     processes, reaches, sockets, talk, wait_for)


@case('-L carries bytes both ways')
def _(t):
    srv, echo, port = t.server(), t.target(), t.port()
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    t.true(reaches(port), 'the echo')
    big = os.urandom(1 << 20)
    t.true(talk(port, big[:200000]) == big[:200000], '200 kB come back')
    many = [connect(port) for _ in range(20)]
    for i, s in enumerate(many):
        s.sendall(b'%d' % i)
    for i, s in enumerate(many):
        t.equal(s.recv(10), b'%d' % i, 'one of 20 connections')
        s.close()


@case('-L to a name, and to an IPv6 address')
def _(t):
    srv, port, port6 = t.server(), t.port(), t.port()
    echo, echo6 = t.target(), t.target(host='::1')
    t.client(srv, '-L', f'{port}:localhost:{echo.port}',
             '-L', f'{port6}:[::1]:{echo6.port}')
    t.true(reaches(port), 'localhost')
    t.true(reaches(port6), '::1')


@case('a login over IPv6')
def _(t):
    srv, echo, port = t.server(), t.target(), t.port()
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}', host='::1')
    t.true(reaches(port), 'the echo')


@case('-R listens on loopback alone, both families')
def _(t):
    srv, echo, port = t.server(), t.target(), t.port()
    client = t.client(srv, '-R', f'{port}:127.0.0.1:{echo.port}')
    t.equal(listening(port), {'127.0.0.1', '::1'}, 'listeners')
    t.true(reaches(port), '127.0.0.1')
    t.true(reaches(port, '::1'), '::1')
    client.stop()
    wait_for(lambda: not listening(port), 5, 'the listener outlives its login')


@case('-R 0 allocates a port and tells it')
def _(t):
    srv, echo = t.server(), t.target()
    client = t.client(srv, '-R', f'0:127.0.0.1:{echo.port}')
    port = int(client.wait_err(r'Allocated port (\d+) for remote')[1])
    t.equal(listening(port), {'127.0.0.1', '::1'}, 'listeners')
    t.true(reaches(port), 'the echo')
    t.true(reaches(port, '::1'), 'the echo over IPv6')


@case('a channel that ends leaves those the other way alone')
def _(t):
    srv, echo, there, back = t.server(), t.target(), t.port(), t.port()
    for first, second in ((there, back), (back, there)):
        client = t.client(srv, '-L', f'{there}:127.0.0.1:{echo.port}',
                          '-R', f'{back}:127.0.0.1:{echo.port}')
        brokers = processes('adit-broker')  # sshd has none
        before = [len(p.fds()) for p in brokers]
        held = [[connect(port) for _ in range(3)] for port in (first, second)]
        for s in held[0] + held[1]:
            s.sendall(b'one')
            t.equal(s.recv(10), b'one')
        for s in held[1]:
            s.close()
        for _ in range(3):
            t.true(reaches(first) and reaches(second), 'new ones')
        for s in held[0]:
            s.sendall(b'two')
            t.equal(s.recv(10), b'two', f'{first} {second}')
            s.close()
        wait_for(lambda: [len(p.fds()) for p in brokers] == before, 5,
                 'sockets are left')
        client.stop()


@case('-R of a taken port is refused')
def _(t):
    srv, echo = t.server(), t.target()
    t.target(host='::1', port=echo.port)  # one family is enough for success
    client = t.client(srv, '-R', f'{echo.port}:127.0.0.1:{echo.port}',
                      wait=False)
    t.true(client.wait() != 0, 'the client lives on')
    t.match('remote port forwarding failed', client.err())


@case('-R without TCP on the other side closes the connection')
def _(t):
    srv, port = t.server(), t.port()
    t.client(srv, '-R', f'{port}:127.0.0.1:{t.port()}')
    t.equal(talk(port, b''), b'', 'data from nowhere')


@case('-O forward and -O cancel over a ControlMaster')
def _(t):
    srv, echo, port = t.server(), t.target(), t.port()
    path = f'{t.folder}/control'
    t.client(srv, '-M', '-S', path)

    def control(*args):
        done = t.ssh(srv, '-S', path, *args)
        t.equal(done.returncode, 0, f'{args}: {done.stderr.decode()}')
    spec = ('-R', f'{port}:127.0.0.1:{echo.port}')
    for _ in range(3):
        control('-O', 'forward', *spec)
        t.true(reaches(port), 'the echo')
        control('-O', 'cancel', *spec)
        wait_for(lambda: not listening(port), 5, 'still listening')


@case('AllowTcpForwarding yes, no, local, remote, all', timeout=120)
def _(t):
    echo = t.target()
    for word, may_open, may_listen in (
            ('yes', True, True), ('all', True, True), ('no', False, False),
            ('local', True, False), ('remote', False, True)):
        srv = t.server(f'AllowTcpForwarding {word}')
        port, remote = t.port(), t.port()
        client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
        t.equal(reaches(port), may_open, f'{word}: -L')
        if not may_open:
            client.wait_err('open failed: administratively prohibited: .')
        client.stop()
        client = t.client(srv, '-R', f'{remote}:127.0.0.1:{echo.port}',
                          wait=may_listen)
        if may_listen:
            t.true(reaches(remote), f'{word}: -R')
            client.stop()
        else:
            t.true(client.wait() != 0, f'{word}: -R is granted')
        srv.stop()


@case('DisableForwarding yes wins over AllowTcpForwarding yes')
def _(t):
    srv = t.server('DisableForwarding yes\nAllowTcpForwarding yes')
    echo, port = t.target(), t.port()
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    t.true(not reaches(port), '-L is granted')
    client = t.client(srv, '-R', f'{t.port()}:127.0.0.1:{echo.port}',
                      wait=False)
    t.true(client.wait() != 0, '-R is granted')


def socks(kind, proxy, host, port):
    """Connect by SOCKS 4a or 5 with a name or IPv4 address."""
    s = connect(proxy)
    if kind == 5:
        s.sendall(b'\5\1\0')
        assert s.recv(2) == b'\5\0'
        name = host.encode()
        s.sendall(b'\5\1\0\3' + bytes([len(name)]) + name
                  + port.to_bytes(2, 'big'))
        answer = s.recv(10)
        ok = answer[1:2] == b'\0'
    else:
        s.sendall(b'\4\1' + port.to_bytes(2, 'big') + b'\0\0\0\1me\0'
                  + host.encode() + b'\0')
        answer = s.recv(8)
        ok = answer[1:2] == b'\x5a'
    return s if ok else None


@case('-D serves SOCKS 4a and 5')
def _(t):
    srv, echo, proxy = t.server(), t.target(), t.port()
    t.client(srv, '-D', proxy)
    for kind in (4, 5):
        s = socks(kind, proxy, 'localhost', echo.port)
        t.true(s, f'SOCKS {kind} is refused')
        with s:
            s.sendall(b'hello')
            t.equal(s.recv(5), b'hello', f'SOCKS {kind}')


@case('-D serves curl')
def _(t):
    curl = need('curl')

    def http(s):
        s.recv(4096)
        s.sendall(b'HTTP/1.0 200 OK\r\n\r\nthe page')
    srv, web, proxy = t.server(), t.target(http), t.port()
    t.client(srv, '-D', proxy)
    done = subprocess.run(
        [curl, '-sS', '-m', str(20 * SLOW), '--socks5-hostname',
         f'127.0.0.1:{proxy}', f'http://localhost:{web.port}/'],
        capture_output=True)
    t.equal(done.stdout, b'the page', done.stderr)


@case('-W joins standard input and output to a destination')
def _(t):
    srv, echo = t.server(), t.target()
    done = t.ssh(srv, '-W', f'127.0.0.1:{echo.port}', data=b'x' * 100000)
    t.equal((done.returncode, len(done.stdout)), (0, 100000), done.stderr)


@case('ProxyJump through it to an sshd behind')
def _(t):
    jump, inner = t.server(), t.server(kind='sshd')
    proxy = ' '.join(t.argv(jump, '-W', '[%h]:%p', verbose=False))
    done = t.ssh(inner, '-o', f'ProxyCommand={proxy}',
                 command=['echo', 'behind', '$SSH_CONNECTION'])
    t.equal(done.returncode, 0, done.stderr)
    t.match('^behind 127.0.0.1', done.stdout.decode())
    # -J itself takes its options from a file.
    config = f'{t.folder}/config'
    with open(config, 'w') as f:
        f.write(f'Host *\nIdentityFile {TOP}/id\nIdentitiesOnly yes\n'
                f'UserKnownHostsFile {TOP}/known_hosts\nBatchMode yes\n'
                f'Host jump\nHostName 127.0.0.1\nPort {jump.port}\n'
                f'User {USER}\n'
                f'Host inner\nHostName 127.0.0.1\nPort {inner.port}\n'
                f'User {USER}\nProxyJump jump\n')
    done = subprocess.run(['ssh', '-F', config, 'inner', 'echo', 'jumped'],
                          stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=30 * SLOW)
    t.equal(done.stdout, b'jumped\n', done.stderr)


@case('-f -N, then SIGTERM, leaves no listener and no process')
def _(t):
    srv, echo, port, remote = t.server(), t.target(), t.port(), t.port()
    before = {p.pid for p in processes()}
    done = t.ssh(srv, '-f', '-N', '-o', 'ExitOnForwardFailure=yes',
                 '-L', f'{port}:127.0.0.1:{echo.port}',
                 '-R', f'{remote}:127.0.0.1:{echo.port}')
    t.equal(done.returncode, 0, done.stderr)
    t.true(reaches(port) and reaches(remote), 'the echoes')

    def gone():
        for p in processes('ssh'):
            os.kill(p.pid, signal.SIGTERM)
        return {p.pid for p in processes()} == before
    wait_for(gone, 5, lambda: f'processes: {processes()}', interval=0.2)
    t.true(not listening(port) and not listening(remote), 'a listener')


@case('outgoing connections belong to the account')
def _(t):
    held, seen = [], []

    def hold(s):
        held.append(s.getpeername())
        seen.append(next(x[5] for x in sockets() if x[:2] == held[-1][:2]))
        s.recv(1)
    srv, echo, port, remote = t.server(), t.target(hold), t.port(), t.port()
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}',
             '-R', f'{remote}:127.0.0.1:{echo.port}')
    with connect(port):
        wait_for(lambda: seen, 5, 'no connection')
    t.equal(seen, [4001], 'uid of the outgoing socket')
    owners = {x[5] for x in sockets() if x[1] == remote and x[4] == '0A'}
    t.equal(owners, {4001}, 'uid of the listening socket')


@case('destinations that fail say why')
def _(t):
    srv, port, port2, port3 = t.server(), t.port(), t.port(), t.port()
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{t.port()}',
                      '-L', f'{port2}:no-such-host.invalid:80')
    t.equal(talk(port), b'', 'nobody listens there')
    client.wait_err('open failed: connect failed: Connection refused')
    t.equal(talk(port2), b'', 'an unknown host')
    client.wait_err(r'open failed: connect failed: (\S+ ){3}', 30)


if __name__ == '__main__':
    main()
