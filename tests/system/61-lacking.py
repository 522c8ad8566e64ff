#!/usr/bin/python3
"""A kernel or container that lacks a part of the sandbox: aditd says so when
it starts, and obeys SandboxRequired."""
import os
import socket
import subprocess

from harness import COMMS, TOP, case, main, processes, reaches

LACKING = os.path.join(os.path.dirname(os.environ['ADITD']),
                       'tests/sandbox/lacking')


def server(t, *what, policy='', **kw):
    return t.server(policy, within=(LACKING, *what, '--'), **kw)


def serves(t, srv):
    port, echo = t.port(), t.target()
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    t.true(reaches(port), 'the echo')


def refuses(what):
    @case(f'without {what} it does not start', 'aditd')
    def _(t):
        srv = server(t, what, wait=False)
        t.equal(srv.process.wait(10), 1, 'exit status')
        srv.wait_log(f'{what}: .*SandboxRequired no would go on without')

    @case(f'without {what} and with SandboxRequired no it says so and serves',
          'aditd')
    def _(t):
        srv = server(t, what, policy='SandboxRequired no')
        serves(t, srv)
        for role in ('listener', 'keyholder', 'session-zygote'):
            srv.wait_log(f'{role}: missing: {what}: ')


refuses('seccomp')
refuses('no-new-privileges')


@case('SandboxRequired no gives nothing away where nothing lacks', 'aditd')
def _(t):
    srv = t.server('SandboxRequired no')
    t.client(srv)
    for comm in COMMS.values():
        p, = processes(comm)
        t.equal((p.status['Seccomp'], p.status['NoNewPrivs']), ('2', '1'),
                f'{p}')


@case('without Landlock and namespaces it says so and serves', 'aditd')
def _(t):
    srv = server(t, 'landlock', 'namespaces')
    serves(t, srv)
    for role in ('keyholder', 'broker-zygote', 'session-zygote'):
        srv.wait_log(f'{role}: missing: Landlock: ')
    srv.wait_log('session-zygote: missing: network namespace: ')
    for comm in COMMS.values():
        p, = processes(comm)
        t.equal(p.status['Seccomp'], '2', f'{p}')


@case('a role that is born with a descriptor too many does not start',
      'aditd')
def _(t):
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, its:
        # what else this process has open, it inherits
        done = subprocess.run(
            [f'{TOP}/aditd', '-x', 'session-zygote', '-f', '/dev/null'],
            close_fds=False, capture_output=True, timeout=30,
            preexec_fn=lambda: (os.dup2(its.fileno(), 3),
                                os.dup2(its.fileno(), 9)))
    t.equal(done.returncode, 1, 'exit status')
    t.match('no descriptor but its own', done.stderr.decode())


if __name__ == '__main__':
    main()
