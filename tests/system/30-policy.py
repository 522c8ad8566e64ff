#!/usr/bin/python3
"""The policy file, and the command line."""
import os
import re
import subprocess

from harness import (PEER, SSHD, TOP, USER, authorize, case, listening, main,
                     public, reaches, sh, talk, wait_for)

BINARY = SSHD if PEER == 'sshd' else f'{TOP}/aditd'
ORIGIN = '' if PEER == 'sshd' else ' *# .*'


def run(*args, timeout=20):
    return subprocess.run([BINARY, *args], stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, timeout=timeout)


def policy(t, text, name='policy'):
    path = f'{t.folder}/{name}'
    with open(path, 'w') as f:
        f.write(text)
    return path


def base(t):
    return f'HostKey {TOP}/hostkey\nPidFile none\n'


@case('a bad line stops the start and is named by file, line and column',
      'aditd')
def _(t):
    for text, where in (
            ('Port 2022\nAllowTcpForwardin yes\n', '2:1'),
            ('Port 2022\n\n  GatewayPorts perhaps\n', '3:16'),
            ('Port 70000\n', '1:6'),
            ('Match User\n', None),
            ('PermitOpen 10.0.0.1\n', '1:12'),
            ('AllowTcpForwarding yes no\n', '1:24'),
            ('AuthenticationMethods publickey,password\n', '1:23')):
        path = policy(t, base(t) + text)
        line, _, column = (where or '').partition(':')
        at = f'{int(line) + 2}:{column}' if line else r'\d+:\d+'
        for option in ((), ('-t',)):
            done = run('-D', '-e', '-f', path, *option)
            t.true(done.returncode != 0, f'{text!r}: it starts')
            t.match(f'{re.escape(path)}:{at}', done.stderr, repr(text))
    done = run('-t', '-f', policy(t, base(t) + 'AllowTcpForwardin yes\n'))
    t.match('AllowTcpForwarding', done.stderr, 'the nearest spelling')


@case('a bad line stops sshd too', 'sshd')
def _(t):
    done = run('-t', '-f', policy(t, base(t) + 'AllowTcpForwardin yes\n'))
    t.match('line 3: Bad configuration option', done.stderr)


@case('-t accepts a good policy and says nothing')
def _(t):
    done = run('-t', '-f', policy(t, base(t) + 'X11Forwarding yes\n'))
    t.equal((done.returncode, done.stdout, done.stderr), (0, '', ''))


@case('-t -v: what applies, what has no effect, what differs, what is unknown',
      'aditd')
def _(t):
    path = policy(t, base(t) + f'''Port 2022
MaxAuthTries 3
MaxAuthTries 4
MaxStartups 10
MaxStartups 20
X11Forwarding yes
Ciphers aes128-ctr,3des-cbc
AllowUsers !bob "a b"
Match User {USER} Address "127.0.0.1"
    PermitOpen db.internal:5432 # a remark
    ForceCommand sh -c true
''')
    done = run('-t', '-v', '-p', '2023', '-f', path)
    t.equal((done.returncode, done.stdout), (0, ''), done.stderr)
    said = {}
    for line in done.stderr.splitlines():
        if line[0] != ' ':
            title = said[line.rstrip(':')] = []
        else:
            title.append(re.sub(r'^  (command line:1|\S+)  +', r'\1|',
                                line.replace(path, 'policy')))
    t.equal(done.stderr.split('Match User')[0].split('\n')[-1] + '  ',
            done.stderr.split('PermitOpen')[0].split('\n')[-1].replace(
                '12', '11'), 'what is in a block is set off')
    t.equal(said.pop('applies'), [
        'command line:1|Port 2023',
        f'policy:1|HostKey {TOP}/hostkey', 'policy:2|PidFile none',
        'policy:4|MaxAuthTries 3', 'policy:6|MaxStartups 10',
        'policy:9|Ciphers aes128-ctr,3des-cbc',
        'policy:10|AllowUsers !bob "a b"',
        f'policy:11|Match User {USER} Address 127.0.0.1',
        'policy:12|PermitOpen db.internal:5432'])
    t.equal(said.pop('has no effect here'), [
        'policy:3|Port 2022: -p says which port it is',
        'policy:5|MaxAuthTries 4: the first one holds, policy:4',
        'policy:8|X11Forwarding yes: adit forwards no X11',
        'policy:13|ForceCommand sh -c true: adit starts no programs'])
    differs = '\n'.join(said.pop('differs from sshd'))
    for one in ('policy:7|MaxStartups 20: the first one holds, .*; in sshd '
                'the last one', 'policy:10|AllowUsers !bob: ',
                'policy:12|PermitOpen limits unix sockets, too: ',
                'default|RequiredRSASize is 2048, '):
        t.match('(?m)^' + one.replace('|', r'\|'), differs)
    t.equal(said, {'is not known': ['policy:9|Ciphers: adit has no 3des-cbc']})


