"""Random policies, keys and requests, in sshd's grammar.

A policy is {name: [line, ...]}; 'policy' is the file itself, the others are
what it includes. {DIR} in a line is the folder of all of them, {PORT} the
server's port.
"""
from harness import USER

USERS = ['root', USER, 'neighbour', 'locked', 'expired', 'nobody-such']
SOURCES = {  # where from: where to
    '127.0.0.1': '127.0.0.1', '127.0.0.2': '127.0.0.1', '::1': '::1',
    '192.0.2.1': '192.0.2.1'}
# An echo server listens on both of these, for all addresses; on the third
# there is nobody.
OPEN_PORTS = [21001, 21002]
PORTS = OPEN_PORTS + [21003]
LISTEN_PORTS = [22001, 22002, 22003]
PRIVILEGED = 81
HOSTS = ['localhost', '127.0.0.1', '::1', 'db.lan', '127.0.0.2', '192.0.2.1']
ODD_HOSTS = ['', '*', 'LOCALHOST', 'Db.Lan', 'db.lan.', 'localhost.', '127.1',
             '0x7f000001', '2130706433', '0:0:0:0:0:0:0:1', '0::1',
             '::ffff:127.0.0.1', '0.0.0.0', '::', 'nowhere.lan', '[::1]',
             '127.0.0.1 ', '203.0.113.9']
SOCKET_DIR = '/run/oracle'
PATHS = [f'{SOCKET_DIR}/{name}' for name in ('live', 'dead', 'none')]
LISTEN_PATHS = [f'{SOCKET_DIR}/{name}' for name in ('new', 'file', 'live')]
KEYS = ['id', 'id2', 'rsa', 'small']
CERTIFICATES = ['good', 'other', 'nobody', 'stale', 'near', 'bound', 'forced',
                'critical', 'host', 'foreign']
FORWARDING = ['yes', 'no', 'all', 'local', 'remote']


