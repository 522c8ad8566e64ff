#!/usr/bin/python3
"""RevokedKeys: lists of keys, and what ssh-keygen -k makes."""
import os

from certs import holder
from harness import TOP, USER, authorize, case, keygen, main, public, sh


def certified(t):
    """A CA, and a policy that trusts it; id is authorized, too."""
    if not os.path.exists(f'{TOP}/ca'):
        keygen('ca')
    return (f'TrustedUserCAKeys {TOP}/ca.pub\n'
            f'RevokedKeys {t.folder}/revoked')


def write(t, text):
    with open(f'{t.folder}/revoked', 'wb' if isinstance(text, bytes)
              else 'w') as f:
        f.write(text)


def krl(t, *words, spec=None, version=1):
    """Make the list of files, or of a specification's text."""
    path = f'{t.folder}/revoked'
    if spec is not None:
        with open(f'{t.folder}/spec', 'w') as f:
            f.write(spec)
        words = (*words, f'{t.folder}/spec')
    sh('ssh-keygen', '-q', '-k', '-f', path, '-z', str(version), *words)


@case('a list of keys: of users, of CAs, of certificates')
def _(t):
    srv = t.server(certified(t))
    holder('held')
    certificate = open(f'{TOP}/held-cert.pub').read()
    for text, plain, cert in (
            ('', True, True), ('# nothing\n\n', True, True),
            (public('id2'), True, True), (public('id'), False, True),
            (public('id2') + public('id'), False, True),
            (public('held'), True, False), (certificate, True, False),
            (public('ca'), True, False)):
        write(t, text)
        t.equal((t.logs_in(srv), t.logs_in(srv, key='held')), (plain, cert),
                repr(text))
    write(t, public('id'))
    t.logs_in(srv)
    srv.wait_log('Authentication key ED25519 SHA256:.* revoked by file '
                 f'{t.folder}/revoked')
    # By cert-authority as well, and for all accounts.
    authorize(USER, f'cert-authority {public("ca")}')
    write(t, public('ca'))
    t.true(not t.logs_in(srv, key='held'), 'by a line')


@case('a list that cannot be used refuses everybody')
def _(t):
    srv = t.server(certified(t))
    t.true(not t.logs_in(srv), 'no file')
    srv.wait_log('Error checking authentication key')
    krl(t, spec=public('id2'))
    good = open(f'{t.folder}/revoked', 'rb').read()
    for what, text in (('garbage', 'garbage\n'),
                       ('a broken key', 'ssh-ed25519 AAAA\n'),
                       ('options', 'restrict ' + public('id2')),
                       ('a cut KRL', good[:-1]), ('a KRL\'s head', good[:8]),
                       ('a longer KRL', good + b'\x09'),
                       ('another version', good[:11] + b'\x02' + good[12:])):
        write(t, text)
        t.true(not t.logs_in(srv), what)
    write(t, good)
    t.true(t.logs_in(srv), 'all well again')
    os.unlink(f'{t.folder}/revoked')
    os.mkdir(f'{t.folder}/revoked')
    t.true(not t.logs_in(srv), 'a folder')


@case('a KRL of keys, of SHA1 and SHA256 fingerprints')
def _(t):
    srv = t.server(certified(t))
    holder('held')
    fp = sh('ssh-keygen', '-l', '-f', f'{TOP}/id.pub').stdout.split()[1]
    fp_held = sh('ssh-keygen', '-l', '-f',
                 f'{TOP}/held.pub').stdout.split()[1]
    for spec, plain, cert in (
            (public('id2'), True, True), (f'key: {public("id")}', False, True),
            (f'sha1: {public("id")}', False, True),
            (f'sha256: {public("id")}', False, True),
            (f'hash: {fp}\n', False, True),
            (f'hash: {fp_held}\n', True, False),
            (f'key: {public("held")}', True, False),
            (f'sha1: {public("held")}', True, False),
            (f'sha256: {public("held")}', True, False),
            (f'key: {public("ca")}', True, False),
            (f'sha256: {public("ca")}', True, False),
            (f'sha1: {public("id2")}key: {public("ca")}hash: {fp}\n', False,
             False)):
        krl(t, spec=spec)
        t.equal((t.logs_in(srv), t.logs_in(srv, key='held')), (plain, cert),
                spec)


