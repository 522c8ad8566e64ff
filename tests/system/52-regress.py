#!/usr/bin/python3
"""What went wrong once: a case for each, that shows it if it is back."""
import contextlib
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import time

from harness import (COMMS, SHARED, SLOW, TOP, USER, Failure, Process, case,
                     connect, listening, main, one, processes, reaches, sh,
                     talk, wait_for)
from minimal import Witness, raw, ssh

# A sanitizer makes an exit of SIGSEGV.
FAULT = signal.SIGSEGV if SLOW == 1 else signal.SIGABRT
LINK_LOCAL = 'fe80::99%lo'


def gone(p):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Process(p.pid).zombie
    return True


def wait_no_connection():
    wait_for(lambda: not processes(COMMS['session']) and
             not processes(COMMS['broker']), 5,
             lambda: f'left: {processes()}')


def wait_stall(count, still_s=0.3):
    """Until count() stays the same for a while."""
    last, since = None, 0

    def stalled():
        nonlocal last, since
        if count() != last:
            last, since = count(), time.monotonic()
        return time.monotonic() - since > still_s
    wait_for(stalled, 30, 'it goes on')


# Link-local addresses: the names of interfaces are beyond the sandbox.

def link_local():
    sh('ip', 'addr', 'replace', 'fe80::99/64', 'dev', 'lo', 'nodad')


@case('a client with a link-local address logs in')
def _(t):
    link_local()
    srv = t.server(address=('127.0.0.1', '::'))
    t.true(t.logs_in(srv, host=LINK_LOCAL), 'login')
    srv.wait_log(r'Accepted publickey for \w+ from fe80::99%')
    t.true(t.logs_in(srv), 'a login after it')
    t.true('killed by signal' not in srv.log(), 'a process died')


@case('a forward to a link-local address harms nobody')
def _(t):
    link_local()
    srv, zoned, plain, name = t.server(), t.port(), t.port(), t.port()
    far, echo = t.target(host='::'), t.target()
    client = t.client(srv, '-L', f'{zoned}:[{LINK_LOCAL}]:{far.port}',
                      '-L', f'{name}:[fe80::99%nowhere]:{far.port}',
                      '-L', f'{plain}:127.0.0.1:{echo.port}')
    for port in (zoned, name):  # it may be refused
        t.true(talk(port, b'hello') in (b'hello', b''), 'what came back')
        t.true(reaches(plain), 'another forward')
    t.true(client.process.poll() is None, 'the client is gone')
    t.true('killed by signal' not in srv.log(), 'a process died')


@case('a stranger with a link-local address is forwarded')
def _(t):
    link_local()
    srv, port, echo = t.server('GatewayPorts yes'), t.port(), t.target()
    client = t.client(srv, '-R', f'{port}:127.0.0.1:{echo.port}')
    t.true(reaches(port, LINK_LOCAL), 'the forward')
    t.true(reaches(port), 'the forward, from elsewhere')
    t.true(client.process.poll() is None, 'the client is gone')
    client.wait_err('originator fe80::99%')


# A session that sleeps over its work.

@case('a client that paused gets the rest, without a word')
def _(t):
    total, every, sent = 96 << 20, 8 << 20, [0]

    def source(s):
        block = bytes(1 << 16)
        while sent[0] < total:
            sent[0] += s.send(block[:total - sent[0]])
        s.shutdown(socket.SHUT_WR)
        s.recv(1)
    srv, target = t.server(), t.target(source)
    with raw(srv) as c:
        c.answer_global = False
        c.open_direct('127.0.0.1', target.port, window=1 << 30)
        said, got, pause_at = c.out.packets, 0, 0
        while got < total:
            if got >= pause_at:
                wait_stall(lambda: sent[0])
                pause_at += every
            try:
                p = c.expect(ssh.DATA, timeout=5 * SLOW)
            except TimeoutError:
                raise Failure(f'nothing after {got} bytes of {sent[0]}') \
                    from None
            got += len(p) - 9
        t.equal(got, total, 'bytes')
        c.expect(ssh.EOF)
        t.equal(c.out.packets, said, 'packets from the client')