class Maker:
    def __init__(self, rng):
        self.rng = rng

    def some(self, items, most=3):
        n = self.rng.randint(1, most)
        return [self.rng.choice(items) for _ in range(n)]

    def often(self, p):
        return self.rng.random() < p

    # Patterns.

    def names(self, items, separator=','):
        """A list with globs and negations."""
        words = []
        for word in self.some(items):
            if self.often(0.2):
                word = self.rng.choice(['*', word[:3] + '*', '?' + word[1:],
                                        '*' + word[-2:]])
            if self.often(0.15):
                word = '!' + word
            words.append(word)
        return separator.join(words)

    def addresses(self):
        return ','.join(
            ('!' if self.often(0.15) else '') + word for word in self.some(
                ['127.0.0.1', '127.0.0.0/8', '127.0.0.0/31', '::1', '::1/128',
                 '192.0.2.0/24', '192.0.2.1', '127.*', '0.0.0.0/0', '::/0',
                 '*', '127.0.0.?', '10.0.0.0/8', '::ffff:127.0.0.1']))

    def local_addresses(self):
        return ','.join(self.some(['127.0.0.1', '::1', '192.0.2.1',
                                   '127.0.0.0/8', '!::1', '192.0.2.0/24',
                                   '::/0']))

    def user_words(self):
        words = []
        for word in self.some(USERS):
            if self.often(0.25):
                word = self.rng.choice(['*', word[:4] + '*', '?' + word[1:]])
            if self.often(0.1):
                word = '!' + word
            if self.often(0.3):
                word += '@' + self.rng.choice(
                    ['127.0.0.1', '127.0.0.0/8', '::1', '*', '192.0.2.*',
                     '127.0.0.?', '!127.0.0.1,*'])
            words.append(word)
        return ' '.join(words)

    def group_words(self):
        return self.names(['root', USER, 'tunnellers', 'neighbour', 'nogroup'],
                          ' ')

    # Lines.

    def host_port(self, ports):
        host = self.rng.choice(HOSTS + ['*'] if self.often(0.8)
                               else ODD_HOSTS[2:12])
        if ':' in host and host[0] != '[':
            host = f'[{host}]'
        port = '*' if self.often(0.2) else self.rng.choice(ports)
        return f'{host}:{port}'

    def listen_entry(self):
        if self.often(0.5):
            return str(self.rng.choice(LISTEN_PORTS + ['*', PRIVILEGED]))
        return self.host_port(LISTEN_PORTS + [PRIVILEGED])

    def list_of(self, entry):
        if self.often(0.2):
            return self.rng.choice(['any', 'none'])
        return ' '.join(entry() for _ in range(self.rng.randint(1, 3)))

    def setting(self):
        """(keyword, value), as they are most often of interest."""
        pick, m = self.rng.choice, self
        table = [
            (5, 'AllowTcpForwarding', lambda: pick(FORWARDING)),
            (5, 'GatewayPorts', lambda: pick(
                ['yes', 'no', 'clientspecified', 'clientspecified'])),
            (6, 'PermitOpen', lambda: m.list_of(lambda: m.host_port(PORTS))),
            (6, 'PermitListen', lambda: m.list_of(m.listen_entry)),
            (4, 'AllowStreamLocalForwarding', lambda: pick(FORWARDING)),
            (1, 'DisableForwarding', lambda: pick(['yes', 'no'])),
            (5, 'PermitTunnel', lambda: pick(
                ['yes', 'no', 'point-to-point', 'ethernet', 'yes'])),
            (1, 'AllowUsers', m.user_words),
            (1, 'DenyUsers', m.user_words),
            (1, 'AllowGroups', m.group_words),
            (1, 'DenyGroups', m.group_words),
            (2, 'PermitRootLogin', lambda: pick(
                ['yes', 'no', 'prohibit-password', 'without-password',
                 'forced-commands-only', 'yes', 'yes'])),
            (1, 'AuthorizedKeysFile', lambda: pick(
                ['none', '.ssh/authorized_keys', '%h/.ssh/authorized_keys',
                 '/home/%u/.ssh/authorized_keys', '.ssh/nothing',
                 '.ssh/nothing .ssh/authorized_keys', '{DIR}/%u%%'])),
            (1, 'MaxAuthTries', lambda: pick('123456')),
            (1, 'PubkeyAuthentication', lambda: pick(['yes', 'yes', 'no'])),
            (1, 'AuthenticationMethods', lambda: pick(
                ['any', 'publickey', 'publickey,publickey',
                 'publickey,publickey publickey'])),
            (1, 'StreamLocalBindUnlink', lambda: pick(['yes', 'no'])),
            (1, 'StreamLocalBindMask', lambda: pick(['0177', '0111', '000'])),
            (3, 'TrustedUserCAKeys', lambda: pick(
                ['/run/oracle-ca', '/run/oracle-ca', 'none'])),
            (1, 'AuthorizedPrincipalsFile', lambda: pick(
                ['none', '{DIR}/principals', '.ssh/principals'])),
            (1, 'RevokedKeys', lambda: pick(
                ['none', '/run/oracle-revoked'])),
            (1, 'RequiredRSASize', lambda: pick(['1024', '2048', '3072'])),
            (1, 'PubkeyAcceptedAlgorithms', lambda: pick(
                ['ssh-ed25519', '-ssh-ed25519', 'ssh-ed25519*',
                 '^rsa-sha2-512', '+ssh-ed25519',
                 '-*-cert-v01@openssh.com'])),
            (1, 'LogLevel', lambda: pick(['INFO', 'VERBOSE', 'DEBUG'])),
            (1, 'X11Forwarding', lambda: pick(['yes', 'no'])),
            (1, 'PermitTTY', lambda: pick(['yes', 'no'])),
            (1, 'AllowAgentForwarding', lambda: pick(['yes', 'no'])),
        ]
        weights = [row[0] for row in table]
        _, keyword, value = self.rng.choices(table, weights)[0]
        return keyword, value()

    def dress(self, keyword, value):
        """A line, in one of the ways that it may be written."""
        rng = self.rng
        if self.often(0.2):
            keyword = rng.choice([keyword.lower(), keyword.upper()])
        if self.often(0.15):
            words = value.split(' ')
            i = rng.randrange(len(words))
            words[i] = f'"{words[i]}"'
            value = rng.choice([' ', '\t', '  ']).join(words)
        between = rng.choices([' ', '\t', '=', ' = ', '   '],
                              [12, 1, 1, 1, 1])[0]
        line = keyword + between + value
        if self.often(0.1):
            line = rng.choice([' ', '\t', '    ']) + line
        if self.often(0.1):
            line += rng.choice([' ', '\t', ' # a comment', '\r'])
        return line

    def criterion(self):
        pick, m = self.rng.choice, self
        name, value = self.rng.choices([
            ('User', lambda: m.names(USERS)),
            ('Group', lambda: m.names(['root', USER, 'tunnellers',
                                       'neighbour'])),
            ('Address', m.addresses),
            ('Host', lambda: m.names(['127.0.0.1', '::1', '192.0.2.1',
                                      '127.*'])),
            ('LocalAddress', m.local_addresses),
            ('LocalPort', lambda: pick(['{PORT}', '22', '!{PORT}',
                                        '22,{PORT}'])),
        ], [5, 3, 4, 1, 2, 1])[0]
        if self.often(0.1):
            name = pick([name.lower(), name.upper()])
        return name + ' ' + value()

    def match(self):
        if self.often(0.1):
            return 'Match ' + self.rng.choice(['all', 'All'])
        n = self.rng.choice([1, 1, 1, 2, 2, 3])
        return 'Match ' + ' '.join(self.criterion() for _ in range(n))

    def lines(self, n):
        return [self.dress(*self.setting()) for _ in range(n)]

    def block(self):
        return [self.match()] + self.lines(self.rng.randint(1, 4))

    def policy(self):
        rng, files = self.rng, {}
        main = self.lines(rng.randint(0, 6))
        for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
            main += self.block()
        if self.often(0.3):
            part = self.lines(rng.randint(1, 3))
            if self.often(0.5):
                part += self.block()
            files['part.conf'] = part
            pattern = rng.choice(['{DIR}/part.conf', '{DIR}/*.conf',
                                  '"{DIR}/part.conf"', '{DIR}/p?rt.conf'])
            main.insert(rng.randint(0, len(main)), f'Include {pattern}')
        # What would keep most requests from being made at all.
        if self.often(0.6):
            main.insert(0, 'PermitRootLogin yes')
        return {'policy': main, **files}

    # Keys.

    def option(self):
        pick, m = self.rng.choice, self
        return self.rng.choices([
            lambda: pick(['restrict', 'Restrict']),
            lambda: 'port-forwarding',
            lambda: 'no-port-forwarding',
            lambda: f'permitopen="{m.host_port(PORTS)}"',
            lambda: f'permitlisten="{m.listen_entry()}"',
            lambda: f'from="{m.addresses()}"',
            lambda: 'expiry-time="%s"' % pick(
                ['20010101', '20991231', '209912312359Z', '20010101120000']),
            lambda: 'tunnel="%s"' % pick(['0', '1', '5', 'any', 'ANY']),
            lambda: 'command="/bin/true"',
            lambda: 'environment="A=b"',
            lambda: pick(['no-pty', 'pty', 'no-X11-forwarding', 'no-user-rc',
                          'agent-forwarding']),
            lambda: pick(['nonsense', 'permitopen="x"', 'tunnel="-1"',
                          'expiry-time="soon"', 'command', 'from=""',
                          'principals="a"'])],
            [3, 3, 2, 4, 4, 2, 1, 3, 2, 1, 2, 0.3])[0]()

    def key_line(self):
        """One line of authorized_keys, {id} being a key."""
        n = self.rng.choice([0, 0, 1, 1, 1, 2, 3, 4])
        options = [self.option() for _ in range(n)]
        key = self.rng.choices(KEYS + ['ca'], [16, 4, 1, 1, 6])[0]
        if key == 'ca':
            options.insert(0, 'cert-authority')
            if self.often(0.4):
                options.append('principals="%s"' % self.rng.choice(
                    [USER, 'somebody', f'x,{USER}', 'root']))
        text = ','.join(options)
        return f'{text} {{{key}}}' if text else f'{{{key}}}'

    def key_lines(self):
        n = self.rng.choice([1, 1, 1, 2, 3])
        return [self.key_line() for _ in range(n)]

    def login(self):
        """Who, from where, with which key, behind how many wrong ones."""
        rng = self.rng
        user = rng.choices(USERS, [5, 6, 2, 0.4, 0.3, 0.3])[0]
        credential = 'id' if self.often(0.65) else \
            rng.choice(KEYS + CERTIFICATES)
        return {'user': user, 'source': rng.choice(list(SOURCES)),
                'credential': credential, 'wrong': rng.choice(
                    [0] * 12 + [1, 2, 3, 5]), 'keys': self.key_lines(),
                'principals': rng.choice([USER, 'somebody', f'root\n{USER}',
                                          '# none\n\n somebody']),
                'nologin': self.often(0.04)}

    # Requests.

    def host(self):
        return self.rng.choice(HOSTS if self.often(0.65) else ODD_HOSTS)

    def listen(self):
        rng = self.rng
        host = rng.choice(['', '*', 'localhost', '127.0.0.1', '::1'] +
                          HOSTS) if self.often(0.8) else rng.choice(ODD_HOSTS)
        port = rng.choice(LISTEN_PORTS * 3 + [0, 0, PRIVILEGED, 70000])
        # A listener is cancelled as it was asked for, or otherwise.
        other = host if self.often(0.7) else rng.choice(
            ['', 'localhost', '127.0.0.1', '*', '::1'])
        return 'listen', host, port, other

    def request(self):
        rng = self.rng
        kind = rng.choices(['open', 'listen', 'path', 'socket', 'tunnel'],
                           [6, 6, 2, 2, 3])[0]
        if kind == 'open':
            return kind, self.host(), rng.choice(PORTS * 4 + [0, 70000])
        if kind == 'listen':
            return self.listen()
        if kind == 'path':
            return kind, rng.choice(PATHS)
        if kind == 'socket':
            return kind, rng.choice(LISTEN_PATHS)
        return (kind, rng.choice([1, 1, 1, 2, 2, 2, 3]),
                rng.choice([0, 1, 5, 5, 0x7fffffff]))

    def requests(self, n):
        return [self.request() for _ in range(n)]
