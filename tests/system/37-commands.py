#!/usr/bin/python3
"""AuthorizedKeysCommand and AuthorizedPrincipalsCommand."""
import os
import re
import signal
import time

from certs import certify, holder
from harness import (SLOW, TOP, USER, authorize, case, keygen, main, processes,
                     public, reaches, sh, wait_for)


def script(t, text, name='command', mode=0o755):
    path = f'{t.folder}/{name}'
    with open(path, 'w') as f:
        f.write('#!/bin/sh\n' + text)
    os.chmod(path, mode)
    return path


def scratch(t):
    """A folder that the command may write to."""
    path = f'{t.folder}/scratch'
    os.mkdir(path)
    os.chmod(path, 0o777)
    return path


def keys_by(path, user='neighbour', more=''):
    return (f'AuthorizedKeysFile none\nAuthorizedKeysCommand {path}\n'
            f'AuthorizedKeysCommandUser {user}\n{more}')


def seen(path):
    with open(path) as f:
        return f.read().splitlines()


@case('AuthorizedKeysCommand: its keys, with their options')
def _(t):
    out = f'{t.folder}/out'
    srv = t.server(keys_by(script(t, f'cat {out}')))
    echo, port = t.target(), t.port()
    for text, want in (('', False), (public('id2'), False),
                       ('garbage\n' + public('id2') + public('id'), True),
                       (f'from="10.0.0.1" {public("id")}', False)):
        with open(out, 'w') as f:
            f.write(text)
        t.equal(t.logs_in(srv), want, repr(text))
    with open(out, 'w') as f:
        f.write(f'restrict {public("id")}')
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    t.true(not reaches(port), 'restrict')
    client.stop()


@case('what fails says nothing')
def _(t):
    out = f'{t.folder}/keys'
    with open(out, 'w') as f:
        f.write(public('id'))
    for text, why in ((f'cat {out}; exit 1', 'status 1'),
                      (f'cat {out}; kill -9 $$', 'signal 9'),
                      ('exec /no/such/thing', None)):
        srv = t.server(keys_by(script(t, text)))
        t.true(not t.logs_in(srv), text)
        if why:
            srv.wait_log(why)
        srv.stop()
    srv = t.server(keys_by(script(t, f'cat {out}; echo oops >&2')))
    t.true(t.logs_in(srv), 'standard error does not matter')
    if t.kind == 'aditd':  # sshd 9.2 means to
        t.true('oops' not in srv.log(), 'standard error')


@case('files go first, and nothing is run for who does not exist or may not '
      'log in')
def _(t):
    marks = scratch(t)
    path = script(t, f'echo "$1" >>{marks}/ran')
    srv = t.server(f'DenyUsers locked\nAuthorizedKeysCommand {path} %u\n'
                   'AuthorizedKeysCommandUser neighbour')
    t.true(t.logs_in(srv), 'by the file')
    t.true(not os.path.exists(f'{marks}/ran'), 'it ran')
    t.true(not t.logs_in(srv, user='nosuchone'), 'nobody')
    t.true(not os.path.exists(f'{marks}/ran'), 'it ran for nobody')
    t.true(not t.logs_in(srv, user='locked', key='id2'), 'denied')
    t.true(not os.path.exists(f'{marks}/ran'), 'it ran for who is denied')
    t.true(not t.logs_in(srv, key='id2'), 'another key')
    t.equal(set(seen(f'{marks}/ran')), {USER})


@case('tokens, and the name alone without arguments')
def _(t):
    marks = scratch(t)
    path = script(t, f'for a; do echo "$a"; done >{marks}/args\n'
                  f'cat {t.folder}/keys')
    with open(f'{t.folder}/keys', 'w') as f:
        f.write(public('id'))
    fp = sh('ssh-keygen', '-l', '-f', f'{TOP}/id.pub').stdout.split()[1]
    srv = t.server(keys_by(f'{path} %% %u-%U %h "a b" %t %f %k'))
    t.true(t.logs_in(srv), 'login')
    t.equal(seen(f'{marks}/args'),
            ['%', f'{USER}-4001', f'/home/{USER}', 'a b', 'ssh-ed25519', fp,
             public('id').split()[1]])
    srv = t.server(keys_by(path))
    t.true(t.logs_in(srv), 'login')
    t.equal(seen(f'{marks}/args'), [USER])