@case('-t -v of a policy with errors: they are the last of what it says',
      'aditd')
def _(t):
    path = policy(t, base(t) + 'MaxAuthTrys 3\nLogLevel LOUD\nUseDNS no\n')
    done = run('-t', '-v', '-f', path)
    t.equal(done.returncode, 1, done.stderr)
    t.match(r'(?s)^applies:\n.*  UseDNS no\n.*^is an error:\n'
            r'  \S+:3:1 +unknown keyword MaxAuthTrys, did you mean '
            r'MaxAuthTries\?\n  \S+:4:10 +LogLevel LOUD: expected [^\n]*\n$',
            done.stderr)
    done = run('-t', '-v', '-f', f'{t.folder}/none', '-h', f'{TOP}/hostkey')
    t.match('/none +No such file', done.stderr)


@case('-T prints what holds, and what is printed is a policy')
def _(t):
    path = policy(t, base(t) + 'Port 2022\nallowtcpforwarding LOCAL\n'
                  'PermitOpen 10.0.0.1:80 "10.0.0.2:81"\nMaxAuthTries 3\n')
    first = run('-T', '-f', path)
    t.equal(first.returncode, 0, first.stderr)
    for line in ('listenaddress 0.0.0.0:2022', 'allowtcpforwarding local',
                 'maxauthtries 3', 'permitopen 10.0.0.1:80 10.0.0.2:81',
                 'gatewayports no',
                 'permitrootlogin (without-password|prohibit-password)',
                 'maxstartups 10:30:100', 'logingracetime 120'):
        t.match(f'^{line}{ORIGIN}$', first.stdout)
    if t.kind == 'aditd':
        again = run('-T', '-f', policy(t, first.stdout, 'again'))
        t.equal(re.sub('#.*', '', again.stdout),
                re.sub('#.*', '', first.stdout), again.stderr)


@case('-o and -p win over the file, -h adds a host key')
def _(t):
    path = policy(t, 'Port 2022\nMaxAuthTries 3\n')
    done = run('-T', '-f', path, '-o', 'MaxAuthTries=5', '-p', '2023',
               '-h', f'{TOP}/hostkey')
    t.equal(done.returncode, 0, done.stderr)
    for line in ('listenaddress 0.0.0.0:2023', 'maxauthtries 5',
                 f'hostkey {TOP}/hostkey'):
        t.match(f'^{line}{ORIGIN}$', done.stdout)


@case('-T -C prints what holds for one connection')
def _(t):
    path = policy(t, base(t) + f'AllowTcpForwarding local\nMatch User {USER} '
                  'Address 192.0.2.0/24\nAllowTcpForwarding remote\n')
    host = 'host=h,' if t.kind == 'sshd' else ''
    for address, word in (('192.0.2.9', 'remote'), ('127.0.0.1', 'local')):
        done = run('-T', '-C', f'user={USER},{host}addr={address}', '-f', path)
        t.equal(done.returncode, 0, done.stderr)
        t.match(f'^allowtcpforwarding {word}{ORIGIN}$', done.stdout, address)


@case('-V names the program and its version')
def _(t):
    done = run('-V')
    t.match(r'^(adit\w*|OpenSSH)[ _/]?\d', (done.stdout + done.stderr))


@case('an unknown option shows the usage')
def _(t):
    done = run('-Z')
    t.true(done.returncode != 0, 'exit status')
    t.match('(?i)usage', done.stderr)


@case('-E appends the log to a file')
def _(t):
    log = policy(t, 'what was there\n', 'log')
    srv = t.server(args=['-E', log])
    t.true(t.logs_in(srv), 'login')
    with open(log) as f:
        t.match(rf'(?s)\Awhat was there\n.*Accepted publickey for {USER}',
                f.read())


@case('without -D it is a daemon, PidFile names it')
def _(t):
    port, pid_file = t.port(), f'{t.folder}/pid'
    path = policy(t, f'HostKey {TOP}/hostkey\nPort {port}\n'
                  f'ListenAddress 127.0.0.1\nPidFile {pid_file}\n')
    done = run('-f', path, '-E', f'{t.folder}/log')
    t.equal(done.returncode, 0, done.stderr)
    wait_for(lambda: listening(port), 5, 'it does not listen')
    pid = int(wait_for(lambda: os.path.exists(pid_file) and
                       open(pid_file).read().strip(), 5, 'no PidFile'))
    t.equal(os.getsid(pid) == os.getsid(0), False, 'its session')
    t.equal(listening(port), {'127.0.0.1'}, 'ListenAddress')
    os.kill(pid, 15)
    wait_for(lambda: not listening(port) and not os.path.exists(pid_file), 5,
             'SIGTERM leaves the listener or the PidFile')


