"""Two hosts, 'server' and 'client', and the link between them: network
namespaces within mount, PID and network namespaces of the bench's own. All of
it goes with the bench, however that ends; nothing else is touched."""
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time

TOP = '/run/bench'
HZ = os.sysconf('SC_CLK_TCK')
ADDRESS = {'server': '192.0.2.1', 'client': '192.0.2.2'}


class Failure(Exception):
    pass


def program(name, package):
    """The path of a program that must be there."""
    path = shutil.which(name, path=os.environ.get('PATH', '') +
                        ':/usr/sbin:/sbin')
    if not path:
        raise Failure(f'there is no {name} (apt-get install {package}): '
                      'nothing is left out, so nothing is measured')
    return path


def enter(tunnels=True):
    """Run this program again as process 1 of namespaces of its own. The stock
    client and iperf3 must not wait for anybody's terminal: no stdin."""
    if os.environ.get('BENCH_INSIDE') == '1':
        os.environ.pop('BENCH_INSIDE')
        furnish()
        return
    if os.geteuid() != 0:
        raise Failure('needs root, for network namespaces and tunnels')
    if tunnels and not os.path.exists('/dev/net/tun'):
        raise Failure('there is no /dev/net/tun')
    env = dict(os.environ, BENCH_INSIDE='1', LC_ALL='C')
    env.pop('SSH_AUTH_SOCK', None)
    os.execvpe('unshare', ['unshare', '--mount', '--net', '--pid', '--fork',
                           '--mount-proc', '--kill-child=SIGKILL', '--',
                           sys.executable, '-B', '-u', *sys.argv], env)


def furnish():
    # A process 1 has no default actions for signals.
    for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(s, lambda n, _: os._exit(128 + n))
    run('mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', '/run')
    os.mkdir(TOP, 0o755)
    os.mkdir('/run/sshd', 0o755)
    for host in ADDRESS:
        run('ip', 'netns', 'add', host)
        run('ip', '-n', host, 'link', 'set', 'lo', 'up')
    run('ip', '-n', 'server', 'link', 'add', 'wire', 'type', 'veth', 'peer',
        'name', 'wire', 'netns', 'client')
    for host, address in ADDRESS.items():
        run('ip', '-n', host, 'addr', 'add', f'{address}/24', 'dev', 'wire')
        run('ip', '-n', host, 'link', 'set', 'wire', 'up')


def on(host, *argv):
    words = [str(a) for a in argv]
    return ['ip', 'netns', 'exec', host, *words] if host else words


def run(*argv, host=None, timeout=60, check=True):
    """A program to its end; its stdout."""
    try:
        done = subprocess.run(on(host, *argv), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failure(f'{" ".join(map(str, argv))}: does not end') from None
    if check and done.returncode != 0:
        raise Failure(f'{" ".join(map(str, argv))}: {done.returncode}\n'
                      f'{done.stdout[-2000:]}{done.stderr[-2000:]}')
    return done.stdout


class Process:
    """A program that runs beside the bench, its output in a file."""
    started = set()

    def __init__(self, name, *argv, host=None):
        self.name, self.log_path = name, f'{TOP}/{name}.log'
        with open(self.log_path, 'w') as log:
            self.popen = subprocess.Popen(
                on(host, *argv), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log)
        self.pid = self.popen.pid
        Process.started.add(self.pid)

    def log(self):
        with open(self.log_path, errors='replace') as f:
            return f.read()

    def alive(self):
        if self.popen.poll() is not None:
            raise Failure(f'{self.name} ended with {self.popen.returncode}:\n'
                          f'{self.log()[-3000:]}')
        return True

    def wait(self, seconds):
        """Its output, once it ended well."""
        try:
            status = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f'{self.name} does not end:\n'
                          f'{self.log()[-3000:]}') from None
        if status != 0:
            raise Failure(f'{self.name} ended with {status}:\n'
                          f'{self.log()[-3000:]}')
        return self.log()

    def stop(self):
        """With all that it started."""
        pids = [self.pid, *family(self.pid)]
        self.popen.terminate()
        try:
            self.popen.wait(3)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        for pid in pids[1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_for(lambda: not reap(), 5, f'{self.name}: processes are left')


def reap():
    """Bury orphans; those that live."""
    left = []
    for pid, (parent, _) in stats().items():
        if parent == 1 and pid not in Process.started:
            if not os.waitpid(pid, os.WNOHANG)[0]:
                left.append(pid)
    return left


def wait_for(fn, seconds, what, interval=0.02):
    """Until fn() returns something true, and that."""
    end = time.monotonic() + seconds
    while True:
        got = fn()
        if got:
            return got
        if time.monotonic() > end:
            raise Failure(what() if callable(what) else what)
        time.sleep(interval)


# What processes cost.

def stats():
    """pid: (parent, seconds of CPU of itself and of children it buried)."""
    found = {}
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/stat') as f:
                words = f.read().rsplit(')', 1)[1].split()
            exact = sum(run_time(pid, t)
                        for t in os.listdir(f'/proc/{pid}/task'))
        except (FileNotFoundError, ProcessLookupError):
            continue
        own = (int(words[11]) + int(words[12])) / HZ
        buried = (int(words[13]) + int(words[14])) / HZ
        # Ticks count threads that are gone, too.
        found[int(pid)] = (int(words[1]), max(own, exact) + buried)
    return found


def run_time(pid, thread):
    try:
        with open(f'/proc/{pid}/task/{thread}/schedstat') as f:
            return int(f.read().split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return 0


def family(pid, table=None):
    """The pids of what pid started, and what they did, and so on."""
    table = table or stats()
    todo, found = [pid], []
    while todo:
        parent = todo.pop()
        kids = [p for p, (above, _) in table.items() if above == parent]
        found += kids
        todo += kids
    return found


def cpu(pid):
    """Seconds of user and system time of pid and all that it ever started. One
    that left its family would be missed: that is a failure."""
    table = stats()
    orphans = [p for p, (parent, _) in table.items()
               if parent == 1 and p not in Process.started]
    if orphans:
        raise Failure(f'processes {orphans} left their server')
    return sum(table[p][1] for p in [pid, *family(pid, table)] if p in table)


# Sockets of the hosts.

class Inside:
    """Within the with, this thread is on that host: its new sockets stay."""

    def __init__(self, host):
        self.host = host

    def __enter__(self):
        self.home = os.open('/proc/thread-self/ns/net', os.O_RDONLY)
        there = os.open(f'/run/netns/{self.host}', os.O_RDONLY)
        set_network(there)
        os.close(there)

    def __exit__(self, *_):
        set_network(self.home)
        os.close(self.home)


def set_network(fd):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, 0x40000000) < 0:
        raise OSError(ctypes.get_errno(), 'setns')
