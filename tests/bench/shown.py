"""What a run of `make bench` says: figures, targets, tables."""
import report

WAYS = ('up', 'down')
SERVERS = ('adit', 'sshd', 'dropbear')
CIPHERS = ('aes128-gcm', 'chacha20', 'aes128-ctr')
CHANNELS = (1, 8, 64)
ASKING = (1, 64)
FLIGHTS = (1, 8)
LINKS = ('unshaped', '100 Mbit/s')

# What adit should reach, by the start of a figure's name: as many times better
# than sshd, so much of what sshd takes, or at most so much.
TARGETS = [
    ('rate/aes128-gcm/up/', 'times', 1.0),
    ('rate/aes128-gcm/down/', 'times', 1.25),
    ('rate/chacha20/up/', 'times', 1.0),
    ('rate/chacha20/down/', 'times', 1.4),
    ('cpu/aes128-gcm/up/', 'part', 0.9),
    ('cpu/aes128-gcm/down/', 'part', 0.75),
    ('cpu/chacha20/up/', 'part', 0.7),
    ('cpu/chacha20/down/', 'part', 0.55),
    ('logins/8/rate', 'times', 7), ('logins/8/cpu', 'part', 1 / 7),
    ('memory/each', 'most', 350),
    ('idle/growth', 'most', 1.25),
    ('after/', 'most', 0),
]

PANELS = [
    ('Forwards, Gbit/s: more is better',
     lambda n: n.startswith('rate/') and not n.endswith('/8')),
    ('CPU of all the server\'s processes, seconds per GB: less is better',
     lambda n: n.startswith('cpu/') and not n.endswith('/8')),
    ('64 bytes there and back, microseconds: less is better',
     lambda n: n.startswith('ask/') and '/1/' in n),
    ('The same 20 times a second beside a download, ms: less is better',
     lambda n: n.startswith('beside/') and not n.endswith('/rate')),
    ('Logins a second: more is better',
     lambda n: n.startswith('logins/') and n.endswith('/rate')),
    ('Server CPU of a login, ms: less is better',
     lambda n: n.startswith('logins/') and n.endswith('/cpu')),
    ('Memory of an idle session, KiB: less is better',
     lambda n: n in ('memory/each', 'memory/more')),
]


class Row(report.Figure):
    """bound: what it may be at most, where the run says so."""
    brief = False  # one of README's?
    bound = None

    def verdicts(self):
        return [self.verdict(kind, bound) for start, kind, bound in TARGETS
                if self.name.startswith(start)]

    def verdict(self, kind, bound):
        if kind == 'most':
            bound = bound if self.bound is None else self.bound
            # nothing more, in no round
            got = max(self.values['adit']) if bound == 0 else \
                self.median('adit')
            return f'≤ {bound:g} {self.unit}'.strip(), got <= bound
        ratio = self.better('sshd')
        if kind == 'times':
            return f'≥ {bound:g}× sshd', ratio is not None and ratio >= bound
        return (f'≤ {bound:.2g} of sshd',
                ratio is not None and 1 / ratio <= bound)


