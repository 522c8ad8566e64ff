"""What a server answers: logins and requests by the client of our own."""
import contextlib
import fcntl
import os
import pwd
import socket
import stat
import struct
import threading

from certs import Signer, answer, holder, request
from harness import (SLOW, TOP, USER, Failure, authorize, devices, keygen,
                     public, sh, wait_for)
from minimal import ssh
from oracle_make import (CERTIFICATES, KEYS, LISTEN_PATHS, OPEN_PORTS, PATHS,
                         SOCKET_DIR, SOURCES)

FAILED = {1: 'prohibited', 2: 'connect failed', 3: 'unknown type',
          4: 'shortage'}
TIMEOUT = 15 * SLOW


# The world that both servers serve.

def furnish(t):
    """Addresses, names, targets, keys; undone with the case."""
    for address in ('192.0.2.1/32', '2001:db8::1/128'):
        sh('ip', 'addr', 'add', address, 'dev', 'lo')
        t.undo.callback(sh, 'ip', 'addr', 'del', address, 'dev', 'lo')
    with open('/etc/hosts', 'a') as f:
        f.write('127.0.0.1 db.lan\n')
    for port in OPEN_PORTS:
        t.target(host='0.0.0.0', port=port)
        t.target(host='::', port=port)
    t.tun_node()
    for kind in ('tun', 'tap'):
        sh('ip', 'tuntap', 'add', f'{kind}5', 'mode', kind, 'user', USER)
        # up, so that it tells whether somebody holds it
        sh('ip', 'link', 'set', f'{kind}5', 'up')
        t.undo.callback(sh, 'ip', 'link', 'del', f'{kind}5')
    furnish_sockets(t)
    furnish_keys()


def furnish_sockets(t):
    """One with somebody, one that nobody listens on any more."""
    os.makedirs(SOCKET_DIR, exist_ok=True)
    os.chmod(SOCKET_DIR, 0o777)
    for path in PATHS[:2]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        s = socket.socket(socket.AF_UNIX)
        s.bind(path)
        os.chmod(path, 0o666)
        if path == PATHS[0]:
            s.listen(100)
            t.undo.callback(s.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=accept, args=(s,), daemon=True).start()
        else:
            s.close()


def accept(s):
    """Each as long as its peer wants, in turn."""
    with s, contextlib.suppress(OSError):
        while True:
            with s.accept()[0] as one, contextlib.suppress(OSError):
                one.recv(1)


def furnish_keys():
    if os.path.exists(f'{TOP}/foreign'):
        return
    for name in ('ca', 'foreign-ca', 'wrong'):
        keygen(name)
    keygen('rsa', '-t', 'rsa', '-b', '2048')
    keygen('small', '-t', 'rsa', '-b', '1024')
    everybody = f'{USER},neighbour,root'
    for name, options in (
            ('good', []), ('stale', ['-V', '20200101:20200102']),
            ('near', ['-O', 'source-address=127.0.0.1/32']),
            ('bound', ['-O', 'no-port-forwarding']),
            ('forced', ['-O', 'force-command=/bin/true']),
            ('critical', ['-O', 'critical:what@example.org=1']),
            ('host', ['-h'])):
        holder(name, 'ca', *options, principals=everybody)
    holder('other', principals='somebody')
    holder('nobody', principals=None)
    holder('foreign', 'foreign-ca', principals=everybody)
    with open('/run/oracle-ca', 'w') as f:
        f.write(public('ca'))
    with open('/run/oracle-revoked', 'w') as f:
        f.write(public('id2') + public('good'))


def install_keys(login):
    if login['user'] == 'nobody-such':
        return
    authorize(login['user'], '\n'.join(login['keys']).format(
        **{name: public(name).strip() for name in KEYS + ['ca']}) + '\n')
    home = pwd.getpwnam(login['user']).pw_dir
    with open(f'{home}/.ssh/principals', 'w') as f:
        f.write(login['principals'] + '\n')


@contextlib.contextmanager
def nologin(on):
    """While /etc/nologin is there, if it is to be."""
    if on:
        with open('/etc/nologin', 'w') as f:
            f.write('come back later\n')
    try:
        yield
    finally:
        if on:
            os.unlink('/etc/nologin')


# A connection.

