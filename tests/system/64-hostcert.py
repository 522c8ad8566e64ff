#!/usr/bin/python3
"""HostCertificate: clients that trust the authority, and those that do not."""
import base64
import os
import re
import shutil
import subprocess

from certs import SUFFIX, blob
from harness import (SLOW, TOP, Client, case, connect, keygen, main,
                     processes, public, reaches, sh, wait_for)

KINDS = {'ed25519': ('-t', 'ed25519'),
         'ecdsa256': ('-t', 'ecdsa', '-b', '256'),
         'ecdsa384': ('-t', 'ecdsa', '-b', '384'),
         'ecdsa521': ('-t', 'ecdsa', '-b', '521'),
         'rsa': ('-t', 'rsa', '-b', '3072')}
NAMES = (('ssh-ed25519',), ('ecdsa-sha2-nistp256',),
         ('ecdsa-sha2-nistp384',), ('ecdsa-sha2-nistp521',),
         ('rsa-sha2-512', 'rsa-sha2-256'))
NO_KEY = 'No .* host key is known|Host key verification failed'
NO_MATCH = 'no matching host key type'
TRIED = 'open failed'  # logged in: nobody listens there


def made(name, *args):
    """A key that is made once."""
    if not os.path.exists(f'{TOP}/{name}'):
        keygen(name, *args)
    return f'{TOP}/{name}'


def host_key(t, kind, name=None):
    """A host key of the case's own."""
    path = f'{t.folder}/{name or kind}'
    sh('ssh-keygen', '-q', '-N', '', *KINDS[kind], '-f', path)
    return path


def own(t):
    """The harness' own key, which every server has first, to be certified."""
    for suffix in ('', '.pub'):
        shutil.copy(f'{TOP}/hostkey{suffix}', f'{t.folder}/own{suffix}')
    return f'{t.folder}/own'


def certify(path, *options, ca='hostca', identity='who', host=True):
    """Certify the key at path; the certificate's path."""
    sh('ssh-keygen', '-q', '-s', made(ca), *(['-h'] if host else []), '-I',
       identity, '-n', '127.0.0.1', *options, f'{path}.pub')
    return f'{path}-cert.pub'


def authority(ca='hostca'):
    made(ca)
    return f'@cert-authority * {public(ca)}'


def plain(path):
    with open(f'{path}.pub') as f:
        return f'* {f.read()}'


def start(t, keys, certs, policy='', **kw):
    """The harness' own key comes first."""
    lines = [f'HostKey {k}' for k in keys]
    lines += [f'HostCertificate {c}' for c in certs]
    return t.server('\n'.join([policy, *lines]), **kw)


def argv(t, srv, known, *options, verbose=True):
    """A client that has these lines in its known_hosts, and no others."""
    path = f'{t.folder}/known'
    with open(path, 'w') as f:
        f.write(known)
    return [f'UserKnownHostsFile={path}' if a.startswith('UserKnownHosts')
            else a for a in t.argv(srv, *options, verbose=verbose)]


def says(t, srv, known, *options):
    """What the client says of one login and what it tries then."""
    return subprocess.run(
        argv(t, srv, known, *[f'-o{o}' for o in options], '-W',
             '127.0.0.1:9'), text=True, capture_output=True,
        stdin=subprocess.DEVNULL, timeout=20 * SLOW).stderr


def stays(t, srv, known, *options):
    client = Client(argv(t, srv, known, '-N', *options),
                    f'{t.folder}/client{len(t.talkers)}')
    t.talkers.append(client)
    t.undo.callback(client.stop)
    client.wait_ready()
    return client


@case('who trusts the authority needs no key: every kind, every algorithm')
def _(t):
    keys = [own(t)] + [host_key(t, kind) for kind in list(KINDS)[1:]]
    srv = start(t, keys[1:], [certify(k) for k in keys])
    for by, names in zip(keys, NAMES, strict=True):
        for name in names:
            said = says(t, srv, authority(), f'HostKeyAlgorithms={name}'
                        f'{SUFFIX}')
            t.match(f'kex: host key algorithm: {name}{SUFFIX}', said, name)
            t.match('Server host certificate: ', said, name)
            t.match(TRIED, said, name)
            # of the same server, by the key alone
            said = says(t, srv, plain(by),
                        f'HostKeyAlgorithms={name}')
            t.match(TRIED, said, f'{name}, by the key')
            t.true('certificate' not in said, f'{name}: {said}')
    said = says(t, srv, authority())
    t.match(TRIED, said, 'what the client prefers')
    t.match(f'algorithm: ssh-ed25519{SUFFIX}', said)


