"""A service manager, as far as a service notices: NOTIFY_SOCKET, sockets by
LISTEN_FDS, and the store of descriptors that outlives a restart. What systemd
does with what it hears is done here: NotifyAccess=main, FDSTORE, FDNAME,
FDSTOREREMOVE, and an fd that hangs up leaves the store."""
import array
import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time

from harness import Server, wait_for

# In the child: fds to 3 and up, and whose they are.
LAUNCH = '''
import fcntl, os, sys
n = int(sys.argv[1])
fds = [int(fd) for fd in sys.argv[2:2 + n]]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 1000) for fd in fds]
for fd in fds:
    os.close(fd)
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i)
os.environ.update(LISTEN_PID=str(os.getpid()), WATCHDOG_PID=str(os.getpid()))
os.execv(sys.argv[2 + n], sys.argv[2 + n:])
'''


def identity(fd):
    st = os.fstat(fd)
    return st.st_dev, st.st_ino


class Manager:
    def __init__(self, folder):
        self.path = f'{folder}/notify'
        self.store = []     # (name, fd)
        self.words = []     # (when, {key: value})
        self.stranger = []  # pids of those that are not the service
        self.main = None
        self.lock = threading.Lock()
        self.barrier = threading.Event()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(self.path)
        self.wake = os.pipe()
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        while True:
            poll = select.poll()
            poll.register(self.socket, select.POLLIN)
            poll.register(self.wake[0], select.POLLIN)
            with self.lock:
                held = {fd for _, fd in self.store}
                for fd in held:
                    poll.register(fd, 0)
            for fd, _ in poll.poll():
                if fd == self.wake[0]:
                    return
                if fd == self.socket.fileno():
                    self.hear()
                elif fd in held:
                    self.drop(lambda name, one, gone=fd: one == gone)

    def hear(self):
        data, control, _, _ = self.socket.recvmsg(
            4096, socket.CMSG_SPACE(64) + socket.CMSG_SPACE(12))
        fds, pid = array.array('i'), 0
        for _, kind, value in control:
            if kind == socket.SCM_RIGHTS:
                fds.frombytes(value)
            elif kind == socket.SCM_CREDENTIALS:
                pid = struct.unpack('iII', value)[0]
        words = dict(line.split('=', 1) for line in data.decode().split('\n')
                     if line)
        if 'BARRIER' in words and pid == os.getpid():
            self.barrier.set()
            return
        if pid != self.main:
            self.stranger.append(pid)
            for fd in fds:
                os.close(fd)
            return
        if 'FDSTORE' in words:
            for fd in fds:
                self.keep(words.get('FDNAME', 'stored'), fd)
        elif 'FDSTOREREMOVE' in words:
            self.drop(lambda name, fd: name == words['FDNAME'])
        with self.lock:
            self.words.append((time.monotonic(), words))

    def keep(self, name, fd):
        with self.lock:
            if identity(fd) in [identity(f) for _, f in self.store]:
                os.close(fd)
            else:
                self.store.append((name, fd))

    def drop(self, which):
        with self.lock:
            gone = [one for one in self.store if which(*one)]
            self.store = [one for one in self.store if one not in gone]
            for _, fd in gone:
                os.close(fd)

    def hear_all(self):
        """As systemd: what a process said comes before its end."""
        self.barrier.clear()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b'BARRIER=1', self.path)
        self.barrier.wait(10)

    def names(self):
        with self.lock:
            return sorted(name for name, _ in self.store)

    def heard(self, key, since=0):
        """The values of key, in turn."""
        with self.lock:
            return [w[key] for at, w in self.words[since:] if key in w]

    def mark(self):
        with self.lock:
            return len(self.words)

    def wait_heard(self, key, value=None, since=0, timeout=10):
        wait_for(lambda: [v for v in self.heard(key, since)
                          if value in (None, v)], timeout,
                 lambda: f'no {key}={value} in {self.words[since:]}')

    def close(self):
        os.write(self.wake[1], b'x')
        self.thread.join()
        self.drop(lambda name, fd: True)
        self.socket.close()
        for fd in self.wake:
            os.close(fd)


class Service(Server):
    """aditd as a service, which can be started again."""
    manager = None
    sockets = ()     # (name, socket) of a socket unit
    watchdog_us = 0

    def spawn(self, log):
        m = self.manager
        m.hear_all()
        with m.lock:
            given = [(name, s.fileno()) for name, s in self.sockets] + m.store
            fds = [fd for _, fd in given]
            env = dict(os.environ, NOTIFY_SOCKET=m.path)
            if given:
                env.update(LISTEN_FDS=str(len(given)),
                           LISTEN_FDNAMES=':'.join(n for n, _ in given))
            if self.watchdog_us:
                env['WATCHDOG_USEC'] = str(self.watchdog_us)
            self.since = len(m.words)
            process = subprocess.Popen(
                ['/usr/bin/python3', '-c', LAUNCH, str(len(fds)),
                 *map(str, fds), *self.argv], pass_fds=fds, env=env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            m.main = process.pid
        return process

    def start(self):
        with open(self.log_path, 'a') as log:
            self.process = self.spawn(log)
        self.pid = self.process.pid
        self.wait_ready()
        self.manager.wait_heard('READY', '1', self.since)

    def restart(self, how=signal.SIGTERM):
        """As `systemctl restart`; how: SIGKILL, as after a crash."""
        self.process.send_signal(how)
        self.process.wait(10)
        self.start()


def service(t, policy='', manager=None, sockets=(), watchdog_us=0, args=(),
            wait=True, address=('127.0.0.1', '::1')):
    """t.server() under a manager of its own."""
    folder = f'{t.folder}/service{len(t.talkers)}'
    os.mkdir(folder, 0o755)
    if manager is None:
        manager = Manager(folder)
        t.undo.callback(manager.close)
    kind = type('Service', (Service,), {
        'manager': manager, 'sockets': sockets, 'watchdog_us': watchdog_us})
    srv = kind(folder, policy, args, None, t.port(), 'aditd', address)
    t.talkers.append(srv)
    t.undo.callback(srv.stop)
    if wait:
        srv.wait_ready()
        manager.wait_heard('READY', '1')
    return srv