@case('who it is run as, and with what')
def _(t):
    marks = scratch(t)
    path = script(t, f'exec >{marks}/env; id -u; id -g; id -G; '
                  'cat /proc/self/status; env; ls -l /proc/self/fd; '
                  'cat')
    srv = t.server(keys_by(path, 'neighbour'))
    t.true(not t.logs_in(srv), 'login')
    text = '\n'.join(seen(f'{marks}/env'))
    t.match(r'\A4002\n4002\n4002\n', text, 'ids')
    for name, value in (('USER', 'neighbour'), ('LOGNAME', 'neighbour'),
                        ('HOME', '/home/neighbour')):
        t.match(f'^{name}={value}$', text)
    env = set(re.findall(r'^([A-Z_]+)=', text, re.M))
    t.true(env <= {'PATH', 'USER', 'LOGNAME', 'HOME', 'PWD', 'SHLVL', '_',
                   'OLDPWD', 'LANG'}, str(env))
    t.match(r'CapEff:\s+0+$', text)
    t.match(r' 0 -> /dev/null$', text)
    t.true(not re.search('socket|epoll|memfd', text), 'descriptors')
    if t.kind == 'aditd':
        for key in ('CapPrm', 'CapInh', 'CapAmb', 'CapBnd'):
            t.match(rf'{key}:\s+0+$', text)
        t.match(r'NoNewPrivs:\s+1$', text)
        t.match(r' 2 -> /dev/null$', text)


@case('its path must be root\'s alone')
def _(t):
    text = f'cat {t.folder}/keys'
    with open(f'{t.folder}/keys', 'w') as f:
        f.write(public('id'))
    good = script(t, text, 'good')
    # Debian's sshd lets a group write that has one member.
    loose = script(t, text, 'loose', 0o757)
    foreign = script(t, text, 'foreign')
    os.chown(foreign, 4002, 4002)
    os.symlink(good, f'{t.folder}/link')
    os.mkdir(f'{t.folder}/open')
    inside = script(t, text, 'open/inside')
    os.chmod(f'{t.folder}/open', 0o777)
    secret = script(t, text, 'secret', 0o700)
    for path, want in ((good, True), (f'{t.folder}/link', True),
                       (loose, False), (foreign, False), (inside, False),
                       (secret, False), (t.folder, False),
                       (f'{t.folder}/none', False)):
        srv = t.server(keys_by(path))
        t.equal(t.logs_in(srv), want, path)
        srv.stop()


@case('as root only if root is named', 'aditd')
def _(t):
    marks = scratch(t)
    path = script(t, f'id -u >{marks}/who; grep CapEff /proc/self/status '
                  f'>>{marks}/who; cat {TOP}/id.pub')
    srv = t.server(keys_by(path, '%u'))
    t.true(t.logs_in(srv), 'as the one who logs in')
    t.equal(seen(f'{marks}/who')[0], '4001')
    t.true(not t.logs_in(srv, user='root'), 'by %u')
    srv.wait_log('it would run as root')
    os.unlink(f'{marks}/who')
    srv = t.server(keys_by(path, 'root'))
    t.true(t.logs_in(srv), 'root is named')
    t.equal(seen(f'{marks}/who'), ['0', 'CapEff:\t0000000000000000'])


@case('without a user, or with one that is not there')
def _(t):
    path = script(t, f'cat {TOP}/id.pub')
    srv = t.server(f'AuthorizedKeysCommand {path}', wait=False)
    t.true(srv.process.wait(10 * SLOW) != 0, 'it starts')
    t.match('AuthorizedKeysCommand.*without AuthorizedKeysCommandUser',
            srv.log())
    srv = t.server(keys_by(path, 'nosuchone'))
    t.true(not t.logs_in(srv), 'let in')
    srv.wait_log('"nosuchone".* not found')


