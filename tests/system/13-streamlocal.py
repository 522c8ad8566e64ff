#!/usr/bin/python3
"""Unix sockets: -L to one, -R of one, and from one to the other."""
import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import threading

from harness import (SLOW, USER, authorize, case, echo, main, need,
                     processes, public, read_all, reaches, talk, wait_for)
from minimal import raw, ssh

HOME = f'/home/{USER}'


class UnixTarget:
    """The harness' Target at a path."""

    def __init__(self, path, mode=0o666):
        self.path, self.accepted = path, 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        os.chmod(path, mode)
        self.listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                s, _ = self.listener.accept()
                self.accepted += 1
                threading.Thread(target=self._serve, args=(s,),
                                 daemon=True).start()

    def _serve(self, s):
        with s, contextlib.suppress(OSError):
            s.settimeout(120)
            self.uid = int.from_bytes(s.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8], 'little')
            echo(s)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def unix_target(t, path=None, **kw):
    name = f'target{len(os.listdir(t.folder))}'
    target = UnixTarget(path or f'{t.folder}/{name}', **kw)
    t.undo.callback(target.close)
    return target


def talk_unix(path, data=b'through the socket'):
    """Send data and EOF; what comes back until EOF. b'' if it was refused."""
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10 * SLOW)
            s.connect(path)
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            return read_all(s)
    except OSError:
        return b''


def is_socket(path):
    with contextlib.suppress(FileNotFoundError):
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    return False


def place(t):
    """A path in the account's home that is nobody else's."""
    path = f'{HOME}/{os.path.basename(t.folder)}.sock'
    t.undo.callback(lambda: os.path.lexists(path) and os.unlink(path))
    return path


def refused(t, client, what):
    t.true(client.wait() != 0, f'{what} is granted')
    t.match('remote port forwarding failed', client.err(), what)


@case('-L to a unix socket, as the account')
def _(t):
    srv, port, app = t.server(), t.port(), unix_target(t)
    t.client(srv, '-L', f'{port}:{app.path}')
    t.true(reaches(port), 'the echo')
    big = os.urandom(200000)
    t.true(talk(port, big) == big, '200 kB come back')
    t.equal(app.uid, 4001, 'who connects')


@case("-L from the client's unix socket, to a port and to a socket")
def _(t):
    srv, tcp, app = t.server(), t.target(), unix_target(t)
    a, b = f'{t.folder}/a', f'{t.folder}/b'
    t.client(srv, '-L', f'{a}:127.0.0.1:{tcp.port}', '-L', f'{b}:{app.path}')
    for path in (a, b):
        t.equal(talk_unix(path), b'through the socket', path)


@case('-R of a unix socket, to a port and to a socket')
def _(t):
    srv, tcp, app, path = t.server(), t.target(), unix_target(t), place(t)
    for to in (f'127.0.0.1:{tcp.port}', app.path):
        client = t.client(srv, '-R', f'{path}:{to}')
        t.equal(talk_unix(path), b'through the socket', to)
        s = os.lstat(path)
        t.equal((oct(s.st_mode), s.st_uid), (oct(stat.S_IFSOCK | 0o600), 4001),
                'mode and owner')
        client.stop()
        if t.kind == 'sshd':  # leaves it
            os.unlink(path)
        wait_for(lambda: not os.path.lexists(path), 5, 'its file stays')


@case("-R of a port to the client's unix socket")
def _(t):
    srv, port, app = t.server(), t.port(), unix_target(t)
    t.client(srv, '-R', f'{port}:{app.path}')
    t.true(reaches(port), 'the echo')


@case('-O forward and -O cancel over a ControlMaster')
def _(t):
    srv, app, path = t.server(), t.target(), place(t)
    control = f'{t.folder}/control'
    t.client(srv, '-M', '-S', control)
    for _ in range(2):
        for what in ('forward', 'cancel'):
            done = t.ssh(srv, '-S', control, '-O', what, '-R',
                         f'{path}:127.0.0.1:{app.port}')
            t.equal(done.returncode, 0, f'{what}: {done.stderr.decode()}')
            if what == 'forward':
                t.equal(talk_unix(path), b'through the socket', 'the echo')
        if t.kind == 'sshd':
            os.unlink(path)
        wait_for(lambda: not os.path.lexists(path), 5, 'its file stays')


