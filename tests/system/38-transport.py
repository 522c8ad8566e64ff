#!/usr/bin/python3
"""What is offered before login, and shown: algorithms, banner, version, host
keys, rekeying."""
import os
import re
import subprocess

from harness import TOP, Client, case, connect, main, public, run, wait_for


def asks(t, srv, *options):
    """What the client says when it asks for these alone."""
    return t.ssh(srv, '-v', *[f'-o{o}' for o in options],
                 '-W', '127.0.0.1:9').stderr.decode()


REFUSED = 'no matching|Unable to negotiate'
SERVED = 'open failed'  # it got as far as the -W


@case('Ciphers, MACs, KexAlgorithms, HostKeyAlgorithms')
def _(t):
    srv = t.server('Ciphers aes256-ctr,aes128-gcm@openssh.com\n'
                   'MACs hmac-sha2-512\n'
                   'KexAlgorithms ecdh-sha2-nistp384\n'
                   'HostKeyAlgorithms ssh-ed25519\n')
    t.true(t.logs_in(srv), 'with the client\'s own lists')
    for good in ('Ciphers=aes256-ctr', 'MACs=hmac-sha2-512',
                 'KexAlgorithms=ecdh-sha2-nistp384'):
        t.match(SERVED, asks(t, srv, good), good)
    for bad in ('Ciphers=aes128-ctr', 'KexAlgorithms=curve25519-sha256'):
        t.match(REFUSED, asks(t, srv, bad), bad)
    t.match(REFUSED, asks(t, srv, 'Ciphers=aes256-ctr', 'MACs=hmac-sha2-256'))


@case('the greeting is of the version that aditd -V says', 'aditd')
def _(t):
    srv = t.server()
    with connect(srv.port) as s:
        said = s.makefile('rb').readline().decode()
    version = run(f'{TOP}/aditd', '-V').split(',')[0]
    t.equal(said, f'SSH-2.0-{version}\r\n')


@case('lists with +, - and ^')
def _(t):
    srv = t.server('Ciphers ^aes256-ctr\nKexAlgorithms -ecdh-*\n'
                   'MACs +hmac-sha2-512')
    for good in ('Ciphers=chacha20-poly1305@openssh.com',
                 'Ciphers=aes128-ctr', 'MACs=hmac-sha2-512',
                 'KexAlgorithms=curve25519-sha256'):
        t.match(SERVED, asks(t, srv, good), good)
    t.match(REFUSED, asks(t, srv, 'KexAlgorithms=ecdh-sha2-nistp256'))


@case('what is there, but only for a policy that asks', 'aditd')
def _(t):
    srv = t.server()
    with_it = t.server('KexAlgorithms +ecdh-*\nMACs +hmac-sha2-512')
    for option in ('KexAlgorithms=ecdh-sha2-nistp256', 'MACs=hmac-sha2-512'):
        asked = (option, 'Ciphers=aes128-ctr')
        t.match(REFUSED, asks(t, srv, *asked))
        t.match(SERVED, asks(t, with_it, *asked), option)


@case('what libssh has not is in no list', 'aditd')
def _(t):
    shown = t.server(wait=False, args=['-T'])
    shown.process.wait(10)
    wanted = 'mlkem768x25519-sha256,nosuch@libssh.org'
    check = t.server(f'KexAlgorithms {wanted}', wait=False, args=['-t'])
    offered = re.search('kexalgorithms (.*) # default', shown.log())[1]
    if 'mlkem768x25519-sha256' in offered:
        t.equal(check.process.wait(10), 0)
        t.equal(offered.split(',')[0], 'mlkem768x25519-sha256')
    else:
        t.equal(check.process.wait(10), 1)
        t.match('nothing is left of this list, adit has .*curve25519-sha256',
                check.log())


@case('a list of which nothing is left stops the start, at its line', 'aditd')
def _(t):
    srv = t.server('\nCiphers 3des-cbc,aes128-cbc', wait=False)
    t.equal(srv.process.wait(10), 1)
    t.match(r'policy:2:9: Ciphers .*: nothing is left of this list', srv.log())
    check = t.server('KexAlgorithms -*', wait=False, args=['-t'])
    t.equal(check.process.wait(10), 1)
    t.match(r'policy:1:15: .*: nothing is left of this list', check.log())
    check = t.server('\nCiphers aes128-ctr,3des-cbc', wait=False,
                     args=['-t', '-v'])
    t.equal(check.process.wait(10), 0)
    t.match(r'policy:2 +Ciphers: adit has no 3des-cbc', check.log())


@case('a reload changes what is offered', 'aditd')
def _(t):
    srv = t.server('Ciphers aes128-ctr')
    t.match(REFUSED, asks(t, srv, 'Ciphers=aes256-ctr'))
    with open(srv.policy, 'w') as f:
        f.write('Ciphers aes256-ctr\n')
    os.kill(srv.pid, 1)
    wait_for(lambda: re.search(SERVED, asks(t, srv, 'Ciphers=aes256-ctr')), 10,
             'the old list stays')


