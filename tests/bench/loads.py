"""What is done to a server through the stock client's forwards, or by logins,
and what is measured of it."""
import json
import os
import socket
import time

from lab import ADDRESS, Failure, Inside, Process, run, wait_for
from servers import GREET_PORT, KEY, SOURCES, USER

PATIENCE = 120


def at_client(argv, timeout):
    """A program of the client's host to its end, as lab.run(), but without the
    mounts that ip-netns(8) makes for each."""
    with Inside('client'):
        return run(*argv, timeout=timeout)


def words(verb, session, **options):
    """flows' command line, through this session."""
    argv = [os.environ['FLOWS'], verb]
    for name, value in options.items():
        argv += [f'-{name}', value]
    return [*argv, '127.0.0.1', session.port]


def flows(verb, session, **options):
    return json.loads(at_client(words(verb, session, **options), PATIENCE))


def bulk(session, way, channels, seconds, piece=131072):
    server = session.server
    before = server.cpu()
    got = flows('bulk', session, w=way, c=channels, s=seconds, z=piece)
    spent = server.cpu() - before
    return {'gbit_s': got['bytes'] * 8e-9 / got['seconds'],
            'cpu_s_gb': spent / (got['bytes'] / 1e9)}


def check(session, way, channels, size):
    """Is what comes out what went in? SHA-256, each channel its own bytes."""
    flows('check', session, w=way, c=channels, n=size)


def storm(session, way, seconds):
    """64 bytes a write, as many as it takes."""
    server = session.server
    before = server.cpu()
    got = flows('bulk', session, w=way, s=seconds, z=64)
    spent = server.cpu() - before
    writes = got['bytes'] / 64
    return {'kwrites_s': writes / got['seconds'] / 1e3,
            'cpu_us': spent * 1e6 / writes}


def ask(session, channels, seconds, **pace):
    """64 bytes there and back in each channel, one after the other."""
    server = session.server
    before = server.cpu()
    got = flows('ask', session, c=channels, s=seconds, **pace)
    spent = server.cpu() - before
    return {'p50_us': got['p50_us'], 'p99_us': got['p99_us'],
            'per_s': got['count'] / seconds,
            'cpu_us': spent * 1e6 / got['count']}


def carried():
    """Bytes that came to the client's host."""
    text = run('ip', '-n', 'client', '-s', '-j', 'link', 'show', 'dev', 'wire')
    return json.loads(text)[0]['stats64']['rx']['bytes']


def beside(busy, other, seconds):
    """64 bytes there and back 20 times a second while a download fills the
    forward of the session busy: in that session, and in another one."""
    before = carried()
    argv = words('bulk', busy, w='down', s=seconds + 2)
    load = Process('download', *argv, host='client')
    wait_for(lambda: load.alive() and carried() - before > 4 << 20, 20,
             'no download')
    asking = [(where, Process(f'asks-{where}',
                              *words('ask', session, s=seconds, r=20),
                              host='client'))
              for where, session in (('same', busy), ('other', other))]
    got = {}
    for where, p in asking:
        trips = json.loads(p.wait(PATIENCE))
        if load.popen.poll() is not None:
            raise Failure(f'{busy.server.name}, {where} session: the download '
                          'was over before anything was answered beside it')
        got[where] = {'p50_ms': trips['p50_us'] / 1e3,
                      'p99_ms': trips['p99_us'] / 1e3}
    sum_ = json.loads(load.wait(PATIENCE))
    got['mbit_s'] = sum_['bytes'] * 8e-6 / sum_['seconds']
    return got


class Shaped:
    """100 Mbit/s with a queue of 300 kB on the server's side of the link,
    which gets packets as they fit a wire."""

    def __enter__(self):
        self.offloads('off')
        run('tc', 'qdisc', 'add', 'dev', 'wire', 'root', 'tbf', 'rate',
            '100mbit', 'burst', '64kb', 'limit', '300kb', host='server')

    def __exit__(self, *_):
        run('tc', 'qdisc', 'del', 'dev', 'wire', 'root', host='server')
        self.offloads('on')

    def offloads(self, word):
        run('ethtool', '-K', 'wire', 'gso', word, 'tso', word, host='server')


def login_words(server, *more):
    argv = [os.environ['LOGINS'], '-u', USER, '-h', ADDRESS['server'], '-p',
            server.port, '-i', KEY, '-t', GREET_PORT, *more]
    for source in SOURCES:
        argv += ['-b', source]
    return argv


def logins(server, flight, *amount):
    """amount: -n N, or -s SECONDS."""
    processes, before = len(server.pids()), server.cpu()
    argv = login_words(server, '-f', flight, *amount)
    try:
        got = json.loads(run(*argv, host='client', timeout=600))
    except Failure as e:
        raise Failure(f'{e}\n--- {server.name}:\n'
                      f'{server.process.log()[-4000:]}') from None
    server.settle(processes)
    spent = server.cpu() - before
    return {'per_s': got['logins'] / got['seconds'],
            'cpu_ms': spent * 1e3 / got['logins'],
            'client_cpu_ms': got['client_cpu'] * 1e3 / got['logins']}


class Held:
    """Within the with: so many sessions."""

    def __init__(self, server, sessions, *more):
        self.server, self.n, self.more = server, sessions, more

    def __enter__(self):
        self.processes, began = len(self.server.pids()), time.monotonic()
        argv = login_words(self.server, '-H', '-n', self.n, *self.more)
        self.process = Process(f'holds-{self.server.name}', *argv,
                               host='client')
        wait_for(lambda: self.process.alive() and
                 ']}' in self.process.log(), 300, 'they do not come')
        self.seconds = time.monotonic() - began
        told = self.process.log()
        self.ports = json.loads(told[told.index('{'):])['ports']
        return self

    def answer(self):
        """Each one's listener, from the server's host to the client."""
        for port in self.ports:
            with Inside('server'):
                s = socket.create_connection(('127.0.0.1', port), 30)
            with s:
                if s.recv(1) != b'!':
                    raise Failure(f'nobody answers on port {port}')

    def __exit__(self, kind, *_):
        self.process.stop()
        if kind is None:
            self.server.settle(self.processes)


def idle_cost(session, idle, seconds):
    """Server CPU of a message there and back beside so many channels that
    idle; each of them echoes before and after. At a pace, so that the server
    falls asleep as often beside a few as beside many: these slow the client.
    """
    p = Process('idle', *words('hold', session, c=idle), host='client')
    wait_for(lambda: p.alive() and '"held"' in p.log(), PATIENCE,
             'the channels do not echo')
    got = ask(session, 1, seconds, r=400)
    p.popen.terminate()
    p.wait(PATIENCE)
    return got
