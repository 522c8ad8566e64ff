#!/usr/bin/python3
"""Where the host keys are, and where they are not; what sessions share."""
import base64
import contextlib
import hashlib
import os
import re
import signal
import socket

from harness import (COMMS, SLOW, TOP, USER, Process, case, connect, keygen,
                     main, one, processes, sh, wait_for)
from minimal import Witness, raw, ssh  # skips all without cryptography
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

FAULT = signal.SIGSEGV if SLOW == 1 else signal.SIGABRT


# The host keys.

def numbers(path):
    """The secrets of a key file, by name, as they may stand in memory."""
    with open(path, 'rb') as f:
        text = f.read()
    key = load_ssh_private_key(text, None)
    found = {}
    if isinstance(key, ed25519.Ed25519PrivateKey):
        blob = base64.b64decode(b''.join(text.split(b'\n')[1:-2]))
        with open(f'{path}.pub') as f:
            public = base64.b64decode(f.read().split()[1])[-32:]
        at = blob.rindex(public)
        seed = blob[at - 32:at]
        found['seed'] = [seed]
        # What it signs with; the ends are masked.
        found['scalar'] = [hashlib.sha512(seed).digest()[1:31]]
    else:
        n = key.private_numbers()
        for name in ('p', 'q', 'd', 'dmp1', 'dmq1', 'iqmp', 'private_value'):
            if hasattr(n, name):
                v = getattr(n, name)
                size = (v.bit_length() + 7) // 8
                found[name] = [v.to_bytes(size, 'big'),
                               v.to_bytes(size, 'little')]
    # Lines of the file in which nothing is public.
    found['text'] = text.split(b'\n')[-4:-3]
    return found


def holders(pid, secrets):
    """The names of those that the process has in memory."""
    left = dict(secrets)
    with contextlib.ExitStack() as stack:
        try:
            maps = stack.enter_context(open(f'/proc/{pid}/maps'))
            mem = stack.enter_context(open(f'/proc/{pid}/mem', 'rb', 0))
        except FileNotFoundError:
            return set()  # it has just ended
        for line in maps:
            m = re.match(r'(\w+)-(\w+) r', line)
            start, end = (int(m[1], 16), int(m[2], 16)) if m else (0, 0)
            if end - start > 1 << 26:
                continue  # a sanitizer's
            with contextlib.suppress(OSError, OverflowError):
                mem.seek(start)
                memory = mem.read(end - start)
                left = {name: forms for name, forms in left.items()
                        if not any(form in memory for form in forms)}
    return set(secrets) - set(left)


def host_keys():
    """aditd's arguments for keys of all types, and their secrets."""
    args, secrets = [], {}
    for kind, bits in (('rsa', 2048), ('ecdsa', 256)):
        path = f'{TOP}/host_{kind}'
        if not os.path.exists(path):
            keygen(f'host_{kind}', '-t', kind, '-b', str(bits))
        args.append(f'-oHostKey={path}')
    for kind, path in (('ed25519', f'{TOP}/hostkey'),
                       ('rsa', f'{TOP}/host_rsa'),
                       ('ecdsa', f'{TOP}/host_ecdsa')):
        secrets |= {f'{kind} {name}': forms
                    for name, forms in numbers(path).items()}
    return args, secrets


class Knowing(ssh.Client):
    """Remembers what it shares with the server."""
    secret = b''

    def shared(self, server_public):
        self.secret = super().shared(server_public)
        return self.secret


@case("no broker keeps the secret of its connection's key exchange", 'aditd')
def _(t):
    srv = t.server()
    with Knowing('127.0.0.1', srv.port, USER, f'{TOP}/id') as c:
        c.connect()

        def look(when):
            for p in processes():
                # a session has to, in either order: so it can be seen
                secret = {'secret': [c.secret, c.secret[::-1]]}
                t.equal(holders(p.pid, secret),
                        set(secret) if p.comm == COMMS['session'] else set(),
                        f'{when}: {p}')
        look('before login')
        t.true(c.auth(), 'login')
        look('after login')
        c.rekey()
        look('after an exchange more')


@case("private host keys are in nobody's memory but the keyholder's", 'aditd',
      timeout=120)
def _(t):
    args, secrets = host_keys()
    srv = t.server('# a policy\n', args)

    def look(when):
        found = {p.comm: found for p in processes() if p.comm != 'ssh'
                 if (found := holders(p.pid, secrets))}
        t.equal(set(found), {COMMS['keyholder']}, f'{when}: who holds {found}')
        for kind in ('ed25519 seed', 'rsa p', 'ecdsa private_value'):
            t.true(kind in found[COMMS['keyholder']],
                   f'{when}: where is {kind}')
    look('at first')
    t.client(srv)
    with raw(srv) as c, connect(srv.port) as s:
        s.recv(100)  # one before its login
        # Sign with each.
        got = sh('ssh-keyscan', '-p', str(srv.port), '127.0.0.1').stdout
        t.equal(sorted(line.split()[1] for line in got.splitlines()
                       if line[0] != '#'),
                ['ecdsa-sha2-nistp256', 'ssh-ed25519', 'ssh-rsa'], 'keys')
        look('after signatures')
        for _ in range(3):
            c.rekey()
        look('after rekeys')
        old = one('brokerzyg')
        os.kill(srv.pid, signal.SIGHUP)
        one('brokerzyg', [old])
        t.true(t.logs_in(srv), 'a login after a reload')
        look('after a reload')
        old = one('keyholder')
        os.kill(old.pid, signal.SIGKILL)
        one('keyholder', [old])
        c.rekey()
        look('with another keyholder')


