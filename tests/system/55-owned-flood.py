#!/usr/bin/python3
"""A session in an attacker's hands that sends what no table allows, or more
than anybody needs, or turns on others (tests/sandbox/owned.h)."""
import concurrent.futures
import contextlib
import errno
import os
import signal
import time

import owned  # before the harness
from bounds import cpu_s
from owned import (AUTH, BROKER, CLIENT, CLOSE, DENIED, LOG, OTHER_AUTH, QUERY,
                   SIGN, SILENT, Session, attacked, encode, keys, rss_kib)
from harness import (COMMS, SLOW, TOP, USER, case, main, processes, reaches,
                     wait_for)

PONG = owned.NUMBERS['SESSION_PONG']
# One of each, as short as they get; and whether it is the login's.
SHORT = [(encode(SIGN, 0, 'ssh-ed25519', 32, bytes(32)), True),
         (encode(QUERY, 'u', 'a', 'k'), True),
         (encode(AUTH, 'u', 'm', 'a', 'k', 's'), True),
         (encode(OTHER_AUTH, 'u', 'm'), True), (encode(LOG, 3, 'x'), True),
         (owned.open_tcp('h', 1), False), (owned.open_tun(1, 0), False),
         (owned.listen('h', 1), False), (owned.cancel('h', 1), False),
         (encode(CLOSE, 1), False),
         (encode(PONG), False)]
# A sanitizer keeps what was freed, up to 256 MiB.
MEMORY_KIB = 2048 if SLOW == 1 else 300 * 1024
AT_ONCE = 4