class Flood:
    """Requests without reading, until the server takes no more: how many it
    has whole, and the rest of one that is cut."""

    def __init__(self, c):
        request, sent, pending, size = c.global_request('x@hostile'), 0, b'', 0
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        while sent < 200 << 20:
            if not pending:
                packets = [c.pack(request) for _ in range(1000)]
                pending, size = b''.join(packets), len(packets[0])
            if not select.select([], [c.sock], [], SLOW)[1]:
                self.count, cut = divmod(sent, size)
                self.rest = pending[:size - cut]
                return
            n = c.sock.send(pending)
            pending, sent = pending[n:], sent + n
        raise Failure(f'{sent} bytes are taken in, and nobody reads')


def large_buffers(t):
    """More room in a socket than in a session: all that waits there goes out
    at once."""
    path = '/proc/sys/net/ipv4/tcp_wmem'  # of our own network namespace

    def write(text):
        with contextlib.suppress(OSError), open(path, 'w') as f:
            f.write(text)
    with open(path) as f:
        t.undo.callback(write, f.read())
    write(f'4096 {8 << 20} {8 << 20}')


@case('a choked session answers everything once its client reads', 'aditd',
      timeout=120)
def _(t):
    large_buffers(t)
    srv = t.server()
    with raw(srv, rcvbuf=65536) as c:
        c.answer_global = False
        flood = Flood(c)
        t.true(flood.count > 20000, f'choked after {flood.count} requests')
        for n in range(flood.count):
            try:
                c.expect(ssh.REQUEST_FAILURE, timeout=5 * SLOW)
            except TimeoutError:
                raise Failure(f'{n} replies to {flood.count}') from None
        c.write(flood.rest)
        c.expect(ssh.REQUEST_FAILURE)


@case('a choked session ends with its client', 'aditd', timeout=120)
def _(t):
    large_buffers(t)
    srv = t.server()
    for part in (0, 0.9):  # of the replies are read
        with raw(srv, rcvbuf=65536) as c, contextlib.suppress(TimeoutError):
            c.answer_global = False
            flood = Flood(c)
            for _ in range(int(flood.count * part)):
                c.expect(ssh.REQUEST_FAILURE, timeout=2 * SLOW)
        wait_no_connection()


# Names are resolved by a process that holds nothing and outlives nobody.

@contextlib.contextmanager
def dead_resolver():
    """Lookups of names last for ever. /etc is our own."""
    files = {'/etc/resolv.conf': 'nameserver 127.0.0.1\n'
                                 'options timeout:30\n',
             '/etc/nsswitch.conf': 'passwd: files\ngroup: files\n'
                                   'shadow: files\nhosts: files dns\n'}
    with contextlib.ExitStack() as undo, socket.socket(
            socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(('127.0.0.1', 53))
        for path, text in files.items():
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, f'{path}.away')
                undo.callback(os.rename, f'{path}.away', path)
            with open(path, 'w') as f:
                f.write(text)
            os.chmod(path, 0o644)
        yield s


def udp_inodes():
    found = set()
    for name in ('udp', 'udp6'):
        with open(f'/proc/net/{name}') as f:
            found |= {line.split()[9] for line in list(f)[1:]}
    return found


@case('a lookup holds up nobody, its process has nothing and dies in time',
      'aditd')
