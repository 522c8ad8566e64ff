"""What a run's JSON says: figures, targets, a table."""
import math
import statistics

SERVERS = ['adit', 'sshd', 'openvpn-udp', 'openvpn-tcp']
TITLES = {'adit': 'adit', 'sshd': 'sshd', 'openvpn-udp': 'OpenVPN udp',
          'openvpn-tcp': 'OpenVPN tcp'}
WAYS = ('up', 'down')
OPENVPN = ('openvpn-udp', 'openvpn-tcp')

# What adit should reach: (figure, than whom, how many times better at least),
# or (figure, 'at most', bound).
TARGETS = [
    ('rate/1500/0/up', 'sshd', 2.3), ('rate/1500/0/up', 'openvpn-udp', 2),
    ('rate/1500/0/down', 'sshd', 4), ('rate/1500/0/down', 'openvpn-udp', 2),
    ('rate/9000/0/up', 'sshd', 2.2), ('rate/9000/0/down', 'sshd', 2),
    ('cpu/1500/0/up', 'sshd', 5.5), ('cpu/1500/0/down', 'sshd', 8),
    *((f'cpu/1500/0/{way}', other, 3) for way in WAYS for other in OPENVPN),
    *((f'rate/{mtu}/10/{way}', 'sshd', 1) for mtu in (1500, 9000)
      for way in WAYS),
    *((f'ping/{way}/mean', 'at most', 3) for way in WAYS),
    *((f'ping/{way}/mean', other, 1) for way in WAYS for other in OPENVPN),
    ('shaped/ping/p99', 'at most', 34), ('shaped/ping/lost', 'at most', 0),
    ('shaped/voice/lost', 'at most', 0),
]


class Figure:
    """One row: name, what it is, and its values by server, one a round."""

    def __init__(self, name, title, unit, values, less=True):
        self.name, self.title, self.unit = name, title, unit
        self.values, self.less = values, less

    def median(self, server):
        return statistics.median(self.values[server])

    def range(self, server):
        return min(self.values[server]), max(self.values[server])

    def better(self, other):
        """How many times better adit's median is; None: there is no saying."""
        if other not in self.values:
            return None
        a, b = self.median('adit'), self.median(other)
        if self.less:
            a, b = b, a
        return a / b if b else None

    def verdicts(self):
        """Its targets: (words, reached)."""
        found = []
        for name, than, bound in TARGETS:
            if name != self.name:
                continue
            if than == 'at most':
                # not one packet, in any round
                got = max(self.values['adit']) if bound == 0 else \
                    self.median('adit')
                found.append((f'≤ {bound:g} {self.unit}'.strip(),
                              got <= bound))
            else:
                ratio = self.better(than)
                found.append((f'≥ {bound:g}× {TITLES[than]}',
                              ratio is not None and ratio >= bound))
        return found


def cells(results, **want):
    return [c for c in results['cells']
            if all(c.get(k) == v for k, v in want.items())]


def figure(results, name, title, unit, path, less=True, **want):
    values = {}
    for cell in cells(results, **want):
        value = cell
        for word in path:
            value = value[word]
        values.setdefault(cell['server'], []).append(value)
    if 'adit' not in values:
        raise ValueError(f'no {name} in the results')
    return Figure(name, title, unit, values, less)


