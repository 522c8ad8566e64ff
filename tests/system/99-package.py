#!/usr/bin/python3
"""Debian's package: built twice, looked at, and lived with: installed,
upgraded and purged on machines of its own, with systemd as process 1 and
without.

What it builds, and the root of those machines, stay in package.d beside aditd:
a second run takes the root as it is, with ADIT_KEEP=1 the packages, too. Under
sanitizers there is nothing new to see."""
import contextlib
import glob
import os
import re
import shutil
import signal
import subprocess
import sys

SRC = os.path.abspath(os.environ.get('SRCDIR', '.'))
DIR = os.path.join(os.path.dirname(os.path.abspath(
    os.environ.get('ADITD', './aditd'))), 'package.d')
MIRROR = os.environ.get('ADIT_DEBIAN_MIRROR', 'http://deb.debian.org/debian')
# What the package depends on, and what its cases use.
INCLUDE = ('systemd,systemd-sysv,openssh-client,libcap-ng0,libjansson4,'
           'libmicrohttpd12,libmnl0,libseccomp2,libssl3,logrotate,iproute2')
PROGRAMS = ('debootstrap', 'dpkg-buildpackage', 'dh', 'unshare', 'nsenter')


# ---- before the harness: with the machine's network ----

def start(name, *argv, **env):
    """A program whose words, if it fails, are in the file why.NAME."""
    with open(f'{DIR}/{name}.log', 'w') as out:
        return name, subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, env=dict(os.environ, **env),
            start_new_session=True)


def finish(name, job):
    try:
        ok = job.wait(600) == 0
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        ok = False
    if not ok:
        os.rename(f'{DIR}/{name}.log', f'{DIR}/{name}.why')


def build(name, place, umask, **env):
    """The package, in a folder of its own, with a TMPDIR of its own."""
    shutil.rmtree(f'{DIR}/{name}', ignore_errors=True)
    os.makedirs(f'{DIR}/{name}/{place}/tmp')
    return start(name, 'sh', '-c', f'umask {umask} && exec "$@"', 'sh',
                 f'{SRC}/packaging/build-deb', '-s', f'{DIR}/{name}/{place}',
                 TMPDIR=f'{DIR}/{name}/{place}/tmp',
                 DEB_BUILD_OPTIONS='nocheck', **env)


def make_root():
    if os.path.exists(f'{DIR}/root.is'):
        with open(f'{DIR}/root.is') as f:
            if f.read() == INCLUDE:
                return
    shutil.rmtree(f'{DIR}/root', ignore_errors=True)
    yield start('root', 'debootstrap', '--variant=minbase',
                f'--include={INCLUDE}', 'bookworm', f'{DIR}/root', MIRROR)
    if not os.path.exists(f'{DIR}/root.why'):
        shutil.rmtree(f'{DIR}/root/var/cache/apt/archives', True)
        with open(f'{DIR}/root.is', 'w') as f:
            f.write(INCLUDE)


def prepare():
    os.makedirs(DIR, exist_ok=True)
    for old in glob.glob(f'{DIR}/*.why'):
        os.unlink(old)
    rooting = make_root()
    jobs = [*([root] if (root := next(rooting, None)) else []),
            build('one', '.', '022')]
    for job in jobs:
        finish(*job)
    next(rooting, None)
    # later, elsewhere, by somebody else
    finish(*build('two', 'a/longer/place', '077', LC_ALL='C', USER='builder',
                  LANG='de_DE.UTF-8', TZ='Pacific/Apia', HOME='/nonexistent'))


if os.environ.get('ADIT_TEST_INSIDE') != '1':
    why = None
    missing = [p for p in PROGRAMS if not shutil.which(
        p, path=os.environ['PATH'] + ':/usr/sbin:/sbin')]
    if os.environ.get('ADIT_SANITIZERS'):
        why = 'once is enough, and not under sanitizers'
    elif os.geteuid() != 0:
        why = 'needs root'
    elif missing:
        why = f'no {" ".join(missing)}'
    if why:
        print(f'1..0 # SKIP {why}')
        sys.exit(0)
    if not os.environ.get('ADIT_KEEP'):
        prepare()

from harness import (Failure, SLOW, Skip, case, connect, main, need,  # noqa
                     processes, public, run, sh, talk, wait_for)
from machine import Machine, unified  # noqa


