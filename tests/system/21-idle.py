#!/usr/bin/python3
"""Nothing happens for a minute, and then it still works."""
import time

from harness import case, main, reaches


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


if __name__ == '__main__':
    main()