class Rows:
    def __init__(self, results):
        self.results, self.rows = results, []

    def add(self, name, title, unit, value, less=True, brief=False, **want):
        """value: of a cell, the figure."""
        values = {}
        for cell in report.cells(self.results, **want):
            values.setdefault(cell['server'], []).append(value(cell))
        if 'adit' not in values:
            raise ValueError(f'no {name} in the results')
        row = Row(name, title, unit, values, less)
        row.brief = brief
        self.rows.append(row)
        return row

    def forwards(self):
        for key, unit, field, less, more in (
                ('rate', 'Gbit/s', 'gbit_s', False, ''),
                ('cpu', 's/GB', 'cpu_s_gb', True, 'server CPU, ')):
            for cipher in CIPHERS:
                for way in WAYS:
                    for n in CHANNELS:
                        self.add(f'{key}/{cipher}/{way}/{n}',
                                 f'{more}{cipher}, {way}, {n} '
                                 + ('channel' if n == 1 else 'channels'),
                                 unit, lambda c: c[field], less, n == 1,
                                 what='bulk', cipher=cipher, way=way,
                                 channels=n)
        for cipher in CIPHERS:
            self.asks(cipher)
        for cipher in CIPHERS:
            self.storms(cipher)

    def asks(self, cipher):
        for n in ASKING:
            for field in ('p50', 'p99'):
                at_once = f', {n} at once' if n > 1 else ''
                self.add(f'ask/{cipher}/{n}/{field}',
                         f'64 bytes, {cipher}{at_once}, {field}', 'µs',
                         lambda c: c[f'{field}_us'], True,
                         cipher == CIPHERS[0] and n == 1,
                         what='ask', cipher=cipher, channels=n)

    def storms(self, cipher):
        for way in WAYS:
            title = f'writes of 64 bytes, {cipher}, {way}'
            brief = cipher == CIPHERS[0]
            where = dict(what='storm', cipher=cipher, way=way)
            self.add(f'storm/{cipher}/{way}/rate', title, '1000/s',
                     lambda c: c['kwrites_s'], False, brief, **where)
            self.add(f'storm/{cipher}/{way}/cpu',
                     f'server CPU, {title}', 'ns each',
                     lambda c: c['cpu_us'] * 1e3, True, False, **where)

    def beside(self):
        for link in LINKS:
            for where in ('same', 'other'):
                for field in ('p50', 'p99'):
                    self.add(f'beside/{link}/{where}/{field}',
                             f'beside a download, {where} session, {link}, '
                             f'{field}', 'ms',
                             lambda c: c[where][f'{field}_ms'], True,
                             field == 'p99', what='beside', link=link)
            self.add(f'beside/{link}/rate', f'that download, {link}',
                     'Mbit/s', lambda c: c['mbit_s'], False, False,
                     what='beside', link=link)

    def logins(self):
        for n in FLIGHTS:
            self.add(f'logins/{n}/rate', f'logins, {n} at a time', '1/s',
                     lambda c: c['per_s'], False, True, what='logins',
                     flight=n)
            self.add(f'logins/{n}/cpu', f'server CPU, logins, {n} at a time',
                     'ms each', lambda c: c['cpu_ms'], True, n == 8,
                     what='logins', flight=n)

    def memory(self):
        n = report.cells(self.results, what='memory')[0]['sessions']
        for field, title, unit in (
                ('each', f'memory, {n} idle sessions, all by their number',
                 'KiB'),
                ('more', f'memory, {n} idle sessions, what each adds', 'KiB'),
                ('none', 'memory, no session', 'KiB')):
            self.add(f'memory/{field}', title, unit,
                     lambda c: c[f'{field}_kib'], True, field == 'each',
                     what='memory')

    def scale(self):
        of = {what: report.cells(self.results, what=what)[0]
              for what in ('listeners', 'channels', 'row')}
        n = of['listeners']['count']
        self.add('listeners/each', f'memory, {n} sessions with a listener, '
                 'all by their number', 'KiB', lambda c: c['each_kib'],
                 what='listeners')
        self.idle()
        for what, title in (('listeners', 'sessions with a listener'),
                            ('channels', 'channels of a session'),
                            ('row', 'logins in a row')):
            for field, more, unit in (
                    ('processes', 'processes', ''),
                    ('fds', 'descriptors', ''), ('pss_kib', 'memory', 'KiB')):
                row = self.add(
                    f'after/{what}/{field}',
                    f'after {of[what]["count"]} {title}: more {more}', unit,
                    lambda c: c['after'][field] - c['before'][field],
                    brief=True, what=what)
                if field == 'pss_kib':
                    row.bound = of[what]['bound_kib']

    def idle(self):
        few, many = sorted({c['idle'] for c in
                            report.cells(self.results, what='idle')})
        for n in (few, many):
            self.add(f'idle/{n}', f'server CPU, a message beside {n} idle '
                     'channels', 'µs', lambda c: c['cpu_us'], what='idle',
                     idle=n)
        row = Row('idle/growth', f'… {many} by {few}', '', {
            server: [a / b for a, b in zip(self.rows[-1].values[server],
                                           values)]
            for server, values in self.rows[-2].values.items()})
        row.brief = True
        self.rows.append(row)


def figures(results):
    """All rows, in their order."""
    rows = Rows(results)
    for part in results['parts']:
        getattr(rows, part)()
    return rows.rows


HEAD = (['', 'unit', *SERVERS] + [f'× {s}' for s in SERVERS[1:]] +
        ['targets'])


def line(row, miss):
    return ([row.title, row.unit] + [report.words(row, s) for s in SERVERS] +
            [report.ratio(row, s) for s in SERVERS[1:]] +
            [report.verdict(row, miss)])


def text(results):
    rows = figures(results)
    table = [HEAD, *(line(row, 'MISS') for row in rows)]
    widths = [max(len(r[i]) for r in table) for i in range(len(HEAD))]
    out = ['  '.join(w.ljust(n) for w, n in zip(r, widths)).rstrip()
           for r in table]
    return '\n'.join([*about(results), '', *out, '', count(rows)])


def count(rows):
    good = [g for row in rows for _, g in row.verdicts()]
    return (f'{good.count(True)} of {len(good)} targets reached. Medians '
            'and ranges of rounds; "×": how many times better adit is.')


def about(results):
    r = results
    same = len(report.cells(r, what='same'))
    out = [f'{r["machine"]["cpu"]}, {r["machine"]["cores"]} cores, Linux '
           f'{r["machine"]["kernel"]}, {r["date"]}: `{r["command"]}`, '
           f'{r["rounds"]} rounds, {r["seconds"]} s.',
           f'{r["versions"]["adit"]}; {r["versions"]["ssh"].split(",")[0]}; '
           f'{r["versions"]["dropbear"]}.']
    if same:
        out.append(f'{same} kinds of transfers compared by SHA-256: equal.')
    return out


def markdown(results, full):
    """README's table of some rows, or that of all; misses in bold."""
    rows = figures(results)
    head = [HEAD[0], *HEAD[2:]]  # the unit is in the name
    out = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    for row in rows:
        if full or row.brief:
            name, unit, *rest = line(row, '**miss**')
            first = f'{name}, {unit}' if unit else name
            out.append('| ' + ' | '.join([first, *rest]) + ' |')
    return '\n'.join([*about(results), '', *out, '', count(rows)])
