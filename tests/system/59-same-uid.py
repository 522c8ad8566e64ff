#!/usr/bin/python3
"""What another process of the same uid can do to adit's processes: nothing but
send signals. Each way is tried from a process that has become that uid, and,
to show that the try is right, on an ordinary process of that uid."""
import contextlib
import ctypes
import errno
import json
import os
import pwd
import signal
import stat
import subprocess

from harness import COMMS, USER, case, connect, main, processes, wait_for

libc = ctypes.CDLL(None, use_errno=True)
ATTACH, SEIZE, DETACH = 16, 0x4206, 17
PIDFD_OPEN, PIDFD_GETFD, READV, WRITEV, KCMP = 434, 438, 310, 311, 312


class Iovec(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]


def call(function, *args):
    function.restype = ctypes.c_long
    got = function(*(ctypes.c_long(a) if isinstance(a, int) else a
                     for a in args))
    if got < 0:
        raise OSError(ctypes.get_errno(), 'refused')
    return got


# The ways: each raises OSError when it is refused.

def attach(pid, _):
    call(libc.ptrace, ATTACH, pid, 0, 0)
    os.waitpid(pid, getattr(os, '__WALL', 0x40000000))
    call(libc.ptrace, DETACH, pid, 0, 0)


def seize(pid, _):
    call(libc.ptrace, SEIZE, pid, 0, 0)


def copy(number):
    def way(pid, address):
        buf = ctypes.create_string_buffer(8)
        here = Iovec(ctypes.addressof(buf), 8)
        there = Iovec(address, 8)
        call(libc.syscall, number, pid, ctypes.byref(here), 1,
             ctypes.byref(there), 1, 0)
    return way


def memory(mode):
    def way(pid, address):
        with open(f'/proc/{pid}/mem', mode, 0) as f:
            f.seek(address)
            if len(f.read(8)) != 8:
                raise OSError(errno.EIO, 'nothing')
    return way


def read(name):
    def way(pid, _):
        with open(f'/proc/{pid}/{name}', 'rb') as f:
            f.read(1)
    return way


def link(name):
    def way(pid, _):
        os.readlink(f'/proc/{pid}/{name}')
    return way


def listing(name):
    def way(pid, _):
        os.listdir(f'/proc/{pid}/{name}')
    return way


def take_fd(pid, _):
    call(libc.syscall, PIDFD_GETFD, call(libc.syscall, PIDFD_OPEN, pid, 0), 0,
         0)


def compare(pid, _):
    call(libc.syscall, KCMP, os.getpid(), pid, 0, 0, 0)


WAYS = {
    'process_vm_readv': copy(READV), 'process_vm_writev': copy(WRITEV),
    'read mem': memory('rb'), 'write mem': memory('rb+'),
    'list fd': listing('fd'), 'read fd': read('fd/0'), 'fd': link('fd/0'),
    'pidfd_getfd': take_fd, 'kcmp': compare, 'environ': read('environ'),
    'maps': read('maps'), 'auxv': read('auxv'), 'map_files':
    listing('map_files'), 'cwd': link('cwd'), 'root': link('root'),
    'exe': link('exe'), 'namespace': link('ns/net'), 'attach': attach,
    'seize': seize,
}


