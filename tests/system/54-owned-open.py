#!/usr/bin/python3
"""A session in an attacker's hands, after a genuine login: forwards, listeners
and tunnels beyond policy, and limits (tests/sandbox/owned.h)."""
import os
import signal
import socket
import time

import owned  # before the harness
import counted
from owned import (AUTH, CLOSE, LISTENING, NUMBERS, OPENED, OTHER_AUTH, QUERY,
                   REFUSED, SILENT, TUNNEL, Session, attacked, encode, ends,
                   keys)
from counted import CONTROL, become, opens
from harness import (COMMS, TOP, USER, authorize, case, devices, listening,
                     main, processes, public, wait_for)

# ADITD is tests/sandbox/owned of the build
counted.CTL = f'{os.path.dirname(os.environ["ADITD"])}/../../aditctl'
MATCH = f'Match User {USER}\n'
IDS = (1, 0, 0xffffffff)  # ids: the session may choose what it likes


def refused(t, s, message, reason=1, log=None):
    """Again and again, until its line comes: there are 20 of them a tick."""
    before = s.lines(log) if log else 0

    def said():
        got = s.ask(message)
        t.equal((got.kind, got.nfds, got.fields and got.fields[1]),
                (REFUSED, 0, reason), f'{message}: {got}')
        return not log or s.lines(log) > before
    wait_for(said, 5, f'not in the log of port {s.port}: {log}')


@case('what PermitOpen leaves out is not opened, however it is spelled')
def _(t):
    good, bad = t.target(), t.target()
    with attacked(t, f'{MATCH}PermitOpen 127.0.0.1:{good.port}') as srv, \
            Session(srv) as s:
        s.login()
        for n, host in enumerate((
                '127.0.0.2', '::1', 'localhost', '127.1', '2130706433',
                '0x7f000001', '0177.0.0.1', '127.0.0.1.', ' 127.0.0.1',
                '127.0.0.1 ', '::ffff:127.0.0.1', '[127.0.0.1]', '0.0.0.0',
                '*', '127.0.0.1:80', f'127.0.0.1:{good.port}', '%s%n', 'any',
                '127.0.0.1,127.0.0.2', 'x' * 255)):
            refused(t, s, owned.open_tcp(host, good.port, n % 3),
                    log='refused direct-tcpip .*PermitOpen')
        for host, port in (('127.0.0.1\0', good.port), ('', good.port),
                           ('\0', good.port),
                           ('127.0.0.1\0x', good.port), ('x' * 256, 80),
                           ('127.0.0.1', 0), ('127.0.0.1', 65536),
                           ('127.0.0.1', 65536 + good.port),
                           ('127.0.0.1', 0xffff0000 + good.port),
                           ('127.0.0.1', 0xffffffff)):
            refused(t, s, owned.open_tcp(host, port),
                    log='refused direct-tcpip .*bad destination')
        for port in (bad.port, 22, 1, 65535, good.port ^ 1):
            refused(t, s, owned.open_tcp('127.0.0.1', port),
                    log=rf'refused direct-tcpip to 127.0.0.1 port {port} .*'
                    'PermitOpen')
        for n in IDS:
            got = s.ask(owned.open_tcp('127.0.0.1', good.port, n))
            t.equal((got.kind, got.fields, got.nfds), (OPENED, [n], 1))
            t.equal(s.talk(b'hello'), b'hello', 'what is permitted')
        t.equal(bad.accepted, 0, 'connections to the wrong target')