def _(t):
    with dead_resolver() as dns:
        srv, echo = t.server(), t.target()
        with raw(srv) as c:
            c.send(c.global_request('tcpip-forward',
                                    ssh.string('localhost') + ssh.u32(0)))
            port = struct.unpack('>I', c.expect(ssh.REQUEST_SUCCESS)[1:5])[0]
            session, broker = one('session'), one('broker')
            c.send(c.direct_request('a.name.example', 80))
            dns.settimeout(10)
            t.true(b'example' in dns.recv(512), 'the question')
            child = one('broker', [broker])
            t.equal(child.ppid, broker.pid, 'its parent')
            # Its own is the socket that asks; of the broker's, a pipe.
            fds = [to for fd, to in sorted(child.fds().items()) if fd > 2]
            pipes = [to for to in fds if to.startswith('pipe:')]
            udp = [to for to in fds if to.startswith('socket:') and
                   to[8:-1] in udp_inodes()]
            t.equal(len(pipes), 1, f'pipes in {fds}')
            t.equal(sorted(fds), sorted(pipes + udp), 'its descriptors')
            # Meanwhile: a signature, and another channel.
            c.rekey()
            t.true(isinstance(c.open_direct('127.0.0.1', echo.port),
                              ssh.Channel), 'another channel')
            t.true(not gone(child), 'the lookup is over')
            os.kill(broker.pid, signal.SIGKILL)
            wait_for(lambda: gone(child) and gone(session), 2,
                     lambda: f'left: {processes()}')
            t.equal(listening(port), set(), 'its listener')


@case('a lookup before login has no right to what is root\'s', 'aditd')
def _(t):
    with dead_resolver() as dns:
        srv = t.server('UseDNS yes')
        with socket.create_connection(('127.0.0.1', srv.port),
                                      source_address=('127.0.0.9', 0)):
            dns.settimeout(10)
            t.true(b'arpa' in dns.recv(512), 'the question')
            both = processes(COMMS['broker'])
            child = [p for p in both if p.ppid in [b.pid for b in both]][0]
            for key in ('Uid', 'Gid'):
                real, effective, saved, files = child.ids(key)
                t.true(effective == files != 0, f'{key} {child.ids(key)}')
            t.equal(child.ids('Groups'), [], 'groups')
            t.equal(child.status['CapPrm'], '0' * 16, 'capabilities')
            t.equal(child.status['Seccomp'], '2', 'seccomp')
            os.kill(child.ppid, signal.SIGKILL)
            wait_for(lambda: gone(child), 2, 'it outlives its broker')


# The listener's files and signals.

@case('a second server on the port leaves the PidFile of the first', 'aditd')
def _(t):
    port, path = t.port(), f'{t.folder}/pid'
    policy = f'{t.folder}/policy'
    with open(policy, 'w') as f:
        f.write(f'Port {port}\nListenAddress 127.0.0.1\n'
                f'HostKey {TOP}/hostkey\nPidFile {path}\n')
    argv = [f'{TOP}/aditd', '-D', '-e', '-f', policy]
    with open(f'{t.folder}/log', 'w') as log:
        first = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=log)
    t.undo.callback(first.wait)
    t.undo.callback(first.terminate)
    wait_for(lambda: listening(port) and processes(COMMS['sessionzyg']), 10,
             'it does not start')
    second = subprocess.run(argv, stdin=subprocess.DEVNULL,
                            capture_output=True, timeout=20 * SLOW)
    t.true(second.returncode != 0, 'the second starts')
    with open(path) as f:
        t.equal(f.read(), f'{first.pid}\n', 'the PidFile')
    t.equal(stat.S_IMODE(os.stat(path).st_mode), 0o644, 'its mode')
    first.terminate()
    first.wait(10 * SLOW)
    t.true(not os.path.exists(path), 'it is left')


def change(srv, text):
    """At once: nobody reads half of it."""
    with open(f'{srv.policy}.new', 'w') as f:
        f.write(text)
    os.rename(f'{srv.policy}.new', srv.policy)
    os.kill(srv.pid, signal.SIGHUP)


@case('of two SIGHUPs in quick succession the last one counts', 'aditd',
      timeout=120)
