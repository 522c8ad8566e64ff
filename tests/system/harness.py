"""System tests: a real ssh client against aditd, or against sshd, the oracle.

Each test file is one process in mount, network and PID namespaces of its own:
its ports, users (in a private copy of /etc), /run, /home and processes are
nobody else's and are gone with it, whatever happens. Output is TAP.

    ADITD=path       the binary under test
    ADIT_PEER=sshd   run the cases against sshd instead: is the test right?
    ./10-forward.py WORD...   only the cases whose name contains a WORD
"""
import contextlib
import ctypes
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import traceback

PEER = os.environ.get('ADIT_PEER', 'aditd')
SSHD = '/usr/sbin/sshd'
TOP = '/run/adit-test'
USER = 'tunneller'
COMMS = {'listener': 'aditd', 'keyholder': 'adit-keyholder',
         'brokerzyg': 'adit-brokerzyg', 'sessionzyg': 'adit-sessionzyg',
         'broker': 'adit-broker', 'session': 'adit-session'}
SHARED = ('keyholder', 'brokerzyg', 'sessionzyg')
PER_CONNECTION = ('broker', 'session')
# What a sanitizer build needs more of, everything included.
SLOW = 4 if os.environ.get('ADIT_SANITIZERS') else 1


class Failure(Exception):
    pass


class Skip(Exception):
    pass


# The account files of the tests' own /etc. `*` is sshd's unlocked account
# without a password, `!` a locked one.
ACCOUNTS = [  # name, uid, shadow password, expiry in days since 1970
    (USER, 4001, '*', ''),
    ('neighbour', 4002, '*', ''),
    ('locked', 4003, '!', ''),
    ('expired', 4004, '*', '1'),
]


def sh(*argv, **kw):
    kw.setdefault('check', True)
    return subprocess.run(argv, stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, **kw)


def run(*argv, **kw):
    """sh() with a Failure that says what the program said; its stdout."""
    done = sh(*map(str, argv), check=False, **kw)
    if done.returncode != 0:
        raise Failure(f'{" ".join(map(str, argv))}: {done.returncode}\n'
                      f'{done.stdout[-2000:]}{done.stderr[-2000:]}')
    return done.stdout


def need(name):
    """The path of a program that not every machine has."""
    path = shutil.which(name, path=os.environ['PATH'] + ':/usr/sbin:/sbin')
    if not path:
        raise Skip(f'no {name}')
    return path


def enter_namespaces():
    """Run this file again inside its own namespaces, as their process 1."""
    if os.environ.get('ADIT_TEST_INSIDE') == '1':
        return
    if os.geteuid() != 0:
        skip_all('needs root')
    for need in (SSHD, '/usr/bin/ssh', '/usr/bin/ssh-keygen'):
        if not os.path.exists(need):
            skip_all(f'no {need} (openssh-server, openssh-client)')
    aditd = os.environ.get('ADITD', './aditd')
    if PEER == 'aditd' and not os.access(aditd, os.X_OK):
        print(f'1..1\nnot ok 1 - there is no {aditd}')
        sys.exit(1)
    env = dict(os.environ, ADIT_TEST_INSIDE='1', ADITD=os.path.abspath(aditd),
               LC_ALL='C', ASAN_OPTIONS='detect_leaks=0')
    env.pop('SSH_AUTH_SOCK', None)
    os.execvpe('unshare', ['unshare', '--mount', '--net', '--pid', '--fork',
                           '--mount-proc', '--kill-child=SIGKILL', '--',
                           '/usr/bin/python3', '-u', *sys.argv], env)


