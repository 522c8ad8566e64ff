"""A page that can be typed: its hosts are namespaces, its terminals are shells
on ptys, and what they show is compared with what the page shows.

A block of the page, between lines of ```, is typed where its prompt says:
`laptop$` is the user of laptop, `laptop2$` another terminal of his, `gate#` is
root of gate. What follows a prompt
up to the next one is what the terminal showed. A comment before the block says
that it is something else:

    <!-- gate:/etc/adit/policy -->   this file is written there
    <!-- laptop$:.ssh/config -->     ... by the user, at home
    <!-- laptop$ shows -->           what that terminal shows by and by
    <!-- laptop:a.pub to gate:b -->  before the block, a file is carried there
    <!-- not typed -->               nobody types it
"""
import os
import pwd
import re
import select
import shutil
import subprocess
import time

from harness import SLOW, TOP, Failure, append, processes, sh, wait_for

FENCE = re.compile(r'((?:^<!-- [^\n]* -->\n)*)^```\w*\n(.*?)^```\n',
                   re.M | re.S)
PROMPT = re.compile(r'^([a-z]+)(2?[#$]) (.*)')
# That pages make.
ACCOUNTS = ('ann', 'acme', 'branch', 'partners')
# What is another one each time.
VARIES = [(re.compile(p), r) for p, r in (
    (r'SHA256:[A-Za-z0-9+/]{43}|SHA256:[A-Za-z0-9+/]{4}…', 'SHA256:KEY'),
    (r'\b20\d\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?\b', 'DATE TIME'),
    (r'\[\d+\]', '[PID]'),
    (r'\bport \d{5}\b', 'port PORT'),
    (r'\b[\d.]+(/[\d.]+)* ?ms\b', 'MS ms'),
    (r'\b\d+s\b', 'Ns'),
    (r'\b\d+(\.\d+)?[KM]\b', 'BYTES'),
    (r'@if\d+|\b[\da-f]{2}(:[\da-f]{2}){5}\b', 'LINK'),
    (r'OpenSSH_\S+( Debian-\S+)?', 'OpenSSH'),
    (r'reviewed \d+ logins? in', 'reviewed N logins in'),
    (r' {2,}', '  '),  # columns of a table
    (r'(?<=DATE TIME)(  Ns)?(  ([\d.]+|BYTES))+', '  USE'),
    (r' +$', ''),
)]


def plain(text):
    """The text without what is another one each time."""
    lines = []
    for line in text.splitlines():
        for pattern, stands in VARIES:
            line = pattern.sub(stands, line)
        lines.append(line)
    return '\n'.join(lines).strip('\n')


class Terminal:
    """A shell on a pty. It shows no echo: what is typed is known."""
    READY = re.compile(rb'\x1b\]7;(\d+)\x07')

    def __init__(self, argv):
        self.fd, tty = os.openpty()
        self.process = subprocess.Popen(
            ['setsid', '--ctty', *argv, 'env', '-i', 'TERM=dumb', 'LANG=C',
             'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin'
             ':/bin', 'HOME=' + self.home(argv), 'bash', '--norc',
             '--noprofile', '--noediting', '-i'],
            stdin=tty, stdout=tty, stderr=tty)
        os.close(tty)
        self.got = b''
        os.write(self.fd, b"stty -echo cols 300; cd; set +o history; PS2=;"
                 b"PS1=$(printf '\\033]7;$?\\007')\n")
        self.until(re.compile(rb'\x1b\]7;0\x07'), 10)

    @staticmethod
    def home(argv):
        who = [a[8:] for a in argv if a.startswith('--reuid=')]
        return pwd.getpwnam('root').pw_dir if not who else f'/home/{who[0]}'

    def read(self, seconds):
        if select.select([self.fd], [], [], seconds)[0]:
            self.got += os.read(self.fd, 65536)
            if self.got.endswith(b'(yes/no/[fingerprint])? '):
                os.write(self.fd, b'yes\n')
                self.got += b'yes'  # ssh adds the newline
            return True
        return False

    def until(self, pattern, timeout):
        """What it shows up to pattern, and that match."""
        end = time.monotonic() + timeout * SLOW
        while not (found := pattern.search(self.got)):
            if time.monotonic() > end:
                raise Failure(f'the terminal waits: {self.got[-600:]!r}')
            self.read(0.5)
        shown, self.got = self.got[:found.start()], self.got[found.end():]
        return shown, found

    @staticmethod
    def text(raw):
        return raw.decode(errors='replace').replace('\r', '')

    def type(self, command, timeout=30):
        os.write(self.fd, command.encode() + b'\n')
        try:
            return self.text(self.until(self.READY, timeout)[0])
        except Failure as e:
            raise Failure(f'{command}: {e}') from None

    def type_on(self, command):
        """A command that stays: nothing is waited for."""
        os.write(self.fd, command.encode() + b'\n')

    def later(self, want, timeout=10):
        """What it shows by and by: until want is there, or, without, until
        it is quiet."""
        end = time.monotonic() + timeout * SLOW
        while time.monotonic() < end:
            shown = self.text(self.READY.sub(b'', self.got))
            if want is not None and plain(shown) == plain(want):
                break
            if not self.read(2 if want is None else 0.2) and want is None:
                break
        shown, self.got = self.text(self.READY.sub(b'', self.got)), b''
        return shown


