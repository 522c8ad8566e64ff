#!/usr/bin/python3
"""User certificates, and what policy says of kinds of keys."""
import os
import re
import time

from certs import (SUFFIX, Authenticator, Signer, answer, blob, certify,
                   holder, request)
from harness import (SLOW, TOP, USER, authorize, case, keygen, main, public,
                     reaches, sh)
from minimal import raw, ssh

CA = f'{TOP}/ca.pub'
TRUST = f'TrustedUserCAKeys {CA}'


def authority(t, name='ca'):
    """A CA that exists once, and nobody's authorized key."""
    if not os.path.exists(f'{TOP}/{name}'):
        keygen(name)
    authorize(USER, '')
    return name


def fingerprint(name):
    return sh('ssh-keygen', '-l', '-f', f'{TOP}/{name}.pub').stdout.split()[1]


@case('TrustedUserCAKeys: keys of all types, CAs of all types')
def _(t):
    authority(t)
    others = []
    for args in (('-t', 'ecdsa', '-b', '256'), ('-t', 'ecdsa', '-b', '384'),
                 ('-t', 'ecdsa', '-b', '521'), ('-t', 'rsa', '-b', '2048')):
        name = f'ca{args[1]}{args[3]}'
        keygen(name, *args)
        others.append(name)
    with open(f'{t.folder}/cas', 'w') as f:
        f.write('# ours\n\n' + public('ca') + ''.join(map(public, others)))
    srv = t.server(f'TrustedUserCAKeys {t.folder}/cas')
    for args in (('-t', 'ed25519'), ('-t', 'ecdsa', '-b', '256'),
                 ('-t', 'ecdsa', '-b', '384'), ('-t', 'ecdsa', '-b', '521'),
                 ('-t', 'rsa', '-b', '3072')):
        name = 'holder' + '-'.join(args[1::2])
        keygen(name, *args)
        t.true(not t.logs_in(srv, key=name), f'{name} without a certificate')
        certify('ca', name)
        t.true(t.logs_in(srv, key=name), name)
    for ca in others:
        certify(ca, 'holdered25519')
        t.true(t.logs_in(srv, key='holdered25519'), ca)
    certify('carsa2048', 'holdered25519', '-t', 'rsa-sha2-256')
    t.true(t.logs_in(srv, key='holdered25519'), 'rsa-sha2-256')
    certify('id2', 'holdered25519')
    t.true(not t.logs_in(srv, key='holdered25519'), 'a CA that is not listed')


@case('both digests of an RSA key with a certificate')
def _(t):
    authority(t)
    keygen('both', '-t', 'rsa', '-b', '2048')
    certify('ca', 'both')
    srv = t.server(TRUST)
    for digest in ('256', '512'):
        name = f'rsa-sha2-{digest}{SUFFIX}'
        done = t.ssh(srv, '-o', f'PubkeyAcceptedAlgorithms={name}', '-W',
                     '127.0.0.1:9', key='both')
        t.match('open failed', done.stderr.decode(), name)
    with raw(srv, login=False) as c:
        key = Signer('both', cert=True)
        t.equal(key.algorithm, 'ssh-rsa' + SUFFIX)
        t.equal(answer(c, request(c, key)), 'failure', 'SHA-1')


@case("a login is logged in sshd's words")
def _(t):
    authority(t)
    holder('words', identity='b o\tb', serial=18446744073709551615)
    srv = t.server(TRUST)
    t.true(t.logs_in(srv, key='words'), 'login')
    srv.wait_log(
        f'Accepted publickey for {USER} from 127.0.0.1 port \\d+ ssh2: '
        f'ED25519-CERT {re.escape(fingerprint("words"))} '
        r'ID b o(\\011|\\t|\t)b \(serial 18446744073709551615\) CA ED25519 '
        f'{re.escape(fingerprint("ca"))}$')


@case('only a user certificate, in its time, for its principals')
def _(t):
    authority(t)
    srv = t.server(TRUST)
    for what, options, kw, want in (
            ('plain', (), {}, True),
            ('of several', (), {'principals': f'a,{USER},b'}, True),
            ("another's", (), {'principals': 'neighbour'}, False),
            ('a longer name', (), {'principals': USER + 'x'}, False),
            ('no principal', (), {'principals': None}, False),
            ('of a host', ('-h',), {}, False),
            ('expired', ('-V', '20200101:20210101'), {}, False),
            ('not yet', ('-V', '20800101:20810101'), {}, False),
            ('until', ('-V', 'always:20800101'), {}, True),
            ('from', ('-V', '20200101:forever'), {}, True)):
        holder('timed', 'ca', *options, **kw)
        t.equal(t.logs_in(srv, key='timed'), want, what)
    certify('ca', 'timed', principals='neighbour')
    t.true(t.logs_in(srv, key='timed', user='neighbour'), 'the neighbour')


