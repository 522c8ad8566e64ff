#!/usr/bin/python3
"""adit against sshd: random policies, keys and requests, and who says what.

A case is one policy, one key file and login, one request. Whatever differs is
one of the differences of oracle_traps.py, or a failure, which is shown with
as few lines as still show it.

    ADIT_SEED=N      repeats a run
    ADIT_LONG=1      makes it a long one, another each time
"""
import collections
import os
import random
import re
import shutil
import time

import oracle_ask
from harness import (PEER, SSHD, TOP, USER, Failure, Server, case, main, sh,
                     wait_for)
from oracle_make import HOSTS, LISTEN_PORTS, PORTS, Maker
from oracle_traps import Settings, granted, trap

LONG = bool(os.environ.get('ADIT_LONG'))
SEED = int(os.environ.get('ADIT_SEED', 0)) or (
    random.randrange(1, 1 << 31) if LONG else 1)
SHRINK_S = 90
EVERY = {'open', 'listen', 'path', 'socket', 'tunnel'}  # kinds of requests
BINARY = {'sshd': SSHD, 'aditd': f'{TOP}/aditd'}


class Pair:
    """The same policy for sshd and for aditd."""
    count = 0

    def __init__(self, t, policy):
        self.t, self.policy = t, policy
        Pair.count += 1
        self.servers = {}

    def write(self, kind, port):
        """The files of one of them: the name of the policy's own."""
        folder = f'{self.t.folder}/pair{Pair.count}.{kind}'
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder, 0o755)
        for name, lines in self.policy.items():
            with open(f'{folder}/{name}', 'w', newline='') as f:
                f.write(''.join(line + '\n' for line in lines).replace(
                    '{DIR}', folder).replace('{PORT}', str(port)))
        with open(f'{folder}/principals', 'w') as f:
            f.write('somebody\n')
        return f'{folder}/policy'

    def accepted(self):
        """{kind: does it take the policy?}, and what they said."""
        took, words = {}, ''
        for kind in BINARY:
            path = self.write(kind, 22)
            done = sh(BINARY[kind], '-t', '-h', f'{TOP}/hostkey', '-f', path,
                      check=False)
            took[kind] = done.returncode == 0
            words += f'{kind}: {done.stderr}'
        return took, words

    def start(self):
        for kind in BINARY:
            port = self.t.port()
            with open(self.write(kind, port), newline='') as f:
                text = f.read()
            folder = f'{self.t.folder}/pair{Pair.count}.{kind}.run'
            shutil.rmtree(folder, ignore_errors=True)
            os.mkdir(folder, 0o755)
            args = ['-oMaxStartups=100']
            if kind == 'aditd':
                args += ['-oPerSourcePenalties=no']
            self.servers[kind] = Server(
                folder, text, args, None, port, kind,
                ('127.0.0.1', '::1', '192.0.2.1'))
        for srv in self.servers.values():
            srv.wait_ready()

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for srv in self.servers.values():
            srv.stop()

    def ask(self, login, requests):
        return [oracle_ask.ask(self.t, self.servers[kind], login, requests)
                for kind in ('sshd', 'aditd')]

    def settings(self, login):
        """What holds for a login, by sshd."""
        srv = self.servers['sshd']
        there = oracle_ask.SOURCES[login['source']]
        done = sh(SSHD, '-T', '-h', f'{TOP}/hostkey', '-f', srv.policy, '-C',
                  f'user={login["user"]},host={login["source"]},'
                  f'addr={login["source"]},laddr={there},lport={srv.port}',
                  check=False)
        return Settings(done.stdout, login, self.policy)


class Difference:
    def __init__(self, policy, login, request, said):
        self.policy, self.login, self.request, self.said = \
            policy, login, request, said

    def again(self, t, policy, login):
        """Do they still differ like this?"""
        pair = Pair(t, policy)
        if not all(pair.accepted()[0].values()):
            return False
        requests = [self.request] if self.request[0] != 'login' else []
        with pair:
            got = pair.ask(login, requests)
            return ([said[-1] for said in got] == self.said and
                    len(got[0]) == len(got[1]) and
                    not trap(pair.settings(login), self.request, *self.said))

    def smaller(self):
        """The same with one thing less, in turn."""
        for name in self.policy:
            for i in range(len(self.policy[name])):
                lines = self.policy[name][:]
                del lines[i]
                yield {**self.policy, name: lines}, self.login
        for i, line in enumerate(self.login['keys']):
            keys = self.login['keys'][:]
            del keys[i]
            yield self.policy, {**self.login, 'keys': keys}
            options, _, key = line.rpartition(' ')
            words = options.split(',')
            for j in range(len(words) if options else 0):
                fewer = ','.join(words[:j] + words[j + 1:])
                keys = self.login['keys'][:]
                keys[i] = f'{fewer} {key}'.strip()
                yield self.policy, {**self.login, 'keys': keys}

    def shrink(self, t, deadline):
        progress = True
        while progress and time.monotonic() < deadline:
            progress = False
            for policy, login in self.smaller():
                if time.monotonic() > deadline:
                    break
                if self.again(t, policy, login):
                    self.policy, self.login = policy, login
                    progress = True
                    break

    def show(self):
        for name, lines in self.policy.items():
            for line in lines:
                print(f'#   {name}: {line!r}')
        print(f'#   login: {self.login}')
        print(f'#   request: {self.request}: '
              f'sshd {self.said[0]!r}, aditd {self.said[1]!r}')