def each(fn, args):
    """fn of every one of args, a few at a time."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(fn, args))


def newest(role, known):
    """The process that came after known."""
    return wait_for(lambda: [p for p in processes(COMMS[role])
                             if p.pid not in known], 5, f'no {role}')[0]


def pids(*roles):
    return {p.pid for r in roles for p in processes(COMMS[r])}


def wrong(srv, login, message, nfds=0, which=CLIENT, why=None):
    """The broker ends over it. Returns what was wrong, or None."""
    with Session(srv) as s:
        if not login:
            s.login()
        error = s.send(message, nfds, which)
        if error:
            return f'{message}, {nfds} fds: not sent, errno {error}'
        over, before = s.ended()
        if not over or [a for a in before if a.nfds or a.kind in owned.GRANTS]:
            return f'{message}, {nfds} fds: {before}, {over}'
        if why:
            s.log(f'bad message: {why}')
        return None


def none_of(t, found):
    t.equal([f for f in found if f], [], 'not refused')


@case('a message cut at any byte ends the connection', timeout=120)
def _(t):
    with attacked(t) as srv:
        for message, login in SHORT:
            with Session(srv) as s:
                if not login:
                    s.login()
                s.send(message)
                kind = message[2]
                if kind not in (LOG, CLOSE, PONG):
                    t.true(s.recv().state != SILENT, f'whole {message}')
        todo = [(m[:n], login) for m, login in SHORT for n in range(1, len(m))]
        none_of(t, each(lambda a: wrong(
            srv, a[1], a[0], why='(too short|a string past the end)'), todo))
        none_of(t, [wrong(srv, True, b'')])  # as good as the end


@case('a message too long, twice in one, or of another type ends it',
      timeout=120)
def _(t):
    with attacked(t) as srv:
        todo = []
        for m, login in SHORT:
            todo += [(m + b'\0', login, 'bytes after the last field'),
                     (m + m, login, 'bytes after the last field'),
                     (m + bytes(16384), login, 'too long'),
                     (m + bytes(65536 - len(m)), login, 'too long'),
                     (b'\0' + m[1:], login, 'another protocol version'),
                     (b'\2' + m[1:], login, 'another protocol version'),
                     (m[:1] + b'\1' + m[2:], login, 'unknown type')]
        todo += [(encode(LOG, 3, 'x' * 513), True, 'a string too long'),
                 (encode(QUERY, 'u', 'a', 'k' * 8193), True,
                  'a string too long'),
                 (owned.open_tcp('h' * 257, 1), False, 'a string too long')]
        known = {n for name, n in owned.NUMBERS.items()
                 if name in owned.INTENTS}
        for kind in {*range(80), 255, 256, 32768, 65535} - known:
            m = b'\1' + kind.to_bytes(2, 'big')
            todo += [(m + bytes(20), kind % 2 == 0, 'unknown type')]
        none_of(t, each(lambda a: wrong(srv, a[1], a[0], why=a[2]), todo))


@case('descriptors that come with a message end it, and go', timeout=120)
def _(t):
    with attacked(t) as srv:
        todo = [(m, login, n, which) for m, login in SHORT
                for n, which in ((1, CLIENT), (1, BROKER), (6, BROKER),
                                 (7, CLIENT), (16, BROKER), (253, CLIENT))]
        none_of(t, each(lambda a: wrong(
            srv, a[1], a[0], a[2], a[3],
            f'{"wrong number of" if a[2] < 7 else "too many"} descriptors'),
            todo))
        wait_for(lambda: len(processes(COMMS['broker'])) == 1, 10,
                 lambda: f'left: {processes()}')
        # Credentials are no descriptors; nobody reads them.
        known = pids('session')
        with Session(srv) as s:
            m = encode(OTHER_AUTH, USER, 'none')
            p = newest('session', known)
            ids = p.ids('Uid')[0], p.ids('Gid')[0]
            t.equal(s.send_as(m, p.pid, 0, 0), errno.EPERM, 'root')
            t.equal(s.send_as(m, 1, *ids), errno.EPERM, 'another process')
            t.equal(s.send_as(m, p.pid, *ids), 0, 'its own')
            t.equal(s.recv().kind, DENIED)


# Floods.

def flooded(t, messages, n, policy='', lines=400):
    """n of each of messages, after a login: what it costs."""
    with attacked(t, policy) as srv:
        known = pids('broker')
        with Session(srv) as s:
            broker = newest('broker', known).pid
            s.login()
            for m in messages:
                s.flood(60, m)
            before, size = rss_kib(broker), srv.log().count('\n')
            started, slowest, echoes = time.monotonic(), 0, 0
            for m in messages:
                with concurrent.futures.ThreadPoolExecutor(1) as pool:
                    job = pool.submit(s.flood, n, m)
                    while not job.done():
                        since = time.monotonic()
                        t.true(reaches(srv.others_forward), 'the other client')
                        slowest = max(slowest, time.monotonic() - since)
                        echoes += 1
                counts = job.result()
                t.equal((counts.sent, counts.kept), (n, 1), f'{m}')
            took = time.monotonic() - started
            grown = rss_kib(broker) - before
            # the other client's opens have lines, too
            written = srv.log().count('\n') - size - echoes
        print(f'#   {n * len(messages)} messages in {took:.1f} s, {written} '
              f'lines, RSS {before} {grown:+} KiB, the other waited '
              f'{slowest:.2f} s')
        t.true(grown < MEMORY_KIB, f'{grown} KiB more')
        t.true(written < lines * (took + 1), f'{written} lines')
        t.true(slowest < 2 * SLOW, f'the other waited {slowest} s')


@case('a flood of refused requests costs neither memory nor the log',
      timeout=120)
def _(t):
    flooded(t, [owned.open_tcp('127.0.0.1', 1), owned.open_tcp('', 1),
                owned.open_tun(1, 0), owned.listen('127.0.0.1', 1),
                owned.listen('127.0.0.1', 70000), owned.cancel('x', 1),
                encode(CLOSE, 1), encode(LOG, 3, 'a word ' * 70)],
            1500, policy=f'Match User {USER}\nPermitOpen none\n')


@case('a flood of requests that fail costs neither memory nor the log',
      timeout=120)
def _(t):
    used = t.target()
    flooded(t, [owned.open_tcp('127.0.0.1', 1),
                owned.open_tcp('255.255.255.255', 1),
                owned.listen('', used.port)], 150)


@case('a session that reads no answers is asked to wait, and costs nothing')
def _(t):
    with attacked(t) as srv:
        known = pids('broker'), pids('session')
        with Session(srv) as s:
            broker = newest('broker', known[0]).pid
            session = newest('session', known[1]).pid
            s.login()
            s.flood(10, owned.cancel('x', 1))
            before = rss_kib(broker)
            s.sock.settimeout(2 * SLOW)
            with contextlib.suppress(TimeoutError):
                s.flood(100000, owned.cancel('x', 1), reads=False)
                t.true(False, 'it went on')
            t.true(rss_kib(broker) - before < MEMORY_KIB, 'memory')
            t.true(reaches(srv.others_forward), 'the other client')
            busy = cpu_s(broker)
            time.sleep(0.5)
            t.true(cpu_s(broker) - busy < 0.2, 'it spins')
            os.kill(session, signal.SIGKILL)  # it would wait for ever
            srv.expected_deaths += 1
            wait_for(lambda: broker not in pids('broker'), 5, 'the broker')


@case('questions before login come to an end, and cost little', timeout=90)
def _(t):
    key = keys.Ed25519(f'{TOP}/id')
    with attacked(t) as srv:
        for m in (encode(QUERY, USER, key.kind, key.blob),
                  encode(OTHER_AUTH, USER, 'none'),
                  encode(AUTH, USER, owned.PLAIN, key.kind, key.blob, b'')):
            known = pids('broker')
            with Session(srv) as s:
                s.sign()
                counts = s.flood(3000, m)
                t.equal(counts.kept, 0, 'the broker goes on')
                s.log('goes on asking')
                t.true(sum(counts.answers.values()) <= 1024,
                       f'{counts.answers}')


# Others.

@case('a session that turns on another process dies, the other does not')
def _(t):
    with attacked(t) as srv:
        known = pids('session', 'broker')
        with Session(srv) as victim:
            victim.sign()
            other = newest('session', known).pid
            targets = [other, newest('broker', known).pid,
                       processes(COMMS['sessionzyg'])[0].pid]
            calls = [(c, p) for c in ('kill', 'tgkill', 'ptrace', 'pidfd_open',
                                      'process_vm_readv') for p in targets]
            calls += [(c, 0) for c in ('dup', 'socket', 'fork')]
            if SLOW > 1:  # what a sanitizer needs for itself
                calls = [c for c in calls if c[0] != 'tgkill']
            for n, (name, pid) in enumerate(calls):
                # Each from an address of its own, which is penalised.
                with Session(srv, f'127.0.1.{n + 1}') as s, \
                        contextlib.suppress(ConnectionError):
                    try:
                        got = s.call(name, pid)
                    except owned.Failure:
                        got = None
                    t.equal(got, None, f'{name} {pid}')
                srv.wait_log(rf'session of connection \d+ from 127.0.1.{n + 1}'
                             r' port \d+ was killed by signal 31')
            t.equal(set(targets[:2]) - pids('session', 'broker'), set(),
                    'who is dead')
            victim.login()
        log = srv.log().replace('killed by signal 31 (a system call outside '
                                'its sandbox)', '')
        t.true('killed by signal' not in log, 'another one crashed')
        srv.expected_deaths = len(calls)


def rushes(t, srv, seconds):
    """What goes through an echo as fast as it can: bytes, until the end or for
    so long; and whether it is over."""
    echo, n = t.target(), 0
    with Session(srv) as s:
        s.login()
        t.equal(s.ask(owned.open_tcp('127.0.0.1', echo.port)).kind,
                owned.OPENED)
        end = time.monotonic() + seconds * SLOW
        try:
            while time.monotonic() < end:
                n += len(s.talk(bytes(30000)))
        except (OSError, owned.Failure):
            return s, n, True
    return s, n, False


@case('a session that ignores its RateLimit is cut, and the log says so')
def _(t):
    for way, limit in (('up', 'session up 64K/s'),
                       ('down', 'session down 64K/s'),
                       ('up', 'user 64K/s')):
        rule = f'RateLimit {limit}'
        audit = f'{TOP}/audit.{way}.{limit.split()[0]}'
        with attacked(t, f'AuditLog {audit}\nMatch User {USER}\n{rule}\n'
                      ) as srv:
            s, n, over = rushes(t, srv, 15)
            t.true(over, f'{rule}: {n} bytes, and it goes on')
            if limit.startswith('user'):
                limit = 'user up 65536/s down 65536/s'
            limit = limit.replace('64K', '65536')
            s.log(f'security: session of .* for {USER} does not keep to its '
                  rf'rate: \d+ bytes {way} in \d+ ms, 65536 a second are '
                  rf'permitted: {srv.policy}:\d+: RateLimit {limit}$')
            with open(audit) as f:
                wait_for(lambda: '"reason":"security: its session does not '
                         'keep to its RateLimit"' in f.read(), 5,
                         'not in the audit log')
    with attacked(t, f'Match User {USER}\nRateLimit session 1G/s\n') as srv:
        s, n, over = rushes(t, srv, 3)
        t.true(not over, f'cut after {n} bytes')


@case('a session that outstays its broker is killed, whatever it holds')
def _(t):
    with attacked(t) as srv:
        known = pids('session', 'broker')
        with Session(srv) as s:
            s.login()
            session, broker = newest('session', known), newest('broker', known)
            s.tell('H')
            os.kill(broker.pid, signal.SIGTERM)
            # its client's socket is closed with it
            t.equal(s.sock.recv(1), b'', 'the client')
            wait_for(lambda: session.pid not in pids('session'), 5,
                     'it is still there')
        srv.expected_deaths = 2


@case('a socket in flight does not outlive the connection')
def _(t):
    with attacked(t) as srv:
        known = pids('session', 'broker')
        with Session(srv) as s:
            s.login()
            session, broker = newest('session', known), newest('broker', known)
            os.kill(broker.pid, signal.SIGSTOP)  # it reads nothing
            for which in (CLIENT, BROKER):
                t.equal(s.send(encode(LOG, 3, 'x'), 16, which), 0)
            os.kill(session.pid, signal.SIGKILL)
            wait_for(lambda: session.pid not in pids('session'), 5,
                     'the session')
            os.kill(broker.pid, signal.SIGCONT)
            t.equal(s.sock.recv(1), b'', 'the client')
            wait_for(lambda: broker.pid not in pids('broker'), 5,
                     'the broker')
        srv.expected_deaths = 1


@case('a client that goes ends its session and its broker')
def _(t):
    with attacked(t) as srv:
        known = pids('session', 'broker')
        s = Session(srv)
        s.login()
        t.equal(len(pids('session', 'broker') - known), 2)
        s.sock.close()
        wait_for(lambda: pids('session', 'broker') == known, 5,
                 lambda: f'left: {processes()}')


main()
