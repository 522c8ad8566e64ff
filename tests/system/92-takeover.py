#!/usr/bin/env python3
"""A client whose network is gone: how soon the server lets go of it."""
import contextlib
import socket
import threading
import time

from harness import (SLOW, USER, Failure, case, connect, main, sockets,
                     wait_for)


def flood(s):
    while True:
        s.sendall(bytes(65536))


def cut(far):
    """Its packets go nowhere, and nobody is told."""
    far.run('ip', 'link', 'set', 'far', 'down')


def repair(far):
    far.run('ip', 'link', 'set', 'far', 'up')


def server(t, policy='', n=0):
    far = t.far_host(n)
    return far, t.server(policy, address=(far.ours,))


# Liveness.

def towards(srv, far):
    """The states of the server's sockets to that host."""
    return [s[4] for s in sockets() if s[1] == srv.port and s[2] == far.theirs]


def gone_in(t, policy, n):
    """Seconds until the kernel, too, has given up a client that is cut off in
    the middle of a download."""
    far, srv = server(t, policy, n)
    source, port = t.target(flood), t.port()
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{source.port}',
                      prefix=far.prefix, host=far.ours)
    with far:
        s = connect(port)
    with s:
        t.true(s.recv(10000), 'no download')
        t.equal(towards(srv, far), ['01'], 'its socket')
        threading.Thread(target=drain, args=(s,), daemon=True).start()
        cut(far)
        cut_at = time.monotonic()
        wait_for(lambda: not towards(srv, far), 30,
                 lambda: f'still there: {towards(srv, far)}')
        took = time.monotonic() - cut_at
    client.stop()
    return took


def drain(s):
    with contextlib.suppress(OSError):
        while s.recv(65536):
            pass


@case('a client that acknowledges nothing is gone when ClientAlive says so',
      'aditd', timeout=90)
def _(t):
    for n, where in enumerate(('', f'ClientAliveInterval 0\n'
                                   f'Match User {USER}\n')):
        took = gone_in(t, f'{where}ClientAliveInterval 1\n'
                          'ClientAliveCountMax 2\n', n)
        print(f'#   {took:.1f} s')
        t.true(took < 4 * SLOW, f'{took:.1f} s')


if __name__ == '__main__':
    main()
