#!/usr/bin/python3
"""Random messages from sessions in an attacker's hands, right ones and wrong
ones (tests/sandbox/owned_random.c). ADIT_TORTURE=N: N of them in place of a
sample, before and after login; SEED=n: the same again."""
import concurrent.futures
import contextlib
import itertools
import os
import pwd
import random
import socket
import time

import owned  # before the harness
from owned import LOGIN, OPEN, Session, attacked, keys, rss_kib
from harness import (COMMS, SHARED, SLOW, TOP, USER, case, main, processes,
                     reaches, sockets)

TORTURE = int(os.environ.get('ADIT_TORTURE', '0'))
TOTAL = TORTURE or 20000
SEED = int(os.environ.get('SEED', '0')) or random.SystemRandom().getrandbits(
    32)
AT_ONCE = 4
SOCKET_HOLDS = 300  # messages that a broker may have left unread
LIMIT_S = 1500 if TORTURE else 110
# A sanitizer keeps what was freed, up to 256 MiB.
MEMORY_KIB = 2048 if SLOW == 1 else 300 * 1024
WORDS = [USER, '', '\0', 'x' * 255, 'x' * 256, '127.0.0.1', '::1',
         'localhost', '*', '0.0.0.0', '127.0.0.2', 'a.name.example', 'root',
         'neighbour', f'{USER}\0', 'publickey', owned.HOSTBOUND, 'none',
         'ssh-ed25519', 'ssh-rsa', 'rsa-sha2-512',
         'sk-ssh-ed25519@openssh.com', 'ssh-ed25519-cert-v01@openssh.com',
         '%s%n%n', bytes(32), bytes(48), bytes(64)]


class Sum:
    """Of all connections."""

    def __init__(self):
        self.connections = self.sent = self.malformed = self.granted = 0
        self.beyond = self.kept = self.unread = self.fds = 0
        self.answers = {}

    def add(self, c):
        self.connections += 1
        # what the broker surely read
        self.sent += max(0, c.sent - SOCKET_HOLDS * (c.unread > 0))
        for name in ('malformed', 'granted', 'beyond', 'kept', 'unread',
                     'fds'):
            setattr(self, name, getattr(self, name) + getattr(c, name))
        for kind, n in c.answers.items():
            self.answers[kind] = self.answers.get(kind, 0) + n


def words(key):
    """A login that is nearly right is among them."""
    wrong = key.sign(b'something else')
    return WORDS + [key.blob, key.blob[:-1], wrong, wrong[:-1],
                    keys.Ed25519().blob, os.urandom(32)]


def attack(srv, key, phase, seed, opens, listens):
    with Session(srv) as s:
        s.words(words(key), opens, listens)
        if seed % 3:
            s.sign()
        if phase == OPEN:
            s.login(key)
        # few are malformed: each costs a connection
        return s.random(seed, 2000 if phase == OPEN else 600,
                        5 if phase == OPEN else 50, phase)


def waiting_port(t):
    s = socket.socket()
    t.undo.callback(s.close)
    s.bind(('127.0.0.1', 0))
    s.listen(4096)
    s.setblocking(False)
    return s


def run(t, srv, phase, total, opens, listens):
    """total messages of that phase, a few connections at a time."""
    key, sum_ = keys.Ed25519(f'{TOP}/id'), Sum()
    seeds = itertools.count(SEED * 1000)
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = set()
        while sum_.sent < total or jobs:
            while len(jobs) < AT_ONCE and sum_.sent < total:
                jobs.add(pool.submit(attack, srv, key, phase, next(seeds),
                                     opens, listens))
            done, jobs = concurrent.futures.wait(
                jobs, return_when=concurrent.futures.FIRST_COMPLETED)
            for job in done:
                sum_.add(job.result())
            if sum_.connections % 64 < len(done):
                t.true(reaches(srv.others_forward), 'the other client')
    print(f'#   {sum_.sent} messages, {sum_.malformed} malformed, on '
          f'{sum_.connections} connections in '
          f'{time.monotonic() - started:.0f} s; grants within policy '
          f'{sum_.granted}, beyond it {sum_.beyond}; answers {sum_.answers}')
    return sum_


def shared():
    """KiB of the processes that all connections share."""
    return {role: sum(rss_kib(p.pid) for p in processes(COMMS[role]))
            for role in ('listener', *SHARED)}


def check(t, srv, sum_, before):
    after = shared()
    print(f'#   RSS in KiB: {before}, afterwards {after}')
    for role in ('listener', 'keyholder'):
        t.true(after[role] - before[role] < MEMORY_KIB, f'{role} grew')
    t.equal((sum_.beyond, sum_.kept), (0, 0),
            f'grants beyond policy, malformed messages that were taken; '
            f'SEED={SEED}')
    crashes = srv.log().count('killed by signal')
    print(f'#   crashes {crashes}, seed {SEED}')
    t.equal(crashes, 0, f'crashes; SEED={SEED}')


@case('random messages before login get nothing but one signature',
      timeout=LIMIT_S)
def _(t):
    with attacked(t, log='ERROR') as srv:
        before = shared()
        sum_ = run(t, srv, LOGIN, TOTAL // 5, [], [])
        check(t, srv, sum_, before)
        t.equal((sum_.granted, sum_.fds), (0, 0), 'grants, descriptors')


@case('random messages after login get what policy permits',
      timeout=LIMIT_S)
def _(t):
    target, port = waiting_port(t), t.port()
    number = target.getsockname()[1]
    policy = (f'Match User {USER}\nPermitOpen 127.0.0.1:{number}\n'
              f'PermitListen 127.0.0.1:{port}\n')
    uid = pwd.getpwnam(USER).pw_uid  # the other client is root's
    with attacked(t, policy, 'ERROR') as srv, \
            concurrent.futures.ThreadPoolExecutor(1) as pool:
        before = shared()
        job = pool.submit(run, t, srv, OPEN, TOTAL - TOTAL // 5,
                          [('127.0.0.1', number)], [('127.0.0.1', port)])
        while not job.done():
            with contextlib.suppress(BlockingIOError):
                while True:
                    target.accept()[0].close()
            for local, lport, remote, rport, state, owner in sockets():
                if owner != uid or state not in ('01', '02', '0A'):
                    continue
                bad = lport != port if state == '0A' else rport != number
                t.true(not bad, f'a socket of {uid}: {local}:{lport} to '
                       f'{remote}:{rport}')
            concurrent.futures.wait([job], 0.05)
        sum_ = job.result()
        check(t, srv, sum_, before)
        t.true(sum_.granted > 0 and sum_.fds > 0, 'nothing was permitted')


@case('one broker takes them all in the memory that it had', timeout=LIMIT_S)
def _(t):
    total, policy = TOTAL // 10, f'Match User {USER}\nPermitOpen none\n'
    with attacked(t, policy, 'ERROR') as srv:
        known = {p.pid for p in processes(COMMS['broker'])}
        with Session(srv) as s:
            s.login()
            s.words(words(keys.Ed25519(f'{TOP}/id')))
            broker = next(p for p in processes(COMMS['broker'])
                          if p.pid not in known)
            s.random(SEED, 1000, 0, OPEN)
            before = rss_kib(broker.pid)
            counts = s.random(SEED + 1, total, 0, OPEN)
            after = rss_kib(broker.pid)
            print(f'#   {counts.sent} messages, RSS {before} KiB, afterwards '
                  f'{after}')
            t.equal((counts.sent, counts.granted), (total, 0))
            t.true(after - before < MEMORY_KIB, 'it grew')


main()
