#!/usr/bin/python3
"""Forwards, logins, memory and scale of adit, sshd and dropbear, in turns, in
namespaces that are this program's own. Wants root. See HACKING.md, "Bench".

    bench.py [--quick] [--only PART,...] [--out FILE]
                      ADITD, FLOWS and LOGINS say what to run
    bench.py --render FILE [--svg FILE] [--readme FILE] [--full FILE]
"""
import argparse
import json
import os
import resource
import sys
import time

import lab
import loads
import outcome
import plot
import servers
import shown

PARTS = ('forwards', 'beside', 'logins', 'memory', 'scale')
# rounds; seconds of a bulk, of questions and small writes, beside a download,
# of logins; bytes a channel whose SHA-256 is compared; idle sessions, and how
# often; sessions with a listener; idle channels, seconds beside them, and how
# often; logins in a row
PLANS = {
    'full': dict(rounds=5, bulk=0.9, small=0.5, beside=5, logins=2,
                 check=2 << 20, idle=(200, 3), listeners=1000,
                 channels=(10, 1000), asks=(1, 5), row=10000),
    'quick': dict(rounds=2, bulk=0.2, small=0.2, beside=3, logins=1,
                  check=1 << 20, idle=(200, 1), listeners=200,
                  channels=(10, 1000), asks=(0.5, 1), row=500),
    'smoke': dict(rounds=1, bulk=0.05, small=0.05, beside=0.5, logins=0.1,
                  check=100000, idle=(4, 1), listeners=8,
                  channels=(10, 50), asks=(0.1, 1), row=16),
}
MARK = '<!-- bench: made by `make bench-docs` -->'
WARM = 50  # logins before memory is looked at
# What may be more afterwards: no process, no descriptor; of memory what a heap
# that has once held so much does not give back.
GROWTH_KIB = 256
ENDED_S = 4  # what adit remembers of who went keeps memory so long


def in_turn(names, n):
    """Who is first changes from round to round."""
    n %= len(names)
    return names[n:] + names[:n]


class Bench:
    def __init__(self, plan, parts):
        self.plan, self.parts, self.cells = plan, parts, []

    def progress(self, text):
        print(f'bench: {time.monotonic() - self.began:4.0f} s: {text}',
              file=sys.stderr)

    def run(self):
        self.began = time.monotonic()
        servers.furnish()
        servers.start_targets()
        self.servers = [kind(2200 + i)
                        for i, kind in enumerate(servers.KINDS)]
        for s in self.servers:
            s.start()
        for part in self.parts:
            getattr(self, part)()
        for s in self.servers:
            s.stop()

    def add(self, what, server, n, got, **where):
        self.cells.append(dict(what=what, server=server.name, round=n + 1,
                               **where, **got))

    def rounds(self, of, rounds=None):
        for n in range(rounds or self.plan['rounds']):
            for one in in_turn(of, n):
                yield n, one

    def forwards(self):
        plan = self.plan
        there = {cipher: [servers.sessions(s, cipher)[0]
                          for s in self.servers if cipher in s.ciphers]
                 for cipher in servers.CIPHERS}
        each = [(cipher, way, channels) for cipher in there
                for way in shown.WAYS for channels in shown.CHANNELS]
        self.progress('SHA-256 of what comes through each forward')
        for cipher, way, channels in each:
            for s in there[cipher]:
                loads.check(s, way, channels, plan['check'])
                self.add('same', s.server, 0, {'sha256': 'equal'}, way=way,
                         cipher=cipher, channels=channels)
        for n in range(plan['rounds']):
            self.progress(f'forwards, round {n + 1}')
            for cipher, way, channels in each:
                for s in in_turn(there[cipher], n):
                    self.add('bulk', s.server, n,
                             loads.bulk(s, way, channels, plan['bulk']),
                             cipher=cipher, way=way, channels=channels)
            for cipher, of in there.items():
                for s in in_turn(of, n):
                    self.small(s, cipher, n)
        for of in there.values():
            for s in of:
                s.stop()

    def small(self, session, cipher, n):
        for channels in shown.ASKING:
            self.add('ask', session.server, n,
                     loads.ask(session, channels, self.plan['small']),
                     cipher=cipher, channels=channels)
        for way in shown.WAYS:
            self.add('storm', session.server, n,
                     loads.storm(session, way, self.plan['small']),
                     cipher=cipher, way=way)

    def beside(self):
        pairs = [servers.sessions(s, 'aes128-gcm', 'aes128-gcm')
                 for s in self.servers[:2]]
        self.progress('beside a download')
        for n, (busy, other) in self.rounds(pairs):
            self.add('beside', busy.server, n,
                     loads.beside(busy, other, self.plan['beside']),
                     link='unshaped')
        self.progress('beside a download, 100 Mbit/s')
        with loads.Shaped():
            for n, (busy, other) in self.rounds(pairs):
                self.add('beside', busy.server, n,
                         loads.beside(busy, other, self.plan['beside']),
                         link='100 Mbit/s')
        for pair in pairs:
            for s in pair:
                s.stop()

    def logins(self):
        self.progress('logins')
        for n, s in self.rounds(self.servers):
            for flight in shown.FLIGHTS:
                self.add('logins', s, n,
                         loads.logins(s, flight, '-s', self.plan['logins']),
                         flight=flight)

    def memory(self):
        idle, rounds = self.plan['idle']
        self.progress(f'memory, {idle} idle sessions')
        for s in self.servers:
            loads.logins(s, 8, '-n', WARM)
        for n, s in self.rounds(self.servers, rounds):
            s.rest()
            none = s.pss_kib()
            with loads.Held(s, idle):
                s.rest()
                full = s.pss_kib()
            self.add('memory', s, n, {'each_kib': full / idle,
                                      'more_kib': (full - none) / idle,
                                      'none_kib': none}, sessions=idle)

    def scale(self):
        adit = self.servers[0]
        loads.logins(adit, 8, '-n', WARM)
        # Before memory may be held from anything else.
        count = self.plan['row']
        self.progress(f'{count} logins')
        adit.rest()
        before = adit.state()
        got = loads.logins(adit, 8, '-n', count)
        self.grown('row', adit, before, count=count, **got)
        self.channels(self.servers[:2], self.plan['channels'])
        self.listeners(adit, self.plan['listeners'])

    def listeners(self, adit, count):
        self.progress(f'{count} sessions, each with a listener')
        before = adit.state()
        with loads.Held(adit, count, '-R') as held:
            held.answer()
            adit.rest()
            during = adit.state()
        self.grown('listeners', adit, before, count=count, during=during,
                   each_kib=during['pss_kib'] / count,
                   per_s=count / held.seconds)

    def channels(self, of, counts):
        self.progress('idle channels')
        before = of[0].state()
        there = [servers.sessions(s, 'aes128-gcm')[0] for s in of]
        seconds, rounds = self.plan['asks']
        for n, s in self.rounds(there, rounds):
            for count in counts:
                self.add('idle', s.server, n,
                         loads.idle_cost(s, count, seconds),
                         idle=count)
        for s in there:
            s.stop()
        of[0].settle(before['processes'])
        self.grown('channels', of[0], before, count=counts[-1])

    def grown(self, what, server, before, **more):
        """What the server has now beside what it had before."""
        server.settle(before['processes'])
        time.sleep(ENDED_S)
        server.rest()
        after = server.state()
        self.add(what, server, 0, {'before': before, 'after': after,
                                   'bound_kib': GROWTH_KIB, **more})

    def results(self, command):
        return {'command': command, 'date': time.strftime('%Y-%m-%d'),
                'seconds': round(time.monotonic() - self.began),
                'machine': outcome.machine(), 'versions': versions(),
                'parts': self.parts, 'rounds': self.plan['rounds'],
                'plan': self.plan, 'cells': self.cells}