def _(t):
    srv = t.server('# everybody')
    deny = f'DenyUsers {USER}\n'

    def settled(old):
        roles = [p for p in processes() if p.ppid == srv.pid]
        return len(roles) == len(SHARED) and old not in [p.pid for p in roles]
    for n, policies in enumerate([(deny, '# all\n'), ('# all\n', deny)] * 3):
        old = one('brokerzyg').pid
        # The second comes while the first one's zygote starts.
        change(srv, policies[0])
        wait_for(lambda: srv.log().count('Received SIGHUP') > 2 * n, 5,
                 'the first is not seen', 0.002)
        change(srv, policies[1])
        wait_for(lambda: srv.log().count('Received SIGHUP') > 2 * n + 1, 5,
                 'the second is not seen', 0.002)
        wait_for(lambda: settled(old), 10, lambda: f'still {processes()}')
        want = policies[1] != deny
        wait_for(lambda: t.logs_in(srv) == want, 5,
                 f'round {n}: not the last policy')
        wait_no_connection()


# Login.

@case('questions about keys come to an end', 'aditd')
def _(t):
    srv = t.server()
    with raw(srv, login=False) as c:
        query = c.auth_request('publickey', ssh.byte(0) +
                               ssh.string('ssh-ed25519') +
                               ssh.string(c.key.blob))
        answered = 0
        with contextlib.suppress(ssh.Disconnected):
            while answered < 1100:
                c.send(query)
                c.expect(ssh.USERAUTH_PK_OK)
                answered += 1
        t.true(100 < answered < 1100, f'{answered} answers')
    srv.wait_log('security: .* goes on asking')
    wait_no_connection()
    t.true(t.logs_in(srv), 'a login afterwards')


@case('MaxAuthTries failures end the connection')
def _(t):
    srv = t.server('MaxAuthTries 3')
    with raw(srv, login=False) as c:
        failures = 0
        with contextlib.suppress(ssh.Disconnected):
            while failures < 5:
                c.send(c.auth_publickey(key=ssh.Key()))
                c.expect(ssh.USERAUTH_FAILURE)
                failures += 1
        # the third one is the end
        t.equal(failures, 2, 'failures that were answered')
    srv.wait_log('maximum authentication attempts exceeded')


@case('the slots of MaxStartups are freed of a broker that hangs', 'aditd')
def _(t):
    srv = t.server(f'MaxStartups 1\nLoginGraceTime {SLOW}')
    t.true(t.logs_in(srv), 'login')
    wait_no_connection()
    with connect(srv.port) as s:
        s.recv(100)
        session, broker = one('session'), one('broker')
        os.kill(broker.pid, signal.SIGSTOP)
        t.true(not t.logs_in(srv), 'there is a second slot')
        srv.wait_log('the broker of 127.0.0.1 port .* hangs: killed', 8)
        wait_for(lambda: gone(broker) and gone(session), 3,
                 lambda: f'left: {processes()}')
    t.true(t.logs_in(srv), 'the slot is not free')


# Channels.

@case('a target that ends and then takes nothing: the channel is closed')
def _(t):
    srv, target = t.server(), t.target(lambda s: None)
    with raw(srv) as c:
        ch = c.open_direct('127.0.0.1', target.port)
        c.expect(ssh.EOF)  # had it data by then, it would reset at once
        end, seen, left = time.monotonic() + 10 * SLOW, [], ch.window
        while not seen:
            t.true(time.monotonic() < end, 'no CLOSE')
            if left >= 1000:
                c.send(ssh.data(ch.remote, bytes(1000)))
                left -= 1000
            with contextlib.suppress(TimeoutError):
                p = c.recv(0.01)
                if p[0] == ssh.WINDOW_ADJUST:
                    left += struct.unpack('>I', p[5:9])[0]
                else:
                    seen.append(p[0])
        t.equal(seen, [ssh.CLOSE], 'what came')
        c.send(ssh.on_channel(ssh.CLOSE, ch.remote))
        c.barrier()


# Deaths.

@case('the keyholder is killed: a rekey and a login work', 'aditd')
def _(t):
    srv = t.server()
    with raw(srv) as c:
        for _ in range(2):  # the second time it is restarted after a pause
            old = one('keyholder')
            os.kill(old.pid, signal.SIGKILL)
            c.rekey()
            c.barrier()
            one('keyholder', [old])
            wait_for(lambda: t.logs_in(srv), 10, 'no new login')
            c.rekey()
            c.barrier()


