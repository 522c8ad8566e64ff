#!/usr/bin/python3
"""A reader of PROXY headers that an attacker has taken over
(tests/sandbox/lying.c): the listener believes no more than an address and a
port."""
import os
import re
import time

# Before the harness: it starts what this names.
if not os.environ.get('ADITD', '').endswith('/lying'):
    os.environ['ADITD'] = os.path.join(
        os.path.dirname(os.environ.get('ADITD', './aditd')),
        'tests/sandbox/lying')

from harness import SLOW, case, connect, main, processes, wait_for

HERE = '198.51.100.1 22'


def told(srv, text):
    """What the server says when the reader has said that."""
    with connect(srv.port) as s:
        s.sendall(text.encode() + b'\n')
        try:
            return s.makefile('rb').readline()
        except ConnectionResetError:
            return b''


@case('what is no address and no port ends the connection, and says so',
      'aditd')
def _(t):
    srv = t.server('LogLevel VERBOSE\nProxyProtocolFrom 127.0.0.1')
    t.match('^SSH-2.0-', told(srv, f'192.0.2.7 1 {HERE}').decode())
    srv.wait_log('Connection from 192.0.2.7 port 1 on 198.51.100.1 port 22$')
    lies = (f' 1 {HERE}', f'localhost 1 {HERE}', f'192.0.2.07 1 {HERE}',
            f'2001:DB8::7 1 {HERE}', f'::ffff:192.0.2.7 1 {HERE}',
            f'fe80::1%lo 1 {HERE}', f'192.0.2.0/24 1 {HERE}',
            f'192.0.2.7 65536 {HERE}', f'192.0.2.7 4294967295 {HERE}',
            f'\x1b[31m%s%n 1 {HERE}', '192.0.2.7 1 * 22',
            '192.0.2.7 1 198.51.100.1 70000')
    for lie in lies:
        t.equal(told(srv, lie), b'', f'after {lie!r}')
    srv.wait_log('drop connection from proxy .*: security: the reader of '
                 'PROXY headers says nonsense$')
    t.equal(len(re.findall('Connection from', srv.log())), 1, 'who came in')
    t.true('\x1b' not in srv.log(), 'its words are in the log')
    wait_for(lambda: not processes('adit-session'), 5, 'sessions stay')


@case('one that talks all the time keeps nobody waiting, nor fills the log',
      'aditd')
def _(t):
    srv = t.server('ProxyProtocolFrom 127.0.0.1', address=('127.0.0.1', '::1'))
    with connect(srv.port) as s:
        s.sendall(b'flood\n')
        time.sleep(1)  # so long it does it, and then five seconds more
        for _ in range(4):
            began = time.monotonic()
            t.true(t.logs_in(srv, host='::1', timeout=20), 'no login')
            took = time.monotonic() - began
            t.true(took < 3 * SLOW, f'a login took {took:.1f} s')
    t.true(srv.log().count('proxy: flood') > 10, 'it was not written down')
    t.true(len(srv.log().splitlines()) < 700, 'lines')


if __name__ == '__main__':
    main()