@case('a path that is taken, and StreamLocalBindUnlink')
def _(t):
    app, path = t.target(), place(t)
    to = f'127.0.0.1:{app.port}'
    for text, ok in (('', False), ('StreamLocalBindUnlink yes', True)):
        unix_target(t, path).close()
        t.true(is_socket(path), 'what was left')
        srv = t.server(text)
        client = t.client(srv, '-R', f'{path}:{to}', wait=ok)
        if ok:
            t.equal(talk_unix(path), b'through the socket', text)
            client.stop()
        else:
            refused(t, client, 'a taken path')
        srv.stop()
        if os.path.lexists(path):
            os.unlink(path)


@case('StreamLocalBindUnlink removes sockets and nothing else', 'aditd')
def _(t):
    path = place(t)
    srv = t.server('StreamLocalBindUnlink yes')
    with open(path, 'w') as f:
        f.write('precious')
    client = t.client(srv, '-R', f'{path}:127.0.0.1:9', wait=False)
    refused(t, client, 'the path of a file')
    with open(path) as f:
        t.equal(f.read(), 'precious', 'the file')
    os.unlink(path)
    os.symlink(f'{HOME}/.ssh/authorized_keys', path)
    client = t.client(srv, '-R', f'{path}:127.0.0.1:9', wait=False)
    refused(t, client, 'the path of a link')
    t.true(os.path.exists(path), 'what it leads to')


@case('StreamLocalBindMask says who may connect')
def _(t):
    app, path = t.target(), place(t)
    for mask, mode in (('0177', 0o600), ('0117', 0o660), ('0000', 0o777)):
        srv = t.server(f'StreamLocalBindMask {mask}\n'
                       'StreamLocalBindUnlink yes')
        client = t.client(srv, '-R', f'{path}:127.0.0.1:{app.port}')
        t.equal(oct(stat.S_IMODE(os.lstat(path).st_mode)), oct(mode), mask)
        client.stop()
        srv.stop()


@case("somebody else's socket in its place is not removed", 'aditd')
def _(t):
    srv, app, path = t.server(), t.target(), place(t)
    client = t.client(srv, '-R', f'{path}:127.0.0.1:{app.port}')
    os.unlink(path)
    unix_target(t, path)
    client.stop()
    wait_for(lambda: not processes('adit-broker'), 10, 'the broker stays')
    t.equal(talk_unix(path), b'through the socket', 'the other one')


@case('a session that is killed leaves no socket', 'aditd')
def _(t):
    srv, app, path = t.server(), t.target(), place(t)
    t.client(srv, '-R', f'{path}:127.0.0.1:{app.port}')
    t.true(is_socket(path), 'the socket')
    os.kill(processes('adit-session')[0].pid, signal.SIGKILL)
    wait_for(lambda: not os.path.lexists(path), 10, 'its file stays')


@case('what the account may not do is not done')
def _(t):
    srv, port = t.server(), t.port()
    app = unix_target(t, mode=0o600)  # root's
    client = t.client(srv, '-L', f'{port}:{app.path}')
    t.equal(talk(port), b'', "root's socket")
    client.wait_err('open failed: connect failed: ')
    t.equal(app.accepted, 0, 'connections')
    client = t.client(srv, '-R', '/run/not-yours:127.0.0.1:9', wait=False)
    refused(t, client, "a path in root's folder")
    t.true(not os.path.lexists('/run/not-yours'), 'a socket is made')


@case('paths that could be mistaken for others are refused', 'aditd')
def _(t):
    srv, app = t.server(), unix_target(t)
    folder, name = os.path.split(app.path)
    for path, why in ((f'{folder}//{name}', 'empty part'),
                      (f'{folder}/../{os.path.basename(folder)}/{name}',
                       r'\.\. in it'), (f'{folder}/./{name}', r'\. or')):
        port = t.port()
        client = t.client(srv, '-L', f'{port}:{path}')
        t.equal(talk(port), b'', path)
        client.wait_err('open failed: ')
        srv.wait_log(f'direct-streamlocal to .*{why}')
        client.stop()
    t.equal(app.accepted, 0, 'connections')