@case('TrustedUserCAKeys: no file, garbage, options, a certificate in it')
def _(t):
    authority(t)
    holder('trusting')
    path = f'{t.folder}/cas'
    srv = t.server(f'TrustedUserCAKeys {path}')
    certified = open(f'{TOP}/trusting-cert.pub').read()
    for text, want in ((None, False), ('', False), (public('ca'), True),
                       ('garbage\n' + public('ca'), False),
                       (public('ca') + 'garbage\n', True),
                       ('cert-authority ' + public('ca'), False),
                       (public('trusting'), False), (certified, False)):
        if text is not None:
            with open(path, 'w') as f:
                f.write(text)
        t.equal(t.logs_in(srv, key='trusting'), want, repr(text))


@case('a certificate as large as can be, and a byte more', 'aditd')
def _(t):
    most = 8192
    authority(t)
    srv = t.server(TRUST)
    certs = f'{TOP}/large-cert.pub'
    holder('large')
    room = most - len(blob(certs)) + len('who')
    holder('large', identity='x' * room)
    t.equal(len(blob(certs)), most)
    t.true(t.logs_in(srv, key='large'), 'the largest')
    holder('large', identity='x' * (room + 1))
    t.equal(len(blob(certs)), most + 1)
    client = t.client(srv, key='large', wait=False)
    client.wait_err('malformed publickey request')
    t.true(client.wait() != 0, 'let in')


@case('a cert-authority line: its principals, its other options')
def _(t):
    authority(t)
    srv = t.server()
    for options, names, want in (
            ('cert-authority', USER, True),
            ('cert-authority', 'neighbour', False),
            ('cert-authority', None, True),
            ('cert-authority,principals="ops,dev"', 'dev', True),
            ('cert-authority,principals="ops,dev"', f'x,{USER}', False),
            ('cert-authority,principals="ops,dev"', None, False),
            ('cert-authority,from="127.0.0.1"', USER, True),
            ('cert-authority,from="10.0.0.0/8"', USER, False),
            ('cert-authority,expiry-time="20200101"', USER, False),
            ('no-pty', USER, False)):
        holder('lined', principals=names)
        authorize(USER, f'{options} {public("ca")}')
        t.equal(t.logs_in(srv, key='lined'), want, f'{options}, {names}')
    authorize(USER, f'cert-authority,principals="x" {public("ca")}'
              f'cert-authority {public("ca")}')
    holder('lined')
    t.true(t.logs_in(srv, key='lined'), 'by the second line')
    authorize(USER, f'cert-authority {public("ca")}')
    t.true(not t.logs_in(srv, key='ca'), 'the CA itself')


@case('AuthorizedPrincipalsFile')
def _(t):
    authority(t)
    path = f'{t.folder}/principals'
    srv = t.server(f'{TRUST}\nAuthorizedPrincipalsFile {path}.%u')
    for text, names, want in (
            (None, USER, False), ('', USER, False),
            (f'# no\n\n  {USER}\n', USER, True),
            ('ops # the ops\n', 'ops', True), ('ops\n', USER, False),
            ('ops\n', None, False),
            ('from="127.0.0.1" ops\n', 'ops', True),
            ('from="10.0.0.0/8" ops\n', 'ops', False),
            ('from="10.0.0.0/8" ops\nops\n', 'ops', False),
            ('unheard-of ops\n', 'ops', False),
            ('cert-authority ops\n', 'ops', False),
            ('dev\nrestrict\tops\n', 'ops,x', True)):
        if text is not None:
            with open(f'{path}.{USER}', 'w') as f:
                f.write(text)
        holder('listed', principals=names)
        t.equal(t.logs_in(srv, key='listed'), want, f'{text!r}, {names}')
    os.chmod(f'{path}.{USER}', 0o666)
    t.true(not t.logs_in(srv, key='listed'), 'a file that others write')


