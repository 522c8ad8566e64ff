#!/usr/bin/python3
"""Nothing happens for a minute, and then it still works; or for a second, and
then it is small."""
import re
import time

from harness import (SLOW, Skip, case, connect, main, processes, read_all,
                     reaches, wait_for)


def private_kib(p):
    with open(f'/proc/{p.pid}/smaps_rollup') as f:
        return sum(int(n) for n in re.findall(r'Private_\w+: +(\d+)',
                                              f.read()))


@case('ServerAliveInterval=1 over an idle minute', timeout=120)
def _(t):
    srv, echo, port, remote = t.server(), t.target(), t.port(), t.port()
    client = t.client(srv, '-o', 'ServerAliveInterval=1',
                      '-o', 'ServerAliveCountMax=2',
                      '-L', f'{port}:127.0.0.1:{echo.port}',
                      '-R', f'{remote}:127.0.0.1:{echo.port}')
    time.sleep(61)
    t.equal(client.process.poll(), None, 'the client')
    t.true(reaches(port) and reaches(remote), 'the forwards')


@case('a session that had a download is as small as before')
def _(t):
    if SLOW > 1:
        raise Skip('with a sanitizer nothing is given back')
    size = 8 << 20
    source, port = t.target(lambda s: s.sendall(bytes(size))), t.port()
    echo, small = t.target(), t.port()
    t.client(t.server(), '-L', f'{port}:127.0.0.1:{source.port}',
             '-L', f'{small}:127.0.0.1:{echo.port}')
    t.true(reaches(small), 'the forward')
    p, = processes('adit-session')
    time.sleep(2)  # idle
    before = private_kib(p)
    with connect(port) as s:
        t.equal(len(read_all(s)), size, 'bytes')
    wait_for(lambda: private_kib(p) < before + 100, 15,
             lambda: f'{before} KiB before, {private_kib(p)} after')


if __name__ == '__main__':
    main()