def here(name):
    """A case. Machines boot slowly where others work."""
    return case(name, 'aditd', timeout=180)


# ---- what was built ----

def built(name='one', place='.'):
    try:
        with open(f'{DIR}/{name}.why', errors='replace') as f:
            raise Failure(f'it was not built: {f.read()[-3000:]}')
    except FileNotFoundError:
        return f'{DIR}/{name}/{place}'


def deb():
    found, = glob.glob(f'{built()}/adit_*_*.deb')
    return found


def unpacked(t):
    folder = f'{t.folder}/unpacked'
    run('dpkg-deb', '-x', deb(), folder)
    return folder


@here('two builds are the same, byte for byte')
def _(t):
    one, two = built(), built('two', 'a/longer/place')
    names = sorted(n for n in os.listdir(one) if re.search(
        r'\.(deb|dsc|tar\.xz)$', n))
    t.equal(names, sorted(n for n in os.listdir(two) if re.search(
        r'\.(deb|dsc|tar\.xz)$', n)))
    t.true(len(names) >= 5, f'{names}')
    for name in names:
        run('cmp', f'{one}/{name}', f'{two}/{name}')


@here('lintian has nothing to say')
def _(t):
    dsc, = glob.glob(f'{built()}/*.dsc')
    pages = glob.glob(f'{unpacked(t)}/usr/share/man/man*/*')
    done = sh(need('lintian'), '--allow-root', '--pedantic',
              '--display-info', '--fail-on=none', *(
                  [] if pages else ['--suppress-tags=no-manual-page']),
              deb(), dsc)
    t.equal([line for line in done.stdout.splitlines()
             if not line.startswith('N:')], [])


@here('libssh, which is in it, is named')
def _(t):
    t.match(r'^libssh \(= \S+\)$', run('dpkg-deb', '-f', deb(),
                                         'Static-Built-Using').strip())


@here('the policy: nobody, nothing; its examples are good')
def _(t):
    top = unpacked(t)
    aditd, policy = f'{top}/usr/sbin/aditd', f'{top}/etc/adit/policy'
    with open(policy) as f:
        text = f.read()
    key = f'-oHostKey={os.path.dirname(t.folder)}/hostkey'
    for words in (['open', 'localhost:22'], ['listen', '8080'],
                  ['tunnel', 'point-to-point'], ['open', '/run/x']):
        done = sh(aditd, '--explain', '-f', policy, '-C',
                  'user=tunneller,addr=192.0.2.7', *words, check=False)
        t.equal(done.returncode, 1, f'{words}: {done.stdout}')
    t.match('DenyUsers', sh(
        aditd, '--explain', '-f', policy, '-C',
        'user=tunneller,addr=192.0.2.7', 'login',
        f'{os.path.dirname(t.folder)}/id.pub', check=False).stdout)
    # every line that is an example, as an operator uncomments it
    text = re.sub(r'(?m)^#(?=\S|\t)', '', text).replace('DenyUsers *\n', '')
    with open(f'{t.folder}/policy', 'w') as f:
        f.write(text.replace('/var/log/adit', t.folder)
                .replace('site-b', 'neighbour'))  # who is there
    run(aditd, '-t', '-f', f'{t.folder}/policy', key)
    for user, words, status in (
            ('backup', ['open', 'db.internal:5432'], 0),
            ('backup', ['open', 'db.internal:22'], 1),
            ('backup', ['listen', '8022'], 0),
            ('neighbour', ['tunnel', 'point-to-point'], 0),
            ('neighbour', ['open', 'db.internal:5432'], 1),
            ('alice', ['open', '10.1.2.3:22'], 1)):
        done = sh(aditd, '--explain', '--no-dns', '-f', f'{t.folder}/policy',
                  '-C', f'user={user},addr=192.0.2.7', *words, check=False)
        t.equal(done.returncode, status, f'{user} {words}: {done.stdout}')


@here('the units: what is left open, by systemd-analyze')
def _(t):
    analyze, top = need('systemd-analyze'), unpacked(t)
    for unit, most in (('aditd', 3.7), ('adit-keygen', 1.2)):
        done = sh(analyze, 'security', '--offline=true', '--no-pager',
                  f'--root={top}', f'{unit}.service', check=False)
        level = t.match(r'level for \S+: ([0-9.]+)',
                        done.stdout + done.stderr)[1]
        print(f'# {unit}: {level}')
        t.true(float(level) <= most, f'{unit}: {level}')