@case('critical options: those that are known hold, others refuse')
def _(t):
    authority(t)
    srv = t.server(TRUST)
    for options, want in (
            (('-O', 'force-command=/bin/true'), True),
            (('-O', 'source-address=127.0.0.1/32'), True),
            (('-O', 'source-address=10.0.0.0/8,127.0.0.0/8'), True),
            (('-O', 'source-address=10.0.0.0/8'), False),
            (('-O', 'source-address=::1/128'), False),
            (('-O', 'critical:unheard@of=x'), False),
            (('-O', 'extension:unheard@of=x'), True),
            (('-O', 'clear'), True)):
        holder('critical', 'ca', *options)
        t.equal(t.logs_in(srv, key='critical'), want, str(options))
    holder('critical', 'ca', '-O', 'source-address=::1/128')
    t.true(t.logs_in(srv, key='critical', host='::1'), '::1 from there')


@case('a forced command of certificate and line must be the same')
def _(t):
    authority(t)
    srv = t.server()
    holder('forced', 'ca', '-O', 'force-command=/bin/true')
    for command, want in (('/bin/true', True), ('/bin/false', False)):
        authorize(USER, f'cert-authority,command="{command}" {public("ca")}')
        t.equal(t.logs_in(srv, key='forced'), want, command)


@case('PermitRootLogin forced-commands-only takes the certificate\'s')
def _(t):
    authority(t)
    srv = t.server(f'{TRUST}\nPermitRootLogin forced-commands-only')
    # sshd's child may say success before its monitor has refused.
    for options, want in (
            ((), 'ROOT LOGIN REFUSED|User root .* not allowed: .*: Permit'),
            (('-O', 'force-command=/bin/true'),
             'Accepted publickey for root')):
        t.true('Accepted' not in srv.log(), 'without')
        holder('rooted', 'ca', *options, principals='root')
        with raw(srv, login=False, user='root') as c:
            answer(c, request(c, Signer('rooted', cert=True)))
            srv.wait_log(want)


def forwards(t, srv, key):
    echo, port = t.target(), t.port()
    client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}', key=key)
    local = reaches(port)
    client.stop()
    client = t.client(srv, '-R', f'{port}:127.0.0.1:{echo.port}', key=key,
                      wait=False)
    client.wait_err('remote forward (success|failure)')
    remote = 'forward success' in client.err() and reaches(port)
    client.stop()
    return local, remote


@case('forwards need permit-port-forwarding, and what all options permit')
def _(t):
    authority(t)
    srv = t.server(TRUST)
    holder('forwarder')
    t.equal(forwards(t, srv, 'forwarder'), (True, True), 'with')
    holder('forwarder', 'ca', '-O', 'no-port-forwarding')
    t.equal(forwards(t, srv, 'forwarder'), (False, False), 'without')
    if t.kind == 'aditd':
        srv.wait_log(f'refused direct-tcpip .* {re.escape(CA)}:1: certificate '
                     'without permit-port-forwarding')
    srv = t.server()
    for options, want in (('restrict', False),
                          ('restrict,port-forwarding', True),
                          ('permitopen="127.0.0.1:1",permitlisten="1"',
                           False)):
        holder('forwarder')
        authorize(USER, f'cert-authority,{options} {public("ca")}')
        t.equal(forwards(t, srv, 'forwarder'), (want, want), options)


@case('-w needs it, too, whatever tunnel= says', 'aditd')
def _(t):
    authority(t)
    authorize(USER, f'cert-authority,tunnel="9" {public("ca")}')
    srv = t.server('PermitTunnel yes')
    holder('tunneller', 'ca', '-O', 'no-port-forwarding')
    with raw(srv, login=False) as c:
        key = Signer('tunneller', cert=True)
        t.equal(answer(c, request(c, key)), 'success')
        c.send(c.open_request('tun@openssh.com', ssh.u32(1) + ssh.u32(9)))
        t.equal(c.opened()[0], 1, 'administratively prohibited')
    srv.wait_log(r'refused tunnel .*authorized_keys:1: certificate without')


