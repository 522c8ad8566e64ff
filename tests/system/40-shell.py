#!/usr/bin/python3
"""No shell, no command, no subsystem, no agent, no X11: only forwards."""
import os
import subprocess

from harness import SLOW, USER, case, main, processes, reaches

WORDS = 'this server only forwards; use ssh -N'


def register(name, options, command=()):
    @case(f'{name} gets nothing but a word', 'aditd')
    def _(t):
        srv = t.server()
        done = t.ssh(srv, *options, command=command)
        t.equal(done.stdout, b'', 'output')
        t.match(WORDS, done.stderr.decode())
        t.true(done.returncode != 0, 'exit status 0')


register('ssh HOST', ())
register('ssh HOST COMMAND', (), ('echo', 'hello'))
register('ssh -t HOST', ('-tt',))
register('ssh -s HOST sftp', ('-s',), ('sftp',))
register('ssh -X -A HOST', ('-X', '-A'), ('env',))


def tool(t, srv, *argv):
    options = t.argv(srv, verbose=False)[1:-3]  # without -p PORT HOST
    return subprocess.run(
        [argv[0], *options, '-P', str(srv.port), *argv[1:]], text=True,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=20 * SLOW)


@case('sftp and scp are refused', 'aditd')
def _(t):
    srv = t.server()
    for argv in (('sftp', f'{USER}@127.0.0.1'),
                 ('scp', '/etc/hostname', f'{USER}@127.0.0.1:'),
                 ('scp', '-O', f'{USER}@127.0.0.1:x', t.folder)):
        done = tool(t, srv, *argv)
        t.true(done.returncode != 0, f'{argv[0]} succeeds')
        t.match(WORDS, done.stderr, argv[0])
    t.equal(os.listdir(f'/home/{USER}'), ['.ssh'], 'the home')


@case('sftp and scp are served', 'sshd')
def _(t):
    srv = t.server()
    for argv in (('sftp', f'{USER}@127.0.0.1'),
                 ('scp', '/etc/hostname', f'{USER}@127.0.0.1:')):
        done = tool(t, srv, *argv)
        t.equal(done.returncode, 0, done.stderr)


@case('the refusal of a session leaves the forwards of its connection',
      'aditd')
def _(t):
    srv, echo, port = t.server(), t.target(), t.port()
    path = f'{t.folder}/control'
    t.client(srv, '-M', '-S', path, '-L', f'{port}:127.0.0.1:{echo.port}')
    done = t.ssh(srv, '-S', path, command=['true'])
    t.true(done.returncode != 0, 'a session over the master')
    t.true(reaches(port), 'the forward')


@case('no process of the account runs anything', 'aditd')
def _(t):
    srv = t.server()
    t.client(srv)
    t.equal(sorted(p.comm for p in processes() if p.ids('Uid')[0] == 4001),
            ['adit-broker'], 'processes of the account')


if __name__ == '__main__':
    main()
