#!/usr/bin/python3
"""One fault after another, at random, under live sessions: each harms what it
hits and nothing else, and leaves nothing behind.

    ADIT_SEED=N      the same faults again
    ADIT_TORTURE=1   200 rounds (so does ADIT_LONG=1)
    ADIT_ROUNDS=N    that many
    ADIT_FAULT=WORD  only faults whose name contains it
    ADIT_VERBOSE=1   say each round
"""
import contextlib
import os
import random
import re
import signal
import socket
import struct
import threading
import time

from faults import Syslog, World, dead_dns, gone, nfds, own_dev, socks
from harness import (COMMS, PER_CONNECTION, SHARED, SLOW, TOP, USER, Failure,
                     Process, authorize, case, connect, main, processes,
                     public, reaches, run, sh, skip_all, talk, wait_for)
from minimal import raw, ssh

if not os.path.exists('/dev/net/tun'):
    skip_all('no /dev/net/tun')

LONG = '1' in (os.environ.get('ADIT_LONG'), os.environ.get('ADIT_TORTURE'))
ROUNDS = int(os.environ.get('ADIT_ROUNDS', 200 if LONG else 25))
# A lookup: until the resolver library gives up, or until adit does.
DNS = 'timeout:30 attempts:2' if LONG else 'timeout:2 attempts:1'
LOOKUP_S = (30 if LONG else 4) + 10 * SLOW

FAULTS = []


def fault(name, weight=2):
    def register(fn):
        FAULTS.append((name, weight, fn))
        return fn
    return register


def pause(w):
    """For as long as a fault lasts; nothing is waited for."""
    time.sleep(w.choice.uniform(0.1, 0.8))


# Death.

@fault('kill -9 of the listener', 1)
def _(w):
    """Its sessions live on, rekey, and end with their clients."""
    w.srv.process.kill()
    w.srv.process.wait()
    w.check_alive()
    for s in w.sessions:
        if not s.channel_works():
            raise Failure(f'{s}: no channel without the listener')
    w.end()
    wait_for(lambda: not [p for p in processes() if p.comm[:4] == 'adit'], 10,
             lambda: f'left: {processes()}')
    w.start()


@fault('kill -9 of a role')
def _(w):
    role = w.choice.choice(SHARED)
    old = w.one(role)
    os.kill(old, signal.SIGKILL)
    with w.logins(2):  # these may be lost with it
        wait_for(lambda: [pid for pid in w.all(role) if pid != old], 10,
                 lambda: f'{role} is not started again')
    return role


@fault('kill -9 of a session or a broker', 4)
def _(w):
    s = w.choice.choice(w.sessions)
    role = w.choice.choice(PER_CONNECTION)
    since = time.monotonic()
    os.kill(s.pids[role], signal.SIGKILL)
    w.sees_close(s, since)
    return f'{role} of {s}'


# Shortage.

LIMITS = {'nofile': 'Max open files', 'as': 'Max address space'}


@contextlib.contextmanager
def limited(pid, what, soft):
    """As who it is: another's limits take CAP_SYS_RESOURCE, which root has
    not everywhere."""
    p = Process(pid)

    def limit(value):
        run('prlimit', '--pid', pid, f'--{what}={value}:',
            user=p.ids('Uid')[0], group=p.ids('Gid')[0], extra_groups=[])
    with open(f'/proc/{pid}/limits') as f:
        old = re.search(rf'{LIMITS[what]} +(\w+)', f.read())[1]
    limit(soft)
    try:
        yield
    finally:
        with contextlib.suppress(Failure):  # it may be gone
            limit(old)


def use(w, s):
    """Its session opens channels, which may be refused: whether none was."""
    good = [s.channel_works() for _ in range(3)]
    with contextlib.suppress(OSError):
        s.open('localhost', w.echo.port).close()
    if s.kind == 'R':
        good.append(reaches(s.port))
    return all(good)


def starve_role(w, what, soft, role):
    pid = w.one(role)
    with w.logins(3), limited(pid, what, soft(pid)):
        pause(w)
    if gone(w.srv.pid):
        raise Failure('the listener is gone')
    return role