@case('CASignatureAlgorithms, and never SHA-1')
def _(t):
    authority(t)
    keygen('rsaca2', '-t', 'rsa', '-b', '2048')
    with open(f'{t.folder}/cas', 'w') as f:
        f.write(public('ca') + public('rsaca2'))
    trust = f'TrustedUserCAKeys {t.folder}/cas\n'
    for text, algorithm, want in (
            ('', 'rsa-sha2-512', True), ('', 'ssh-rsa', False),
            ('CASignatureAlgorithms -rsa-sha2-512', 'rsa-sha2-512', False),
            ('CASignatureAlgorithms -rsa-sha2-512', 'rsa-sha2-256', True),
            ('CASignatureAlgorithms rsa-sha2-512', 'rsa-sha2-512', True),
            ('CASignatureAlgorithms ssh-ed25519', 'rsa-sha2-512', False),
            ('CASignatureAlgorithms ^ssh-ed25519', 'rsa-sha2-512', True)):
        certify('rsaca2', 'id2', '-t', algorithm)
        srv = t.server(trust + text)
        t.equal(t.logs_in(srv, key='id2'), want, f'{text}, {algorithm}')
        srv.stop()
    os.unlink(f'{TOP}/id2-cert.pub')


@case('PubkeyAcceptedAlgorithms')
def _(t):
    authority(t)
    holder('kind')
    authorize(USER, public('id'))
    for text, plain, cert in (
            ('', True, True), ('ssh-ed25519', True, False),
            ('-ssh-ed25519', False, True), ('*-cert-v01*', False, True),
            ('ssh-ed25519*', True, True), ('ecdsa-*', False, False),
            ('-*', None, None), ('-ecdsa-*', True, True),
            ('^ecdsa-sha2-nistp256', True, True),
            ('+rsa-sha2-256', True, True)):
        srv = t.server(f'{TRUST}\n' +
                       (f'PubkeyAcceptedAlgorithms {text}' if text else ''),
                       wait=False)
        if plain is None and t.kind == 'aditd':
            t.true(srv.process.wait(10) != 0, 'an empty list starts')
            t.match('policy:2:26: PubkeyAcceptedAlgorithms .*: nothing is '
                    'left of this list', srv.log())
            continue
        if plain is None:
            srv.stop()
            continue
        srv.wait_ready()
        t.equal((t.logs_in(srv), t.logs_in(srv, key='kind')), (plain, cert),
                text)
        srv.stop()
    srv = t.server('Match User neighbour\nPubkeyAcceptedAlgorithms ecdsa-*')
    t.true(t.logs_in(srv) and not t.logs_in(srv, user='neighbour'), 'Match')


@case('names that this build does not know: a remark, no error', 'aditd')
def _(t):
    path = f'{t.folder}/policy'
    with open(path, 'w') as f:
        f.write(f'HostKey {TOP}/hostkey\n'
                'PubkeyAcceptedAlgorithms +ssh-dss,ssh-ed25519,x-*\n'
                'Match User a\nCASignatureAlgorithms ssh-rsa,rsa-sha2-256\n')
    done = sh(f'{TOP}/aditd', '-t', '-v', '-f', path, check=False)
    t.equal(done.returncode, 0, done.stderr)
    t.equal(re.findall(r'policy:(\d+) .*adit has no (\S+)', done.stderr),
            [('2', 'ssh-dss'), ('2', 'x-*'), ('4', 'ssh-rsa')])
    with open(path, 'a') as f:
        f.write('CASignatureAlgorithms ssh-rsa\n')
    done = sh(f'{TOP}/aditd', '-t', '-f', path, check=False)
    t.match('policy:5:23: CASignatureAlgorithms ssh-rsa: nothing is '
            'left of this list', done.stderr)


@case('RequiredRSASize')
def _(t):
    for bits in ('1024', '2048', '3072'):
        keygen(f'rsa{bits}', '-t', 'rsa', '-b', bits)
    authorize(USER, ''.join(public(f'rsa{b}') for b in (1024, 2048, 3072)))
    for size, want in (('1024', [True, True, True]),
                       ('2048', [False, True, True]),
                       ('3072', [False, False, True])):
        srv = t.server(f'RequiredRSASize {size}')
        got = [t.logs_in(srv, key=f'rsa{b}') for b in (1024, 2048, 3072)]
        t.equal(got, want, size)


@case('RequiredRSASize is for CAs, too', 'aditd')
def _(t):
    authorize(USER, '')
    cas = ''
    for bits in ('2048', '3072'):
        keygen(f'ca{bits}', '-t', 'rsa', '-b', bits)
        cas += public(f'ca{bits}')
    with open(f'{t.folder}/cas', 'w') as f:
        f.write(cas)
    srv = t.server(f'RequiredRSASize 3072\nTrustedUserCAKeys {t.folder}/cas')
    for bits, want in (('2048', False), ('3072', True)):
        holder('of-rsa', f'ca{bits}')
        t.equal(t.logs_in(srv, key='of-rsa'), want, bits)
    srv.wait_log("refusing CA's RSA key of 2048 bits: RequiredRSASize 3072")


