#!/usr/bin/python3
"""Programs that go through somebody else's ssh, or bring one with them."""
import contextlib
import os
import pwd
import signal
import subprocess

from clients_table import Table, readme_case
from harness import (SLOW, TOP, USER, Client, case, listening, main, need,
                     processes, reaches, run, sh, wait_for)
from interop import ended, noise, same

FILES = 300
MANY = 200 if SLOW == 1 else 60  # connections to a SOCKS proxy
TABLE = Table('uses', ['program', 'version', 'what was done'],
              ['autossh', 'curl', 'ssh, scp, sftp', 'rsync', 'git', 'psql',
               'ControlMaster'])


class Tool:
    """What a row is of."""

    def __init__(self, *argv):
        self.argv = argv

    def need(self):
        need(self.argv[0])

    def version(self):
        done = sh(*self.argv, check=False)
        return done.stdout + done.stderr


def use(name, title, text, only=None):
    """A case whose success is a row of README."""
    def register(fn):
        @case(f'{name}: {title}', only)
        def _(t):
            TABLE.asked(name, 'what was done')
            fn(t)
            TABLE.show(name, 'what was done', text)
    return register


@use('autossh', 'its connection is killed, and comes back',
     '`-M`: its own forwards watch the connection; killed, it comes back')
def _(t):
    need('autossh')
    srv, echo, port, watch = t.server(), t.target(), t.port(), t.port()
    t.port()  # autossh takes the one after its own, too
    argv = ['autossh', '-M', str(watch), '-N', *t.argv(
        srv, '-L', f'{port}:127.0.0.1:{echo.port}', verbose=False)[1:]]
    client = Client(argv, f'{t.folder}/autossh',
                    ['env', 'AUTOSSH_GATETIME=0', 'AUTOSSH_POLL=1'])
    t.talkers.append(client)
    t.undo.callback(client.stop)
    wait_for(lambda: listening(port) and listening(watch) and
             reaches(port), 15, 'no forward')
    first = [p for p in processes('ssh') if p.ppid == client.pid]
    os.kill(first[0].pid, signal.SIGKILL)

    def back():
        now = [p.pid for p in processes('ssh') if p.ppid == client.pid]
        return now not in ([], [first[0].pid]) and listening(port) and \
            reaches(port)
    wait_for(back, 20, 'it does not come back', 0.1)
    client.stop()
    ended(srv)


@use('curl', f'{MANY} pages at once by -D',
     '200 pages at once through `ssh -D`, as a browser or sshuttle would')
def _(t):
    curl = need('curl')
    body = noise(64 * 1024)

    def http(s):
        s.recv(4096)
        s.sendall(b'HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n'
                  % len(body) + body)
    srv, web, proxy = t.server(), t.target(http), t.port()
    t.client(srv, '-D', proxy)
    config = f'{t.folder}/urls'
    with open(config, 'w') as f:
        for i in range(MANY):
            f.write(f'url = http://localhost:{web.port}/{i}\n'
                    f'output = {t.folder}/page{i}\n')
    done = sh(curl, '-sS', '-m', str(40 * SLOW), '--parallel',
              '--parallel-max', '100', '--parallel-immediate',
              '--socks5-hostname', f'127.0.0.1:{proxy}', '-K', config,
              check=False)
    t.equal((done.returncode, web.accepted), (0, MANY), done.stderr[-500:])
    for i in range(MANY):
        with open(f'{t.folder}/page{i}', 'rb') as f:
            same(f.read(), body, f'page {i}')


class Inner:
    """A real sshd that is reached by ProxyJump through the server."""

    def __init__(self, t):
        self.jump, self.server = t.server(), t.server(kind='sshd')
        t.argv(self.jump)  # writes known_hosts
        self.config = f'{t.folder}/config'
        with open(self.config, 'w') as f:
            f.write(f'Host *\nHostName 127.0.0.1\nUser {USER}\n'
                    f'IdentityFile {TOP}/id\nIdentitiesOnly yes\n'
                    f'UserKnownHostsFile {TOP}/known_hosts\nBatchMode yes\n'
                    f'Host jump\nPort {self.jump.port}\n'
                    f'Host inner\nPort {self.server.port}\nProxyJump jump\n')
        self.ssh = f'ssh -F {self.config}'

    def run(self, *argv, **kw):
        return run(*argv, timeout=30 * SLOW, **kw)