def furnish():
    """A private /run, /etc and /home, accounts, keys, the loopback device."""
    sh('mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', '/run')
    sh('cp', '-a', '/etc', '/run/etc')
    sh('mount', '--bind', '/run/etc', '/etc')
    sh('mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', '/home')
    for d in ('/run/sshd', TOP):
        os.mkdir(d, 0o755)
    if PEER == 'aditd':  # where an ordinary user can start it, too
        shutil.copy(os.environ['ADITD'], f'{TOP}/aditd')
        ctl = os.path.join(os.path.dirname(os.environ['ADITD']), 'aditctl')
        if os.path.exists(ctl):
            shutil.copy(ctl, f'{TOP}/aditctl')
    keygen('hostkey')
    keygen('id')
    keygen('id2')
    with open('/etc/passwd') as f:
        lines = [re.sub(r'^(root:.*):/root:', r'\1:/home/root:', line)
                 for line in f]
    with open('/etc/passwd', 'w') as f:
        f.writelines(lines)
    for name, uid, password, expiry in ACCOUNTS:
        append('/etc/passwd', f'{name}:x:{uid}:{uid}::/home/{name}:/bin/sh\n')
        append('/etc/group', f'{name}:x:{uid}:\n')
        append('/etc/shadow', f'{name}:{password}:1:::::{expiry}:\n')
    append('/etc/group', f'tunnellers:x:4100:{USER}\n')
    sh('ip', 'link', 'set', 'lo', 'up')
    wait_for(lambda: '::1' in sh('ip', '-6', 'addr', 'show', 'dev', 'lo',
                                 '-tentative').stdout, 5, 'no ::1')


def append(path, text):
    with open(path, 'a') as f:
        f.write(text)


def keygen(name, *args):
    sh('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', name, *args, '-f',
       f'{TOP}/{name}')
    return f'{TOP}/{name}'


def public(name):
    with open(f'{TOP}/{name}.pub') as f:
        return f.read()


def authorize(user, text):
    """Make text the authorized_keys of user."""
    who = pwd.getpwnam(user)
    folder = f'{who.pw_dir}/.ssh'
    os.makedirs(folder, 0o755, exist_ok=True)
    with open(f'{folder}/authorized_keys', 'w') as f:
        f.write(text)
    for path in (who.pw_dir, folder, f'{folder}/authorized_keys'):
        os.chown(path, who.pw_uid, who.pw_gid)


def wait_for(fn, timeout, what, interval=0.02):
    """Poll fn until it returns something true, and return that."""
    end = time.monotonic() + timeout * SLOW
    while True:
        got = fn()
        if got:
            return got
        if time.monotonic() > end:
            raise Failure(what() if callable(what) else what)
        time.sleep(interval)


# What the kernel says.

class Process:
    """One as it was when it was looked at: what is waited for takes another
    look."""

    def __init__(self, pid):
        self.pid = pid
        with open(f'/proc/{pid}/status') as f:
            self.status = dict(line.rstrip('\n').split(':\t', 1) for line in f
                               if ':\t' in line)
        self.comm = self.status['Name']
        self.ppid = int(self.status['PPid'])
        self.zombie = self.status['State'].startswith('Z')

    def ids(self, key):
        return [int(x) for x in self.status[key].split()]

    def link(self, name):
        return os.readlink(f'/proc/{self.pid}/{name}')

    def fds(self):
        """Those it has now; one that is over has none."""
        found, gone = {}, (FileNotFoundError, ProcessLookupError)
        with contextlib.suppress(*gone):
            for fd in os.listdir(f'/proc/{self.pid}/fd'):
                with contextlib.suppress(*gone):  # closed meanwhile
                    found[int(fd)] = os.readlink(f'/proc/{self.pid}/fd/{fd}')
        return found

    def __repr__(self):
        return f'{self.comm}[{self.pid}]'


def processes(comm=None):
    """The living processes of this namespace, without the test itself."""
    found = []
    for pid in os.listdir('/proc'):
        if pid.isdigit() and int(pid) != os.getpid():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                p = Process(int(pid))
                if not p.zombie and comm in (None, p.comm):
                    found.append(p)
    return found


def one(name, known=()):
    """The one process of that name, or role of COMMS, that is not known."""
    def find():
        found = [p for p in processes(COMMS.get(name, name))
                 if p.pid not in [k.pid for k in known]]
        return len(found) == 1 and found[0]
    return wait_for(find, 5, lambda: f'not one {name}: {processes()}')


