#!/usr/bin/python3
"""Before login a client learns nothing of an account: not by what is said, and
not by the time it takes.

    ADIT_LONG=1 tests/system/34-timing.py    ten times the samples
"""
import base64
import contextlib
import math
import os
import random
import shutil
import statistics
import time

from harness import SLOW, append, authorize, case, main, public
from minimal import raw, ssh

ROUNDS = 240 if os.environ.get('ADIT_LONG') else 24
ASKED = 10  # queries a round, and as many signed requests
NAME, UID = 'somebody', 4500
POLICY = 'MaxAuthTries 1000\nMaxStartups 100\nDenyGroups jailed\n'


class Files:
    """The account NAME comes and goes: the same name each time, since the
    server's own delay depends on it."""
    paths = '/etc/passwd', '/etc/group', '/etc/shadow'

    def __init__(self):
        self.texts = {}
        for path in self.paths:
            with open(path) as f:
                self.texts[path] = f.read()
        self.keys = {n: ''.join(
            f'ssh-ed25519 {self.fresh()} key {i}\n' for i in range(n))
            for n in (1, 100)}

    @staticmethod
    def fresh():
        return base64.b64encode(ssh.Key().blob).decode()

    def restore(self):
        for path, text in self.texts.items():
            with open(path, 'w') as f:
                f.write(text)
        shutil.rmtree(f'/home/{NAME}', ignore_errors=True)

    def make(self, keys=None, expiry='', group=''):
        append('/etc/passwd', f'{NAME}:x:{UID}:{UID}::/home/{NAME}:/bin/sh\n')
        append('/etc/group', f'{NAME}:x:{UID}:\n{group}')
        append('/etc/shadow', f'{NAME}:*:1:::::{expiry}:\n')
        if keys is not None:
            authorize(NAME, keys)


# What the account may be like. The key that asks is authorised only where the
# account is closed.
STATES = {
    'no such user': lambda f: None,
    'another key': lambda f: f.make(f.keys[1]),
    '100 other keys': lambda f: f.make(f.keys[100]),
    'no authorized_keys': lambda f: f.make(),
    'in DenyGroups': lambda f: f.make(public('id'),
                                      group=f'jailed:x:4600:{NAME}\n'),
    'expired': lambda f: f.make(public('id'), expiry='1'),
}


def accounts(t):
    files = Files()
    t.undo.callback(files.restore)

    def become(state):
        files.restore()
        STATES[state](files)
    return become


def requests(c):
    """One of each kind: a question, and a claim that is well signed."""
    ask = c.auth_request('publickey', ssh.byte(0) + ssh.string('ssh-ed25519')
                         + ssh.string(c.key.blob))
    return {'query': ask, 'signed': c.auth_publickey()}


def answer(c, request):
    """What the server says, as it stands, and after how many microseconds."""
    c.send(request)
    started = time.perf_counter()
    payload = c.recv_raw()
    return payload, (time.perf_counter() - started) * 1e6


def sign_test(diffs):
    """How likely are so many of one sign, if both were as likely."""
    n = len(diffs)
    k = max(sum(d > 0 for d in diffs), sum(d < 0 for d in diffs))
    return min(1, 2 * sum(math.comb(n, i) for i in range(k, n + 1)) / 2 ** n)


def talk(srv, user):
    """All that the server says to a client that tries everything."""
    said = []
    with raw(srv, login=False, user=user) as c:
        def algorithm(name, signed=False):
            return ssh.byte(signed) + ssh.string(name) + \
                ssh.string(c.key.blob) + ssh.string('x') * signed
        ask = requests(c)
        bound = ssh.byte(0) + ssh.string('ssh-ed25519') + \
            ssh.string(c.key.blob) + ssh.string(c.host_key)
        with contextlib.suppress(TimeoutError):
            said += [dict(c.seen), c.ext_info]
            for request in (
                    c.auth_request('none'), *ask.values(),
                    c.auth_publickey(ssh.Key()),
                    c.auth_publickey(signer=ssh.Key()),
                    c.auth_request('publickey', algorithm('ssh-rsa')),
                    c.auth_request('publickey', algorithm('ssh-ed25519', 1)),
                    c.auth_request('publickey-hostbound-v00@openssh.com',
                                   bound),
                    c.auth_request('password', ssh.byte(0) + ssh.string('x')),
                    c.auth_request('none')):
                c.send(request)
                said.append(c.recv_raw())
            while True:  # more words than questions
                said.append(c.recv_raw(0.2))
    return said


def last_words(srv, user):
    with raw(srv, login=False, user=user) as c:
        try:
            while True:
                c.send(requests(c)['query'])
                c.recv_raw()
        except ssh.Disconnected as e:
            return e.reason, e.text


@case('every refusal reads the same, whoever was asked for', 'aditd')
def _(t):
    srv = t.server(POLICY + 'PermitRootLogin no')
    short = t.server(POLICY.replace('1000', '3', 1) + 'PermitRootLogin no')
    become = accounts(t)
    become('no such user')
    want, end = talk(srv, NAME), last_words(short, NAME)
    failure = ssh.byte(ssh.USERAUTH_FAILURE) + ssh.string('publickey') + \
        ssh.byte(0)
    t.equal(want[2:], [failure] * 10, 'no such user')
    t.equal(end, (2, 'Too many authentication failures'), 'the end')
    for state in STATES:
        become(state)
        t.equal(talk(srv, NAME), want, state)
        t.equal(last_words(short, NAME), end, f'{state}: the end')
    for name in ('root', 'expired', '../etc', 'x' * 255, 'a b', '\xff', '-x'):
        t.equal(talk(srv, name), want, f'as {name!r}')
        t.equal(last_words(short, name), end, f'as {name!r}: the end')


@case('who is there is not told by the time of an answer', 'aditd',
      timeout=ROUNDS * 6)
def _(t):
    srv = t.server(POLICY)
    took = {}  # what, state -> a median a round
    become = accounts(t)
    for _ in range(ROUNDS):
        for state in random.sample(list(STATES), len(STATES)):
            become(state)
            with raw(srv, login=False, user=NAME) as c:
                asked = requests(c)
                seen = {'first': [answer(c, c.auth_request('none'))[1]]}
                for what, request in asked.items():
                    seen[what] = [answer(c, request)[1]
                                  for _ in range(ASKED)]
            for what, times in seen.items():
                took.setdefault((what, state), []).append(
                    statistics.median(times))
    bad = []
    for (what, state), medians in took.items():
        base = took[what, 'no such user']
        diffs = [a - b for a, b in zip(medians, base)]
        shift, p = statistics.median(diffs), sign_test(diffs)
        print(f'# {what:7} {state:20} {statistics.median(medians):7.0f} us, '
              f'{shift:+6.0f} us, p {p:.1g}')
        # Both: steady, and larger than what a busy machine makes.
        if p < 1e-4 and abs(shift) > 60 * SLOW:
            bad.append(f'{what}: {state}: {shift:+.0f} us')
    t.equal(bad, [], 'what the time tells')


if __name__ == '__main__':
    main()