def tree(folder):
    """Many small files and one that is not."""
    os.makedirs(folder)
    for i in range(FILES):
        with open(f'{folder}/{i}', 'wb') as f:
            f.write(noise(i * 20))
    with open(f'{folder}/big', 'wb') as f:
        f.write(noise(5 << 20))
    return folder


def same_tree(one, other):
    for name in filter(lambda name: name != '.git', os.listdir(one)):
        with open(f'{one}/{name}', 'rb') as f, \
                open(f'{other}/{name}', 'rb') as g:
            same(g.read(), f.read(), name)


@use('ssh, scp, sftp', 'by ProxyJump to an sshd',
     '`-J`: through aditd to an sshd, a command and files both ways')
def _(t):
    inner, path = Inner(t), f'{t.folder}/data'
    with open(path, 'wb') as f:
        f.write(noise(5 << 20))
    t.equal(inner.run('ssh', '-F', inner.config, 'inner', 'echo', 'jumped'),
            'jumped\n')
    inner.run('scp', '-q', '-F', inner.config, path, 'inner:there')
    with open(f'{t.folder}/batch', 'w') as f:
        f.write(f'get there {t.folder}/back\n')
    inner.run('sftp', '-q', '-F', inner.config, '-b', f'{t.folder}/batch',
              'inner')
    with open(f'{t.folder}/back', 'rb') as f:
        same(f.read(), noise(5 << 20), 'there and back')


@use('rsync', 'by ProxyJump to an sshd',
     '`-e "ssh -J"`: a tree to an sshd behind aditd, and back')
def _(t):
    need('rsync')
    inner, here = Inner(t), tree(f'{t.folder}/here')
    inner.run('rsync', '-a', '-e', inner.ssh, f'{here}/', 'inner:tree/')
    with open(f'{here}/big', 'r+b') as f:
        f.write(b'changed')
    inner.run('rsync', '-a', '-I', '-e', inner.ssh, f'{here}/',
              'inner:tree/')
    inner.run('rsync', '-a', '-e', inner.ssh, 'inner:tree/',
              f'{t.folder}/back/')
    same_tree(here, f'{t.folder}/back')


@use('git', 'clone, push and fetch by ProxyJump to an sshd',
     'clone, push, fetch by `ssh -J` from an sshd behind aditd')
def _(t):
    need('git')
    inner, here = Inner(t), tree(f'{t.folder}/here')
    env = dict(os.environ, GIT_SSH_COMMAND=inner.ssh, HOME=t.folder,
               GIT_CONFIG_NOSYSTEM='1')

    def git(*words, at=here):
        return inner.run('git', '-c', 'user.name=a', '-c', 'user.email=a@b',
                         '-c', 'init.defaultBranch=main', *words, cwd=at,
                         env=env)
    inner.run('ssh', '-F', inner.config, 'inner', 'git', 'init', '-q',
              '--bare', 'there.git')
    git('init', '-q')
    git('add', '.')
    git('commit', '-q', '-m', 'all')
    git('push', '-q', f'inner:/home/{USER}/there.git', 'HEAD:main')
    git('clone', '-q', '-b', 'main', f'inner:/home/{USER}/there.git', 'back',
        at=t.folder)
    back = f'{t.folder}/back'
    same_tree(here, back)
    with open(f'{back}/0', 'w') as f:
        f.write('changed')
    git('commit', '-q', '-a', '-m', 'changed', at=back)
    git('push', '-q', at=back)
    git('pull', '-q', f'inner:/home/{USER}/there.git', 'main')
    same_tree(here, back)


def postgres():
    """The folder of its programs, which Debian keeps out of PATH."""
    top = '/usr/lib/postgresql'
    for found in sorted(os.listdir(top) if os.path.isdir(top) else []):
        if os.path.exists(f'{top}/{found}/bin/postgres'):
            return f'{top}/{found}/bin'
    return os.path.dirname(need('postgres'))