def versions():
    first = outcome.first_line
    return {'adit': first(os.environ['ADITD'], '-V'),
            'ssh': first('ssh', '-V'),
            'dropbear': first(lab.program('dropbear', 'dropbear-bin'), '-V')}


def many_descriptors():
    """As many as there may be: a thousand sessions are a thousand sockets."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def measure(o):
    parts = o.only.split(',') if o.only else list(PARTS)
    if not set(parts) <= set(PARTS):
        raise lab.Failure(f'--only: parts are {", ".join(PARTS)}')
    if not os.environ.get('BENCH_INSIDE'):
        servers.check()
        if os.path.exists(o.out):  # nobody shall take it for this run's
            os.unlink(o.out)
    lab.enter(tunnels=False)
    many_descriptors()
    name = 'smoke' if o.smoke else 'quick' if o.quick else 'full'
    bench = Bench(PLANS[name], parts)
    bench.run()
    flags = ([] if name == 'full' else [f'--{name}']) + \
        ([f'--only={o.only}'] if o.only else [])
    command = 'make bench'
    if flags:
        quote = '"' if len(flags) > 1 else ''
        command += f' BENCH_FLAGS={quote}{" ".join(flags)}{quote}'
    results = outcome.rounded(bench.results(command))
    with open(o.out, 'w') as f:
        outcome.dump(results, f)
    print(shown.text(results))


def render(o):
    with open(o.render) as f:
        results = json.load(f)
    if o.svg:
        with open(o.svg, 'w') as f:
            f.write(plot.svg(results, shown.figures(results), shown.PANELS))
    for path, full in ((o.readme, False), (o.full, True)):
        if path:
            outcome.between(path, MARK, shown.markdown(results, full))
    if not (o.svg or o.readme or o.full):
        print(shown.text(results))


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--quick', action='store_true')
    p.add_argument('--smoke', action='store_true')
    p.add_argument('--only')
    p.add_argument('--out', default='bench.json')
    p.add_argument('--render')
    p.add_argument('--svg')
    p.add_argument('--readme')
    p.add_argument('--full')
    o = p.parse_args()
    try:
        if o.render:
            render(o)
        else:
            measure(o)
    except lab.Failure as e:
        sys.exit(f'bench: {e}')


main()