@case('paths that the stock client does not ask for', 'aditd')
def _(t):
    srv = t.server()

    def opened(c, path):
        c.send(c.open_request('direct-streamlocal@openssh.com', ssh.string(
            path) + ssh.string('') + ssh.u32(0)))
        return c.opened()
    with raw(srv) as c:
        for path, reason in (('run/x', 1), ('', 1), ('./x', 1), ('/', 1),
                             ('/' + 'x' * 107, 2), ('/' + 'x' * 106, 2),
                             ('/a\0b', 1), ('/' + 'x' * 255, 1)):
            got = opened(c, path)
            t.equal(got[0], reason, f'{path}: {got[1]}')
    srv.wait_log('direct-streamlocal to run/x .*not an absolute path')
    srv.wait_log('direct-streamlocal to /x{107} .*path too long')
    srv.wait_log('direct-streamlocal to /x{106} .*No such file')


@case('AllowStreamLocalForwarding yes, all, no, local, remote; '
      'DisableForwarding, restrict', timeout=150)
def _(t):
    app = unix_target(t)
    rows = [('AllowStreamLocalForwarding ' + word, '', may_open, may_listen)
            for word, may_open, may_listen in (
                ('yes', True, True), ('all', True, True),
                ('no', False, False), ('local', True, False),
                ('remote', False, True))]
    rows += [('AllowTcpForwarding no', '', False, False),
             ('AllowTcpForwarding remote', '', False, True),
             ('DisableForwarding yes', '', False, False),
             ('', 'restrict ', False, False),
             ('', 'no-port-forwarding ', False, False)]
    for text, options, may_open, may_listen in rows:
        authorize(USER, options + public('id'))
        srv, port, path = t.server(text), t.port(), place(t)
        client = t.client(srv, '-L', f'{port}:{app.path}')
        t.equal(reaches(port), may_open, f'{text}{options}: -L')
        if not may_open:
            client.wait_err('open failed: ')
        client.stop()
        client = t.client(srv, '-R', f'{path}:{app.path}', wait=may_listen)
        if may_listen:
            t.equal(talk_unix(path), b'through the socket', f'{text}: -R')
            client.stop()
        else:
            refused(t, client, f'{text}{options}: -R')
        srv.stop()
        if t.kind == 'sshd' and may_listen:
            os.unlink(path)


@case('a refusal names the rule in the log', 'aditd')
def _(t):
    srv, port, path = t.server('\nAllowStreamLocalForwarding no'), t.port(), \
        place(t)
    client = t.client(srv, '-L', f'{port}:/run/x')
    t.equal(talk(port), b'', '-L')
    client.wait_err('open failed: administratively prohibited: this socket is '
                    'not permitted by policy')
    where = re.escape(srv.policy)
    srv.wait_log(f'refused direct-streamlocal to /run/x for {USER} from .*: '
                 f'{where}:2: AllowStreamLocalForwarding no')
    client = t.client(srv, '-R', f'{path}:/run/x', wait=False)
    refused(t, client, '-R')
    client.wait_err('Remote: this listener is not permitted by policy')
    srv.wait_log(f'refused streamlocal-forward on {path} .*{where}:2')


@case("sshd's lists say nothing of paths", 'sshd')
def _(t):
    app, port, path = unix_target(t), t.port(), place(t)
    srv = t.server('PermitOpen *:*\nPermitListen none')
    t.client(srv, '-L', f'{port}:{app.path}', '-R', f'{path}:{app.path}')
    t.true(reaches(port), 'PermitOpen *:*')
    t.equal(talk_unix(path), b'through the socket', 'PermitListen none')


@case('lists without paths permit no unix socket', 'aditd')
def _(t):
    app = unix_target(t)
    for text, options in (('PermitOpen none\nPermitListen none', ''),
                          ('PermitOpen *:*\nPermitListen *:*', ''),
                          ('', 'permitopen="*:*",permitlisten="*:*" ')):
        authorize(USER, options + public('id'))
        srv, port, path = t.server(text), t.port(), place(t)
        client = t.client(srv, '-L', f'{port}:{app.path}')
        t.true(not reaches(port), f'{text}{options}: -L')
        client.stop()
        client = t.client(srv, '-R', f'{path}:{app.path}', wait=False)
        refused(t, client, f'{text}{options}: -R')
        srv.stop()
    t.equal(app.accepted, 0, 'connections')