def found(program):
    """A program, and where its package is: / or where it was unpacked."""
    path = need(program)
    return path, os.path.dirname(os.path.dirname(path)).removesuffix('/usr')


@here('the AppArmor profile parses')
def _(t):
    parser, top = found('apparmor_parser')
    run(parser, '-Q', '-K', '-b', f'{top}/etc/apparmor.d',
        f'{unpacked(t)}/usr/share/apparmor/extra-profiles/usr.sbin.aditd')


@here('completions of both commands, for both shells')
def _(t):
    share = f'{unpacked(t)}/usr/share'
    for name in ('aditd', 'aditctl'):
        run('bash', '-n', f'{share}/bash-completion/completions/{name}')
        if shutil.which('zsh'):
            run('zsh', '-n', f'{share}/zsh/vendor-completions/_{name}')
    for words, want in (('--ex', '--explain'), ('--explain tun', 'tunnel'),
                        ('--explain tunnel e', 'ethernet')):
        done = run('bash', '-c',
                   f'. {share}/bash-completion/completions/aditd; '
                   'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _aditd; '
                   'echo "${COMPREPLY[@]}"', '-', 'aditd', *words.split())
        t.equal(done.strip(), want)


# ---- a machine with systemd ----

OPEN = """Port 2222
PermitTunnel point-to-point
AuditLog /var/log/adit/audit.log
"""


def machine(t, under='', name='machine', **kw):
    if os.path.exists(f'{DIR}/root.why'):
        with open(f'{DIR}/root.why', errors='replace') as f:
            raise Skip(f'no root: {"".join(list(f)[-1:]).strip()}')
    if not unified() or not os.access(unified(), os.W_OK):
        raise Skip('no cgroup2 to write to')
    m = Machine(f'{t.folder}/{name}', f'{under}{DIR}/root', **kw)
    t.undo.callback(m.stop)
    return m


def installed(t, **kw):
    """A machine that ann may log in to."""
    m = machine(t, **kw)
    m.install(deb())
    opened(m)
    if m.booted:
        reloaded(m)
    return m


def opened(m):
    m.write('/etc/adit/policy', OPEN)
    if '\nann:' not in m.read('/etc/passwd'):
        m.account('ann', public('id'))
    known(m)


def reloaded(m):
    """systemctl does not wait until the new policy holds."""
    def done():
        return int(re.search(r'(?m)^Reloads +(\d+)',
                             m.run('aditctl', 'status'))[1])
    before = done()
    m.run('systemctl', 'reload', 'aditd')
    wait_for(lambda: done() > before, 10, 'the reload does not end')


def known(m):
    """Its host key is what the harness's clients expect."""
    key = '/etc/adit/ssh_host_ed25519_key.pub'
    if os.path.exists(m.top + key):
        with open('/run/adit-test/hostkey.pub', 'w') as f:
            f.write(m.read(key))


def there(m):
    return {'user': 'ann', 'host': m.address}


def main_pid(m):
    return m.run('systemctl', 'show', '-P', 'MainPID', 'aditd').strip()


def sessions(m):
    return re.findall(r'(?m)^(\d+) .*\bann\b', m.run('aditctl', 'sessions'))


def accounts(m):
    return {name: m.read(f'/etc/{name}') for name in (
        'passwd', 'group', 'shadow', 'gshadow')}


def files(m):
    found = m.run('find', '/', '-xdev', '(', '-path', '/proc', '-o', '-path',
                  '/sys', '-o', '-path', '/dev', '-o', '-path', '/root', '-o',
                  '-path', '/var/log/journal', ')', '-prune', '-o', '-print')
    found += m.run('find', '/run', '-name', '*adit*')
    return {path for path in found.splitlines() if not re.search(
        r'^/(var/(lib/dpkg/(info/format|status|lock)|log/|cache/)|'
        r'etc/(\.pwd|(passwd|group|g?shadow|sub[ug]id)-$))', path)}


def still(t, flow, local):
    """The old connection, and a new one by the same session."""
    flow.sendall(b'still')
    t.equal(flow.recv(5), b'still')
    t.equal(talk(local), b'through the tunnel')