@case('what PermitListen leaves out is not bound')
def _(t):
    good, bad = t.port(), t.port()
    policy = f'{MATCH}PermitListen 127.0.0.1:{good}\nGatewayPorts no'
    with attacked(t, policy) as srv, Session(srv) as s:
        s.login()
        for host in ('', '*', '0.0.0.0', '::', '::1', 'localhost',
                     '127.0.0.2', '127.0.0.1.', ' 127.0.0.1', 'x' * 255):
            refused(t, s, owned.listen(host, good), log='PermitListen')
        for port in (bad, 0, 1, 80, 65535):
            refused(t, s, owned.listen('127.0.0.1', port),
                    log=rf'refused tcpip-forward on 127.0.0.1 port {port} .*'
                    'Permit(Listen|PrivilegedPorts)')
        for host, port in (('127.0.0.1\0', good), ('127.0.0.1', 65536 + good),
                           ('127.0.0.1', 65536), ('127.0.0.1', 0xffffffff),
                           ('x' * 256, good)):
            refused(t, s, owned.listen(host, port), log='bad address')
        t.equal(listening(bad) | listening(good), set(), 'bound')
        got = s.ask(owned.listen('127.0.0.1', good))
        t.equal((got.kind, got.fields, got.nfds), (LISTENING, [1, good], 0))
        t.true(listening(good) <= {'127.0.0.1', '::1'}, 'more than loopback')
        refused(t, s, owned.listen('127.0.0.1', good), 2, 'Address already')


@case('with GatewayPorts no, nothing but the loopback device is listened on')
def _(t):
    with attacked(t) as srv, Session(srv) as s:
        s.login()
        for host in ('', '*', '0.0.0.0', '::', 'localhost', '192.0.2.1',
                     'any.name.example', '%n'):
            port = t.port()
            got = s.ask(owned.listen(host, port))
            t.equal(got.kind, LISTENING, host)
            t.equal(listening(port), {'127.0.0.1', '::1'}, host)
        for port in (1, 22, 80, 1023):
            refused(t, s, owned.listen('127.0.0.1', port),
                    log='refused tcpip-forward')


@case("another's listener and another's forwards are not its to end")
def _(t):
    port, own = t.port(), t.port()
    with attacked(t) as srv, Session(srv) as s, Session(srv) as s2:
        s.login()
        s2.login()
        t.equal(s.ask(owned.listen('', port)).kind, LISTENING)
        t.equal(s2.ask(owned.listen('', own)).kind, LISTENING)
        for host in ('', '*', '127.0.0.1', '\0', 'x' * 256, 'localhost'):
            for number in (port, srv.port, srv.others_forward, 0, 65536,
                           65536 + port):
                refused(t, s2, owned.cancel(host, number), 2)
        refused(t, s2, owned.cancel('*', own), 2)
        for n in (*range(300), 0xffffffff):  # grants that there are not
            t.equal(s2.send(encode(CLOSE, n)), 0)
        t.equal(s2.ask(owned.cancel('', own, 77)).fields, [77], 'its own')
        refused(t, s2, owned.cancel('', own), 2)
        t.equal((len(listening(port)), listening(own)), (2, set()))


PONG, PING = encode(NUMBERS['SESSION_PONG']), NUMBERS['BROKER_PING']


@case("an older session's listener is had where policy says so, and never its "
      'socket')
def _(t):
    port, other = t.port(), t.port()
    authorize(USER, public('id') + f'permitlisten="{other}" {public("id2")}')
    second = keys.Ed25519(f'{TOP}/id2')
    with attacked(t) as srv, Session(srv) as old, Session(srv) as new, \
            Session(srv) as restricted, Session(srv) as restricted2:
        for s, key in ((old, None), (new, None), (restricted, second),
                       (restricted2, second)):
            s.login(key)
        t.equal(old.ask(owned.listen('localhost', port)).kind, LISTENING)
        t.equal(restricted.ask(owned.listen('localhost', other)).kind,
                LISTENING)
        # What it said before it was asked is no answer.
        t.equal(old.flood(500, PONG, False).kept, 1)
        got = new.ask(owned.listen('localhost', port))
        t.equal((got.kind, got.nfds), (LISTENING, 0), 'who answers nothing')
        t.equal((old.recv().kind, len(listening(port))), (PING, 2))
        # Not of its own key, nor where it may not listen.
        refused(t, new, owned.listen('localhost', other), 2)
        refused(t, restricted2, owned.listen('localhost', port))
        got = restricted2.ask(owned.listen('localhost', other))
        t.equal((got.kind, got.nfds), (LISTENING, 0), 'its own key')
        refused(t, old, owned.cancel('localhost', port), 2)