@case('patterns of paths, of the policy and of the key', 'aditd')
def _(t):
    os.mkdir(f'{t.folder}/deep')
    app = unix_target(t, f'{t.folder}/app-1.sock')
    deep = unix_target(t, f'{t.folder}/deep/app-1.sock')
    other = unix_target(t, f'{t.folder}/other.sock')
    authorize(USER, f'permitlisten="{HOME}/a*.sock" {public("id")}')
    srv = t.server(f'PermitOpen {t.folder}/app-?.sock\n'
                   f'PermitListen {HOME}/*')
    for target, want in ((app, True), (deep, False), (other, False)):
        port = t.port()
        client = t.client(srv, '-L', f'{port}:{target.path}')
        t.equal(reaches(port), want, target.path)
        client.stop()
    where = re.escape(srv.policy)
    srv.wait_log(f'refused direct-streamlocal to {other.path} .*{where}:1: '
                 r'PermitOpen .*/app-\?\.sock')
    t.client(srv, '-R', f'{HOME}/a1.sock:{app.path}')
    t.equal(talk_unix(f'{HOME}/a1.sock'), b'through the socket', 'a1')
    client = t.client(srv, '-R', f'{HOME}/b1.sock:{app.path}', wait=False)
    refused(t, client, 'b1')
    srv.wait_log(rf'b1\.sock .*{HOME}/.ssh/authorized_keys:1: key option '
                 'permitlisten')
    # A list of paths permits no host.
    port = t.port()
    t.client(srv, '-L', f'{port}:127.0.0.1:{srv.port}')
    t.equal(talk(port), b'', 'a host')


@case('a descriptor that is passed into a socket does not arrive', 'aditd')
def _(t):
    got = threading.Event()

    class Passer(UnixTarget):
        def _serve(self, s):
            with s:
                s.settimeout(20)
                try:
                    socket.send_fds(s, [b'with it'], [0])
                    self.error = None
                except OSError as e:
                    self.error = e.strerror
                got.set()
                with contextlib.suppress(OSError):
                    s.recv(1)
    srv, port = t.server(), t.port()
    passer = Passer(f'{t.folder}/passer')
    t.undo.callback(passer.close)
    t.client(srv, '-L', f'{port}:{passer.path}')
    session = processes('adit-session')[0]
    before = len(session.fds())
    with socket.create_connection(('127.0.0.1', port), timeout=20) as s:
        t.true(got.wait(20), 'no connection')
        s.settimeout(5)
        if not passer.error:  # an old kernel; the session takes none anyway
            t.equal(s.recv(7), b'with it', 'what came with it')
        # it gets the channel's socket when the broker is connected
        wait_for(lambda: len(session.fds()) > before, 5, 'no socket')
        t.equal(len(session.fds()), before + 1, 'descriptors of the session')
    t.true(session.pid in [p.pid for p in processes()], 'the session')


@case('as an ordinary user', 'aditd')
def _(t):
    app, path, port = unix_target(t), place(t), t.port()
    srv = t.server(user=USER)
    client = t.client(srv, '-L', f'{port}:{app.path}', '-R',
                      f'{path}:{app.path}')
    t.true(reaches(port), '-L')
    t.equal(talk_unix(path), b'through the socket', '-R')
    client.stop()
    wait_for(lambda: not os.path.lexists(path), 10, 'its file stays')


@case('docker-like HTTP over -L, with curl', timeout=90)
def _(t):
    curl, srv, port = need('curl'), t.server(), t.port()

    class Http(UnixTarget):
        def _serve(self, s):
            with s, contextlib.suppress(OSError):
                s.recv(4096)
                s.sendall(b'HTTP/1.0 200 OK\r\n\r\nthe page')
    web = Http(f'{t.folder}/http')
    os.chmod(web.path, 0o666)
    t.undo.callback(web.close)
    local = f'{t.folder}/local'
    t.client(srv, '-L', f'{port}:{web.path}', '-L', f'{local}:{web.path}')
    for args in ((f'http://127.0.0.1:{port}/',),
                 ('--unix-socket', local, 'http://docker/')):
        done = subprocess.run([curl, '-sS', '-m', str(20 * SLOW), *args],
                              capture_output=True, text=True)
        t.equal((done.returncode, done.stdout), (0, 'the page'), done.stderr)


if __name__ == '__main__':
    main()