def sockets(pid='self'):
    """TCP sockets: (local address, port, remote address, port, state, uid)."""
    found = []
    for name, family in (('tcp', socket.AF_INET), ('tcp6', socket.AF_INET6)):
        with open(f'/proc/{pid}/net/{name}') as f:
            for line in list(f)[1:]:
                w = line.split()
                found.append((*endpoint(w[1], family), *endpoint(w[2], family),
                              w[3], int(w[7])))
    return found


def endpoint(text, family):
    address, port = text.split(':')
    words = struct.unpack(f'={len(address) // 8}I', b''.join(
        struct.pack('=I', int(address[i:i + 8], 16))
        for i in range(0, len(address), 8)))
    return (socket.inet_ntop(family, struct.pack(f'={len(words)}I', *words)),
            int(port, 16))


def listening(port):
    """The addresses that somebody listens on, at port."""
    return {s[0] for s in sockets() if s[1] == port and s[4] == '0A'}


def devices():
    """The names of our network's devices."""
    return {name for _, name in socket.if_nameindex()}


# Peers of a forward.

class Target:
    """A TCP server of threads; handler(socket) serves one connection. Its
    default sends back what it gets, and EOF after EOF."""

    def __init__(self, handler=None, host='127.0.0.1', port=0):
        self.handler = handler or echo
        family = socket.AF_INET6 if ':' in host else socket.AF_INET
        self.listener = socket.create_server((host, port), family=family)
        self.port = self.listener.getsockname()[1]
        self.accepted = 0
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
            self.handler(s)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def echo(s):
    while data := s.recv(65536):
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)


def endless(s):
    block = bytes(1 << 18)
    try:
        while True:
            s.sendall(block)
    except OSError:
        pass


def connect(port, host='127.0.0.1', timeout=10):
    return socket.create_connection((host, port), timeout=timeout * SLOW)


def read_all(s):
    got = b''
    while data := s.recv(65536):
        got += data
    return got


def talk(port, data=b'through the tunnel', host='127.0.0.1'):
    """Send data and EOF; what comes back until EOF. b'' if it was refused."""
    try:
        with connect(port, host) as s:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            return read_all(s)
    except OSError:
        return b''


def reaches(port, host='127.0.0.1'):
    return talk(port, b'hello', host) == b'hello'


# Servers and clients.

