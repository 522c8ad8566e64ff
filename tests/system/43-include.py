#!/usr/bin/python3
"""Include, all errors of a file, Match Host, Version and Invalid-User."""
import os
import re
import signal
import subprocess

from harness import (COMMS, PEER, SSHD, TOP, USER, Skip, case, main, processes,
                     reaches, talk, wait_for)

BINARY = SSHD if PEER == 'sshd' else f'{TOP}/aditd'


def run(*args, cwd=None, user=None):
    prefix = ['setpriv', f'--reuid={user}', '--clear-groups', '--'] \
        if user else []
    return subprocess.run([*prefix, BINARY, *args], stdin=subprocess.DEVNULL,
                          text=True, capture_output=True, timeout=60, cwd=cwd)


def put(t, name, text):
    path = f'{t.folder}/{name}'
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as f:
        f.write(text)
    return path


def base():
    return f'HostKey {TOP}/hostkey\nPidFile none\n'


def holds(t, path, keyword, **who):
    """What -T -C prints for keyword."""
    who = {'user': USER, 'host': 'gate.example.org', 'addr': '192.0.2.7',
           'laddr': '127.0.0.1', 'lport': '22', **who}
    spec = ','.join(f'{k}={v}' for k, v in who.items())
    done = run('-T', '-C', spec, '-f', path)
    t.equal(done.returncode, 0, done.stderr)
    return t.match(rf'^{keyword} (.*?)(?: +# .*)?$', done.stdout)[1]


@case('Include: sorted, the first value wins, a missing file is no error')
def _(t):
    d = t.folder
    put(t, 'd/2.conf', 'MaxAuthTries 2\nClientAliveInterval 2\n')
    put(t, 'd/1.conf', 'MaxAuthTries 1\n')
    put(t, 'e/x', 'ClientAliveCountMax 7\n')
    path = put(t, 'policy', f'{base()}Include {d}/none* {d}/d/*.conf "{d}/e/x"'
               '\nMaxAuthTries 9\nClientAliveCountMax 9\n')
    t.equal([holds(t, path, k) for k in ('maxauthtries', 'clientaliveinterval',
                                         'clientalivecountmax')],
            ['1', '2', '7'])


@case('a Match block of an included file ends with it')
def _(t):
    put(t, 'd/1.conf', f'Match User {USER}\nMaxAuthTries 1\n')
    put(t, 'd/2.conf', 'ClientAliveInterval 5\n')
    path = put(t, 'policy',
               f'{base()}Include {t.folder}/d/*\nGatewayPorts yes')
    for user, tries in ((USER, '1'), ('neighbour', '6')):
        t.equal((holds(t, path, 'maxauthtries', user=user),
                 holds(t, path, 'clientaliveinterval', user=user),
                 holds(t, path, 'gatewayports', user=user)),
                (tries, '5', 'yes'), user)


@case('inside a Match block an Include is conditional, and so is Match in it')
def _(t):
    inner = put(t, 'inner', 'MaxAuthTries 1\nMatch Address 192.0.2.0/24\n'
                'GatewayPorts yes\nMatch all\nPermitTunnel yes\n')
    path = put(t, 'policy', f'{base()}Match User {USER}\nInclude {inner}\n'
               'ClientAliveInterval 3\n')
    for who, want in (({}, ['1', 'yes', 'yes', '3']),
                      ({'addr': '198.51.100.1'}, ['1', 'no', 'yes', '3']),
                      ({'user': 'neighbour'}, ['6', 'no', 'no', '0'])):
        t.equal([holds(t, path, k, **who) for k in (
            'maxauthtries', 'gatewayports', 'permittunnel',
            'clientaliveinterval')], want, who)


@case('what is global may not be included inside a Match block')
def _(t):
    for text in ('Port 2022\n', 'Match all\nPort 2022\n'):
        inner = put(t, 'inner', text)
        path = put(t, 'policy',
                   f'{base()}Match User {USER}\nInclude {inner}\n')
        done = run('-t', '-f', path)
        t.true(done.returncode != 0, f'{text!r} is taken')
        t.match('(?i)not allowed', done.stderr)
        path = put(t, 'policy', f'{base()}Match all\nInclude {inner}\n')
        t.equal(run('-t', '-f', path).returncode, 0, f'{text!r}: Match all')


@case('files that include themselves are an error')
def _(t):
    path = f'{t.folder}/policy'
    put(t, 'policy', f'{base()}Include {path}\n')
    done = run('-t', '-f', path)
    t.true(done.returncode != 0, 'it is taken')
    t.match('(?i)recursive|16 deep', done.stderr)