@case("the keyholder's memory is locked, and goes into no core", 'aditd')
def _(t):
    srv = t.server()
    t.true(t.logs_in(srv), 'login')
    keyholder = one('keyholder')
    # Undumpable: no core, whatever its limit and core_pattern, and no ptrace.
    t.equal(os.stat(f'/proc/{keyholder.pid}/mem').st_uid, 0, 'whose is it')
    t.true(0 not in keyholder.ids('Uid'), 'it is root')
    with open(f'/proc/{keyholder.pid}/limits') as f:
        t.match(r'^Max core file size +0 +0 ', f.read())
    if SLOW > 1:
        return  # a sanitizer does not lock its terabytes
    for _ in range(10):  # it grows
        sh('ssh-keyscan', '-p', str(srv.port), '127.0.0.1')
    locked = int(Process(keyholder.pid).status['VmLck'].split()[0])
    t.true(locked > 0, 'VmLck')
    with open(f'/proc/{keyholder.pid}/smaps') as f:
        regions = re.findall(r'(?ms)^(\w+-\w+ rw.*?)^VmFlags: ([\w ]+)$',
                             f.read())
    t.true(len(regions) > 5, 'regions')
    for text, flags in regions:
        t.true('lo' in flags.split(), f'not locked: {text.splitlines()[0]}')


@case("an ordinary user's keyholder is locked, or the log says why not",
      'aditd')
def _(t):
    srv = t.server(user=USER)
    t.true(t.logs_in(srv), 'login')
    keyholder = one('keyholder')
    t.equal(os.stat(f'/proc/{keyholder.pid}/mem').st_uid, 0, 'dumpable')
    t.true(SLOW > 1 or int(keyholder.status['VmLck'].split()[0]) > 0 or
           'host keys are not locked in memory' in srv.log(),
           'neither locked nor said')


# What one session could tell another of.

def layout(pid):
    """The addresses that an attacker wants to know."""
    names = {'aditd': 'program', 'libc': 'libc', '[heap]': 'heap',
             '[stack]': 'stack', 'libcrypto': 'libcrypto'}
    found = {}
    with open(f'/proc/{pid}/maps') as f:
        for line in f:
            w = line.split()
            path = os.path.basename(w[5]) if len(w) > 5 else ''
            for start, name in names.items():
                if path.startswith(start):
                    found.setdefault(name, w[0].split('-')[0])
    return found


@case('sessions after one that faulted have another layout', 'aditd')
def _(t):
    srv = t.server('MaxStartups 100')
    faults = sources = 0

    def settle():
        wait_for(lambda: len(processes(COMMS['session'])) ==
                 len(processes(COMMS['broker'])), 5,
                 lambda: f'no pairs: {processes()}')

    def new(child):
        """That process of a new connection. Each comes from an address of its
        own: one from which a session faulted is kept out."""
        nonlocal sources
        sources += 1
        settle()
        known = processes(COMMS[child])
        s = socket.create_connection(('127.0.0.1', srv.port), 10 * SLOW,
                                     (f'127.0.1.{sources}', 0))
        t.undo.callback(s.close)
        s.recv(100)
        settle()
        return one(child, known)
    for role, child in (('sessionzyg', 'session'), ('brokerzyg', 'broker')):
        old, first, second = one(role), new(child), new(child)
        before = layout(first.pid)
        t.true(len(before) >= 4, f'layout: {before}')
        t.equal(layout(second.pid), before, f'siblings, of {old}')
        os.kill(second.pid, FAULT)
        faults += 1
        wait_for(lambda: srv.log().count('was killed by signal') >= faults, 5,
                 'no death is noticed')
        young = one(role, [old])
        wait_for(lambda: second.pid not in [p.pid for p in processes()], 5,
                 'it stays')
        later = new(child)
        t.equal(later.ppid, young.pid, 'whose child')
        after = layout(later.pid)
        t.equal(set(after), set(before), 'what is there')
        t.equal([name for name in after if after[name] == before[name]], [],
                f'{role}: what did not move')


@case('sessions that exist at once share no randomness, in either order',
      'aditd')
def _(t):
    srv, told, n = t.server('MaxStartups 100'), [], 12
    for order in (1, -1):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Witness('127.0.0.1', srv.port))
                       for _ in range(n)]
            for c in clients:  # up to its key exchange
                c.open_socket()
                c.write(c.version + b'\r\n')
                c.read_version()
                c.send_kexinit()
            t.equal(len({p.ppid for p in processes(COMMS['session'])}), 1,
                    'zygotes')
            for c in clients[::order]:
                c.finish_kex()
            for c in clients:
                told += c.told
    t.equal((len(told), len(set(told))), (4 * n, 4 * n), 'cookies and keys')


if __name__ == '__main__':
    main()