def starve(w, what, soft):
    """Have a role, or a process of a session's, run short while it is asked
    for more. A session may end of it."""
    role = w.choice.choice(('listener', *SHARED, *PER_CONNECTION))
    if role not in PER_CONNECTION:
        return starve_role(w, what, soft, role)
    s = w.choice.choice(w.sessions)
    pid = s.pids[role]
    with limited(pid, what, soft(pid)):
        good = use(w, s)
    with contextlib.suppress(Failure):
        wait_for(lambda: good or gone(pid), 0.5, '')
    if gone(pid):
        w.lost(s)
    return f'{role} of {s}{", which ended" if gone(pid) else ""}'


def memory(p):
    """The bytes of address space that it has."""
    return int(p.status['VmSize'].split()[0]) * 1024


@fault('no descriptor is left', 4)
def _(w):
    return starve(w, 'nofile',
                  lambda pid: max(4, nfds(pid) + w.choice.randint(-4, 5)))


if SLOW == 1:  # a sanitizer ends a process that gets no memory
    @fault('no memory is left', 4)
    def _(w):
        return starve(w, 'as',
                      lambda pid: memory(Process(pid)) +
                      w.choice.choice((0, 1 << 14, 1 << 18)))


# Logs.

def logs_again(w, at):
    """Logins are logged from at on, with a word on what is missing."""
    wait_for(w.logs_in, 10, 'no login')
    wait_for(lambda: re.search(r'\d+ log lines were lost', w.log()[at:]), 10,
             'what was lost is not said')
    wait_for(lambda: 'Accepted publickey' in w.log()[at:], 10,
             'nothing is logged any more')


@fault('nobody takes the log')
def _(w):
    if w.to_syslog:
        w.syslog.stop()
        at = len(w.log())
        undo = w.syslog.start
    else:
        at = len(w.log())
        undo = fill_disk(w)
    try:
        with w.logins(2, must=True):
            w.check_alive()
    finally:
        undo()
    logs_again(w, at)
    return 'syslog' if w.to_syslog else 'disk full'


def fill_disk(w):
    """To the last byte, with the log's own last page."""
    path = f'{os.path.dirname(w.log_file)}/filler'
    with open(path, 'wb', 0) as filler, open(w.log_file, 'ab', 0) as log:
        for f, data in (filler, bytes(1 << 16)), (filler, b'.'), (log, b'.'):
            with contextlib.suppress(OSError):
                while f.write(data):
                    pass
    return lambda: os.unlink(path)


# What sessions connect to.

@fault('a name server that never answers', 3)
def _(w):
    # A broker has four lookups at once.
    s = w.choice.choice([s for s in w.sessions if not s.is_far])
    if len(w.lookups([s])) > 3:
        return 'no more'
    before = set(w.lookups())
    w.pending.append((socks(s.proxy, f'n{w.choice.random()}.example', 80),
                      time.monotonic()))
    wait_for(lambda: set(w.lookups()) - before, 5, 'no lookup')
    if not s.channel_works():
        raise Failure(f'{s}: a lookup holds up another channel')
    if w.choice.random() < 0.5:
        for pid in set(w.lookups()) - before:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not set(w.lookups()) - before, 5, 'it is left')
        return f'killed, of {s}'
    return repr(s)


@fault('a target that accepts and stalls')
def _(w):
    s, done = w.choice.choice(w.sessions), threading.Event()
    target = w.t.target(lambda c: done.wait(60), host='127.0.0.1')
    sent = 0
    with s.open('127.0.0.1', target.port) as c:
        c.settimeout(0.3 * SLOW)
        with contextlib.suppress(socket.timeout):
            while sent < 64 << 20:
                sent += c.send(bytes(1 << 16))
        if sent >= 64 << 20:
            raise Failure(f'{sent} bytes are taken in, and nobody reads')
        w.check_alive()
        if not s.channel_works():
            raise Failure(f'{s}: no channel besides one that stalls')
    done.set()
    target.close()
    return f'{s}, {sent} bytes'


@fault('a target that resets')
def _(w):
    def reset(c):
        c.recv(1)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                     struct.pack('ii', 1, 0))
    s, target = w.choice.choice(w.sessions), w.t.target(reset)
    for _ in range(5):
        with s.open('127.0.0.1', target.port) as c:
            c.settimeout(5 * SLOW)
            try:
                c.sendall(bytes(100000))
                if c.recv(1):
                    raise Failure('a byte from a target that sent none')
            except socket.timeout:
                raise Failure(f'{s}: a reset is not passed on') from None
            except OSError:
                pass
    target.close()
    return repr(s)


