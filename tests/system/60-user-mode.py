#!/usr/bin/python3
"""aditd started by an ordinary user, whom alone it serves."""
from harness import COMMS, USER, case, main, processes, reaches


@case('the user himself logs in and forwards')
def _(t):
    srv, echo, port, remote = t.server(user=USER), t.target(), t.port(), \
        t.port()
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}',
             '-R', f'{remote}:127.0.0.1:{echo.port}')
    t.true(reaches(port) and reaches(remote), 'the echoes')


@case('nobody else logs in')
def _(t):
    srv = t.server(user=USER)
    t.true(not t.logs_in(srv, user='neighbour'), 'the neighbour')
    t.true(not t.logs_in(srv, user='root'), 'root')


@case('every process is filtered and is the user', 'aditd')
def _(t):
    srv = t.server(user=USER)
    t.client(srv)
    for comm in COMMS.values():
        p, = processes(comm)
        t.equal(p.ids('Uid'), [4001] * 4, f'{p}: Uid')
        t.equal(p.status['NoNewPrivs'], '1', f'{p}: NoNewPrivs')
        t.equal(p.status['Seccomp'], '2', f'{p}: Seccomp')
        t.equal(int(p.status['CapEff'], 16), 0, f'{p}: CapEff')


@case('what is missing is printed at the start', 'aditd')
def _(t):
    srv = t.server(user=USER)
    t.match('not running as root', srv.log())


@case('a privileged -R is refused, whatever the policy', 'aditd')
def _(t):
    srv, echo = t.server('PermitPrivilegedPorts yes', user=USER), t.target()
    client = t.client(srv, '-R', f'80:127.0.0.1:{echo.port}', wait=False)
    t.true(client.wait() != 0, 'granted')
    t.match('remote port forwarding failed', client.err())


if __name__ == '__main__':
    main()