def figures(results):
    """All rows, in their order."""
    found = []
    sets = [(d, m, w) for d in (0, 10) for m in (1500, 9000) for w in WAYS]
    for key, title, unit, field, less in (
            ('rate', '', 'Gbit/s', 'gbit_s', False),
            ('cpu', 'server CPU, ', 's/GB', 'cpu_s_gb', True)):
        for delay, mtu, way in sets:
            late = f', +{delay} ms' if delay else ''
            found.append(figure(
                results, f'{key}/{mtu}/{delay}/{way}',
                f'{title}MTU {mtu}{late}, {way}', unit, [field], less,
                what='bulk', mtu=mtu, delay_ms=delay, way=way))
    for way in WAYS:
        for field in ('mean', 'p99'):
            found.append(figure(
                results, f'ping/{way}/{field}',
                f'ping, tunnel full {way}, {field}', 'ms', [f'{field}_ms'],
                what='ping', way=way))
    for kind, title in (('ping', 'ping'), ('voice', '50 datagrams/s')):
        for field, unit in (('p50', 'ms'), ('p99', 'ms'),
                            ('lost', 'packets')):
            found.append(figure(
                results, f'shaped/{kind}/{field}',
                f'{title} beside -L, {field}', unit,
                [kind, f'{field}_ms' if unit == 'ms' else field],
                what='shaped'))
    found.append(figure(results, 'shaped/download', 'that download', 'Mbit/s',
                        ['download', 'mbit_s'], False, what='shaped'))
    return found


def number(value):
    if value == 0 or value >= 100:
        return f'{value:.0f}'
    return f'{value:.3g}' if value >= 10 else f'{value:.2f}'


def words(row, server):
    """A median and its range."""
    if server not in row.values:
        return '–'
    low, high = row.range(server)
    median = number(row.median(server))
    if low == high:
        return median
    return f'{median} ({number(low)}–{number(high)})'


def ratio(row, other):
    """Rounded down: what is printed is not more than a verdict goes by."""
    value = row.better(other)
    if value is None:
        return '–'
    unit = 100 if value < 10 else 10
    return f'{number(math.floor(value * unit + 1e-9) / unit)}×'


def verdict(row, miss='MISS'):
    return ', '.join(f'{text}: {"pass" if good else miss}'
                     for text, good in row.verdicts())


HEAD = (['', 'unit'] + [TITLES[s] for s in SERVERS] +
        [f'× {TITLES[s]}' for s in SERVERS[1:]] + ['targets'])


def lines(results, miss='MISS'):
    for row in figures(results):
        yield ([row.title, row.unit] + [words(row, s) for s in SERVERS] +
               [ratio(row, s) for s in SERVERS[1:]] + [verdict(row, miss)])


def text(results):
    rows = [HEAD, *lines(results)]
    widths = [max(len(r[i]) for r in rows) for i in range(len(HEAD))]
    out = ['  '.join(w.ljust(n) for w, n in zip(r, widths)).rstrip()
           for r in rows]
    return '\n'.join([*about(results), '', *out, '', count(results)])


def count(results):
    good = [g for row in figures(results) for _, g in row.verdicts()]
    return (f'{good.count(True)} of {len(good)} targets reached. Medians '
            'and ranges of rounds; "×": how many times better adit is.')


def about(results):
    r = results
    kinds = r['openvpn_device']
    dco = 'without DCO' if kinds == 'tun' else f'with DCO ({kinds})'
    return [
        f'{r["machine"]["cpu"]}, {r["machine"]["cores"]} cores, Linux '
        f'{r["machine"]["kernel"]}, TCP {r["machine"]["congestion"]}, '
        f'{r["date"]}: `{r["command"]}`, {r["rounds"]} rounds of {r["each"]} '
        'a cell.',
        f'{r["versions"]["adit"]}; {r["versions"]["ssh"].split(",")[0]}, '
        f'{r["ssh_cipher"]}; '
        f'{" ".join(r["versions"]["openvpn"].split()[:2])}, AES-128-GCM, '
        f'{dco}.',
        'The link without a tunnel: ' + ', '.join(
            f'{number(b["gbit_s"])} Gbit/s {b["way"]}'
            + (f' (+{b["delay_ms"]} ms)' if b['delay_ms'] else '')
            for b in r['bare_link']) + '.']


def markdown(results):
    """README's: one table of all rows, misses in bold."""
    head = [HEAD[0], *HEAD[2:]]  # the unit is in the name
    out = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    for row in lines(results, '**miss**'):
        name, unit, *rest = row
        first = f'{name}, {unit}' if unit else name
        out.append('| ' + ' | '.join([first, *rest]) + ' |')
    return '\n'.join([*about(results), '', *out, '', count(results)])