@case('who asks in a flood for what another has costs that one little')
def _(t):
    port = t.port()
    with attacked(t) as srv, Session(srv) as old, Session(srv) as new:
        old.login()
        new.login()
        t.equal(old.ask(owned.listen('localhost', port)).kind, LISTENING)
        new.send(owned.listen('localhost', port))
        t.equal((old.recv().kind, old.send(PONG)), (PING, 0))
        t.equal(new.recv().kind, REFUSED, 'of one that answers')
        began = time.monotonic()
        counts = new.flood(2000, owned.listen('localhost', port))
        t.equal((counts.answers, counts.kept), ({REFUSED: 2000}, 1))
        pings = 0
        while (got := old.recv(0.1)).kind == PING:
            pings += 1
            old.send(PONG)
        t.equal(got.state, SILENT, f'{got}')
        took = time.monotonic() - began
        t.true(pings <= 1 + took, f'{pings} in {took:.1f} s')
        t.equal(len(listening(port)), 2, 'its listener')


@case('with forwarding disabled in whole or in part nothing gets around it')
def _(t):
    target, opens = t.target(), 'direct-tcpip .*'
    for rule, key, opened, bound in (
            ('DisableForwarding yes', '', False, False),
            ('AllowTcpForwarding no', '', False, False),
            ('AllowTcpForwarding local', '', True, False),
            ('AllowTcpForwarding remote', '', False, True),
            ('PermitOpen none\nPermitListen none', '', False, False),
            ('', 'restrict', False, False),
            ('', 'no-port-forwarding', False, False),
            ('', 'permitopen="127.0.0.1:1"', False, True),
            ('', 'permitlisten="1"', True, False)):
        own = keys.Ed25519()
        authorize(USER, own.line(key))
        with attacked(t, MATCH + rule if rule else '') as srv, \
                Session(srv) as s:
            s.login(own)
            for allowed, message, kind, log in (
                    (opened, owned.open_tcp('127.0.0.1', target.port),
                     OPENED, opens),
                    (bound, owned.listen('127.0.0.1', t.port()), LISTENING,
                     'tcpip-forward on')):
                if allowed:
                    t.equal(s.ask(message).kind, kind, f'{rule} {key}')
                else:
                    refused(t, s, message, log=f'refused {log}')
            refused(t, s, owned.open_tun(1, 0), log='refused tunnel')


@case('no tunnel but of the kind and unit that policy names')
def _(t):
    for policy, bad, good in (
            ('', [(1, 0), (2, 0), (1, 0x7fffffff)], []),
            ('PermitTunnel point-to-point',
             [(2, 0), (2, 0x7fffffff), (0, 0), (3, 0), (0xffffffff, 0)],
             [(1, 3)]),
            ('PermitTunnel yes\nTunnelUnit 5-6',
             [(1, 4), (1, 7), (2, 0), (1, 0x7ffffffe), (1, 255)], [(1, 5)]),
            ('PermitTunnel yes\nMaxTunnels 1\nTunnelUnit 5-6', [], [(1, 5)]),
            ('PermitTunnel yes\nDisableForwarding yes', [(1, 0), (2, 5)],
             [])):
        before = devices()
        with attacked(t, MATCH + policy if policy else '') as srv, \
                Session(srv) as s:
            s.login()
            for mode, unit in bad:
                refused(t, s, owned.open_tun(mode, unit))
            t.equal(devices(), before, 'devices')
            for mode, unit in good:
                got = s.ask(owned.open_tun(mode, unit, 9))
                t.equal((got.kind, got.nfds), (TUNNEL, 1), f'{got}')
            if 'MaxTunnels' in policy:
                # Not even by claims: the device is there.
                for _ in range(3):
                    refused(t, s, owned.open_tun(1, 6, 10),
                            log='MaxTunnels 1')
                    s.send(encode(CLOSE, 9))
            elif good:
                s.send(owned.open_tun(1, 5, 9))
                ends(t, s, 'an id twice', 'uses a channel twice')
        wait_for(lambda: devices() == before, 5,
                 lambda: f'devices: {devices()}')