@case('one that does not end is killed, with what it started', 'aditd')
def _(t):
    path = script(t, 'sleep 1000 & sleep 1000')
    srv = t.server(keys_by(path, more='Match User neighbour\n'
                           'AuthorizedKeysFile .ssh/authorized_keys\n'
                           'AuthorizedKeysCommand none'))
    before = {p.pid for p in processes()}
    started = time.monotonic()
    client = t.client(srv, wait=False)
    wait_for(lambda: len(processes('sleep')) == 2, 5, 'it does not run')
    t.true(t.logs_in(srv, user='neighbour'), 'another login meanwhile')
    t.true(time.monotonic() - started < 9 * SLOW, 'held up')
    client.wait(40)
    t.true(time.monotonic() - started > 9, 'it had no time')
    srv.wait_log('AuthorizedKeysCommand for .* it took longer than 10 s')
    wait_for(lambda: {p.pid for p in processes()} <= before, 5,
             lambda: f'left: {processes()}')


@case('one whose client goes away does not outlive its time', 'aditd')
def _(t):
    srv = t.server(keys_by(script(t, 'exec sleep 1000')))
    before = {p.pid for p in processes()}
    client = t.client(srv, wait=False)
    wait_for(lambda: processes('sleep'), 5, 'it does not run')
    os.kill(client.pid, signal.SIGKILL)
    wait_for(lambda: {p.pid for p in processes()} <= before, 20,
             lambda: f'left: {processes()}')


@case('too much output is no output', 'aditd')
def _(t):
    path = script(t, f'cat {TOP}/id.pub; head -c 2000000 /dev/zero')
    srv = t.server(keys_by(path))
    t.true(not t.logs_in(srv), 'let in')
    srv.wait_log('AuthorizedKeysCommand for .* it wrote too much')


@case('programs that are not trivial do their work there', 'aditd')
def _(t):
    echo = t.target()
    with open(f'{t.folder}/list', 'w') as f:
        f.write(f'neighbour {public("id2")}{USER} {public("id")}')
    path = script(t, f'''set -e
awk -v u="$1" '$1 == u {{ $1 = ""; print }}' {t.folder}/list | sort |
    sed 's/^ //'
tmp=$(mktemp); echo x >$tmp; test "$(cat <$tmp)" = x; rm $tmp
getent passwd "$1" >/dev/null 2>/dev/null
/usr/bin/python3 - <<'END'
import socket, subprocess, threading
s = socket.create_connection(('127.0.0.1', {echo.port}))
s.sendall(b'x')
assert s.recv(1) == b'x'
t = threading.Thread(target=lambda: subprocess.run(['true'], check=True))
t.start()
t.join()
END
''')
    srv = t.server(keys_by(f'{path} %u'))
    t.true(t.logs_in(srv), 'login')
    t.true(not t.logs_in(srv, key='id2'), 'the other one')


@case('what a command may not do', 'aditd')
def _(t):
    marks = scratch(t)
    path = script(t, f'exec >{marks}/out 2>&1; '
                  'unshare --user true; echo unshare $?; '
                  'cat /etc/shadow >/dev/null; echo shadow $?; '
                  f'kill -0 $PPID 2>/dev/null; ls /proc/$PPID/fd; echo fd $?')
    srv = t.server(keys_by(path))
    t.true(not t.logs_in(srv), 'login')
    text = '\n'.join(seen(f'{marks}/out'))
    for what in ('unshare', 'shadow', 'fd'):
        t.match(f'^{what} [1-9]', text)