@here('installed, it serves, and lets nobody in; opened, it does')
def _(t):
    m = machine(t)
    t.equal(m.sh('ls', '/etc/adit').stdout, '')
    m.install(deb())
    t.equal(m.sh('systemctl', 'is-active', 'aditd').stdout, 'active\n')
    t.equal(m.sh('systemctl', 'is-enabled', 'aditd', 'aditd.socket').stdout,
            'enabled\ndisabled\n')
    t.equal(m.run('stat', '-c', '%a %U %G', '/run/adit', '/run/adit/control',
                  '/var/log/adit', '/etc/adit/ssh_host_ed25519_key'),
            '2755 root adit\n660 root adit\n2750 root adm\n600 root root\n')
    m.account('ann', public('id'))
    known(m)
    t.true(not t.logs_in(m, **there(m)), 'somebody gets in')
    opened(m)
    reloaded(m)
    echo, local = m.target(t), t.port()
    t.client(m, '-L', f'{local}:127.0.0.1:{echo.port}', '-R',
             '/home/ann/s:127.0.0.1:9', '-R', '/tmp/s:127.0.0.1:9', **there(m))
    t.equal(talk(local), b'through the tunnel')
    t.equal(m.run('stat', '-c', '%U', '/home/ann/s', '/tmp/s'), 'ann\nann\n')
    t.match('"login".*"ann"', m.read('/var/log/adit/audit.log'))
    # all of its sandbox is there, within systemd's
    log = m.run('journalctl', '-u', 'aditd', '--no-pager')
    t.true(not re.search(r'namespace|empty root|capability|Landlock|missing|'
                         'rror|SECCOMP|not locked', log), log)
    t.true('adit' not in m.run('systemctl', '--failed'), 'failed units')


@here('a tunnel, and its settings in /proc/sys')
def _(t):
    if not os.path.exists('/dev/net/tun'):
        raise Skip('no /dev/net/tun')
    m = installed(t)
    m.append('/etc/adit/policy', 'TunnelAddress 10.99.0.1 10.99.0.2\n'
             'TunnelAddress fd99::1 fd99::2\n')
    reloaded(m)
    t.client(m, '-w', '0:0', **there(m))
    run('ip', 'addr', 'add', '10.99.0.2', 'peer', '10.99.0.1', 'dev', 'tun0')
    run('ip', 'link', 'set', 'tun0', 'up')
    run('ping', '-c', '1', '-w', '10', '10.99.0.1')
    t.equal(m.run('cat', '/proc/sys/net/ipv6/conf/tun0/accept_ra'), '0\n')


@here('within the unit nothing else can be written, and no device opened')
def _(t):
    m = installed(t)
    within = ['nsenter', '-t', main_pid(m), '-m', '--']
    for path in ('/etc/adit/policy', '/usr/sbin/x', '/var/lib/x', '/boot/x',
                 '/proc/sys/net/core/somaxconn', '/proc/sys/kernel/hostname',
                 '/sys/kernel/x', '/opt/x'):
        done = m.sh(*within, 'sh', '-c', f': >>{path}')
        t.match('Read-only file system|Permission denied|nonexistent',
                done.stderr, path)
    # not by -type: a mount point is what it hides, to find(1)
    nodes = m.run(*within, 'find', '/dev', '!', '-type', 'l', '(', '-exec',
                  'test', '-c', '{}', ';', '-o', '-exec', 'test', '-b', '{}',
                  ';', ')', '-print')
    t.equal({os.path.basename(n) for n in nodes.split()} - {'ptmx'},
            {'null', 'zero', 'full', 'random', 'urandom', 'tty', 'tun'})


NARROW = 'aditd.service.d/forwards-only.conf'