@case('a session that keeps what a reload took away gains nothing')
def _(t):
    before = devices()
    target = t.target()
    with attacked(t, f'{MATCH}PermitTunnel yes') as srv, Session(srv) as s:
        s.login()
        got = s.ask(owned.open_tun(1, 5, 9))
        t.equal((got.kind, got.nfds), (TUNNEL, 1), f'{got}')
        got = s.ask(owned.open_tcp('127.0.0.1', target.port, 3))
        t.equal((got.kind, got.nfds), (OPENED, 1), f'{got}')
        t.equal(s.talk(b'hello'), b'hello', 'its socket')
        with open(srv.policy, 'a') as f:
            f.write('PermitOpen none\nPermitTunnel no\n')
        with open(srv.policy) as f:
            text = f.read().replace('PermitTunnel yes\n', '')
        with open(srv.policy, 'w') as f:
            f.write(text)
        os.kill(srv.pid, signal.SIGHUP)
        srv.wait_log('closing direct-tcpip')
        t.equal(s.talk(b'hello'), b'', 'its socket')
        # A tunnel's device is in its hands alone: it does not give it back.
        s.log('keeps a tunnel that it was told to close')
        over, told = s.ended()
        t.true(over, f'the broker goes on: {told}')
        wait_for(lambda: devices() == before, 5, 'the device is left')


@case('messages of the login are not taken after it')
def _(t):
    key = keys.Ed25519(f'{TOP}/id')
    with attacked(t) as srv:
        for message in (encode(QUERY, USER, key.kind, key.blob),
                        encode(OTHER_AUTH, USER, 'none'),
                        encode(AUTH, 'root', owned.PLAIN, key.kind, key.blob,
                               b'')):
            with Session(srv) as s:
                s.login(key)
                s.send(message)
                ends(t, s, message, 'not allowed in this phase')


# Limits.

def backlog(t, n):
    """A socket where connections wait: n of them established."""
    s = socket.socket()
    t.undo.callback(s.close)
    s.bind(('127.0.0.1', 0))
    s.listen(n)
    return s


def silent(t):
    """One of which connections stay pending: its queue is full."""
    s = backlog(t, 0)
    for _ in range(3):
        c = socket.socket()
        t.undo.callback(c.close)
        c.setblocking(False)
        c.connect_ex(s.getsockname())
    return s


@case('256 opens are under way, and no more', timeout=90)
def _(t):
    with attacked(t) as srv, Session(srv) as s:
        s.login()
        counts = s.flood(300, owned.open_tcp(*silent(t).getsockname()))
        t.equal((counts.answers, counts.kept), ({REFUSED: 300 - 256}, 1))
        s.log('refused direct-tcpip .*: too many at once')


@case('256 listeners, and no more', timeout=90)
def _(t):
    with attacked(t, 'MaxListeners 256\n') as srv, Session(srv) as s:
        s.login()
        counts = s.flood(300, owned.listen('localhost', 0))
        t.equal((counts.answers, counts.kept),
                ({LISTENING: 256, REFUSED: 300 - 256}, 1))
        s.log('refused tcpip-forward .*: MaxListeners 256')


@case('2048 forwards, as far as the session closes none', timeout=90)
def _(t):
    opened = owned.open_tcp(*backlog(t, 4096).getsockname())
    with attacked(t, 'MaxChannels 2048\n') as srv, Session(srv) as s:
        s.login()
        # It closes what it is given, and does not say so.
        have = 0
        while have < 2048:
            counts = s.flood(min(250, 2048 - have), opened)
            t.equal((list(counts.answers), counts.kept), ([OPENED], 1))
            have += counts.fds
        t.equal(s.flood(10, opened).answers, {REFUSED: 10}, 'more')
        s.log('refused direct-tcpip .*: MaxChannels 2048')
        s.send(encode(CLOSE, 1))
        t.equal(s.flood(10, opened).answers, {OPENED: 1, REFUSED: 9})