@case('a KRL of serial numbers: single, ranges, bitmaps')
def _(t):
    srv = t.server(certified(t))
    sets = {
        'single': ('serial: 7\n', {7}),
        'range': ('serial: 100-200\n', {100, 150, 200}),
        'bitmap': (''.join(f'serial: {n}\n' for n in range(1, 400, 3)),
                   {1, 4, 397}),
        'far': ('serial: 18446744073709551615\nserial: 9223372036854775808-'
                '9223372036854775899\n',
                {(1 << 64) - 1, 1 << 63, (1 << 63) + 91}),
        'mixed': ('serial: 7\nserial: 9\nserial: 1000-100000\n',
                  {7, 9, 1000, 5000, 100000}),
    }
    tried = {0, 1, 2, 3, 4, 7, 8, 9, 99, 100, 150, 200, 201, 397, 398, 999,
             1000, 5000, 100000, 100001, (1 << 63) - 1, 1 << 63,
             (1 << 63) + 91, (1 << 63) + 92, (1 << 64) - 1}
    revoked = {
        'single': lambda n: n == 7, 'range': lambda n: 100 <= n <= 200,
        'bitmap': lambda n: n < 400 and n % 3 == 1,
        'far': lambda n: n == (1 << 64) - 1 or 1 << 63 <= n <= (1 << 63) + 91,
        'mixed': lambda n: n in (7, 9) or 1000 <= n <= 100000,
    }
    for serial in sorted(tried):
        holder(f'n{serial}', serial=serial)
    for name, (spec, members) in sets.items():
        assert all(revoked[name](n) for n in members)
        krl(t, '-s', f'{TOP}/ca.pub', spec=spec)
        # The first and the last of each run, and their neighbours.
        for n in sorted(tried & (members | {m + 1 for m in members} |
                                 {m - 1 for m in members} | {0})):
            t.equal(t.logs_in(srv, key=f'n{n}'), not revoked[name](n),
                    f'{name}: {n}')


@case('a KRL of key ids, for one CA and for all')
def _(t):
    certified(t)
    keygen('ca2')
    with open(f'{t.folder}/cas', 'w') as f:
        f.write(public('ca') + public('ca2'))
    srv = t.server(f'TrustedUserCAKeys {t.folder}/cas\n'
                   f'RevokedKeys {t.folder}/revoked')
    for ca, identity, key in (('ca', 'bob', 'b1'), ('ca2', 'bob', 'b2'),
                              ('ca', 'bobby', 'b3')):
        holder(key, ca, identity=identity)
    for args, spec, want in (
            (('-s', f'{TOP}/ca.pub'), 'id: bob\n', (False, True, True)),
            (('-s', 'none'), 'id: bob\n', (False, False, True)),
            (('-s', f'{TOP}/ca2.pub'), 'id: bob\nid: bobby\n',
             (True, False, True)),
            (('-s', 'none'), 'serial: 7\n', (False,) * 3),
            (('-s', f'{TOP}/ca2.pub'), 'serial: 7\n', (True, False, True))):
        krl(t, *args, spec=spec)
        t.equal(tuple(t.logs_in(srv, key=k) for k in ('b1', 'b2', 'b3')),
                want, f'{args} {spec!r}')


@case('certificates given to ssh-keygen -k, and an update with -u')
def _(t):
    srv = t.server(certified(t))
    holder('held', serial=11)
    holder('held2', serial=12)
    holder('held3', serial=13)
    krl(t, '-s', f'{TOP}/ca.pub', f'{TOP}/held-cert.pub')
    t.true(not t.logs_in(srv, key='held'), 'the one in it')
    t.true(t.logs_in(srv, key='held2'), 'the next')
    krl(t, '-u', '-s', f'{TOP}/ca.pub', f'{TOP}/held2-cert.pub', version=2)
    t.equal([t.logs_in(srv, key=k) for k in ('held', 'held2', 'held3')],
            [False, False, True])


@case('it holds inside Match, and not with none')
def _(t):
    write(t, public('id'))
    srv = t.server(f'Match User neighbour\nRevokedKeys {t.folder}/revoked')
    t.true(t.logs_in(srv), 'others')
    t.true(not t.logs_in(srv, user='neighbour'), 'the neighbour')
    srv = t.server('RevokedKeys none')
    t.true(t.logs_in(srv), 'none')


if __name__ == '__main__':
    main()