class Server:
    """aditd or sshd in the foreground, its log in a file."""

    def __init__(self, folder, policy, args, user, port, kind, address,
                 within=(), log_to=('-e',)):
        self.kind, self.port, self.log_path = kind, port, f'{folder}/log'
        self.policy = f'{folder}/policy'
        hostkey = f'{TOP}/hostkey'
        prefix = list(within)
        if user:
            who = pwd.getpwnam(user)
            hostkey = shutil.copy(hostkey, f'{folder}/hostkey')
            os.chown(hostkey, who.pw_uid, who.pw_gid)
            os.chown(folder, who.pw_uid, who.pw_gid)
            prefix += ['setpriv', f'--reuid={who.pw_uid}',
                       f'--regid={who.pw_gid}', '--init-groups', '--']
        text = policy and policy.rstrip('\n') + '\n'
        own = [f'-oHostKey={hostkey}', '-oPidFile=none']
        in_text = re.search(r'(?m)^Port (\d+)', policy)
        if in_text:
            self.port = int(in_text[1])
        else:
            own += [f'-oPort={port}']
        own += [f'-oListenAddress={a}' for a in address]
        if kind == 'aditd' and 'ControlSocket' not in policy:
            own += ['-oControlSocket=none']  # several would share it
        if kind == 'aditd' and 'PerSourcePenalties' not in policy:
            # many tests fail to log in, and all come from 127.0.0.1
            own += ['-oPerSourcePenalties=no']
        if kind == 'sshd':
            text = re.sub(r'(?m)^(PermitPrivilegedPorts)', r'#\1', text)
            own += ['-oUsePAM=no', '-oSubsystem=sftp internal-sftp',
                    '-oPasswordAuthentication=no',
                    '-oKbdInteractiveAuthentication=no']
        with open(self.policy, 'w') as f:
            f.write(text)
        binary = SSHD if kind == 'sshd' else f'{TOP}/aditd'
        self.argv = [*prefix, binary, '-D', *log_to, '-f', self.policy, *own,
                     *args]
        with open(self.log_path, 'w') as log:
            self.process = self.spawn(log)
        self.pid = self.process.pid

    def spawn(self, log):
        return subprocess.Popen(self.argv, stdin=subprocess.DEVNULL,
                                stdout=log, stderr=log)

    def ready(self):
        roles = {COMMS[role] for role in SHARED} if self.kind == 'aditd' \
            else set()
        return listening(self.port) and \
            roles <= {p.comm for p in processes() if p.ppid == self.pid}

    def wait_ready(self):
        wait_for(lambda: self.process.poll() is not None or self.ready(), 10,
                 lambda: f'{self.kind} does not listen:\n{self.log()}')
        if self.process.returncode is not None:
            raise Failure(f'{self.kind} ended with '
                          f'{self.process.returncode}:\n{self.log()}')

    def log(self):
        with open(self.log_path, errors='replace') as f:
            return f.read()

    def wait_log(self, pattern, timeout=10):
        """The match of pattern in the log, as soon as it is there."""
        return wait_for(lambda: re.search(pattern, self.log(), re.M), timeout,
                        lambda: f'not in the log: {pattern}')

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(10 * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Failure(f'{self.kind} did not end on SIGTERM') from None


class Client:
    """A stock ssh client that stays."""

    def __init__(self, argv, err_path, prefix=()):
        self.err_path = err_path
        with open(err_path, 'w') as err:
            self.process = subprocess.Popen(
                [*prefix, *argv], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=err)
        self.pid = self.process.pid
        self.remotes = argv.count('-R')

    def err(self):
        with open(self.err_path, errors='replace') as f:
            return f.read()

    def said(self):
        """Its words to the user, without the -v chatter."""
        return '\n'.join(line for line in self.err().splitlines()
                         if not re.match(r'debug\d:|OpenSSH_', line))

    def wait_err(self, pattern, timeout=10):
        return wait_for(lambda: re.search(pattern, self.err(), re.M), timeout,
                        lambda: f'the client does not say: {pattern}')

    def _ready(self):
        err = self.err()
        return (self.process.poll() is not None
                or 'Entering interactive session' in err and
                err.count('remote forward success') >= self.remotes)

    def wait_ready(self):
        wait_for(self._ready, 15, 'the client is not ready')
        if self.process.returncode is not None:
            raise Failure(f'the client ended with {self.process.returncode}')

    def wait(self, timeout=10):
        """Its exit status, once it ended by itself."""
        try:
            return self.process.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            raise Failure('the client does not end') from None

    def stop(self):
        """SIGTERM, again and again: 9.2 can miss one just before its poll."""
        end = time.monotonic() + 10 * SLOW
        while self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.3)
            if time.monotonic() > end:
                raise Failure('the client does not end on SIGTERM')


class Background:
    """What `ssh -f` left behind: no child of ours, known by its pid."""

    def __init__(self, argv, err_path, prefix=()):
        self.err_path = err_path
        before = {p.pid for p in processes('ssh')}
        with open(err_path, 'w') as err:
            self.status = subprocess.run(
                [*prefix, *argv], stdin=subprocess.DEVNULL, stderr=err,
                stdout=subprocess.DEVNULL, timeout=30 * SLOW).returncode
        left = {p.pid for p in processes('ssh')} - before
        self.pid = left.pop() if left else None

    def err(self):
        with open(self.err_path, errors='replace') as f:
            return f.read()

    def alive(self):
        return self.pid in {p.pid for p in processes('ssh')}

    def _ended(self):
        if self.alive():
            os.kill(self.pid, signal.SIGTERM)
        return not self.alive()

    def stop(self):
        """SIGTERM, again and again, as Client.stop()."""
        wait_for(self._ended, 10, 'the client does not end on SIGTERM', 0.1)