@contextlib.contextmanager
def database(t):
    """A server of the account's, on a port and a socket."""
    programs, data, port = postgres(), f'{t.folder}/pg', t.port()
    who = pwd.getpwnam(USER)
    os.mkdir(data, 0o700)
    os.chown(data, who.pw_uid, who.pw_gid)
    prefix = ['setpriv', f'--reuid={who.pw_uid}', f'--regid={who.pw_gid}',
              '--clear-groups', '--']
    run(*prefix, f'{programs}/initdb', '-D', f'{data}/db', '-A', 'trust',
        '-U', 'app', '--no-sync', '-E', 'UTF8', '--locale=C', cwd=data)
    t.service(f'{programs}/postgres', '-D', f'{data}/db', '-k', data, '-p',
              port, '-h', '127.0.0.1', '-F', prefix=prefix,
              ready=lambda s: listening(port) and 'ready to' in s.err())
    yield port, f'{data}/.s.PGSQL.{port}'


@use('psql', 'PostgreSQL through -L, by port and by unix socket',
     '`-L`: to a PostgreSQL on a port, and on its unix socket')
def _(t):
    psql = need('psql')
    srv, by_port, by_path = t.server(), t.port(), t.port()
    with database(t) as (port, path):
        t.client(srv, '-L', f'{by_port}:127.0.0.1:{port}',
                 '-L', f'127.0.0.1:{by_path}:{path}')
        for here in (by_port, by_path):
            def ask(*words, here=here):
                return run(psql, '-X', '-A', '-t', '-v', 'ON_ERROR_STOP=1',
                           '-h', '127.0.0.1', '-p', here, '-U', 'app',
                           'postgres', *words, timeout=30 * SLOW)
            ask('-c', f'create table t{here} as select i, repeat(\'x\', 1000)'
                      ' as x from generate_series(1, 5000) i')
            said = ask('-c', f'select * from t{here} order by i')
            t.equal(said.count('\n'), 5000, 'rows')
            t.equal(ask('-c', f'select sum(i) from t{here}'), '12502500\n')


@use('ControlMaster', 'forwards come and go, sessions share it',
     '`-O forward` and `-O cancel` of `-L`, `-R` and `-D`; many `-W` over one '
     'connection; `-O stop`')
def _(t):
    srv, echo, path = t.server(), t.target(), f'{t.folder}/control'
    master = t.client(srv, '-M', '-S', path)

    def ask(*words):
        done = t.ssh(srv, '-S', path, *words)
        t.equal(done.returncode, 0, f'{words}: {done.stderr}')
    for option in ('-L', '-R', '-D'):
        port = t.port()
        spec = str(port) if option == '-D' else \
            f'{port}:127.0.0.1:{echo.port}'
        for _ in range(3):
            ask('-O', 'forward', option, spec)
            wait_for(lambda port=port: listening(port), 5, f'no {option}')
            if option != '-D':
                t.true(reaches(port), option)
            ask('-O', 'cancel', option, spec)
            wait_for(lambda port=port: not listening(port), 5,
                     f'{option} stays')
    data = noise(100000)
    through = [subprocess.Popen(
        t.argv(srv, '-S', path, '-W', f'127.0.0.1:{echo.port}',
               verbose=False), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(20)]
    for one in through:
        t.undo.callback(one.kill)
    for one in through:
        same(one.communicate(data, timeout=20 * SLOW)[0], data, '-W')
    t.equal(len(processes('adit-session')) if srv.kind == 'aditd' else 1, 1,
            'connections')
    ask('-O', 'stop')
    master.wait()
    ended(srv)


readme_case(TABLE, {
    'autossh': Tool('autossh', '-V'), 'curl': Tool('curl', '-V'),
    'ssh, scp, sftp': Tool('ssh', '-V'), 'rsync': Tool('rsync', '-V'),
    'git': Tool('git', '--version'), 'psql': Tool('psql', '-V'),
    'ControlMaster': Tool('ssh', '-V')})

if __name__ == '__main__':
    main()