@fault('the device is deleted')
def _(w):
    s, = [s for s in w.sessions if s.kind == 'w']
    sh('ip', 'link', 'del', 'tun0')
    if not s.channel_works():
        raise Failure('the session ends with its device')
    w.lost(s)


# Standstill.

@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@fault('a client stands still')
def _(w):
    s = w.choice.choice(w.sessions)
    with stopped(s.client.pid):
        pause(w)
    return repr(s)


@fault('a process stands still', 4)
def _(w):
    role = w.choice.choice(('listener', *SHARED, *PER_CONNECTION))
    s = w.choice.choice(w.sessions)
    with w.logins(2, must=True):
        with stopped(s.pids[role] if role in s.pids else w.one(role)):
            pause(w)
    return role


@fault('a network that is cut for a while')
def _(w):
    sh('ip', 'link', 'set', w.far.near, 'down')
    try:
        with w.logins(1, must=True):
            pause(w)
    finally:
        sh('ip', 'link', 'set', w.far.near, 'up')


@fault('a client that does not answer any more', 1)
def _(w):
    """One that the policy has keepalives for."""
    before = {p.pid for p in processes()}
    client = w.t.client(w.srv, '-R', f'0:127.0.0.1:{w.echo.port}',
                        user='neighbour', host=w.faint.ours,
                        prefix=w.faint.prefix)
    mine = [p.pid for p in processes() if p.pid not in before and
            p.comm in ('adit-session', 'adit-broker')]
    cut = w.choice.random() < 0.5
    with contextlib.ExitStack() as undo:
        if cut:
            undo.callback(sh, 'ip', 'link', 'set', w.faint.near, 'up')
            sh('ip', 'link', 'set', w.faint.near, 'down')
        else:
            undo.enter_context(stopped(client.pid))
        wait_for(lambda: all(map(gone, mine)), 5, 'it is not ended')
    client.stop()
    return 'network' if cut else 'client'


# The rounds.

def torture(t, seed):
    choice = random.Random(seed)
    word = os.environ.get('ADIT_FAULT', '')
    faults = [f for f in FAULTS if word in f[0]]
    folder = f'{t.folder}/logs'
    os.mkdir(folder)
    sh('mount', '-t', 'tmpfs', '-o', 'mode=755,size=32M', 'tmpfs', folder)
    t.undo.callback(sh, 'umount', '-l', folder)
    t.undo.enter_context(dead_dns(DNS))
    t.undo.enter_context(own_dev(f'{t.folder}/dev'))
    syslog = Syslog()
    t.undo.callback(syslog.stop)
    w = World(t, choice, folder, syslog)
    t.undo.callback(w.end)
    counts = {}
    for n in range(1, ROUNDS + 1):
        name, _, fn = choice.choices(faults, [f[1] for f in faults])[0]
        detail = ''
        try:
            detail = fn(w) or ''
            w.check(LOOKUP_S)
        except (Failure, OSError) as e:
            tail = '\n'.join(w.log().splitlines()[-25:])
            raise Failure(f'ADIT_SEED={seed}, round {n}, {name} {detail}: '
                          f'{e}\n{tail}') from e
        counts[name] = counts.get(name, 0) + 1
        if os.environ.get('ADIT_VERBOSE'):
            print(f'# {n}: {name} {detail}')
    for name in sorted(counts):
        print(f'#   {counts[name]} x {name}')
    return w


def run_files():
    """What may be left there: sockets, locks, process ids."""
    return {f'{folder}/{name}' for folder, _, names in os.walk('/run')
            for name in names if not folder.startswith((TOP, '/run/etc'))}


@case(f'{ROUNDS} faults, one after another, harm what they hit', 'aditd',
      timeout=3600 if LONG else 300)
def _(t):
    seed = int(os.environ.get('ADIT_SEED', random.randrange(1 << 32)))
    files = run_files()
    print(f'# ADIT_SEED={seed}')
    w = torture(t, seed)
    wait_for(lambda: w.check_pending(LOOKUP_S) or not w.pending,
             LOOKUP_S + 1, 'lookups are left')
    w.end()
    wait_for(lambda: not w.counts(), 10,
             lambda: f'descriptors: {w.counts()}')
    w.check_memory()
    print(f'#   a client saw the close after {max(w.close_s):.3f} s at most, '
          f'of {len(w.close_s) - 1}; growth in kB: {w.growth_kb}')
    w.srv.stop()
    wait_for(lambda: not [p for p in processes() if p.comm[:4] == 'adit'], 5,
             lambda: f'left: {processes()}')
    t.equal(run_files(), files, 'files in /run')
    with open(w.log_file, errors='replace') as f:
        bad = re.search('.*(AddressSanitizer|runtime error:|SIGSYS).*',
                        f.read())
    t.true(not bad, bad and bad[0])