@case('Match Host is the name, or the address; lists, negation, case')
def _(t):
    path = put(t, 'policy', base() + 'Match Host *.EXAMPLE.org,!bad.*\n'
               'MaxAuthTries 1\nMatch Host 192.0.2.*\nMaxAuthTries 2\n')
    for host, tries in (('gate.example.org', '1'), ('BAD.example.org', '6'),
                        ('192.0.2.9', '2'), ('elsewhere', '6')):
        t.equal(holds(t, path, 'maxauthtries', host=host), tries, host)


@case('first values win across all blocks that match')
def _(t):
    path = put(t, 'policy', base() + f'MaxAuthTries 9\nMatch User {USER}\n'
               'GatewayPorts yes\nMatch Address 192.0.2.0/24,!192.0.2.9\n'
               'MaxAuthTries 1\nGatewayPorts clientspecified\n'
               'Match LocalPort 22\nMaxAuthTries 2\nMatch all\n'
               'PermitTunnel yes\n')
    for who, want in (({}, ['1', 'yes', 'yes']),
                      ({'user': 'neighbour', 'addr': '192.0.2.9'},
                       ['2', 'no', 'yes']),
                      ({'user': 'neighbour', 'lport': '23'},
                       ['1', 'clientspecified', 'yes']),
                      ({'addr': '10.0.0.1', 'lport': '23'},
                       ['9', 'yes', 'yes'])):
        t.equal([holds(t, path, k, **who) for k in (
            'maxauthtries', 'gatewayports', 'permittunnel')], want, who)


@case('Match Version is the server, Invalid-User an account that is none',
      'aditd')
def _(t):
    path = put(t, 'policy', base() +
               'Match Version OpenSSH_*\nPermitOpen none\n'
               'Match Version adit_*\nMaxAuthTries 1\n'
               'Match Invalid-User\nMaxTunnels 1\n')
    t.equal([holds(t, path, k) for k in ('maxauthtries', 'maxtunnels',
                                         'permitopen')], ['1', '4', 'any'])
    t.equal(holds(t, path, 'permitopen', version='OpenSSH_9.9'), 'none')
    t.equal(holds(t, path, 'maxtunnels', user='nosuch'), '1')
    done = run('-T', '-C', f'user={USER},invalid-user', '-f', path)
    t.match('^maxtunnels 1 +# ', done.stdout)
    for spec in ('user', 'invalid-user=yes', 'usr=x'):
        t.true(run('-T', '-C', spec, '-f', path).returncode != 0, spec)


@case('Match Host and Match Invalid-User hold for connections')
def _(t):
    echo, port = t.target(), t.port()
    srv = t.server('Match Host 127.0.0.*\nAllowTcpForwarding no')
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    t.true(not reaches(port), 'Match Host does not hold')
    if t.kind == 'sshd':  # 9.2 has no Invalid-User
        return
    srv = t.server('Match Invalid-User\nMaxAuthTries 1')
    done = t.ssh(srv, user='nosuch')
    t.match('Too many auth', done.stderr.decode())
    t.true(t.logs_in(srv), 'login')


@case('a relative Include starts at the file that has it; the log names it',
      'aditd')
def _(t):
    put(t, 'conf/1.conf', '# one\nInclude more/*\n')
    put(t, 'conf/more/x', '\nPermitOpen 192.0.2.7:80\n')
    echo, port = t.target(), t.port()
    srv = t.server('Include ../conf/*.conf')
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    t.true(not reaches(port), 'it is granted')
    srv.wait_log(r'refused direct-tcpip.*/conf/more/x:2: PermitOpen')


@case('SIGHUP reads included files again, a new process alone does not',
      'aditd')
def _(t):
    echo, ports = t.target(), [t.port() for _ in range(3)]
    put(t, 'd/1.conf', 'AllowTcpForwarding no\n')
    srv = t.server(f'Include {t.folder}/d/*.conf')

    def forwards(port):
        client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
        try:
            return reaches(port)
        finally:
            client.stop()

    t.true(not forwards(ports[0]), 'the included rule does not hold')
    put(t, 'd/1.conf', 'AllowTcpForwarding yes\n')
    put(t, 'd/2.conf', 'Nonsense\n')
    old = processes(COMMS['brokerzyg'])[0].pid
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: [p for p in processes(COMMS['brokerzyg'])
                      if p.pid != old], 10, 'no new broker zygote')
    t.true(not forwards(ports[1]), 'the new process reads the files')
    os.unlink(f'{t.folder}/d/2.conf')
    old = processes(COMMS['brokerzyg'])[0].pid
    os.kill(srv.pid, signal.SIGHUP)
    srv.wait_log('Received SIGHUP; new connections use the new policy')
    wait_for(lambda: [p.pid for p in processes(COMMS['brokerzyg'])]
             not in ([], [old]) and
             old not in [p.pid for p in processes(COMMS['brokerzyg'])], 10,
             'the old broker zygote stays')
    t.true(forwards(ports[2]), 'the included file is not read again')