@case('AuthorizedPrincipalsCommand, alone and beside the file')
def _(t):
    if not os.path.exists(f'{TOP}/ca'):
        keygen('ca')
    authorize(USER, '')
    marks = scratch(t)
    path = script(t, f'for a; do echo "$a"; done >{marks}/args\n'
                  f'cat {t.folder}/names')
    command = (f'TrustedUserCAKeys {TOP}/ca.pub\n'
               f'AuthorizedPrincipalsCommand {path} %u %U %h %t %T %f %F %k '
               '%K %i %s\nAuthorizedPrincipalsCommandUser neighbour\n')
    srv = t.server(command)
    with_file = t.server(command + 'AuthorizedPrincipalsFile '
                         f'{t.folder}/file')
    with open(f'{t.folder}/file', 'w') as f:
        f.write('infile\n')
    for text, names, want in (
            ('', USER, (False, False)), ('ops\n', 'ops', (True, True)),
            ('ops\n', None, (False, False)),
            ('from="10.0.0.1" ops\n', 'ops', (False, False)),
            ('ops\n', 'infile', (False, True))):
        with open(f'{t.folder}/names', 'w') as f:
            f.write(text)
        holder('member', principals=names, identity='an id')
        t.equal((t.logs_in(srv, key='member'),
                 t.logs_in(with_file, key='member')), want, f'{text!r} '
                f'{names}')
    certify('ca', 'member', principals='ops', identity='an id')
    t.true(t.logs_in(srv, key='member'), 'login')
    fp = [sh('ssh-keygen', '-l', '-f', f'{TOP}/{n}.pub').stdout.split()[1]
          for n in ('member', 'ca')]
    t.equal(seen(f'{marks}/args'),
            [USER, '4001', f'/home/{USER}', 'ssh-ed25519-cert-v01@openssh.com',
             'ssh-ed25519', *fp, public('member-cert').split()[1],
             public('ca').split()[1], 'an id', '7'])
    with open(f'{t.folder}/names', 'w') as f:
        f.write('ops\n')
    script(t, f'cat {t.folder}/names; exit 3')
    t.true(not t.logs_in(srv, key='member'), 'one that fails')


@case('CAs by a command')
def _(t):
    if not os.path.exists(f'{TOP}/ca'):
        keygen('ca')
    path = script(t, f'echo cert-authority $(cat {TOP}/ca.pub)')
    srv = t.server(keys_by(path))
    holder('commanded')
    t.true(t.logs_in(srv, key='commanded'), 'a certificate')
    t.true(not t.logs_in(srv, key='ca'), 'the CA')


@case('a reload cannot bring the first command, and says so', 'aditd')
def _(t):
    path = script(t, f'cat {TOP}/id2.pub')
    srv = t.server()
    with open(srv.policy, 'w') as f:
        f.write(keys_by(path))
    os.kill(srv.pid, signal.SIGHUP)
    srv.wait_log('reload: .* need a restart .*: the old policy stays')
    t.true(t.logs_in(srv), 'the old policy')
    # Where there was one, another may come, and all may go.
    srv = t.server(keys_by(script(t, f'cat {TOP}/id.pub', 'first')))
    t.true(t.logs_in(srv) and not t.logs_in(srv, key='id2'), 'the first')
    with open(srv.policy, 'w') as f:
        f.write(keys_by(path))
    os.kill(srv.pid, signal.SIGHUP)
    srv.wait_log('new connections use the new policy')
    wait_for(lambda: t.logs_in(srv, key='id2'), 10, 'not the second')
    with open(srv.policy, 'w') as f:
        f.write('')
    os.kill(srv.pid, signal.SIGHUP)
    wait_for(lambda: t.logs_in(srv), 10, 'not the files')


@case('without root: as this account alone', 'aditd')
def _(t):
    path = script(t, f'cat {TOP}/id.pub')
    for user, want in ((USER, True), ('%u', True), ('neighbour', False)):
        srv = t.server(keys_by(path, user), user=USER)
        t.equal(t.logs_in(srv), want, user)
        srv.stop()


@case('unknown tokens are errors', 'aditd')
def _(t):
    path = f'{t.folder}/policy'
    for line, want in (('AuthorizedKeysCommand /bin/x %i', False),
                       ('AuthorizedPrincipalsCommand /bin/x %i', True),
                       ('AuthorizedPrincipalsCommand /bin/x %C', False),
                       ('AuthorizedKeysCommand bin/x', False),
                       ('AuthorizedKeysCommand none', True)):
        with open(path, 'w') as f:
            f.write(f'HostKey {TOP}/hostkey\n{line}\n'
                    'AuthorizedKeysCommandUser %u\n'
                    'AuthorizedPrincipalsCommandUser nobody\n')
        done = sh(f'{TOP}/aditd', '-t', '-f', path, check=False)
        t.equal(done.returncode == 0, want, line + done.stderr)


if __name__ == '__main__':
    main()