@case('AuthenticationMethods publickey,publickey: two keys, not one twice')
def _(t):
    authorize(USER, public('id') + public('id2'))
    srv = t.server('AuthenticationMethods publickey,publickey\n'
                   'LogLevel VERBOSE')
    t.true(not t.logs_in(srv), 'one key')
    done = t.ssh(srv, '-i', f'{TOP}/id2', '-W', '127.0.0.1:9')
    t.match('open failed', done.stderr.decode(), 'two keys')
    one, two = Signer('id'), Signer('id2')
    with raw(srv, login=False) as c:
        t.equal(answer(c, request(c, one)), 'partial', 'the first')
        t.equal(answer(c, request(c, one)), 'failure', 'the same again')
        probe = c.auth_request('publickey', ssh.byte(0) +
                               ssh.string('ssh-ed25519') +
                               ssh.string(one.blob))
        t.equal(answer(c, probe), 'failure', 'asked for')
        t.equal(answer(c, request(c, two)), 'success', 'the second')
    # A certificate for the same key is no other key.
    authority(t)
    certify('ca', 'id')
    authorize(USER, public('id') + f'cert-authority {public("ca")}')
    with raw(srv, login=False) as c:
        t.equal(answer(c, request(c, one)), 'partial', 'the first')
        t.equal(answer(c, request(c, Signer('id', cert=True))), 'failure',
                'its certificate')
    os.unlink(f'{TOP}/id-cert.pub')
    srv.wait_log(f'Partial publickey for {USER} from')


@case('the options of two keys both hold')
def _(t):
    echo, other, port = t.target(), t.target(), t.port()
    srv = t.server('AuthenticationMethods publickey,publickey')
    for first, second, want in (
            ('', '', True), ('restrict', '', False), ('', 'restrict', False),
            (f'permitopen="127.0.0.1:{echo.port}"', '', True),
            ('', f'permitopen="127.0.0.1:{other.port}"', False),
            ('command="a"', 'command="a"', True)):
        authorize(USER, f'{first} {public("id")}{second} {public("id2")}')
        client = t.client(srv, '-L', f'{port}:127.0.0.1:{echo.port}', '-i',
                          f'{TOP}/id2')
        t.equal(reaches(port), want, f'{first!r}, {second!r}')
        client.stop()
    authorize(USER, f'command="a" {public("id")}command="b" {public("id2")}')
    done = t.ssh(srv, '-i', f'{TOP}/id2', '-W', '127.0.0.1:9')
    t.match('Permission denied|Broken pipe|Connection (closed|reset)',
            done.stderr.decode(), 'two commands')


@case('the connection ends with its certificate, key or SessionLifetime',
      'aditd')
def _(t):
    authority(t)
    srv = t.server(TRUST)
    life = t.server('SessionLifetime 3')
    authorize('neighbour', public('id'))
    end = time.gmtime(time.time() + 5 * SLOW)
    stamp = time.strftime('%Y%m%d%H%M%S', end)
    sh('env', 'TZ=UTC', 'ssh-keygen', '-q', '-s', f'{TOP}/ca', '-I', 'brief',
       '-n', USER, '-V', f'20200101:{stamp}', f'{TOP}/id2.pub')
    authorize(USER, f'expiry-time="{stamp}Z" {public("id")}')
    clients = [t.client(srv, key='id2'), t.client(srv, key='id'),
               t.client(life, user='neighbour'),
               t.client(srv, user='neighbour')]
    os.unlink(f'{TOP}/id2-cert.pub')
    for client in clients[:3]:
        client.wait(15)
    t.equal(clients[3].process.poll(), None, 'who has no end')
    srv.wait_log(f'ending the connection of {USER} from .*: its certificate '
                 'has expired')
    srv.wait_log(f'ending the connection of {USER} from .*: its key has '
                 r'expired \(expiry-time\)')
    life.wait_log('ending the connection of neighbour from .*: '
                  '.*SessionLifetime \d+')


def sk_logs_in(t, srv, key):
    with raw(srv, login=False) as c:
        return answer(c, request(c, key)) == 'success'