# A policy that changes meanwhile.

@case('a new policy holds for whoever comes, is on the way, or is there')
def _(t):
    old, new = t.target(), t.target()
    with attacked(t, f'{MATCH}PermitOpen 127.0.0.1:{old.port}') as srv, \
            Session(srv) as s:
        s.login()
        with Session(srv) as early:
            early.sign()  # its broker has the old policy
            with open(srv.policy, 'w') as f:
                f.write(f'{owned.POLICY}{MATCH}'
                        f'PermitOpen 127.0.0.1:{new.port}\n')
            got = s.ask(owned.open_tcp('127.0.0.1', old.port))
            t.equal(got.kind, OPENED, 'the old one')
            os.kill(srv.pid, signal.SIGHUP)
            srv.wait_log('reviewed 2 logins')
            t.equal(s.recv().kind, owned.NUMBERS['BROKER_CLOSE'],
                    'the old one')
            early.login()
            wait_for(lambda: srv.log().count('reviewed ') == 2, 5,
                     'no review of the one that was on the way')
            for one in (s, early):
                refused(t, one, owned.open_tcp('127.0.0.1', old.port))
                got = one.ask(owned.open_tcp('127.0.0.1', new.port))
                t.equal(got.kind, OPENED, 'the new one')

        def renewed():
            with Session(srv) as late:
                late.login()
                kinds = [late.ask(owned.open_tcp('127.0.0.1', p.port)).kind
                         for p in (old, new)]
                t.true(kinds in ([REFUSED, OPENED], [OPENED, REFUSED]),
                       f'both or none: {kinds}')
                return kinds == [REFUSED, OPENED]
        wait_for(renewed, 10, 'the new policy does not come')


@case('what is connected after a new policy forbade it is not handed over')
def _(t):
    full = silent(t)
    with attacked(t, CONTROL) as srv, Session(srv) as s:
        s.login()
        s.send(owned.open_tcp(*full.getsockname()))
        t.equal(s.recv(0.2).state, SILENT, 'it is pending')
        with open(srv.policy, 'a') as f:
            f.write(f'{MATCH}PermitOpen none\n')
        os.kill(srv.pid, signal.SIGHUP)
        srv.wait_log('reviewed 2 logins')
        full.listen(16)  # room for it, when it tries again
        got = s.recv()
        t.equal((got.kind, got.nfds), (REFUSED, 0), f'{got}')
        s.log('refused direct-tcpip .*PermitOpen none')
        become({opens('direct-tcpip', 'refused'): 1.0})


@case('nor is a device that was made after a new policy forbade it')
def _(t):
    before = devices()
    with attacked(t, f'{MATCH}PermitTunnel yes') as srv, Session(srv) as s:
        s.login()
        zygote = processes(COMMS['brokerzyg'])[0].pid
        os.kill(zygote, signal.SIGSTOP)  # it forks no tun maker
        try:
            s.send(owned.open_tun(1, 5))
            t.equal(s.recv(0.2).state, SILENT, 'it is on its way')
            with open(srv.policy, 'w') as f:
                f.write(f'{owned.POLICY}{MATCH}PermitTunnel no\n')
            os.kill(srv.pid, signal.SIGHUP)
            srv.wait_log('reviewed 2 logins')
        finally:
            os.kill(zygote, signal.SIGCONT)
        got = s.recv()
        t.equal((got.kind, got.nfds), (REFUSED, 0), f'{got}')
        s.log('refused tun5.*PermitTunnel no')
        wait_for(lambda: devices() == before, 5,
                 lambda: f'devices: {devices()}')


main()
