"""The servers that `make bench` compares, each as its package has it, and one
account of the bench's own that they serve; the stock client's sessions."""
import os
import time

from lab import (ADDRESS, TOP, Failure, Process, cpu, family, program, run,
                 stats, wait_for)

USER = 'bench'
HOME = f'{TOP}/home'
KEY = f'{TOP}/key'
FLOWS_PORT, GREET_PORT = 5600, 5601
CIPHERS = {'aes128-gcm': 'aes128-gcm@openssh.com',
           'chacha20': 'chacha20-poly1305@openssh.com',
           'aes128-ctr': 'aes128-ctr'}
# aes128-ctr's: Debian's dropbear has the second alone.
MACS = 'hmac-sha2-256-etm@openssh.com,hmac-sha2-256'
REST_S = 1.2  # adit gives memory back after a second
# Where logins come from, one address each: dropbear takes five at a time from
# one that have not logged in.
SOURCES = [f'192.0.2.{n}' for n in range(10, 18)]
# Of eight logins at a time none is to be dropped, however late a server hears
# that those before them have ended.
CONFIG = f'''HostKey {TOP}/host_key
PidFile none
AuthorizedKeysFile {HOME}/.ssh/authorized_keys
StrictModes no
MaxStartups 100
'''


class Server:
    ciphers = tuple(CIPHERS)
    at_rest = 1  # processes without a connection

    def __init__(self, port):
        self.port, self.orphans_s = port, 0

    def start(self):
        self.process = self.spawn()
        self.pid = self.process.pid
        wait_for(lambda: len(self.pids()) >= self.at_rest and
                 listens(self.port), 20,
                 lambda: f'{self.name} does not listen:\n'
                         f'{self.process.log()[-2000:]}')

    def serve(self, *argv):
        return Process(self.name, *argv, host='server')

    def configured(self, binary, more=''):
        path = f'{TOP}/{self.name}.conf'
        with open(path, 'w') as f:
            f.write(f'Port {self.port}\n{CONFIG}{more}')
        return self.serve(binary, '-D', '-e', '-f', path)

    def stop(self):
        self.process.stop()

    # What it costs, with all of its processes.

    def pids(self):
        self.process.alive()
        return [self.pid, *family(self.pid)]

    def cpu(self):
        self.adopt()
        return cpu(self.pid) + self.orphans_s

    def adopt(self):
        """A process of sshd's whose parent was the first to end is ours: the
        end of it is counted, too. Only one server has work at a time."""
        wait_for(lambda: all(dead(pid) for pid in orphans()), 10,
                 f'{self.name}: processes left it')
        for pid in orphans():
            self.orphans_s += stats()[pid][1]
            os.waitpid(pid, 0)

    def pss_kib(self):
        return sum(pss_kib(pid) for pid in self.pids())

    def state(self):
        pids = self.pids()
        return {'processes': len(pids),
                'fds': sum(len(os.listdir(f'/proc/{pid}/fd'))
                           for pid in pids),
                'pss_kib': sum(pss_kib(pid) for pid in pids)}

    def rest(self):
        """Until its memory falls no more: what a server gives back as soon
        as nothing happens is not what an idle session takes."""
        end, last = time.monotonic() + 30, self.pss_kib()
        while time.monotonic() < end:
            time.sleep(REST_S)
            before, last = last, self.pss_kib()
            if last > 0.99 * before:
                break

    def settle(self, processes):
        """Until there are as many again."""
        wait_for(lambda: len(self.pids()) <= processes, 60,
                 lambda: f'{self.name}: {len(self.pids())} processes, not '
                         f'{processes}')


class Adit(Server):
    name = 'adit'
    at_rest = 4  # listener, keyholder, two zygotes

    def spawn(self):
        return self.configured(os.environ['ADITD'])


class Sshd(Server):
    name = 'sshd'

    def spawn(self):
        return self.configured(program('sshd', 'openssh-server'),
                               'UsePAM no\n')


class Dropbear(Server):
    name = 'dropbear'
    ciphers = ('chacha20', 'aes128-ctr')  # built without AES-GCM

    def spawn(self):
        key = f'{TOP}/dropbear_key'
        if not os.path.exists(key):
            run('dropbearkey', '-t', 'ed25519', '-f', key)
        return self.serve(program('dropbear', 'dropbear-bin'), '-F', '-E',
                          '-s', '-r', key, '-p', self.port, '-P',
                          f'{TOP}/dropbear.pid')