@case('FIDO keys: touch-required, verify-required, no-touch-required')
def _(t):
    usual = t.server()
    touch = t.server('PubkeyAuthOptions touch-required')
    verify = t.server('PubkeyAuthOptions verify-required')
    for ecdsa in (False, True):
        for option, flags, want in (
                ('', 1, (True, True, False)), ('', 0, (False,) * 3),
                ('', 5, (True, True, True)),
                ('no-touch-required', 0, (True, False, False)),
                ('no-touch-required', 4, (True, False, True)),
                ('verify-required', 1, (False, False, False)),
                ('verify-required', 5, (True, True, True))):
            key = Authenticator('sk', ecdsa, flags)
            authorize(USER, f'{option} {public("sk")}')
            t.equal(tuple(sk_logs_in(t, s, key)
                          for s in (usual, touch, verify)), want,
                    f'{key.plain} {option} {flags}')
    # A plain key cannot say either, and is not asked.
    authorize(USER, public('id'))
    t.true(t.logs_in(touch) and t.logs_in(verify), 'a plain key')


@case('FIDO keys with certificates')
def _(t):
    authority(t)
    for policy, options, flags, want in (
            ('', (), 1, True), ('', (), 0, False),
            ('', ('-O', 'no-touch-required'), 0, True),
            ('PubkeyAuthOptions touch-required',
             ('-O', 'no-touch-required'), 0, False),
            ('', ('-O', 'verify-required'), 1, False),
            ('', ('-O', 'verify-required'), 5, True),
            ('PubkeyAuthOptions verify-required', (), 1, False)):
        srv = t.server(f'{TRUST}\n{policy}')
        for ecdsa in (False, True):
            key = Authenticator('sk', ecdsa, flags)
            certify('ca', 'sk', *options)
            key.take_certificate()
            t.equal(sk_logs_in(t, srv, key), want,
                    f'{key.plain} {policy} {options} {flags}')
        srv.stop()
    # Of a line, it takes both to do without a touch.
    srv = t.server()
    key = Authenticator('sk', False, 0)
    certify('ca', 'sk', '-O', 'no-touch-required')
    key.take_certificate()
    for option, want in (('', False), (',no-touch-required', True)):
        authorize(USER, f'cert-authority{option} {public("ca")}')
        t.equal(sk_logs_in(t, srv, key), want, f'line {option}')


def altered(cert, at, value):
    return cert[:at] + value + cert[at + len(value):]


@case("forged and foreign certificates of a client that says anything")
def _(t):
    authority(t)
    holder('honest')
    holder('other', principals='neighbour')
    srv = t.server(f'{TRUST}\nMaxAuthTries 100')
    key, other = Signer('honest', cert=True), Signer('other', cert=True)
    plain = Signer('honest')
    good = key.blob
    name = good.index(USER.encode())
    ca = blob(CA)
    wrong = {
        "another's principal": altered(good, name, b'neighbourx'[:len(USER)]),
        'another serial': good.replace(ssh.u32(0) + ssh.u32(7),
                                       ssh.u32(0) + ssh.u32(8), 1),
        'signed by itself': good.replace(ca, plain.blob),
        'cut': good[:-1], 'cut in half': good[:len(good) // 2],
        'longer': good + b'\0',
        'no CA': good.replace(ssh.string(ca), ssh.string(b'')),
        'its own CA': good.replace(ssh.string(ca), ssh.string(good)),
        'another signature': good[:-64] + bytes(64),
    }
    t.equal(len(set(wrong.values()) - {good}), len(wrong), 'alterations')
    for what, cert in wrong.items():
        with raw(srv, login=False) as c:
            t.equal(answer(c, request(c, key, blob_=cert)), 'failure', what)
    with raw(srv, login=False) as c:
        t.equal(answer(c, request(c, other)), 'failure', "another user's")
        t.equal(answer(c, request(c, plain, blob_=good,
                                  algorithm=key.algorithm)), 'success',
                'the key of the certificate')
    with raw(srv, login=False) as c:
        t.equal(answer(c, request(c, other, blob_=good)), 'failure',
                "another's signature")
        t.equal(answer(c, request(c, plain, algorithm=key.algorithm)),
                'failure', 'a key said to be a certificate')
        t.equal(answer(c, request(c, key, algorithm='ssh-ed25519')),
                'failure', 'a certificate said to be a key')
        body = c.auth_request('publickey', ssh.byte(1) +
                              ssh.string('ssh-ed25519') +
                              ssh.string(plain.blob))
        t.equal(answer(c, request(c, plain, blob_=good,
                                  algorithm=key.algorithm, signed=body)),
                'failure', 'a signature over the plain key')
        t.equal(answer(c, request(c, key)), 'success', 'the honest one')


if __name__ == '__main__':
    main()