def register_shortage(role, words, name):
    @case(f'{role} without {words} drops connections, says so, and goes on',
          'aditd')
    def _(t):
        srv, echo, port = t.server('MaxStartups 100'), t.target(), t.port()
        t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
        t.true(t.logs_in(srv), 'login')
        wait_for(lambda: len(processes(COMMS['session'])) == 1, 5, 'a session')
        p, = processes(COMMS[role])
        with contextlib.ExitStack() as held, \
                limited(p.pid, 'nofile', nfds(p.pid)):
            for n in range(50):
                s = held.enter_context(connect(srv.port))
                if re.search(f'{name}: out of {words}', srv.log()):
                    break
                s.recv(100)
            srv.wait_log(f'{name}: out of {words}')
            t.true(reaches(port), 'another session')
        wait_for(lambda: t.logs_in(srv), 2, 'no login any more')
        t.true(reaches(port), 'another session, afterwards')
        t.equal([q.pid for q in processes(COMMS[role])], [p.pid],
                'is it restarted')


def kill_keyholder():
    """Until there is another one."""
    old, = processes(COMMS['keyholder'])
    os.kill(old.pid, signal.SIGKILL)
    wait_for(lambda: [p for p in processes(COMMS['keyholder'])
                      if p.pid != old.pid], 10, 'there is no new one')


register_shortage('keyholder', 'descriptors', 'keyholder')
register_shortage('brokerzyg', 'descriptors', 'broker-zygote')
register_shortage('sessionzyg', 'descriptors', 'session-zygote')

if SLOW == 1:  # a sanitizer ends a process that gets no memory
    @case('keyholder that gets no memory lives on what it has', 'aditd')
    def _(t):
        srv = t.server('MaxStartups 100')
        t.true(t.logs_in(srv), 'login')
        p, = processes(COMMS['keyholder'])
        with contextlib.ExitStack() as held, limited(p.pid, 'as', memory(p)):
            for _ in range(50):
                held.enter_context(connect(srv.port)).recv(100)
            t.true(t.logs_in(srv), 'a login meanwhile')
        t.equal([q.pid for q in processes(COMMS['keyholder'])], [p.pid],
                'is it restarted')


@case('where nobody counts connections MaxConnections lets nobody in',
      'aditd')
def _(t):
    srv = t.server('MaxConnections 1')
    with raw(srv, login=False) as c:
        srv.process.kill()
        srv.process.wait()
        try:
            t.true(not c.auth(), 'it is let in')
        except ssh.Disconnected as e:
            t.match('cannot be counted', str(e))
    srv.wait_log(f'does not count the connections of {USER}: refused a login')


@case('a broker without room for a new keyholder takes the next one',
      'aditd')
def _(t):
    srv = t.server()
    with raw(srv) as c:
        broker, = processes(COMMS['broker'])
        fds = {int(fd) for fd in os.listdir(f'/proc/{broker.pid}/fd')}
        free = min(set(range(len(fds) + 1)) - fds)
        with limited(broker.pid, 'nofile', free):
            kill_keyholder()
            srv.wait_log('no descriptor is left for one of the listener')
        kill_keyholder()
        c.rekey()
        c.barrier()


@case('an expiry-time that passes ends the session, and lets nobody in',
      'aditd')
def _(t):
    """The one thing that goes by the clock that can be set."""
    end = time.gmtime(time.time() + 3 + SLOW)
    text = time.strftime('%Y%m%d%H%M%SZ', end)
    authorize(USER, f'expiry-time="{text}" {public("id")}')
    srv, echo, port = t.server(), t.target(), t.port()
    client = t.client(srv, '-o', 'RekeyLimit=100K', '-L',
                      f'{port}:127.0.0.1:{echo.port}')
    t.equal(len(talk(port, bytes(100000))), 100000, 'the session')
    wait_for(lambda: not t.logs_in(srv), 10, 'it stays valid')
    t.true(time.gmtime() > end, 'it is refused too soon')
    t.true(client.wait() != 0, 'it goes on')


if __name__ == '__main__':
    main()