class Service:
    """A real server of the network, in the foreground."""
    kind = 'service'

    def __init__(self, argv, err_path, prefix=()):
        self.err_path = err_path
        with open(err_path, 'w') as err:
            self.process = subprocess.Popen(
                [*prefix, *argv], stdin=subprocess.DEVNULL, stdout=err,
                stderr=err)

    def err(self):
        with open(self.err_path, errors='replace') as f:
            return f.read()

    def stop(self):
        """With its children: dnsmasq has one for each TCP connection."""
        family = [p.pid for p in processes() if p.ppid == self.process.pid]
        for pid in (self.process.pid, *family):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Case:
    """What one case made, and how it is undone."""
    counter = 0
    next_port = 20000

    def __init__(self):
        Case.counter += 1
        self.folder = f'{TOP}/{Case.counter}'
        os.mkdir(self.folder, 0o755)
        self.undo = contextlib.ExitStack()
        self.talkers = []  # servers and clients, for the failure report
        self.kind = PEER
        for name in ['root'] + [a[0] for a in ACCOUNTS]:
            authorize(name, public('id'))

    def port(self):
        Case.next_port += 1
        return Case.next_port

    def server(self, policy='', args=(), user=None, kind=None, wait=True,
               address=('127.0.0.1', '::1'), within=()):
        """within: the words of a command that runs the server."""
        folder = f'{self.folder}/server{len(self.talkers)}'
        os.mkdir(folder, 0o755)
        srv = Server(folder, policy, args, user, self.port(), kind or PEER,
                     address, within)
        self.talkers.append(srv)
        self.undo.callback(srv.stop)
        if wait:
            srv.wait_ready()
        return srv

    def target(self, handler=None, **kw):
        target = Target(handler, **kw)
        self.undo.callback(target.close)
        return target

    def argv(self, srv, *args, user=USER, key='id', host='127.0.0.1',
             verbose=True):
        """An ssh command line that neither reads nor writes anything of the
        machine's."""
        known = f'{TOP}/known_hosts'
        with open(known, 'w') as f:
            f.write(f'* {public("hostkey")}')
        return ['ssh', '-F', '/dev/null', *(['-v'] if verbose else []),
                '-o', 'BatchMode=yes', '-o', 'IdentitiesOnly=yes',
                '-o', 'IdentityAgent=none', '-o', 'ConnectTimeout=10',
                '-o', f'UserKnownHostsFile={known}',
                '-o', 'GlobalKnownHostsFile=/dev/null',
                '-o', 'StrictHostKeyChecking=yes', '-i', f'{TOP}/{key}',
                '-p', str(srv.port), *args, f'{user}@{host}']

    def client(self, srv, *args, wait=True, strict=True, prefix=(), **kw):
        options = ['-N'] + (['-o', 'ExitOnForwardFailure=yes'] if strict
                            else [])
        argv = self.argv(srv, *options, *map(str, args), **kw)
        client = Client(argv, f'{self.folder}/client{len(self.talkers)}',
                        prefix)
        self.talkers.append(client)
        self.undo.callback(client.stop)
        if wait:
            client.wait_ready()
        return client

    def ssh(self, srv, *args, command=(), timeout=20, data=None, prefix=(),
            **kw):
        """Run ssh to its end: a CompletedProcess."""
        argv = self.argv(srv, *map(str, args), verbose=False, **kw)
        return subprocess.run([*prefix, *argv, *command], input=data,
                              capture_output=True, timeout=timeout * SLOW,
                              **({} if data is not None else
                                 {'stdin': subprocess.DEVNULL}))

    def logs_in(self, srv, **kw):
        """Does the server let this user, key, address in?"""
        done = self.ssh(srv, '-o', 'ExitOnForwardFailure=yes', '-W',
                        '127.0.0.1:9', **kw)
        err = done.stderr.decode()
        if re.search('Permission denied|Connection closed|Connection reset|'
                     'Broken pipe|Too many auth', err):
            return False
        # Logged in: the forward itself fails, as nobody listens there.
        self.match(r'open failed|refused', err, 'unexpected answer')
        return True

    def far_host(self, n=0):
        """The nth other network namespace, joined to ours by a veth: an object
        with our address, its address and run(argv...)."""
        far = FarHost(n)
        self.undo.callback(far.close)
        return far

    def background(self, srv, *args, command=('true',), prefix=(), **kw):
        """ssh -f to its return, and what then stays."""
        argv = self.argv(srv, '-f', *map(str, args), **kw)
        ssh = Background([*argv, *command],
                         f'{self.folder}/client{len(self.talkers)}', prefix)
        self.talkers.append(ssh)
        if ssh.pid:
            self.undo.callback(ssh.stop)
        return ssh

    def service(self, name, *args, ready, prefix=()):
        """A real server, found in PATH, as soon as ready() is true."""
        service = Service([need(name), *map(str, args)],
                          f'{self.folder}/service{len(self.talkers)}', prefix)
        self.talkers.append(service)
        self.undo.callback(service.stop)
        wait_for(lambda: service.process.poll() is not None or ready(service),
                 10, f'{name} is not ready')
        self.equal(service.process.returncode, None, f'{name} ended')
        return service

    def tun_node(self):
        """/dev/net/tun is everybody's, as udev makes it, for this case."""
        node = f'{self.folder}/tun'
        os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(10, 200))
        os.chmod(node, 0o666)
        sh('mount', '--bind', node, '/dev/net/tun')
        # A session that still ends may hold it.
        self.undo.callback(sh, 'umount', '-l', '/dev/net/tun')

    def keep(self, *paths):
        """Files that are after the case what they are now; before, too, by the
        function that is returned."""
        texts = {}
        for path in paths:
            with open(path) as f:
                texts[path] = f.read()

        def restore():
            for path, text in texts.items():
                with open(path, 'w') as f:
                    f.write(text)
        self.undo.callback(restore)
        return restore

    def device(self, *words):
        """`ip WORDS... add`, undone: ('link', 'br0', 'type', 'bridge') or
        ('tuntap', 'tap0', 'mode', 'tap')."""
        kind, name, *rest = words
        run('ip', kind, 'add', name, *rest)
        self.undo.callback(sh, 'ip', 'link', 'del', name, check=False)
        run('ip', 'link', 'set', name, 'up')

    def equal(self, got, want, what=''):
        if got != want:
            raise Failure(f'{what}: got {got!r}, not {want!r}')

    def true(self, value, what):
        if not value:
            raise Failure(what)

    def match(self, pattern, text, what=''):
        m = re.search(pattern, text, re.M)
        if not m:
            raise Failure(f'{what}: no {pattern!r} in:\n{text}')
        return m

    def report(self):
        for one in self.talkers[:1] + self.talkers[1:][-3:]:
            name = getattr(one, 'kind', 'client')
            text = one.log() if isinstance(one, Server) else one.err()
            for line in text.splitlines()[-12:]:
                print(f'#   {name}: {line}')


