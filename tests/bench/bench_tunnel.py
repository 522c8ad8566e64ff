#!/usr/bin/python3
"""Tunnels through adit, sshd and OpenVPN, in turns, in network namespaces that
are this program's own. Wants root. See HACKING.md, "Bench".

    bench_tunnel.py [--quick] [--out FILE]   ADITD and RELAY say what to run
    bench_tunnel.py --render FILE [--svg FILE] [--readme FILE]
"""
import argparse
import json
import os
import sys
import time

import lab
import outcome
import peers
import plot
import report
import traffic

# rounds; what iperf3 does in a cell, and beside how many pings; the seconds of
# a download, and how many pings beside that; bytes whose SHA-256 is compared.
# (-n is to be more than TCP's send buffer: the rest is not waited for.)
PLANS = {
    'full': dict(rounds=5, each=['-t', 2], ping=(['-t', 3], 200),
                 shaped=(10, 400), check=16 << 20),
    'quick': dict(rounds=2, each=['-t', 1], ping=(['-t', 1], 60),
                  shaped=(5, 150), check=4 << 20),
    'smoke': dict(rounds=1, each=['-n', '8M'], ping=(['-n', '8M'], 20),
                  shaped=(2, 20), check=1 << 20),
}
MARK = '<!-- bench-tunnel: made by `make bench-tunnel-docs` -->'
CHECK_PORT, FORWARD_PORT = 5400, 5500


def in_turn(names, n):
    """Who is first changes from round to round."""
    n %= len(names)
    return names[n:] + names[:n]


class Bench:
    def __init__(self, plan, relay):
        self.plan, self.relay = plan, relay
        self.data = traffic.known_stream(plan['check'])
        self.cells, self.bare, self.device = [], [], None

    def progress(self, text):
        print(f'bench-tunnel: {time.monotonic() - self.began:4.0f} s: {text}',
              file=sys.stderr)

    def run(self):
        self.began = time.monotonic()
        peers.make_keys()
        traffic.start_servers()
        for delay_ms in (0, 10):
            link = peers.Link(delay_ms, self.relay)
            for way in report.WAYS:
                rate = traffic.bare_link(link, way)
                self.bare.append({'delay_ms': delay_ms, 'way': way,
                                  'gbit_s': rate})
            for mtu in (1500, 9000):
                self.tunnels(link, mtu)
        self.shaped()

    def start(self, names, link, mtu, forward=False):
        """All of them, each once it carries whole what it was given."""
        there = {}
        for unit, name in enumerate(names):
            to = [(FORWARD_PORT + unit, traffic.IPERF_PORT),
                  (FORWARD_PORT + 10 + unit, CHECK_PORT)] if forward else []
            there[name] = peers.KINDS[name](name, unit, link, mtu, to)
            there[name].start()
        for peer in there.values():
            peer.finish()
            for way in report.WAYS:
                self.check(peer.address['server'], way)
                for near, _ in peer.forward[1:]:
                    self.check('127.0.0.1', way, ('127.0.0.1', near))
        return there

    def check(self, address, way, connect_to=None):
        self.sha256 = traffic.check_stream(self.data, way, address,
                                           CHECK_PORT, connect_to)

    def tunnels(self, link, mtu):
        late = f', {link.delay_ms} ms later' if link.delay_ms else ''
        self.progress(f'MTU {mtu}{late}')
        there = self.start(report.SERVERS, link, mtu)
        self.device = there['openvpn-udp'].kind()
        for n in range(self.plan['rounds']):
            for way in report.WAYS:
                for name in in_turn(report.SERVERS, n):
                    got = traffic.bulk(there[name], way, self.plan['each'])
                    self.add('bulk', name, n, got, mtu=mtu, way=way,
                             delay_ms=link.delay_ms)
        if mtu == 1500 and not link.delay_ms:
            self.pings(there)
        for peer in there.values():
            peer.stop()

    def pings(self, there):
        self.progress('pings through full tunnels')
        for n in range(self.plan['rounds']):
            for way in report.WAYS:
                for name in in_turn(report.SERVERS, n):
                    got = traffic.loaded_ping(there[name], way,
                                              *self.plan['ping'])
                    self.add('ping', name, n, got, mtu=1500, way=way)

    def shaped(self):
        """A link of 100 Mbit/s with a queue of 300 kB on the server's side,
        which gets what fits the wire, as from a real one."""
        self.progress('beside a download')
        names = ['adit', 'sshd']
        there = self.start(names, peers.Link(), 1500, forward=True)
        lab.run('ethtool', '-K', 'wire', 'gso', 'off', 'tso', 'off',
                host='server')
        lab.run('tc', 'qdisc', 'add', 'dev', 'wire', 'root', 'tbf', 'rate',
                '100mbit', 'burst', '64kb', 'limit', '300kb', host='server')
        for n in range(self.plan['rounds']):
            for name in in_turn(names, n):
                got = traffic.beside_download(there[name],
                                              *self.plan['shaped'])
                self.add('shaped', name, n, got, mtu=1500)
        for peer in there.values():
            peer.stop()

    def add(self, what, server, n, got, **where):
        self.cells.append(dict(what=what, server=server, round=n + 1, **where,
                               **got))

    def results(self, command):
        return {'command': command, 'date': time.strftime('%Y-%m-%d'),
                'seconds': round(time.monotonic() - self.began),
                'machine': outcome.machine(), 'versions': peers.versions(),
                'ssh_cipher': peers.CIPHER, 'openvpn_device': self.device,
                'rounds': self.plan['rounds'],
                'each': words(self.plan['each']),
                'sha256_of_checked_streams': self.sha256,
                'bare_link': self.bare, 'cells': self.cells}


def words(each):
    return f'{each[1]} s' if each[0] == '-t' else f'{each[1]}B'


def measure(o):
    if not os.environ.get('BENCH_INSIDE'):
        peers.check()
        if os.path.exists(o.out):  # nobody shall take it for this run's
            os.unlink(o.out)
    lab.enter()
    name = 'smoke' if o.smoke else 'quick' if o.quick else 'full'
    bench = Bench(PLANS[name], os.environ['RELAY'])
    bench.run()
    flags = '' if name == 'full' else f' BENCH_FLAGS=--{name}'
    results = outcome.rounded(bench.results(f'make bench-tunnel{flags}'))
    with open(o.out, 'w') as f:
        outcome.dump(results, f)
    print(report.text(results))


def render(o):
    with open(o.render) as f:
        results = json.load(f)
    if o.svg:
        with open(o.svg, 'w') as f:
            f.write(plot.svg(results))
    if o.readme:
        outcome.between(o.readme, MARK, report.markdown(results))
    if not (o.svg or o.readme):
        print(report.text(results))


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--quick', action='store_true')
    p.add_argument('--smoke', action='store_true')
    p.add_argument('--out', default='bench-tunnel.json')
    p.add_argument('--render')
    p.add_argument('--svg')
    p.add_argument('--readme')
    o = p.parse_args()
    try:
        if o.render:
            render(o)
        else:
            measure(o)
    except lab.Failure as e:
        sys.exit(f'bench-tunnel: {e}')


main()