@case('several Ports and ListenAddresses')
def _(t):
    a, b, c = t.port(), t.port(), t.port()
    srv = t.server(f'Port {a}\nPort {b}\nListenAddress 127.0.0.1\n'
                   f'ListenAddress [::1]:{c}', address=())
    t.equal([listening(p) for p in (a, b, c)],
            [{'127.0.0.1'}, {'127.0.0.1'}, {'::1'}])
    t.true(t.logs_in(srv), 'login')


@case('a missing or readable-to-all host key stops the start')
def _(t):
    done = run('-D', '-e', '-f', policy(t, f'HostKey {t.folder}/none\n'))
    t.true(done.returncode != 0, 'it starts without')
    t.match(f'{t.folder}/none', done.stderr)
    key = f'{t.folder}/open'
    sh('cp', f'{TOP}/hostkey', key)
    os.chmod(key, 0o644)
    done = run('-D', '-e', '-f', policy(t, f'HostKey {key}\n'))
    t.true(done.returncode != 0, 'it starts with an open key')
    t.match('(?i)permissions|too open|bad mode', done.stderr)


@case('PermitOpen and PermitListen grant what they list')
def _(t):
    echo, echo6 = t.target(), t.target(host='::1')
    other = t.target()
    a, b, c, r, r2 = (t.port() for _ in range(5))
    srv = t.server(f'PermitOpen 127.0.0.1:{echo.port} [::1]:*\n'
                   f'PermitListen localhost:{r}')
    client = t.client(srv, '-L', f'{a}:127.0.0.1:{echo.port}',
                      '-L', f'{b}:[::1]:{echo6.port}',
                      '-L', f'{c}:127.0.0.1:{other.port}',
                      '-R', f'{r}:127.0.0.1:{echo.port}')
    t.true(reaches(a) and reaches(b), 'a permitted destination')
    t.true(reaches(r), 'the permitted listener')
    t.true(not reaches(c), 'another destination')
    client.wait_err('open failed: administratively prohibited')
    t.equal(other.accepted, 0, 'connections to the other one')
    client = t.client(srv, '-R', f'{r2}:127.0.0.1:{echo.port}', wait=False)
    t.true(client.wait() != 0, 'another listener')


@case('a refusal tells the client why, and the log by which rule', 'aditd')
def _(t):
    echo, port = t.target(), t.port()
    srv = t.server('# one\nLogLevel INFO\nPermitOpen 192.0.2.7:80\n'
                   'PermitListen 9999')
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    t.true(not reaches(port), 'the destination is granted')
    said = client.wait_err('open failed: administratively prohibited: (.*)')[1]
    t.true(said.strip() not in ('', 'open failed'), f'no reason: {said!r}')
    t.true(srv.policy not in said, f'the client learns the path: {said!r}')
    where = re.escape(srv.policy)
    srv.wait_log(f'127.0.0.1.*{echo.port}.*{where}:3'
                 f'|{where}:3.*127.0.0.1.*{echo.port}')
    refused = t.client(srv, '-R', f'{t.port()}:127.0.0.1:{echo.port}',
                       wait=False)
    t.true(refused.wait() != 0, 'the listener is granted')
    refused.wait_err('debug1: Remote: .')
    srv.wait_log(f'{where}:4')
    srv.stop()
    # What the key's owner forbids is in another file.
    authorize(USER, f'\nno-port-forwarding {public("id")}')
    srv, port = t.server(), t.port()
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    talk(port)
    srv.wait_log(f'/home/{USER}/.ssh/authorized_keys:2')


@case('Match User, Group, Address, LocalPort: the first block that matches')
def _(t):
    echo, port = t.target(), t.port()
    for text, open_ in (
            (f'Match User {USER}', False),
            ('Match User *,!' + USER, True),
            ('Match User tunnel?er', False),
            ('Match Group tunnellers', False),
            ('Match Group neighbour', True),
            ('Match Address 127.0.0.0/8', False),
            ('Match Address !127.0.0.1,*', True),
            ('Match Address ::1', True),
            ('Match LocalAddress 127.0.0.1', False),
            ('Match LocalPort 1', True),
            (f'Match User {USER} Address 10.0.0.0/8', True),
            (f'Match User {USER}\nAllowTcpForwarding yes\nMatch all', True),
            (f'AllowTcpForwarding yes\nMatch User {USER}', False),
            ('Match all', False)):
        srv = t.server(f'{text}\nAllowTcpForwarding no')
        client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
        t.equal(reaches(port), open_, text)
        client.stop()
        srv.stop()


if __name__ == '__main__':
    main()