@here('forwards-only.conf: TCP goes on, the rest is closed')
def _(t):
    analyze, top = need('systemd-analyze'), unpacked(t)
    with open(f'{top}/usr/share/doc/adit/examples/forwards-only.conf') as f:
        narrow = f.read()
    path = f'{top}/etc/systemd/system/{NARROW}'
    os.makedirs(os.path.dirname(path))
    with open(path, 'w') as f:
        f.write(narrow)
    done = sh(analyze, 'security', '--offline=true', '--no-pager',
              f'--root={top}', 'aditd.service', check=False)
    t.match(r'level for aditd\.service: 2\.9', done.stdout + done.stderr)
    m = installed(t)
    m.write('/etc/adit/keys/ann', public('id'))
    m.write('/home/ann/.ssh/authorized_keys', public('id2'))
    m.append('/etc/adit/policy', 'AuthorizedKeysFile .ssh/authorized_keys '
             '/etc/adit/keys/%u\n')
    m.write(f'/etc/systemd/system/{NARROW}', narrow)
    m.run('systemctl', 'daemon-reload')
    m.run('systemctl', 'restart', 'aditd')
    echo, local, back = m.target(t), t.port(), t.port()
    t.client(m, '-L', f'{local}:127.0.0.1:{echo.port}', '-R',
             f'{back}:127.0.0.1:9', **there(m))
    t.equal(talk(local), b'through the tunnel')
    t.equal(m.sh('nsenter', '-t', main_pid(m), '-m', '--', 'ls', '/home',
                 '/dev/net').stdout.split(), ['/home:'])
    t.true(not t.logs_in(m, key='id2', **there(m)), 'a key in a home')
    client = t.client(m, '-w', 'any', wait=False, **there(m))
    t.true(client.wait() != 0, 'a tunnel')
    log = m.run('journalctl', '-u', 'aditd', '--no-pager')
    t.match('missing: capability net_admin', log)
    t.true(not re.search('not locked|SECCOMP|namespace', log), log)


@here('the other roles within the unit: a command, metrics, a watcher')
def _(t):
    m = installed(t)
    m.account('bob', '')
    m.write('/usr/local/bin/keys', f"""#!/bin/sh
echo '{public('id').strip()}'
""")
    m.run('chmod', '755', '/usr/local/bin/keys')
    m.append('/etc/adit/policy', 'AuthorizedKeysCommand /usr/local/bin/keys\n'
             'AuthorizedKeysCommandUser bob\nLiveRevocation yes\n'
             'MetricsListen 127.0.0.1:9222\nUseDNS yes\n')
    m.run('systemctl', 'restart', 'aditd')
    local = t.port()
    t.client(m, '-L', f'{local}:127.0.0.1:9222', user='bob', host=m.address)
    t.match('adit_sessions.* 1', talk(
        local, b'GET /metrics HTTP/1.0\r\n\r\n').decode())
    client = t.client(m, **there(m))
    m.write('/usr/local/bin/keys', '#!/bin/sh\n')
    m.write('/home/ann/.ssh/authorized_keys', '')
    client.wait()
    t.match('no longer authorised', client.err())