@case('authorities of every kind')
def _(t):
    key = host_key(t, 'ed25519')
    for kind, args in KINDS.items():
        made(f'hostca{kind}', *args)
        srv = start(t, [key], [certify(key, ca=f'hostca{kind}')])
        said = says(t, srv, authority(f'hostca{kind}'))
        t.match(TRIED, said, kind)
        t.match('Server host certificate: ', said, kind)
        srv.stop()


@case('another authority is not believed, the key alone is as ever')
def _(t):
    key = own(t)
    srv = start(t, [], [certify(key)])
    t.match(NO_KEY, says(t, srv, authority('otherca')), 'another authority')
    t.match(NO_KEY, says(t, srv, ''), 'neither authority nor key')
    for known in (plain(key), authority('otherca') + plain(key)):
        t.match(TRIED, says(t, srv, known), known)
    # the certificate arrives, and its key is known
    said = says(t, srv, plain(key), 'HostKeyAlgorithms=ssh-ed25519'
                f'{SUFFIX}')
    t.match('Server host certificate: ', said)
    t.match(TRIED, said)
    t.match(NO_KEY, says(t, srv, f'@revoked * {public("hostca")}' +
                         authority()), 'an authority that is revoked')


def exchange_often(t, srv, known, name, kex):
    """Exchanges that either side starts, of every kind of algorithm."""
    port, echo = t.port(), t.target()
    client = stays(t, srv, known, f'-oHostKeyAlgorithms={name}',
                   f'-oKexAlgorithms={kex}', '-oRekeyLimit=2M', '-L',
                   f'{port}:127.0.0.1:{echo.port}')
    with connect(port) as s:
        for _ in range(8):
            s.sendall(bytes(1 << 20))
            left = 1 << 20
            while left > 0:
                left -= len(s.recv(min(left, 65536)))
    n = client.err().count('SSH2_MSG_KEXINIT received')
    t.true(n >= 4, f'{name}, {kex}: {n} exchanges')
    t.equal(client.err().count(f'host key algorithm: {name}'), n,
            f'{name}, {kex}')
    client.stop()


@case('keys are exchanged again, by the certificate each time')
def _(t):
    keys = [host_key(t, kind) for kind in ('ed25519', 'ecdsa384', 'rsa')]
    srv = start(t, keys, [certify(k) for k in keys],
                'RekeyLimit 1M\nKexAlgorithms +ecdh-*')
    for kex, name in (('curve25519-sha256', f'ssh-ed25519{SUFFIX}'),
                      ('ecdh-sha2-nistp256', f'rsa-sha2-256{SUFFIX}'),
                      ('ecdh-sha2-nistp384', f'rsa-sha2-512{SUFFIX}'),
                      ('ecdh-sha2-nistp521', f'ecdsa-sha2-nistp384{SUFFIX}')):
        exchange_often(t, srv, authority(), name, kex)


@case('HostKeyAlgorithms chooses among certificates, too')
def _(t):
    keys = [host_key(t, kind) for kind in ('ed25519', 'rsa')]
    certs = [certify(k) for k in keys]
    both = f'HostKeyAlgorithms=ssh-ed25519{SUFFIX},ssh-ed25519'
    rsa = f'HostKeyAlgorithms=rsa-sha2-512{SUFFIX}'

    def uses(what, policy, option, want):
        srv = start(t, keys, certs, policy)
        said = says(t, srv, authority() + plain(f'{TOP}/hostkey'), option)
        if want:
            t.match(TRIED, said, what)
            t.match(f'(?m)host key algorithm: {re.escape(want)}$', said, what)
        else:
            t.match(NO_MATCH, said, what)
        srv.stop()
    uses('the default', '', both, f'ssh-ed25519{SUFFIX}')
    uses('keys alone', 'HostKeyAlgorithms ssh-ed25519,rsa-sha2-512', both,
         'ssh-ed25519')
    uses('less certificates', 'HostKeyAlgorithms -*cert*', both,
         'ssh-ed25519')
    uses('less one', f'HostKeyAlgorithms -rsa-sha2-512{SUFFIX}', rsa, None)
    uses('more', f'HostKeyAlgorithms +rsa-sha2-512{SUFFIX}', rsa,
         f'rsa-sha2-512{SUFFIX}')
    uses('in front', f'HostKeyAlgorithms ^rsa-sha2-512{SUFFIX}', rsa,
         f'rsa-sha2-512{SUFFIX}')
    uses('another certificate', f'HostKeyAlgorithms rsa-sha2-512{SUFFIX}',
         both, None)
    srv = start(t, keys, certs, f'HostKeyAlgorithms ssh-ed25519{SUFFIX}\n'
                'RekeyLimit 1M')
    t.match(NO_MATCH, says(t, srv, plain(keys[0]),
                           'HostKeyAlgorithms=ssh-ed25519'), 'no key')
    exchange_often(t, srv, authority(), f'ssh-ed25519{SUFFIX}',
                   'curve25519-sha256')