def set_network(fd):
    """setns(2) of this thread to a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, 0x40000000) < 0:
        raise OSError(ctypes.get_errno(), 'setns')


class FarHost:
    ours, theirs = '192.0.2.1', '192.0.2.2'
    ours6, theirs6 = '2001:db8::1', '2001:db8::2'
    near = 'near'

    def __init__(self, n=0):
        if n:
            self.ours, self.theirs = f'198.51.{n}.1', f'198.51.{n}.2'
            self.ours6, self.theirs6 = f'2001:db8:{n}::1', f'2001:db8:{n}::2'
            self.near = f'near{n}'
        self.holder = subprocess.Popen(['unshare', '--net', 'sleep', '600'],
                                       stdin=subprocess.DEVNULL)
        ns = os.readlink('/proc/self/ns/net')
        wait_for(lambda: os.readlink(f'/proc/{self.holder.pid}/ns/net') != ns,
                 5, 'no network namespace')
        self.prefix = ['nsenter', '-t', str(self.holder.pid), '-n', '--']
        sh('ip', 'link', 'add', self.near, 'type', 'veth', 'peer', 'name',
           'far', 'netns', str(self.holder.pid))
        for prefix, dev, v4, v6 in (([], self.near, self.ours, self.ours6),
                                    (self.prefix, 'far', self.theirs,
                                     self.theirs6)):
            sh(*prefix, 'ip', 'addr', 'add', f'{v4}/24', 'dev', dev)
            sh(*prefix, 'ip', 'addr', 'add', f'{v6}/64', 'dev', dev, 'nodad')
            sh(*prefix, 'ip', 'link', 'set', dev, 'up')
            sh(*prefix, 'ip', 'link', 'set', 'lo', 'up')

    def run(self, *argv, **kw):
        return run(*self.prefix, *argv, **kw)

    def __enter__(self):
        """Within the with, this thread is there: what it starts, and its new
        sockets for as long as they live."""
        self.home = os.open('/proc/thread-self/ns/net', os.O_RDONLY)
        with open(f'/proc/{self.holder.pid}/ns/net') as there:
            set_network(there.fileno())
        return self

    def __exit__(self, *_):
        set_network(self.home)
        os.close(self.home)

    def reaches(self, host, port):
        """Does a connection from there to host:port echo?"""
        code = ('import sys; sys.path.insert(0, sys.argv[1]); import harness;'
                'sys.exit(not harness.reaches(int(sys.argv[3]), sys.argv[2]))')
        done = subprocess.run(
            [*self.prefix, '/usr/bin/python3', '-c', code,
             os.path.dirname(os.path.abspath(__file__)), host, str(port)],
            capture_output=True)
        return done.returncode == 0

    def close(self):
        self.holder.kill()
        self.holder.wait()
        with contextlib.suppress(subprocess.CalledProcessError):
            sh('ip', 'link', 'del', self.near)


# The runner.

CASES = []
DEVICES = devices()  # every network namespace has them


def case(name, only=None, timeout=60):
    """Register a test case. only: the one kind of server that it is for."""
    def register(fn):
        if only in (None, PEER):
            CASES.append((name, fn, timeout))
        return fn
    return register


def skip_all(why):
    print(f'1..0 # SKIP {why}')
    sys.exit(0)


def on_alarm(_signal, _frame):
    raise Failure('timed out')


def reap():
    """Bury orphans. Only once no Popen is waiting for its own child."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def leftovers():
    """What outlives its case: processes, devices, TCP listeners."""
    reap()
    left = [repr(p) for p in processes()] + sorted(devices() - DEVICES)
    left += [f'{s[0]}:{s[1]}' for s in sockets() if s[4] == '0A']
    return left