@contextlib.contextmanager
def load(t, local):
    """Bytes to and fro by that port, all the while."""
    p = subprocess.Popen(
        [sys.executable, '-c', 'import os, select, socket, sys\n'
         's = socket.create_connection(("127.0.0.1", int(sys.argv[1])))\n'
         'while not select.select([0], [], [], 0)[0]:\n'
         '  s.sendall(bytes(1 << 16)); n = 0\n'
         '  while n < 1 << 16: n += len(s.recv(1 << 16)) or sys.exit(1)\n'
         '  os.write(1, b".")\n', str(local)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    t.undo.callback(p.kill)
    t.equal(p.stdout.read(1), b'.', 'the load')
    yield
    more, _ = p.communicate(timeout=60 * SLOW)
    print(f'# {len(more)} times 64 kB meanwhile')
    t.equal(p.returncode, 0, 'the load')


@here('restarted and crashed under load, it drops nobody')
def _(t):
    m = installed(t)
    echo, local = m.target(t), t.port()
    client = t.client(m, '-L', f'{local}:127.0.0.1:{echo.port}', **there(m))
    flow = connect(local)
    t.undo.callback(flow.close)
    for how in (['systemctl', 'restart', 'aditd'],
                ['systemctl', 'kill', '--kill-whom=main', '-s', 'KILL',
                 'aditd']):
        pid = main_pid(m)
        with load(t, local):
            m.run(*how)
            wait_for(lambda: main_pid(m) not in (pid, '0'), 20,
                     'no other daemon')
            wait_for(lambda: m.sh('aditctl', 'status').returncode == 0, 20,
                     'it does not answer')
        still(t, flow, local)
        t.equal(len(sessions(m)), 1)
        t.true(t.logs_in(m, **there(m)), 'no login')
    t.equal(client.process.poll(), None)
    t.equal(m.run('systemctl', 'show', '-P', 'NRestarts', 'aditd'), '1\n')


@here('the watchdog: a keyholder that hangs')
def _(t):
    m = installed(t)
    m.write('/etc/systemd/system/aditd.service.d/w.conf',
            '[Service]\nWatchdogSec=4\n')
    m.run('systemctl', 'daemon-reload')
    m.run('systemctl', 'restart', 'aditd')
    client = t.client(m, **there(m))
    pid = main_pid(m)
    holder, = processes('adit-keyholder')
    os.kill(holder.pid, signal.SIGSTOP)
    wait_for(lambda: main_pid(m) not in (pid, '0'), 30, 'it was not noticed')
    t.match('Watchdog timeout', m.run('journalctl', '-u', 'aditd'))
    os.kill(holder.pid, signal.SIGCONT)
    wait_for(lambda: m.sh('aditctl', 'status').returncode == 0, 20,
             'it does not answer')
    t.true(t.logs_in(m, **there(m)), 'no login')
    t.equal(client.process.poll(), None)


@here('aditd.socket opens the port, and starts it')
def _(t):
    m = installed(t)
    m.write('/etc/systemd/system/aditd.socket.d/port.conf',
            '[Socket]\nListenStream=\nListenStream=2222\n')
    m.run('systemctl', 'daemon-reload')
    m.run('systemctl', 'stop', 'aditd')
    m.run('systemctl', 'start', 'aditd.socket')
    t.equal(m.sh('systemctl', 'is-active', 'aditd').stdout, 'inactive\n')
    t.true(t.logs_in(m, **there(m)), 'no login')
    t.equal(m.sh('systemctl', 'is-active', 'aditd').stdout, 'active\n')
    t.match('a socket of the service manager', m.run('journalctl', '-u',
                                                     'aditd'))
    m.run('dpkg', '-r', 'adit')
    try:
        connect(m.port, m.address).close()
        raise Failure('the port is open')
    except ConnectionRefusedError:
        pass


@here('the journal has fields, fail2ban finds the failures')
def _(t):
    m = installed(t)
    t.true(t.logs_in(m, **there(m)), 'no login')
    m.append('/etc/adit/policy', 'LogLevel VERBOSE\n'
             'PerSourcePenalties no\n')
    reloaded(m)
    t.true(not t.logs_in(m, user='ann', key='id2', host=m.address), 'id2')
    for user in ('nobody-here', 'x from 192.0.2.99 port 7 ssh2'):
        t.true(not t.logs_in(m, user=user, host=m.address), user)
    log = m.run('journalctl', '-t', 'aditd', '-o', 'short', '--no-pager')
    t.match('Failed publickey for ann from 192.0.2.1 port', log)
    t.match('Invalid user nobody-here from 192.0.2.1', log)
    with open(f'{t.folder}/log', 'w') as f:
        f.write(log)
    regex, folder = fail2ban_regex()
    shutil.copytree(folder, f'{t.folder}/fail2ban')
    conf = shutil.copy(f'{unpacked(t)}/etc/fail2ban/filter.d/aditd.conf',
                       f'{t.folder}/fail2ban/filter.d')
    done = run(*regex, '--print-all-matched', f'{t.folder}/log', conf)
    matched = t.match(r'(?s)Matched line\(s\):\n(.*?)\n`-', done)[1]
    found = re.findall(r'(?m)^\|  (.*aditd\[.*)$', matched)
    want = [line for line in log.splitlines() if re.search(
        'Failed|Invalid user|Connection closed by (auth|inv)', line)]
    t.equal(sorted(found), sorted(want))
    done = run(*regex, '-o', 'ip', f'{t.folder}/log', conf)
    t.equal(set(done.split()), {'192.0.2.1'})


def fail2ban_regex():
    program, top = found('fail2ban-regex')
    return ['env', f'PYTHONPATH={top}/usr/lib/python3/dist-packages',
            '/usr/bin/python3', program], f'{top}/etc/fail2ban'


@here('logrotate: the audit log is renewed, for those that are there, too')
def _(t):
    m = installed(t)
    client = t.client(m, **there(m))
    m.run('logrotate', '-f', '/etc/logrotate.d/adit')
    wait_for(lambda: 'reopen' in m.read('/var/log/adit/audit.log'), 10,
             'it was not opened again')
    t.match('"login"', m.read('/var/log/adit/audit.log.1'))
    client.stop()
    wait_for(lambda: '"logout"' in m.read('/var/log/adit/audit.log'), 10,
             'no logout in the new file')
    t.equal(m.run('stat', '-c', '%a %U %G', '/var/log/adit/audit.log'),
            '640 root adm\n')


@here('upgraded, removed, purged')
def _(t):
    m = machine(t)
    before, had = files(m), accounts(m)
    m.install(older(t))
    opened(m)
    reloaded(m)
    echo, local = m.target(t), t.port()
    client = t.client(m, '-L', f'{local}:127.0.0.1:{echo.port}', **there(m))
    flow = connect(local)
    t.undo.callback(flow.close)
    still(t, flow, local)
    pid, keys = main_pid(m), m.run('sha256sum', '/etc/adit/ssh_host_rsa_key')
    m.install(deb())  # the policy is changed, and kept without a question
    t.true(main_pid(m) != pid, 'it was not restarted')
    still(t, flow, local)
    t.equal(len(sessions(m)), 1)
    t.equal(m.run('sha256sum', '/etc/adit/ssh_host_rsa_key'), keys)
    t.equal(m.read('/etc/adit/policy'), OPEN)
    pid = main_pid(m)
    m.append('/etc/adit/policy', 'Nonsense yes\n')
    m.install(deb())
    t.equal(main_pid(m), pid, 'restarted into an error')
    m.write('/etc/adit/policy', OPEN)
    still(t, flow, local)
    m.run('dpkg', '-r', 'adit')
    client.wait()
    gone()
    t.equal(m.read('/etc/adit/policy'), OPEN)
    m.run('dpkg', '-P', 'adit')
    t.equal(m.sh('systemctl', 'is-enabled', 'aditd').returncode, 1)
    m.run('userdel', '-r', 'ann')
    t.equal(sorted(files(m) ^ before), [])
    t.equal(accounts(m), had)


@here('removed, it ends the sessions that aditctl cannot reach')
def _(t):
    m = installed(t)
    m.append('/etc/adit/policy', 'ControlSocket none\n')
    m.run('systemctl', 'restart', 'aditd')
    client = t.client(m, **there(m))
    m.run('dpkg', '-r', 'adit')
    client.wait()
    gone()


def gone():
    wait_for(lambda: not [p for p in processes() if p.comm.startswith('adit')],
             10, lambda: f'left: {processes()}')


def older(t):
    """What came before: the same, with a lower version."""
    folder = f'{t.folder}/older'
    run('dpkg-deb', '-R', deb(), folder)
    with open(f'{folder}/DEBIAN/control') as f:
        text = f.read()
    with open(f'{folder}/DEBIAN/control', 'w') as f:
        f.write(re.sub('(?m)^(Version: .*)$', r'\1~older', text))
    run('dpkg-deb', '--root-owner-group', '-b', folder, f'{folder}.deb')
    return f'{folder}.deb'


# ---- without systemd ----

@here('without systemd: nothing is started, and a session outlives an upgrade')
def _(t):
    m = machine(t, init=('/bin/sleep', 'infinity'))
    m.install(older(t))
    gone()
    t.equal(os.listdir(f'{m.top}/etc/adit'), ['policy'], 'keys')
    m.run('/usr/libexec/adit/keygen')
    opened(m)
    m.run('aditd')
    echo, local = m.target(t), t.port()
    t.client(m, '-L', f'{local}:127.0.0.1:{echo.port}', **there(m))
    flow = connect(local)
    t.undo.callback(flow.close)
    m.install(deb())
    still(t, flow, local)
    m.run('sh', '-c', 'kill "$(cat /run/adit/aditd.pid)"')
    wait_for(lambda: not os.path.exists(f'{m.top}/run/adit/aditd.pid'), 10,
             'it does not end')
    m.run('aditd')
    still(t, flow, local)
    t.true(t.logs_in(m, **there(m)), 'no login')


@here('machines of one image have keys of their own')
def _(t):
    m = machine(t, init=('/bin/sleep', 'infinity'))
    m.install(deb())
    image = f'{t.folder}/image'
    run('cp', '-a', f'{m.folder}/up', image)
    m.stop()
    keys = set()
    for n in range(2):
        m = machine(t, under=f'{image}:', name=f'clone{n}')
        keys.add(m.read('/etc/adit/ssh_host_ed25519_key.pub').split()[1])
        t.equal(m.sh('systemctl', 'is-active', 'aditd').stdout, 'active\n')
        m.stop()
    t.equal(len(keys), 2)


main()