@case('of two certificates of a key the last, of two keys the certified one')
def _(t):
    key = host_key(t, 'ed25519')  # the second of its kind
    old, first = certify(key, identity='old'), f'{t.folder}/old-cert.pub'
    os.rename(old, first)
    last = certify(key, identity='new')
    srv = start(t, [key], [first, last])
    said = says(t, srv, authority())
    t.match(TRIED, said)
    t.match('Server host certificate: .*ID "new"', said)
    t.match(TRIED, says(t, srv, plain(f'{TOP}/hostkey'),
                        'HostKeyAlgorithms=ssh-ed25519'), 'the first key')
    none = start(t, [key], [first, 'none'])
    t.match('ID "old"', says(t, none, authority()), 'none names none')


@case('expired, or not yet valid: offered, and said at the start')
def _(t):
    key = host_key(t, 'ed25519')
    for what, times in (('expired', '20200101:20210101'),
                        ('not yet valid', '20800101:20810101')):
        cert = certify(key, '-V', times)
        srv = start(t, [key], [cert])
        said = says(t, srv, authority())
        t.match('Server host certificate: ', said, what)
        t.match(NO_KEY, said, what)
        t.match(TRIED, says(t, srv, authority() + plain(key)),
                f'{what}, by the key')
        if srv.kind == 'aditd':
            srv.wait_log(f'host certificate {re.escape(cert)}: {what}, no '
                         'client will believe it')
        srv.stop()
    t.match(TRIED, says(t, start(t, [key], [certify(key, '-V',
                                                    'always:forever')]),
                        authority()), 'for ever')


def spoilt(cert, to):
    """Another signature, of the right form."""
    with open(cert) as f:
        name, _, comment = f.read().split(' ', 2)
    data = bytearray(blob(cert))
    data[-7] ^= 1
    with open(to, 'w') as f:
        f.write(f'{name} {base64.b64encode(data).decode()} {comment}')
    return to