@case('Banner, also by Match')
def _(t):
    path = f'{TOP}/banner'
    with open(path, 'w') as f:
        f.write('Für alle: authorised use only.\n')
    srv = t.server(f'Match User alice\n Banner {path}\n')
    for user, shown in (('alice', True), ('neighbour', False)):
        said = t.ssh(srv, '-W', '127.0.0.1:9', user=user).stderr.decode()
        t.equal('authorised use only.' in said, shown, user)


@case('a Banner that is not there is in the log, and keeps nobody out')
def _(t):
    srv = t.server('Banner /nowhere/banner')
    t.true(t.logs_in(srv), 'login')
    if srv.kind == 'aditd':
        srv.wait_log('Banner /nowhere/banner: No such file')


@case('VersionAddendum')
def _(t):
    srv = t.server('VersionAddendum of the example company')
    with connect(srv.port) as s:
        line = s.makefile('rb').readline()
    t.match(rb'SSH-2\.0-\S+ (.* )?of the example company\r\n$', line)


@case('the client learns the other host keys, proven')
def _(t):
    keys = []
    for kind in ('ecdsa', 'rsa'):
        path = f'{t.folder}/{kind}'
        subprocess.run(['ssh-keygen', '-q', '-t', kind, '-N', '', '-f', path],
                       check=True)
        keys.append(path)
    srv = t.server(args=[f'-oHostKey={k}' for k in keys])
    known = f'{t.folder}/known'
    with open(known, 'w') as f:
        f.write(f'[127.0.0.1]:{srv.port} {public("hostkey")}')
    argv = [f'UserKnownHostsFile={known}' if a.startswith('UserKnown') else a
            for a in t.argv(srv, '-N', '-oUpdateHostKeys=yes')]
    client = Client(argv, f'{t.folder}/learner')
    t.undo.callback(client.stop)

    def learnt():
        with open(known) as f:
            text = f.read()
        wanted = []
        for k in keys:
            with open(f'{k}.pub') as f:
                wanted.append(f.read().split()[1])
        return all(w in text for w in wanted)
    wait_for(learnt, 10, lambda: f'not learnt: {client.err()}')


@case('host keys of one kind: the first is used, of ECDSA one of each curve')
def _(t):
    keys = [f'{t.folder}/{name}' for name in ('second', 'e256', 'e384')]
    for path, kind in zip(keys, ('ed25519', 'ecdsa', 'ecdsa'), strict=True):
        subprocess.run(['ssh-keygen', '-q', '-t', kind, '-N', '', '-f', path,
                        *(['-b', path[-3:]] if kind == 'ecdsa' else [])],
                       check=True)
    srv = t.server(args=[f'-oHostKey={k}' for k in keys])
    for path, algorithm, good in (
            (f'{TOP}/hostkey', 'ssh-ed25519', True),
            (keys[0], 'ssh-ed25519', False),
            (keys[1], 'ecdsa-sha2-nistp256', True),
            (keys[2], 'ecdsa-sha2-nistp384', True)):
        known = f'{t.folder}/known'
        with open(known, 'w') as f, open(f'{path}.pub') as key:
            f.write(f'* {key.read()}')
        argv = [f'UserKnownHostsFile={known}' if a.startswith('UserKnown')
                else a for a in t.argv(srv, f'-oHostKeyAlgorithms={algorithm}',
                                       '-W', '127.0.0.1:9', verbose=False)]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, text=True,
                              capture_output=True)
        t.match('open failed' if good else 'verification failed',
                done.stderr, f'{path}, {algorithm}')


@case('RekeyLimit, by bytes and by Match')
def _(t):
    srv, echo = t.server('RekeyLimit 1M\n'), t.target()
    port = t.port()
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    with connect(port) as s:
        for _ in range(8):
            s.sendall(bytes(1 << 20))
            left = 1 << 20
            while left > 0:
                left -= len(s.recv(min(left, 65536)))
    n = client.err().count('SSH2_MSG_KEXINIT received')
    t.true(4 <= n <= 40, f'{n} exchanges for 8 MB each way')
    t.equal(client.err().count('SSH2_MSG_EXT_INFO received'), 1,
            'lists of signatures')


@case('RekeyLimit by time', 'aditd')
def _(t):
    srv, echo = t.server('RekeyLimit default 1'), t.target()
    port = t.port()
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')

    def talk():
        with connect(port) as s:
            s.sendall(b'x')
            s.recv(1)
        return client.err().count('SSH2_MSG_KEXINIT received') >= 3
    wait_for(talk, 10, 'no exchange')


if __name__ == '__main__':
    main()
