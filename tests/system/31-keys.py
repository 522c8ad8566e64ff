#!/usr/bin/python3
"""authorized_keys: its files and options."""
import os
import time

from harness import (SLOW, USER, authorize, case, keygen, main, public,
                     reaches)


def option(text, user=USER):
    authorize(user, f'{text} {public("id")}')


@case('a key that is not listed is refused, another one in the file taken')
def _(t):
    srv = t.server()
    t.true(t.logs_in(srv), 'the listed key')
    t.true(not t.logs_in(srv, key='id2'), 'the other key')
    authorize(USER, f'# comment\n\nno key at all\n{public("id2")}'
              f'ssh-ed25519 AAAA\n{public("id")}')
    t.true(t.logs_in(srv) and t.logs_in(srv, key='id2'), 'both listed')


@case('ECDSA and RSA keys, and a key type that is unknown')
def _(t):
    srv = t.server()
    for args in (('-t', 'ecdsa', '-b', '256'), ('-t', 'ecdsa', '-b', '384'),
                 ('-t', 'ecdsa', '-b', '521'), ('-t', 'rsa', '-b', '2048'),
                 ('-t', 'rsa', '-b', '4096')):
        name = f'key{args[1]}{args[3]}'
        keygen(name, *args)
        authorize(USER, 'ssh-unheard AAAAC3NzaC1lZDI1NTE5AAAA\n'
                  + public(name))
        t.true(t.logs_in(srv, key=name), name)
    t.true(not t.logs_in(srv, key='keyrsa2048'), 'a key no longer listed')


@case('AuthorizedKeysFile: several, absolute with %u, relative to home')
def _(t):
    os.mkdir(f'{t.folder}/keys', 0o755)
    srv = t.server(f'AuthorizedKeysFile {t.folder}/keys/%u .ssh/other')
    t.true(not t.logs_in(srv), 'the default file')
    with open(f'{t.folder}/keys/{USER}', 'w') as f:
        f.write(public('id'))
    t.true(t.logs_in(srv), 'the absolute one')
    os.rename(f'/home/{USER}/.ssh/authorized_keys', f'/home/{USER}/.ssh/other')
    os.unlink(f'{t.folder}/keys/{USER}')
    t.true(t.logs_in(srv), 'the relative one')


@case('StrictModes: a file or folder that others can write is not believed')
def _(t):
    srv, lax = t.server(), t.server('StrictModes no')
    for path in (f'/home/{USER}', f'/home/{USER}/.ssh',
                 f'/home/{USER}/.ssh/authorized_keys'):
        authorize(USER, public('id'))
        mode = os.stat(path).st_mode
        os.chmod(path, 0o777)
        t.true(not t.logs_in(srv), path)
        t.true(t.logs_in(lax), f'{path} without StrictModes')
        os.chmod(path, mode & 0o7777)
    os.chown(f'/home/{USER}/.ssh/authorized_keys', 4002, 4002)
    t.true(not t.logs_in(srv), "the neighbour's file")
    os.chown(f'/home/{USER}/.ssh/authorized_keys', 4001, 4001)
    t.true(t.logs_in(srv), 'all well again')


@case('a FIFO or an endless file as authorized_keys holds nobody up',
      'aditd')
def _(t):
    srv = t.server('StrictModes no')
    path = f'/home/{USER}/.ssh/authorized_keys'
    authorize('neighbour', public('id'))
    for make in (os.mkfifo, lambda p: os.symlink('/dev/zero', p), os.mkdir):
        os.unlink(path)
        make(path)
        started = time.monotonic()
        t.true(not t.logs_in(srv), 'let in')
        t.true(t.logs_in(srv, user='neighbour'), 'the neighbour')
        t.true(time.monotonic() - started < 8 * SLOW, 'held up')
        if os.path.isdir(path):
            os.rmdir(path)
            open(path, 'w').close()


def forwards(t, srv):
    """What this key may: (-L, -R) as booleans."""
    echo, port = t.target(), t.port()
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    local = reaches(port)
    client.stop()
    client = t.client(srv, '-R', f'{port}:127.0.0.1:{echo.port}', wait=False)
    client.wait_err('remote forward (success|failure)')
    remote = 'forward success' in client.err() and reaches(port)
    client.stop()
    return local, remote


@case('restrict, no-port-forwarding, port-forwarding')
def _(t):
    srv = t.server()
    for text, want in (('', True), ('restrict', False),
                       ('no-port-forwarding', False),
                       ('restrict,port-forwarding', True),
                       ('no-pty,no-X11-forwarding,command="x,\\"y"', True),
                       ('RESTRICT', False)):
        option(text)
        t.equal(forwards(t, srv), (want, want), repr(text))


@case('a line with an unknown or broken option is no key')
def _(t):
    srv = t.server()
    for text in ('unheard-of', 'from=127.0.0.1', 'from="127.0.0.1',
                 'permitopen="nowhere"', 'expiry-time="soon"'):
        option(text)
        t.true(not t.logs_in(srv), text)


@case('permitopen and permitlisten, together with the policy')
def _(t):
    echo, a, b, r = t.target(), t.port(), t.port(), t.port()
    other = t.target()
    option(f'permitopen="127.0.0.1:{echo.port}",permitopen="[::1]:1",'
           f'permitlisten="{r}"')
    for text, want in (('', True), ('PermitOpen 127.0.0.1:1\n'
                                    'PermitListen 1', False)):
        srv = t.server(text)
        client = t.client(srv, '-L', f'{a}:127.0.0.1:{echo.port}',
                          '-L', f'{b}:127.0.0.1:{other.port}')
        t.equal((reaches(a), reaches(b)), (want, False), 'permitopen')
        client.wait_err('open failed: administratively prohibited')
        client.stop()
        for port, may in ((r, want), (t.port(), False)):
            client = t.client(srv, '-R', f'{port}:127.0.0.1:{echo.port}',
                              wait=False)
            client.wait_err('remote forward (success|failure)')
            t.equal('forward success' in client.err(), may, 'permitlisten')
            client.stop()
        srv.stop()


@case('from= lists addresses and networks')
def _(t):
    srv = t.server()
    for text, want in (('127.0.0.1', True), ('127.0.0.0/8', True),
                       ('10.0.0.0/8', False), ('10.*,127.*', True),
                       ('!127.0.0.1,*', False), ('::1', False)):
        option(f'from="{text}"')
        t.equal(t.logs_in(srv), want, text)
    option('from="::1"')
    t.true(t.logs_in(srv, host='::1'), '::1 from there')


@case('expiry-time')
def _(t):
    srv = t.server()
    for text, want in (('20200101', False), ('209912312359', True),
                       ('20991231', True), ('20200101000000', False)):
        option(f'expiry-time="{text}"')
        t.equal(t.logs_in(srv), want, text)


@case('cert-authority does not make a plain key of it')
def _(t):
    srv = t.server()
    option('cert-authority')
    t.true(not t.logs_in(srv), 'let in')


if __name__ == '__main__':
    main()