def attempts(ids, targets):
    """Try every way as ids (uid, gid, groups) on targets ({pid: address}):
    {pid: [ways that work]}."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.close(r)
            os.setgroups(ids[2])
            os.setresgid(ids[1], ids[1], ids[1])
            os.setresuid(ids[0], ids[0], ids[0])
            libc.prctl(4, 1, 0, 0, 0)  # dumpable, as after exec
            found = {}
            for target, address in targets.items():
                found[target] = []
                for name, way in WAYS.items():
                    with contextlib.suppress(OSError):
                        way(target, address)
                        found[target].append(name)
            with os.fdopen(w, 'w') as f:
                json.dump(found, f)
        os._exit(0)
    os.close(w)
    with os.fdopen(r) as f:
        text = f.read()
    os.waitpid(pid, 0)
    return {int(p): ways for p, ways in json.loads(text).items()}


def address(pid):
    """Of something that can be written, also while the loader is at work."""
    with open(f'/proc/{pid}/maps') as f:
        for line in f:
            if line.endswith('[stack]\n'):
                return int(line.split('-')[0], 16)


def ordinary(t, ids):
    """A process as any of that uid."""
    p = subprocess.Popen(
        ['setpriv', f'--reuid={ids[0]}', f'--regid={ids[1]}',
         '--clear-groups', '--', 'sleep', '600'],
        stdin=subprocess.DEVNULL)
    t.undo.callback(p.wait)
    t.undo.callback(p.kill)
    wait_for(lambda: os.readlink(f'/proc/{p.pid}/exe').endswith('sleep'), 5,
             'no sleep')
    return p.pid


def yama():
    try:
        with open('/proc/sys/kernel/yama/ptrace_scope') as f:
            return f.read().strip()
    except FileNotFoundError:
        return 'absent'


def check(t, who, ids):
    """Nothing works on adit's, all works on an ordinary process."""
    ours = {p.pid: p for p in processes() if p.comm in COMMS.values()}
    t.true(any(p.ids('Uid')[0] == ids[0] for p in ours.values()),
           f'none is {who}')
    control = ordinary(t, ids)
    targets = {pid: address(pid) for pid in [control, *ours]}
    found = attempts(ids, targets)
    scope = yama()
    missing = [way for way in WAYS if way not in found[control]]
    print(f'# {who}: {len(WAYS)} ways on {len(ours)} processes; on an '
          f'ordinary one {len(found[control])} work (yama {scope})')
    # Where even that is refused, the machine protects everybody.
    if scope in ('absent', '0'):
        t.equal(missing, [], f'{who}: ways that do not work anyway')
    worked = {repr(ours[pid]): ways for pid, ways in found.items()
              if pid in ours and ways}
    t.equal(worked, {}, f'{who}: what works')


@case('a process of the same account cannot look into its broker', 'aditd')
def _(t):
    srv, port = t.server(), t.port()
    t.client(srv, '-R', f'{port}:127.0.0.1:9')
    who = pwd.getpwnam(USER)
    check(t, USER, (who.pw_uid, who.pw_gid, [who.pw_gid, 4100]))


def register(role, who):
    @case(f'a process with the uid of the {who} cannot look into any', 'aditd')
    def _(t):
        srv = t.server()
        t.client(srv)
        with connect(srv.port) as s:  # one more, before its login
            s.recv(100)
            p = wait_for(lambda: processes(COMMS[role]), 5, f'no {role}')[0]
            check(t, who, (p.ids('Uid')[0], p.ids('Gid')[0], []))


register('session', 'sessions')
register('keyholder', 'keyholder')


@case('of an ordinary user\'s server no process can be looked into', 'aditd')
def _(t):
    srv = t.server(user=USER)
    t.client(srv)
    who = pwd.getpwnam(USER)
    check(t, 'the user', (who.pw_uid, who.pw_gid, [who.pw_gid, 4100]))


@case('no socket of adit has a name that anybody could connect to', 'aditd')
def _(t):
    srv = t.server()
    t.client(srv)
    with connect(srv.port) as s:
        s.recv(100)
        ours = [p for p in processes() if p.comm in COMMS.values()]
        inodes, seen = set(), 0
        for p in ours:
            inodes |= {to[8:-1] for to in p.fds().values()
                       if to.startswith('socket:')}
        for p in ours:  # each network namespace
            with open(f'/proc/{p.pid}/net/unix') as f:
                for w in map(str.split, list(f)[1:]):
                    if w[6] in inodes:
                        seen += 1
                        t.equal(w[7:], [], f'{p}: a name')
                        # Accepting connections: __SO_ACCEPTCON
                        t.true(not int(w[3], 16) & 0x10000, f'{p}: listens')
        t.true(seen > 10, f'{seen} sockets')
        # /run is our own: nobody else's are there.
        t.equal([path for top, _, names in os.walk('/run')
                 for path in (f'{top}/{name}' for name in names)
                 if stat.S_ISSOCK(os.lstat(path).st_mode)], [], 'sockets')


@case('what the same account may do, kill its broker, ends its connection',
      'aditd')
def _(t):
    srv = t.server()
    client, other = t.client(srv), t.client(srv, user='neighbour')
    broker = next(p for p in processes(COMMS['broker'])
                  if p.ids('Uid')[0] == 4001)
    ours = [p.pid for p in processes() if p.comm in COMMS.values()]
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.setresuid(4001, 4001, 4001)
            for target in ours:
                with contextlib.suppress(OSError):
                    os.kill(target, signal.SIGKILL)
        os._exit(0)
    os.waitpid(pid, 0)
    t.true(client.wait(5) != 0, 'exit status of the client')
    wait_for(lambda: broker.pid not in [p.pid for p in processes()], 5,
             'the broker')
    t.equal(other.process.poll(), None, 'the client of another account')
    t.true(t.logs_in(srv, user='neighbour') and t.logs_in(srv), 'logins')


if __name__ == '__main__':
    main()