def register_zygote(role):
    @case(f'{COMMS[role]} is killed: sessions live, and end', 'aditd')
    def _(t):
        srv, echo = t.server(), t.target()
        with raw(srv) as c:
            session, broker = one('session'), one('broker')
            old = one(role)
            os.kill(old.pid, signal.SIGKILL)
            one(role, [old])
            wait_for(lambda: t.logs_in(srv), 10, 'no new login')
            c.rekey()
            t.true(isinstance(c.open_direct('127.0.0.1', echo.port),
                              ssh.Channel), 'a channel')
            t.true(not gone(session) and not gone(broker), 'the session')
        wait_no_connection()


for role in ('brokerzyg', 'sessionzyg'):
    register_zygote(role)


def fault_before_login(srv):
    """A session dies of its own before its client has logged in."""
    known = processes(COMMS['session'])
    with connect(srv.port) as s:
        s.recv(100)
        os.kill(one('session', known).pid, FAULT)
        srv.wait_log(r'security: session of connection \d+ from 127\.0\.0\.1 '
                     rf'port {s.getsockname()[1]} was killed by signal '
                     f'{FAULT.value}$')


@case('a death in a replaced session zygote is noticed', 'aditd')
def _(t):
    srv = t.server()
    with raw(srv) as c:
        port, session = c.sock.getsockname()[1], one('session')
        old = one('sessionzyg')
        fault_before_login(srv)
        one('sessionzyg', [old])
        c.barrier()
        t.equal(Process(session.pid).ppid, old.pid, 'its parent')
        os.kill(session.pid, FAULT)
        srv.wait_log(rf'security: session of .* port {port} was killed by '
                     f'signal {FAULT.value}$')
    wait_no_connection()
    wait_for(lambda: gone(old), 5, 'the zygote stays without children')


@case('a death in a replaced broker zygote is noticed', 'aditd')
def _(t):
    srv = t.server()
    with raw(srv) as c:
        port, broker = c.sock.getsockname()[1], one('broker')
        old = one('brokerzyg')
        change(srv, '# another\n')
        one('brokerzyg', [old])
        t.true(t.logs_in(srv), 'a new login')
        c.barrier()
        t.equal(Process(broker.pid).ppid, old.pid, 'its parent')
        os.kill(broker.pid, signal.SIGKILL)
        srv.wait_log(rf'security: broker of .* port {port} was killed by '
                     'signal 9$')
    wait_no_connection()
    wait_for(lambda: gone(old), 5, 'the zygote stays without children')


@case('a session that faults before login: its address is kept out', 'aditd')
def _(t):
    srv, echo = t.server('PerSourcePenalties crash:90'), t.target()
    old = one('sessionzyg')
    fault_before_login(srv)
    one('sessionzyg', [old])
    t.true(not t.logs_in(srv), 'it is let in')
    srv.wait_log(r'drop connection #\d+ from \[127\.0\.0\.1\]:\d+ on '
                 r'\[127\.0\.0\.1\]:\d+ penalty: caused a crash, \d+ s left$')
    done = t.ssh(srv, '-b', '127.0.0.2', '-W', f'127.0.0.1:{echo.port}',
                 data=b'hello')
    t.equal(done.stdout, b'hello', done.stderr.decode())


@case('a broker that faults after login penalises nobody', 'aditd')
def _(t):
    srv = t.server()
    zygotes = one('brokerzyg'), one('sessionzyg')
    client = t.client(srv)
    os.kill(one('broker').pid, FAULT)
    srv.wait_log(r'security: broker of connection \d+ from 127\.0\.0\.1 port '
                 rf'\d+ was killed by signal {FAULT.value}$')
    t.true(client.wait() != 0, 'exit status of the client')
    t.true(t.logs_in(srv), 'a login from the same address')
    t.true('drop connection' not in srv.log(), 'a connection is dropped')
    t.equal((one('brokerzyg').pid, one('sessionzyg').pid),
            tuple(z.pid for z in zygotes), 'the zygotes')