@case('a reload with errors logs all of them and changes nothing', 'aditd')
def _(t):
    echo, port = t.target(), t.port()
    srv = t.server(f'Include {t.folder}/inc')
    put(t, 'inc', 'AllowTcpForwarding no\nPermitOpn any\n')
    with open(srv.policy, 'a') as f:
        f.write('Port x\nGatewayPorts ye\n')
    os.kill(srv.pid, signal.SIGHUP)
    srv.wait_log('^.*reload: the old policy stays in force')
    log, here = srv.log(), re.escape(srv.policy)
    for pattern in (f'reload: {t.folder}/inc:2:1: unknown keyword PermitOpn, '
                    r'did you mean PermitOpen\?',
                    f'reload: {here}:2:6: Port x: ',
                    f'reload: {here}:3:14: GatewayPorts ye: .*did you mean yes'
                    ):
        t.match(pattern, log)
    t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}')
    t.true(reaches(port), 'the new policy holds')


@case('-t prints all errors, those of included files too', 'aditd')
def _(t):
    put(t, 'd/1', 'LoginGraceTime 1x\n')
    os.mkdir(f'{t.folder}/d/2')
    path = put(t, 'policy', 'Include d/*\nMatch Usr x\n\tPort 1\nPrt 22\n')
    done = run('-t', '-f', path)
    t.true(done.returncode != 0, 'exit status')
    t.equal([m[1] for m in re.finditer(r'aditd: .*/(\S+:\d+:\d+): ',
                                       done.stderr)],
            ['1:1:16', 'policy:1:9', 'policy:2:7', 'policy:3:2', 'policy:4:1'],
            done.stderr)
    path = put(t, 'policy', 'X\n' * 60)
    done = run('-t', '-f', path)
    t.equal(done.stderr.count('unknown keyword'), 50)
    t.match('policy: 10 more errors$', done.stderr)


@case('an included file that cannot be read stops the start', 'aditd')
def _(t):
    secret = put(t, 'secret', '')
    os.chmod(secret, 0)
    path = put(t, 'policy', f'{base()}\nInclude secret\n')
    os.chmod(t.folder, 0o755)
    done = run('-t', '-f', path, user=4001)
    t.match(r'policy:4:9: Include secret: .*/secret: Permission denied',
            done.stderr)
    os.mkdir(f'{t.folder}/locked', 0)
    path = put(t, 'policy', f'{base()}Include locked/*\n')
    done = run('-t', '-f', path, user=4001)
    t.match(r'policy:3:9: Include locked/\*: .*/locked: Permission denied',
            done.stderr)


@case('a daemon that was started in the folder finds its files', 'aditd')
def _(t):
    port = t.port()
    put(t, 'd/x', 'MaxAuthTries 3\nDenyUsers nobody\n')
    put(t, 'policy', f'HostKey {TOP}/hostkey\nPort {port}\nListenAddress '
        f'127.0.0.1\nPidFile {t.folder}/pid\nInclude d/*\n')
    done = run('-f', 'policy', '-E', f'{t.folder}/log', cwd=t.folder)
    t.equal(done.returncode, 0, done.stderr)
    pid_file = f'{t.folder}/pid'
    pid = int(wait_for(lambda: os.path.exists(pid_file) and
                       open(pid_file).read().strip(), 5, 'no PidFile'))

    def log():
        with open(f'{t.folder}/log') as f:
            return f.read()

    try:
        put(t, 'd/x', 'DenyUsers *\n')
        os.kill(pid, signal.SIGHUP)
        wait_for(lambda: 'use the new policy' in log(), 10, log)
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not os.path.exists(pid_file), 5, 'it stays')


@case("-t -v says what of Debian's sshd_config has no effect", 'aditd')
def _(t):
    path = '/usr/share/openssh/sshd_config'
    if not os.path.exists(path):
        raise Skip(f'no {path}')
    done = run('-t', '-v', '-f', path, '-h', f'{TOP}/hostkey')
    t.equal(done.returncode, 0, done.stderr)
    other, none = done.stderr.split('has no effect here:\n')
    t.match(rf'\Aapplies:\n  command line:1 +HostKey {TOP}/hostkey\n\Z', other)
    for keyword in ('UsePAM yes', 'X11Forwarding yes', 'Subsystem sftp .*',
                    'AcceptEnv .*'):
        t.match(rf'{path}:\d+ +{keyword}: \w', none)
    t.match('RequiredRSASize is 2048', done.stderr)


@case('the same file starts aditd', 'aditd')
def _(t):
    path = '/usr/share/openssh/sshd_config'
    if not os.path.exists(path):
        raise Skip(f'no {path}')
    with open(path) as f:
        srv = t.server(f.read())
    t.true(t.logs_in(srv), 'login')
    t.equal(talk(srv.port)[:8], b'SSH-2.0-')


if __name__ == '__main__':
    main()