class Host:
    """Network, mounts and a name of its own: /etc, /home, /run, /var/log."""

    def __init__(self, name, user):
        self.name, self.user, self.terminals = name, user, {}
        folder = f'{TOP}/hosts/{name}'
        places = {'/etc': 'etc', '/home': 'home', '/var/log': 'log',
                  '/var/mail': 'mail', '/run': 'run'}
        os.makedirs(folder)
        shutil.copytree(f'{TOP}/hosts/etc', f'{folder}/etc', symlinks=True)
        for path in places.values():
            os.makedirs(f'{folder}/{path}', exist_ok=True)
        mounts = ';'.join(f'mount --bind {folder}/{d} {p}'
                          for p, d in places.items())
        self.holder = subprocess.Popen(
            ['unshare', '--net', '--mount', '--uts', 'sh', '-e', '-c',
             f'{mounts}; hostname {name}; ip link set lo up;'
             'mkdir -p /run/sshd /home/root; echo; exec sleep 3600'],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if not self.holder.stdout.readline():
            raise Failure(f'no host {name}')
        self.inside = ['nsenter', '-t', str(self.holder.pid), '-n', '-m', '-u',
                       '-r', '--wd=/']
        self.folder = folder
        self.run('test', '-e', '/etc/a-host-of-walk.py')  # nobody else's /etc
        if user:
            self.run('useradd', '-m', '-p', '*', '-s', '/bin/bash', user)

    def run(self, *argv, data=None):
        done = subprocess.run([*self.inside, *argv], input=data, text=True,
                              capture_output=True)
        if done.returncode:
            raise Failure(f'{self.name}: {argv}: {done.stderr}')
        return done.stdout

    def path(self, name, root=True):
        """Of a file there; those without / are at home."""
        if not name.startswith('/'):
            name = f'/home/{"root" if root else self.user}/{name}'
        top, rest = re.match(r'(/var/log|/\w+)(/.*)', name).groups()
        return self.folder + '/' + os.path.basename(top) + rest

    def terminal(self, prompt):
        """prompt: # root's, $ the user's, 2$ a second one."""
        if prompt not in self.terminals:
            who = [] if '#' in prompt else [
                'setpriv', f'--reuid={self.user}', f'--regid={self.user}',
                '--init-groups']
            self.terminals[prompt] = Terminal([*self.inside, *who])
        return self.terminals[prompt]


class World:
    """Hosts and their networks. hosts: name -> user or None; networks: name ->
    {host: address/bits}; names: lines of everybody's /etc/hosts."""

    def __init__(self, t, hosts, networks, names):
        shutil.rmtree(f'{TOP}/hosts', ignore_errors=True)
        os.mkdir(f'{TOP}/hosts')
        t.undo.callback(self.close)
        shutil.copytree('/etc', f'{TOP}/hosts/etc', symlinks=True)
        shutil.rmtree(f'{TOP}/hosts/etc/adit', ignore_errors=True)
        append(f'{TOP}/hosts/etc/a-host-of-walk.py', '')
        append(f'{TOP}/hosts/etc/hosts',
               '\n'.join(['127.0.0.1 localhost', *names]) + '\n')
        for name in ('passwd', 'shadow', 'group', 'gshadow', 'subuid',
                     'subgid'):  # the page's accounts are new
            path = f'{TOP}/hosts/etc/{name}'
            if os.path.exists(path):
                with open(path) as f:
                    lines = [x for x in f if x.split(':')[0] not in ACCOUNTS]
                with open(path, 'w') as f:
                    f.writelines(lines)
        self.links, self.hosts = [], {}
        for name, user in hosts.items():
            self.hosts[name] = Host(name, user)
        for n, (name, ends) in enumerate(networks.items()):
            sh('ip', 'link', 'add', name, 'type', 'bridge')
            self.links.append(name)
            sh('ip', 'link', 'set', name, 'up')
            for host, address in ends.items():
                self.plug(name, self.hosts[host], f'eth{n}', address)

    def plug(self, bridge, host, device, address):
        port = f'{host.name[:10]}{device[3:]}'
        sh('ip', 'link', 'add', port, 'master', bridge, 'type', 'veth', 'peer',
           'name', device, 'netns', str(host.holder.pid))
        self.links.append(port)
        sh('ip', 'link', 'set', port, 'up')
        if address:
            host.run('ip', 'addr', 'add', address, 'dev', device)
        host.run('ip', 'link', 'set', device, 'up')

    def close(self):
        """All processes of this namespace are these hosts'."""
        for host in self.hosts.values():
            for terminal in host.terminals.values():
                os.close(terminal.fd)

        def gone():
            left = processes()
            for p in left:
                try:
                    os.kill(p.pid, 9)
                except ProcessLookupError:
                    pass
            return not left
        wait_for(gone, 10, 'hosts do not end', 0.1)
        for name in reversed(self.links):
            sh('ip', 'link', 'del', name, check=False)

    # The page.

    def walk(self, page):
        """Type the page; what it should be, and the differences."""
        with open(page) as f:
            text = f.read()
        self.wrong = []
        new = FENCE.sub(self.block, text)
        return new, self.wrong

    def block(self, m):
        comments = re.findall(r'<!-- (.*) -->', m[1])
        body = m[2]
        for comment in comments:
            if comment == 'not typed':
                return m[0]
            if carried := re.match(r'(\w+):(\S+) to (\w+):(\S+)$', comment):
                a, source, b, target = carried.groups()
                with open(self.hosts[a].path(
                        source, not self.hosts[a].user)) as f:
                    content = f.read()
                with open(self.hosts[b].path(target), 'w') as f:
                    f.write(content)
            elif shown := re.match(r'([a-z]+)(2?[#$]) shows$', comment):
                host = self.hosts[shown[1]]
                body = self.compare(comment, body, host.terminal(
                    shown[2]).later(None if self.writes() else body))
                return self.put(m, body)
            elif named := re.match(r'([a-z]+)([#$]?):(\S+)$', comment):
                self.write_file(self.hosts[named[1]], named[2] != '$',
                                named[3], body)
                return m[0]
            else:
                raise Failure(f'no such comment: {comment}')
        return self.put(m, self.console(body))

    @staticmethod
    def put(m, body):
        return m[0][:m.start(2) - m.start()] + body + '```\n'

    @staticmethod
    def writes():
        return os.environ.get('ADIT_WRITE')

    @staticmethod
    def write_file(host, root, name, body):
        path = host.path(name, root)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as f:
            f.write(body)
        if not root:
            who = int(host.run('id', '-u', host.user))
            os.chown(path, who, who)
            os.chown(os.path.dirname(path), who, who)

    def console(self, body):
        out, lines = [], body.splitlines()
        while lines:
            first = PROMPT.match(lines.pop(0))
            if not first:
                raise Failure(f'no prompt: {body}')
            typed = [first[0]]
            while typed[-1].endswith('\\'):
                typed.append(lines.pop(0))
            shown = []
            while lines and not PROMPT.match(lines[0]):
                shown.append(lines.pop(0))
            out += typed + self.typed(first, typed, '\n'.join(shown))
        return '\n'.join(out) + '\n'

    def typed(self, first, typed, shown):
        host = self.hosts[first[1]]
        terminal = host.terminal(first[2])
        command = '\n'.join([first[3], *typed[1:]])
        if command.endswith('   # stays'):
            terminal.type_on(command)
            return []
        # What only looks may look too soon.
        if self.writes():
            time.sleep(0.5)
        got = terminal.type(command)
        end = time.monotonic() + (0 if self.writes() else 5 * SLOW)
        while re.match(r'grep |curl |ping |ss |aditctl [sft]', command) and \
                plain(got) != plain(shown) and time.monotonic() < end:
            time.sleep(0.1)
            got = terminal.type(command)
        return self.compare(first[0], shown, got).splitlines()

    def compare(self, what, shown, got):
        if plain(shown) == plain(got):
            return shown if shown.endswith('\n') or not shown \
                else shown + '\n'
        self.wrong.append(f'{what}\npage:\n{plain(shown)}\n'
                          f'terminal:\n{plain(got)}')
        got = re.sub(r'(?m)[ \t]+$', '', got).strip('\n')
        return got + '\n' if got else ''