class Dialer(ssh.Client):
    """A client that says where it comes from."""

    def __init__(self, srv, source, user):
        super().__init__(SOURCES[source], srv.port, user)
        self.source = source

    def open_socket(self):
        self.sock = socket.create_connection(
            (self.addr, self.port), TIMEOUT, (self.source, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def await_(self, *types):
        """The next of these messages; what channels say is passed over."""
        while True:
            p = self.recv(TIMEOUT)
            if p[0] in types:
                return p
            if not ssh.OPEN_CONFIRMATION < p[0] < ssh.FAILURE + 1:
                raise ssh.ProtocolError(f'message {p[0]}')


def log_in(c, login):
    """'in', 'partial', 'out' or 'gone'."""
    credential = login['credential']
    key = Signer(credential, credential in CERTIFICATES)
    if key.algorithm == 'ssh-rsa':
        key.algorithm = 'rsa-sha2-256'
    for _ in range(login['wrong']):
        said = answer(c, request(c, Signer('wrong')))
        if said == 'gone':
            return said
    said = answer(c, request(c, key))
    if said == 'partial':
        said = answer(c, request(c, Signer('id2')))
    if said == 'success':
        # sshd's unprivileged half may say so, and its monitor end it: root
        # without forced command
        try:
            global_request(c, 'are-you-there@oracle', b'')
        except ssh.Disconnected:
            return 'out'
    return {'success': 'in', 'failure': 'out'}.get(said, said)


def open_channel(c, kind, rest):
    c.send(c.open_request(kind, rest))
    p = c.await_(ssh.OPEN_CONFIRMATION, ssh.OPEN_FAILURE)
    r = ssh.Reader(p)
    r.u32()
    number = r.u32()
    if p[0] == ssh.OPEN_FAILURE:
        return FAILED.get(number, number), None
    return 'open', number


def close_channel(c, number):
    c.send(ssh.on_channel(ssh.CLOSE, number))
    while c.await_(ssh.EOF, ssh.CLOSE)[0] != ssh.CLOSE:
        pass


def global_request(c, name, rest):
    """The reply's payload, or None."""
    c.send(c.global_request(name, rest))
    p = c.await_(ssh.REQUEST_SUCCESS, ssh.REQUEST_FAILURE)
    return p if p[0] == ssh.REQUEST_SUCCESS else None


def bound(port):
    """The addresses that are listened on, of both families. By sock_diag(7):
    /proc/net/tcp takes 50 ms."""
    found = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as s:
        for family in (socket.AF_INET, socket.AF_INET6):
            ask_ = struct.pack('=IHHII BBBxI 48x', 72, 20, 0x301, 0, 0, family,
                               socket.IPPROTO_TCP, 0, 1 << 10)
            s.send(ask_)
            found += listeners_of(s, family, port)
    return sorted(found)


def listeners_of(s, family, port):
    """What the kernel says until it is done."""
    while True:
        got = s.recv(1 << 16)
        while got:
            length, kind = struct.unpack_from('=IH', got)
            if kind == 3:
                return
            if kind != 20:
                raise Failure(f'sock_diag: message {kind}')
            if struct.unpack_from('>H', got, 20)[0] == port:
                size = 4 if family == socket.AF_INET else 16
                yield socket.inet_ntop(family, got[24:24 + size])
            got = got[(length + 3) & ~3:]


# Requests: each leaves the connection as it was.

def ask_open(c, host, port):
    said, number = open_channel(
        c, 'direct-tcpip', ssh.string(host) + ssh.u32(port) +
        ssh.string('127.0.0.1') + ssh.u32(40000))
    if number is not None:
        close_channel(c, number)
    return said


def ask_listen(c, host, port, other):
    where = ssh.string(host) + ssh.u32(port)
    p = global_request(c, 'tcpip-forward', where)
    if p is None:
        return 'refused'
    got = ssh.Reader(p).u32() if port == 0 else port
    said = ['granted', 'a port' if port == 0 else str(len(p)),
            ' '.join(bound(got))]
    for name in (other, host):
        p = global_request(c, 'cancel-tcpip-forward',
                           ssh.string(name) + ssh.u32(got))
        said.append('cancelled' if p else 'not cancelled')
        if p:
            break
    wait_for(lambda: not bound(got), 10, f'{got} is still bound')
    return ', '.join(said)


def ask_path(c, path):
    said, number = open_channel(
        c, 'direct-streamlocal@openssh.com',
        ssh.string(path) + ssh.string('') + ssh.u32(0))
    if number is not None:
        close_channel(c, number)
    return said


def ask_socket(c, path):
    if path == LISTEN_PATHS[1]:
        with open(path, 'w'):
            pass
        os.chmod(SOCKET_DIR, 0o777)
    before = os.path.exists(path) and os.lstat(path).st_ino
    said = []
    if global_request(c, 'streamlocal-forward@openssh.com',
                      ssh.string(path)) is None:
        said = 'refused'
    else:
        s = os.lstat(path)
        said = ('granted, ' + oct(stat.S_IMODE(s.st_mode)) +
                f' {s.st_uid} {stat.S_ISSOCK(s.st_mode)}')
        gone = global_request(c, 'cancel-streamlocal-forward@openssh.com',
                              ssh.string(path))
        said += ', cancelled' if gone else ', not cancelled'
    if path in PATHS:
        if before and (not os.path.exists(path) or
                       os.lstat(path).st_ino != before):
            c.damaged = True
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return said


def ask_tunnel(c, mode, unit):
    before = devices()
    c.debug.clear()
    said, number = open_channel(c, 'tun@openssh.com',
                                ssh.u32(mode) + ssh.u32(unit))
    if number is None:
        if any(b'rejected' in m or b'Unsupported' in m for m in c.debug):
            return 'prohibited'
        return said
    new = ' '.join(sorted(devices() - before)) or 'no new device'
    close_channel(c, number)
    wait_for(lambda: devices() == before and not busy(), 10,
             'the device stays')
    return f'open, {new}'


ASK = {'open': ask_open, 'listen': ask_listen, 'path': ask_path,
       'socket': ask_socket, 'tunnel': ask_tunnel}


def ask(t, srv, login, requests):
    """[what it says to the login, to each request ...]; if nobody is let in,
    the first alone."""
    install_keys(login)
    said = []
    with nologin(login['nologin']), \
            Dialer(srv, login['source'], login['user']) as c:
        c.damaged = False
        c.connect()
        said.append(log_in(c, login))
        if said[0] != 'in':
            return said
        for one in requests:
            try:
                said.append(ASK[one[0]](c, *one[1:]))
            except (ssh.Disconnected, ssh.ProtocolError, TimeoutError,
                    Failure) as e:
                said.append(f'{type(e).__name__}: {e}')
                break
            if c.damaged:
                furnish_sockets(t)
                c.damaged = False
    return said


def busy():
    """Does somebody hold one of the devices that stay? Then they run."""
    with socket.socket() as s:
        for name in ('tun5', 'tap5'):
            got = fcntl.ioctl(s, 0x8913, struct.pack('16s24x', name.encode()))
            if struct.unpack_from('H', got, 16)[0] & 0x40:
                return True
    return False