@case('what cannot be used is named, with why, and the keys go on', 'aditd')
def _(t):
    key, other = own(t), host_key(t, 'ecdsa256')
    good = certify(key)
    rows = []

    def bad(name, why, text=None, path=None):
        path = path or f'{t.folder}/{name}'
        if text is not None:
            with open(path, 'w') as f:
                f.write(text)
        rows.append((path, why))
    with open(good) as f:
        text = f.read()
    bad('nowhere', 'No such file or directory')
    bad('', 'Invalid argument')  # a folder
    bad('empty', 'no certificate in it', '')
    bad('remarks', 'no certificate in it', '# none\n\n')
    bad('garbage', 'not a key', 'garbage\n')
    bad('private', 'not a key', open(key).read())
    bad('cut', 'bad base64|malformed certificate', text[:len(text) // 2])
    bad('long', 'malformed certificate|bad base64', ' '.join(
        [text.split()[0], text.split()[1] + 'AAAA']) + '\n')
    bad('huge', 'File too large', 'x' * 70000)
    bad('plain', 'not a certificate', path=f'{key}.pub')
    bad('another key', 'no HostKey is the key in it', path=certify(other))
    bad('spoilt', "the CA's signature is wrong", path=spoilt(
        good, f'{t.folder}/spoilt'))
    os.rename(good, f'{t.folder}/good')
    bad('user', "a user's certificate, not a host's",
        path=certify(key, host=False))
    certs = [path for path, _ in rows]
    srv = start(t, [], certs)
    t.match(TRIED, says(t, srv, plain(key)), 'by the key')
    t.match(NO_KEY, says(t, srv, authority()), 'by a certificate')
    check = start(t, [], certs, args=['-t'], wait=False)
    t.equal(check.process.wait(10 * SLOW), 0, 'the policy is good')
    for log in (srv.log(), check.log()):
        for path, why in rows:
            t.match(f'host certificate {re.escape(path)}: ({why})', log)
        t.equal(log.count('host certificate'), len(rows), log)
    whole = start(t, [], [*certs, f'{t.folder}/good'])
    t.match(TRIED, says(t, whole, authority()), 'one good one behind them')


@case('-t and -T: a policy of sshd with HostCertificate', 'aditd')
def _(t):
    key = host_key(t, 'ed25519')
    cert = certify(key)
    for text, status, error in (
            (f'HostCertificate {cert}\nUsePAM no\nX11Forwarding yes', 0, '^$'),
            (f'HostKeyAlgorithms ssh-ed25519{SUFFIX}', 0, '^$'),
            ('HostCertificate none', 0, '^$'),
            ('HostCertificate ed25519-cert.pub', 1,
             'policy:1:17: HostCertificate .*: not an absolute path'),
            ('HostCertificate', 1, 'HostCertificate: missing argument, '
             'expected a path'),
            (f'Match User a\nHostCertificate {cert}', 1,
             'policy:2:1: HostCertificate: ')):
        check = t.server(text, args=['-t', f'-oHostKey={key}'], wait=False)
        t.equal(check.process.wait(10 * SLOW), status, text)
        t.match(error, check.log(), text)
    dump = start(t, [key], [cert, 'none', '/k/another'],
                 args=['-T'], wait=False)
    t.equal(dump.process.wait(10 * SLOW), 0)
    t.match(f'(?m)^hostcertificate {re.escape(cert)} *#.*\n'
            'hostcertificate /k/another *#', dump.log())


@case('announced are keys alone')
def _(t):
    keys = [host_key(t, kind) for kind in ('ecdsa256', 'rsa')]
    srv = start(t, keys, [certify(k) for k in [own(t), *keys]])
    lines = f'[127.0.0.1]:{srv.port} {public("hostkey")}'
    stays(t, srv, lines, '-oUpdateHostKeys=yes',
          '-oHostKeyAlgorithms=ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512'
          f',ecdsa-sha2-nistp256{SUFFIX},rsa-sha2-512{SUFFIX}')

    def learnt():
        with open(f'{t.folder}/known') as f:
            text = f.read()
        return text if all(plain(k).split()[2] in text for k in keys) else ''
    text = wait_for(learnt, 10, 'not learnt')
    t.true('cert' not in text, text)
    t.equal(len(text.splitlines()), 3, text)


@case('a keyholder that starts again brings a renewed certificate', 'aditd')
def _(t):
    key = host_key(t, 'ed25519')
    cert = certify(key, identity='old')
    srv, echo = start(t, [key], [cert], 'RekeyLimit 1M'), t.target()
    port = t.port()
    name = f'-oHostKeyAlgorithms=ssh-ed25519{SUFFIX}'
    client = stays(t, srv, authority(), name, '-L',
                   f'{port}:127.0.0.1:{echo.port}')
    certify(key, identity='new')
    t.match('ID "old"', says(t, srv, authority()), 'nothing was read again')
    keyholder = processes('adit-keyholder')
    t.equal(len(keyholder), 1)
    os.kill(keyholder[0].pid, 9)
    srv.wait_log('the host keys have changed on disk')
    wait_for(lambda: 'ID "new"' in says(t, srv, authority()), 10,
             'the old certificate stays')
    # who is connected exchanges keys by the one that it began with
    before = client.err().count('ID "old"')
    with connect(port) as s:
        s.sendall(bytes(3 << 20))
        left = 3 << 20
        while left > 0:
            left -= len(s.recv(min(left, 65536)))
    t.true(client.err().count('ID "old"') > before, 'not exchanged again')
    t.true(reaches(port), 'the forward')


if __name__ == '__main__':
    main()