KINDS = (Adit, Sshd, Dropbear)


class Session:
    """The stock client, with a forward to the far end of flows."""
    made = 0

    def __init__(self, server, cipher):
        Session.made += 1
        self.port, self.server = 6000 + Session.made, server
        self.process = Process(
            f'ssh-{Session.made}', 'ssh', '-F', '/dev/null', '-N',
            '-c', CIPHERS[cipher], '-m', MACS, '-o', 'BatchMode=yes',
            '-o', 'IdentitiesOnly=yes', '-o', 'ExitOnForwardFailure=yes',
            '-o', f'UserKnownHostsFile={TOP}/known_hosts',
            '-o', 'StrictHostKeyChecking=accept-new', '-i', KEY,
            '-L', f'127.0.0.1:{self.port}:127.0.0.1:{FLOWS_PORT}',
            '-p', server.port, f'{USER}@{ADDRESS["server"]}', host='client')

    def wait(self):
        wait_for(lambda: self.process.alive() and
                 listens(self.port, 'client'), 30,
                 lambda: f'{self.server.name}: no session:\n'
                         f'{self.process.log()[-2000:]}\n'
                         f'{self.server.process.log()[-2000:]}')

    def stop(self):
        self.process.stop()


def sessions(server, *ciphers):
    """One of each, all there."""
    made = [Session(server, c) for c in ciphers]
    for s in made:
        s.wait()
    return made


def orphans():
    return [pid for pid, (parent, _) in stats().items()
            if parent == 1 and pid not in Process.started]


def dead(pid):
    with open(f'/proc/{pid}/stat') as f:
        return f.read().rsplit(')', 1)[1].split()[0] == 'Z'


def pss_kib(pid):
    try:
        with open(f'/proc/{pid}/smaps_rollup') as f:
            for line in f:
                if line.startswith('Pss:'):
                    return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def listens(port, host='server'):
    return run('ss', '-Hltn', 'sport', '=', port, host=host).strip()


def furnish():
    """Keys, and an account that only this mount namespace knows."""
    os.makedirs(f'{HOME}/.ssh', 0o755)
    for name in ('host_key', 'key'):
        run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f',
            f'{TOP}/{name}')
    with open(f'{KEY}.pub') as f, \
            open(f'{HOME}/.ssh/authorized_keys', 'w') as g:
        g.write(f.read())
    for path, line in (
            ('/etc/passwd', f'{USER}:x:54321:54321::{HOME}:/bin/sh'),
            ('/etc/group', f'{USER}:x:54321:'),
            ('/etc/shadow', f'{USER}:*:19000:0:99999:7:::'),
            ('/etc/shells', '/bin/sh')):
        own = f'{TOP}/{os.path.basename(path)}'
        with open(path) as f, open(own, 'w') as g:
            g.write(f'{f.read().rstrip()}\n{line}\n')
        run('mount', '--bind', own, path)
    for address in SOURCES:
        run('ip', '-n', 'client', 'addr', 'add', f'{address}/24', 'dev',
            'wire')


def start_targets():
    """What answers behind all the forwards."""
    flows = os.environ['FLOWS']
    for verb, port in (('serve', FLOWS_PORT), ('greet', GREET_PORT)):
        p = Process(f'flows-{verb}', flows, verb, '127.0.0.1', port,
                    host='server')
        wait_for(lambda: p.alive() and listens(port), 10,
                 f'flows {verb} does not listen')


def check():
    """All that is compared must be there, before anything is measured."""
    for name, package in (
            ('dropbear', 'dropbear-bin'), ('dropbearkey', 'dropbear-bin'),
            ('sshd', 'openssh-server'), ('ssh', 'openssh-client'),
            ('tc', 'iproute2'), ('ss', 'iproute2'), ('ethtool', 'ethtool'),
            ('unshare', 'util-linux')):
        program(name, package)
    for name in ('ADITD', 'FLOWS', 'LOGINS'):
        path = os.environ.get(name, '')
        if not os.access(path, os.X_OK):
            raise Failure(f'{name} is no program: {path!r} (make bench says '
                          'where they are)')