class Tally:
    def __init__(self):
        self.cases, self.started = 0, time.monotonic()
        self.outcomes = collections.Counter()
        self.traps = collections.Counter()
        self.granted = set()  # kinds of requests
        self.differences = []

    def add(self, settings, policy, login, request, said):
        self.cases += 1
        if granted(said[0]) and granted(said[1]):
            self.granted.add(request[0])
        if said[0] == said[1]:
            self.outcomes[f'{request[0]}: {said[0].split(",")[0]}'] += 1
            return
        name = trap(settings(), request, *said)
        if name:
            self.traps[name] += 1
        else:
            self.differences.append(Difference(policy, login, request, said))

    def goes_on(self, cases, seconds, kinds):
        """Until there are so many cases, or it took so long. A little longer,
        if a kind of request was never granted by both."""
        took = time.monotonic() - self.started
        return self.cases < cases and took < seconds or \
            not kinds <= self.granted and took < seconds + 100

    def show(self):
        same = self.cases - sum(self.traps.values()) - len(self.differences)
        print(f'# {self.cases} cases, {same} the same, '
              f'{sum(self.traps.values())} known differences, '
              f'{len(self.differences)} others')
        for counter in (self.outcomes, self.traps):
            for name, n in counter.most_common():
                print(f'#   {n:6} {name}')


def compare(t, maker, tally, logins, requests):
    """One random policy, some logins, some requests of each."""
    policy = maker.policy()
    pair = Pair(t, policy)
    took, words = pair.accepted()
    login = {'user': '', 'keys': []}
    tally.add(lambda: Settings(words, login, policy), policy, login,
              ('policy',), ['taken' if took[kind] else 'refused'
                            for kind in BINARY])
    if not all(took.values()):
        return
    with pair:
        for _ in range(logins):
            login, asked = maker.login(), maker.requests(requests)
            said = pair.ask(login, asked)
            for request, *both in zip([('login',)] + asked, *said):
                tally.add(lambda: pair.settings(login), policy, login,
                          request, both)


def judge(t, tally):
    tally.show()
    found, deadline = tally.differences, time.monotonic() + SHRINK_S
    for one in found[:3]:
        if one.request[0] != 'policy':
            one.shrink(t, deadline)
    for one in found[:20]:
        print('# a difference:')
        one.show()
    if found:
        raise Failure(f'{len(found)} differences of {tally.cases} cases; '
                      f'ADIT_SEED={SEED}')
    t.equal(EVERY - tally.granted, set(), 'kinds that were never granted')


@case('logins, forwards, listeners, sockets and tunnels go as in sshd',
      'aditd', timeout=1500 if LONG else 300)
def _(t):
    print(f'# ADIT_SEED={SEED}')
    maker, tally = Maker(random.Random(SEED)), Tally()
    oracle_ask.furnish(t)
    while tally.goes_on(6000 if LONG else 1000, 1200 if LONG else 20, EVERY):
        compare(t, maker, tally, 6, 20)
    judge(t, tally)


# The stock client, for a sample.

OUT = '(Permission denied|Too many auth|Connection closed|Connection reset)'


def stock_open(t, srv, login, host, port):
    where = f'[{host}]' if ':' in host else host
    done = t.ssh(srv, '-b', login['source'], '-W', f'{where}:{port}',
                 user=login['user'], host=oracle_ask.SOURCES[login['source']],
                 data=b'hello')
    err = done.stderr.decode(errors='replace')
    if done.stdout == b'hello':
        return 'open'
    for reason in ('administratively prohibited', 'connect failed'):
        if f'open failed: {reason}' in err:
            return reason.replace('administratively ', '')
    return 'out' if re.search(OUT, err) else err


def stock_listen(t, srv, login, host, port, _other):
    where = f'[{host}]' if ':' in host else host
    client = t.client(
        srv, '-b', login['source'], '-R', f'{where}:{port}:127.0.0.1:9',
        user=login['user'], host=oracle_ask.SOURCES[login['source']],
        wait=False)
    said = client.wait_err(
        f'remote forward (success|failure) for: listen|{OUT}')
    result = 'refused' if said[1] == 'failure' else 'out'
    if said[1] == 'success':
        result = 'granted, ' + ' '.join(oracle_ask.bound(port))
    client.stop()
    wait_for(lambda: not oracle_ask.bound(port), 10, 'it still listens')
    return result


STOCK = {'open': stock_open, 'listen': stock_listen}


@case('so it is with the stock client, for a sample', 'aditd',
      timeout=600 if LONG else 150)
def _(t):
    print(f'# ADIT_SEED={SEED}')
    maker, tally = Maker(random.Random(SEED + 1)), Tally()
    oracle_ask.furnish(t)
    while tally.goes_on(150 if LONG else 16, 400 if LONG else 8, set(STOCK)):
        policy = maker.policy()
        pair = Pair(t, policy)
        if not all(pair.accepted()[0].values()):
            continue
        login = {**maker.login(), 'credential': 'id', 'nologin': False,
                 'user': maker.rng.choice(['root', USER])}
        oracle_ask.install_keys(login)
        requests = [('open', maker.rng.choice(HOSTS), maker.rng.choice(PORTS))
                    for _ in range(2)]
        requests.append(('listen', maker.rng.choice(['', '*'] + HOSTS[:3]),
                         maker.rng.choice(LISTEN_PORTS), None))
        with pair:
            for request in requests:
                said = [STOCK[request[0]](t, srv, login, *request[1:])
                        for srv in pair.servers.values()]
                tally.add(lambda: pair.settings(login), policy, login,
                          request, said)
    tally.show()
    for one in tally.differences:
        one.show()
    if tally.differences:
        raise Failure(f'{len(tally.differences)} differences; '
                      f'ADIT_SEED={SEED}')
    t.equal(set(STOCK) - tally.granted, set(), 'kinds that were never granted')


if PEER != 'aditd':
    print('1..0 # SKIP it starts both')
else:
    main()
