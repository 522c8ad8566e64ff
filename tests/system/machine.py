"""A machine of its own: a Debian root in namespaces, with systemd as process
1 or with next to nothing. It is gone with its process 1."""
import contextlib
import glob
import os
import shutil
import signal
import subprocess
import time

from harness import (Failure, SLOW, Target, append, run, set_network, sh,
                     wait_for)

SYSTEMD = '/lib/systemd/systemd'
# Nothing of the kernel that is not this namespace's can be written: systemd
# sets sysctls when it starts.
FURNISH = r'''
set -e
mount --make-rprivate /
cd "$1" && shift
mount -t overlay overlay -o "lowerdir=$1,upperdir=up,workdir=work" root
cd root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/net dev/pts dev/shm
for node in null zero full random urandom tty net/tun; do
	[ -e /dev/$node ] || continue
	: >dev/$node
	mount --bind /dev/$node dev/$node
done
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for dir in dev/shm run tmp home; do
	mount -t tmpfs -o mode=755 tmpfs $dir
done
chmod 1777 dev/shm tmp
mkdir .outside
pivot_root . .outside
cd /
umount -l .outside
rmdir .outside
shift
exec env -i container=adit-test PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
'''


def unified():
    """Where cgroup2 is mounted, or None."""
    with open('/proc/self/mounts') as f:
        found = [line.split()[1] for line in f if ' cgroup2 ' in line]
    return found[0] if found else None


def remove_cgroup(path):
    """One of a machine that is dead; False: it has processes yet."""
    try:
        for folder, _, _ in os.walk(path, topdown=False):
            os.rmdir(folder)
    except OSError:
        return False
    return True


def remove_old_cgroups(top):
    """What those left who were killed; not of somebody who just starts."""
    for path in glob.glob(f'{top}/adit-test-*'):
        age = time.monotonic_ns() - int(path.rpartition('-')[2])
        if not 0 < age < 600e9:
            remove_cgroup(path)


class Machine:
    address, ours = '192.0.2.2', '192.0.2.1'
    port = 2222  # as a server of the harness has one

    def __init__(self, folder, root, init=(SYSTEMD,)):
        self.folder, self.booted = folder, init[0] == SYSTEMD
        self.name = os.path.basename(init[0])
        os.makedirs(folder)
        sh('mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', folder)
        for name in ('up', 'work', 'root'):
            os.mkdir(f'{folder}/{name}')
        remove_old_cgroups(unified())
        self.cgroup = f'{unified()}/adit-test-{time.monotonic_ns()}'
        os.mkdir(self.cgroup)
        self.out = open(f'{folder}/console', 'wb')
        self.process = subprocess.Popen(
            ['sh', '-c', 'echo $$ >"$1" && shift && exec "$@"', 'sh',
             f'{self.cgroup}/cgroup.procs', 'unshare', '--mount', '--pid',
             '--fork', '--net', '--uts', '--ipc', '--cgroup',
             '--kill-child=SIGKILL', '--', 'sh', '-c', FURNISH, 'sh', folder,
             root, *init], stdin=subprocess.DEVNULL, stdout=self.out,
            stderr=subprocess.STDOUT)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self):
        wait_for(self.init_runs, 20, lambda: f'no machine: {self.console()}')
        self.top = f'/proc/{self.init}/root'
        sh('ip', 'link', 'add', 'near', 'type', 'veth', 'peer', 'name', 'far',
           'netns', str(self.init))
        there = ['nsenter', '-t', str(self.init), '-n', '--']
        sh(*there, 'ip', 'link', 'set', 'lo', 'up')
        for prefix, dev, address in (([], 'near', self.ours),
                                     (there, 'far', self.address)):
            sh(*prefix, 'ip', 'addr', 'add', f'{address}/24', 'dev', dev)
            sh(*prefix, 'ip', 'link', 'set', dev, 'up')
        if self.booted:
            wait_for(lambda: self.sh('systemctl', 'is-system-running').stdout
                     .strip() in ('running', 'degraded'), 60,
                     lambda: f'it does not boot: {self.console()}')

    def init_runs(self):
        if self.process.poll() is not None:
            raise Failure(f'no machine: {self.console()}')
        with open(f'/proc/{self.process.pid}/task/{self.process.pid}/children'
                  ) as f:
            pids = f.read().split()
        if not pids:
            return False
        self.init = int(pids[0])
        with open(f'/proc/{self.init}/comm') as f:
            return f.read().strip() == self.name

    def console(self):
        with open(f'{self.folder}/console', errors='replace') as f:
            return f.read()[-3000:]

    def inside(self, *argv):
        return ['nsenter', '-t', str(self.init), '-a', '--', 'env', '-i',
                'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C.UTF-8',
                'DEBIAN_FRONTEND=noninteractive', *map(str, argv)]

    def sh(self, *argv):
        return sh(*self.inside(*argv), check=False, timeout=120 * SLOW)

    def run(self, *argv):
        try:
            return run(*self.inside(*argv), timeout=120 * SLOW)
        except Failure as e:
            log = self.booted and self.sh('journalctl', '-n', '30').stdout
            raise Failure(f'{e}\n{log or ""}') from None

    def read(self, path):
        with open(self.top + path) as f:
            return f.read()

    def write(self, path, text):
        os.makedirs(os.path.dirname(self.top + path), exist_ok=True)
        with open(self.top + path, 'w') as f:
            f.write(text)

    def append(self, path, text):
        append(self.top + path, text)

    def install(self, deb):
        shutil.copy(deb, f'{self.top}/root/adit.deb')
        return self.run('dpkg', '-i', '/root/adit.deb')

    def account(self, name, key):
        """Make one that key logs in as."""
        self.run('useradd', '-m', name)
        self.run('usermod', '-p', '*', name)
        folder = f'/home/{name}/.ssh'
        self.write(f'{folder}/authorized_keys', key)
        self.run('chown', '-R', f'{name}:', folder)

    def target(self, t):
        """An echo server on the machine's loopback."""
        home = os.open('/proc/thread-self/ns/net', os.O_RDONLY)
        try:
            with open(f'/proc/{self.init}/ns/net') as there:
                set_network(there.fileno())
            target = Target()
        finally:
            set_network(home)
            os.close(home)
        t.undo.callback(target.close)
        return target

    def stop(self):
        """Again is nothing."""
        if self.out.closed:
            return
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(subprocess.CalledProcessError):
            sh('ip', 'link', 'del', 'near')
        wait_for(lambda: remove_cgroup(self.cgroup), 20,
                 f'{self.cgroup} is left')
        self.out.close()
        sh('umount', '-l', self.folder, check=False)