# Key exchanges.

class Talkative(ssh.Client):
    """Offers ciphers that nobody knows."""
    more = 0

    def make_kexinit(self):
        p = super().make_kexinit()
        known = ssh.string('aes128-ctr')
        self.kexinit = p.replace(known, ssh.string(
            b'aes128-ctr,' + b'x' * self.more), 1)
        return self.kexinit


@case('a client that offers too much is refused, and others go on', 'aditd')
def _(t):
    srv = t.server('LogLevel VERBOSE\n')

    def client(more):
        c = Talkative('127.0.0.1', srv.port, USER, f'{TOP}/id')
        c.more = more
        return c
    with client(13000) as c:
        c.connect()
        t.true(c.auth(), 'a long one')
        c.rekey()
    with client(20000) as c:
        try:
            c.connect()
            t.true(False, 'keys were exchanged')
        except ssh.Disconnected:
            srv.wait_log('says: key exchange too large')
    t.true(t.logs_in(srv), 'a login after it')


# Randomness.

@case('no session repeats the key of another', 'aditd', timeout=120)
def _(t):
    srv = t.server('MaxStartups 100')
    told = []

    def connections(n):
        for _ in range(n):
            with Witness('127.0.0.1', srv.port) as c:
                c.connect()
                told.extend(c.told)
    old = one('sessionzyg')
    connections(50)
    t.equal(one('sessionzyg').pid, old.pid, 'the zygote is another')
    os.kill(old.pid, signal.SIGKILL)
    one('sessionzyg', [old])
    connections(50)
    t.equal((len(told), len(set(told))), (200, 200), 'cookies and keys')


@case('fifty connections at once are all served', 'aditd', timeout=120)
def _(t):
    srv = t.server('MaxStartups 100')
    with contextlib.ExitStack() as stack:
        clients = []
        for n in range(50):
            try:
                clients.append(stack.enter_context(raw(srv)))
            except (ssh.Disconnected, TimeoutError) as e:
                raise Failure(f'connection {n + 1}: {e}') from None
        for c in clients:
            c.barrier()


# The end of the listener.

@case('SIGINT to the listener ends everything', 'aditd')
def _(t):
    srv, port = t.server(), t.port()
    clients = [t.client(srv, '-R', f'{port}:127.0.0.1:9')]
    old = one('brokerzyg')
    change(srv, '# another\n')
    one('brokerzyg', [old])
    clients.append(t.client(srv))
    with connect(srv.port) as s:
        s.recv(100)
        srv.stop(signal.SIGINT)
        for client in clients:
            t.true(client.wait(5) != 0, 'exit status of the client')
        wait_for(lambda: not processes(), 5, lambda: f'left: {processes()}')
    t.equal(listening(port), set(), 'a listener of a client')


@case('SIGTERM to the listener leaves sessions to their clients', 'aditd')
def _(t):
    srv, port, echo = t.server('LoginGraceTime 2'), t.port(), t.target()
    clients = [t.client(srv, '-R', f'{port}:127.0.0.1:{echo.port}'),
               t.client(srv)]
    with connect(srv.port) as s:  # has nobody but its own broker to end it
        s.recv(100)
        srv.stop(signal.SIGTERM)
        t.equal(listening(srv.port), set(), 'its port')
        wait_for(lambda: len(processes(COMMS['session'])) == 2 and
                 len(processes(COMMS['broker'])) == 2, 5,
                 lambda: f'there are {processes()}')
    t.true(reaches(port), 'the forward')
    clients[0].stop()
    wait_for(lambda: len(processes(COMMS['session'])) == 1, 5,
             lambda: f'left: {processes()}')
    t.true(clients[1].process.poll() is None, 'the other client')
    clients[1].stop()
    wait_for(lambda: not processes(), 5, lambda: f'left: {processes()}')


if __name__ == '__main__':
    main()