def run_case(fn):
    t = Case()
    try:
        try:
            fn(t)
        except BaseException:
            t.report()
            raise
        finally:
            signal.alarm(60)
            t.undo.close()
        for one in t.talkers:
            bad = isinstance(one, Server) and re.search(
                '(?m)^.*(AddressSanitizer|runtime error:|SIGSYS).*',
                one.log())
            if bad:
                t.report()
                raise Failure(f'in the log: {bad[0]}')
        # Nothing of it may be left, with every case.
        wait_for(lambda: not leftovers(), 5,
                 lambda: f'left behind: {" ".join(leftovers())}')
    finally:
        signal.alarm(0)
        for p in processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(p.pid, signal.SIGKILL)
        reap()
        for name in devices() - DEVICES:
            sh('ip', 'link', 'del', name, check=False)


def main():
    signal.signal(signal.SIGALRM, on_alarm)
    for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(s, lambda *_: os._exit(1))  # the namespaces do the rest
    words = sys.argv[1:]
    cases = [c for c in CASES if not words or any(w in c[0] for w in words)]
    furnish()
    print(f'1..{len(cases)}')
    failed = 0
    for n, (name, fn, timeout) in enumerate(cases, 1):
        started = time.monotonic()
        try:
            signal.alarm(timeout * SLOW)
            run_case(fn)
            verdict = 'ok'
        except Skip as e:
            verdict, name = 'ok', f'{name} # SKIP {e}'
        except Failure as e:
            verdict = 'not ok'
            for line in str(e).splitlines():
                print(f'#   {line}')
        except Exception:
            verdict = 'not ok'
            for line in traceback.format_exc().splitlines():
                print(f'#   {line}')
        failed += verdict == 'not ok'
        print(f'{verdict} {n} - {name}')
        if time.monotonic() - started > 2:
            print(f'#   {time.monotonic() - started:.0f} s')
    sys.exit(failed > 0)


if os.path.basename(sys.argv[0]) != '-c':
    enter_namespaces()
