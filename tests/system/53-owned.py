#!/usr/bin/python3
"""A session in an attacker's hands gets nothing from its broker that policy
does not give, and harms nobody else (tests/sandbox/owned.h)."""
import os
import shutil

import owned  # before the harness
from owned import (AUTH, AUTHENTICATED, CLOSE, DENIED, ENDED, HOSTBOUND,
                   OTHER_AUTH, PLAIN, QUERY, SIGN, SIGNED, Session, attacked,
                   encode, ends, exchange, keys, signed_data, to_sign)
from certs import blob
from harness import TOP, USER, authorize, case, keygen, main, sh, wait_for

ED25519 = 'ssh-ed25519'


# Before login.

@case('before login nothing is opened, listened on, cancelled or tunnelled')
def _(t):
    with attacked(t) as srv:
        for signed in (False, True):
            for message in (owned.open_tcp('127.0.0.1', srv.port),
                            owned.open_tun(1, 0), owned.open_tun(2, 0),
                            owned.listen('', 0), owned.cancel('', 0),
                            encode(CLOSE, 1)):
                with Session(srv) as s:
                    if signed:
                        s.sign()
                    s.send(message)
                    ends(t, s, message, 'security: .*: not allowed in this '
                         'phase')


def rows(key, other, neighbour, s):
    """What is claimed, what the log says of it: user, method, algorithm,
    blob, signature."""
    def row(why, user=USER, method=PLAIN, algorithm=ED25519, blob=None,
            signature=None, by=key, over=None, host=None):
        blob = key.blob if blob is None else blob
        if signature is None:
            data = over or signed_data(s.session_id, user, method, algorithm,
                                       blob, host)
            signature = by.sign(data)
        return why, encode(AUTH, user, method, algorithm, blob, signature)

    def data(**changed):
        a = dict(session_id=s.session_id, user=USER, method=PLAIN,
                 algorithm=ED25519, blob=key.blob, host=None)
        return signed_data(**{**a, **changed})
    good, wrong = key.sign(data()), 'signature is wrong'
    another = 'signature is of another algorithm'
    malformed = 'malformed signature'
    raw = good[-64:]
    yield row(another, signature=b'')
    yield row(another, signature=b'\0')
    yield row(another, signature=os.urandom(83))
    yield row(another, signature=owned.string(b''))
    yield row(malformed, signature=good[:15])
    yield row(malformed, signature=good[:-1])
    yield row(malformed, signature=good[:19])
    yield row(malformed, signature=owned.string(ED25519) +
              owned.string(raw + b'\0'))
    yield row(malformed, signature=owned.string(ED25519) +
              owned.string(raw[:63]))
    yield row(wrong, signature=owned.string(ED25519) +
              owned.string(os.urandom(64)))
    yield row(wrong, signature=owned.string(ED25519) + owned.string(bytes(64)))
    # over something else
    yield row(wrong, over=data(session_id=os.urandom(32)))
    yield row(wrong, over=data(session_id=b''))
    yield row(wrong, over=data(session_id=s.session_id[:-1]))
    yield row(wrong, over=data()[4:])
    yield row(wrong, over=data(user='neighbour'))
    yield row(wrong, over=data(algorithm='rsa-sha2-512'))
    yield row(wrong, over=data(blob=other.blob))
    yield row(wrong, over=data(method=HOSTBOUND))
    yield row(wrong, over=data(method='none'))
    yield row(wrong, over=data() + b'\0')
    yield row(wrong, over=data().replace(b'ssh-connection', b'ssh-userauth00'))
    # the hostbound method
    yield row(wrong, method=HOSTBOUND, over=data())
    yield row(wrong, method=HOSTBOUND, over=data(method=HOSTBOUND,
                                                 host=other.blob))
    yield row(wrong, method=HOSTBOUND, over=data(method=HOSTBOUND)[:-55])
    # another key
    yield row(wrong, by=other)
    for one in (other, neighbour):
        yield row('key is not authorised', blob=one.blob, by=one)
    yield row('malformed key', blob=key.blob[:-1])
    yield row('malformed key', blob=key.blob + b'\0')
    yield row('algorithm does not fit the key', blob=b'')
    # names
    for method in ('', 'none', 'password', 'hostbased', 'publickey2',
                   'PUBLICKEY', 'gssapi-with-mic'):
        yield row('unknown method', method=method)
    yield row('malformed method or algorithm', method='publickey\0x')
    yield row('malformed method or algorithm', method='x' * 64)
    yield row('malformed method or algorithm', algorithm=ED25519 + '\0x')
    yield row('malformed method or algorithm', algorithm='x' * 1000)
    for algorithm in ('', 'none', 'ssh-rsa', 'ssh-dss', 'SSH-ED25519',
                      f'{ED25519}-cert-v01@openssh.com',
                      'rsa-sha2-512-cert-v01@openssh.com'):
        yield row('algorithm is not accepted', algorithm=algorithm)
    for algorithm in ('rsa-sha2-512', 'ecdsa-sha2-nistp256',
                      'sk-ssh-ed25519@openssh.com'):
        yield row('algorithm does not fit the key', algorithm=algorithm)


@case('no wrong signature, key, name or algorithm lets anybody in')
def _(t):
    key, other = keys.Ed25519(f'{TOP}/id'), keys.Ed25519()
    neighbour = keys.Ed25519()
    authorize('neighbour', neighbour.line())
    with attacked(t) as srv, Session(srv) as s:
        s.sign()
        for why, message in rows(key, other, neighbour, s):
            seen = srv.log().count(why)
            got = s.ask(message)
            t.equal((got.kind, got.fields, got.nfds), (DENIED, [0], 0),
                    f'{why}: {message}')
            wait_for(lambda: srv.log().count(why) > seen, 5,
                     lambda: f'not in the log: {why}, {message}')
        s.login(key)  # nothing of it was remembered


@case('a login needs a key exchange of its own, and no earlier one')
def _(t):
    key = keys.Ed25519(f'{TOP}/id')
    with attacked(t) as srv:
        with Session(srv) as s:
            s.sign()
            recorded = s.claim(key)
            t.equal(s.ask(recorded).kind, AUTHENTICATED, 'the first')
        with Session(srv) as s:
            t.equal(s.ask(recorded).kind, DENIED, 'without a key exchange')
            s.log('no key was exchanged')
            s.session_id = b''
            t.equal(s.ask(s.claim(key)).kind, DENIED, 'an empty session id')
            s.sign()
            t.equal(s.ask(recorded).kind, DENIED, 'replayed')
            s.log('signature is wrong')
            s.login(key)
            s.send(recorded)
            ends(t, s, 'a second login', 'not allowed in this phase')


@case('a key of each type logs in under its own algorithm alone')
def _(t):
    every = [keys.Ed25519(), keys.Ecdsa('256'), keys.Ecdsa('384'),
             keys.Ecdsa('521'), keys.Rsa(), keys.FidoEd25519(),
             keys.FidoEcdsa()]
    algorithms = {k.algorithm for k in every} | {'rsa-sha2-256', 'ssh-rsa'}
    authorize(USER, ''.join(k.line() for k in every))
    with attacked(t) as srv:
        for key in every:
            own = [key.algorithm] + ['rsa-sha2-256'] * (key.kind == 'ssh-rsa')
            with Session(srv) as s:
                s.sign()
                for said in sorted(algorithms):
                    data = signed_data(s.session_id, USER, PLAIN, said,
                                       key.blob)
                    for real in sorted(algorithms):
                        if said in own and real == said:
                            continue
                        sig = owned.string(real) + \
                            owned.string(key.sign(data)[12:])
                        if key.kind == 'ssh-rsa' and real in keys.RSA_HASHES:
                            sig = key.sign(data, real)
                        got = s.ask(encode(AUTH, USER, PLAIN, said, key.blob,
                                           sig))
                        t.equal(got.kind, DENIED, f'{key.kind}, {said} said, '
                                f'{real} signed')
                    if key.kind == 'ssh-rsa':
                        # SHA-1 under the name of SHA-2
                        got = s.ask(encode(AUTH, USER, PLAIN, said, key.blob,
                                           key.sign(data, said, 'ssh-rsa')))
                        t.equal(got.kind, DENIED, f'SHA-1 as {said}')
                s.login(key)
        with Session(srv) as s:
            s.sign()
            t.equal(s.ask(s.claim(every[4], algorithm='rsa-sha2-256')).kind,
                    AUTHENTICATED, 'rsa-sha2-256')


@case('a short RSA key does not log in')
def _(t):
    short = keys.Rsa(1024)
    authorize(USER, short.line())
    with attacked(t) as srv, Session(srv) as s:
        s.sign()
        t.equal(s.ask(s.claim(short)).kind, DENIED)
        s.log('RSA key is too short')


@case('a FIDO key logs in when it was touched, or verified if it must be')
def _(t):
    no_touch = 'was not confirmed'
    for make in (keys.FidoEd25519, keys.FidoEcdsa):
        key, lax, strict = make(), make(), make()
        authorize(USER, key.line() + lax.line('no-touch-required') +
                  strict.line('verify-required'))
        with attacked(t) as srv, Session(srv) as s:
            s.sign()

            def claim(k, **how):
                data = signed_data(s.session_id, USER, PLAIN, k.algorithm,
                                   k.blob)
                return encode(AUTH, USER, PLAIN, k.algorithm, k.blob,
                              k.sign(data, **how))
            good = claim(key)
            sig_len = len(key.sign(b''))
            for message, why in (
                    (claim(key, flags=0), no_touch),
                    (claim(key, flags=4), no_touch),
                    (claim(key, flags=0, claimed=1), 'signature is wrong'),
                    (claim(key, flags=1, claimed=5), 'signature is wrong'),
                    (claim(lax, flags=0, claimed=4), 'signature is wrong'),
                    (claim(strict, flags=1), 'user was not verified'),
                    (claim(strict, flags=4), no_touch),
                    # a signature of the bare data, as of a plain key
                    (encode(AUTH, USER, PLAIN, key.algorithm, key.blob,
                            owned.string(key.algorithm) + owned.string(
                                key.raw(signed_data(
                                    s.session_id, USER, PLAIN, key.algorithm,
                                    key.blob))) + b'\1\0\0\0\7'),
                     'signature is wrong'),
                    (encode(AUTH, USER, PLAIN, key.algorithm, key.blob,
                            good[-sig_len:-1]), 'malformed|another')):
                t.equal(s.ask(message).kind, DENIED, why)
                s.log(why)
            with Session(srv) as s2:
                s2.sign()
                t.equal(s2.ask(s2.claim(key)).kind, AUTHENTICATED, 'touched')
            t.equal(s.ask(claim(lax, flags=0)).kind, AUTHENTICATED,
                    'no-touch-required')


@case('a name is taken once, and none that is malformed')
def _(t):
    key = keys.Ed25519(f'{TOP}/id')
    authorize('neighbour', key.line())
    changed = 'Change of username or malformed name'
    with attacked(t) as srv:
        for first, second in ((USER, 'neighbour'), ('neighbour', USER),
                              (USER, 'root'), ('nobody-at-all', USER),
                              (USER, f'{USER}\0'), (USER, '')):
            with Session(srv) as s:
                s.sign()
                t.equal(s.ask(encode(OTHER_AUTH, first, 'none')).fields, [0])
                got = s.ask(s.claim(key, user=second))
                t.equal((got.kind, got.fields), (DENIED, [1]),
                        f'{first}, then {second!r}')
                s.log(changed)
                # it should have ended now
                s.send(s.claim(key, user=first))
                ends(t, s, 'a login after it', 'goes on asking')
        for name in ('', '\0', f'{USER}\0', f'{USER}\0x', 'x' * 256,
                     'x' * 8000):
            with Session(srv) as s:
                s.sign()
                got = s.ask(s.claim(key, user=name))
                t.equal((got.kind, got.fields), (DENIED, [1]), repr(name))
                s.log(changed)
        for name in ('x' * 255, '../root', f'{USER} ', f'{USER}\n', '\xff',
                     '-oX', '%s%n', 'nobody-at-all', f'{USER}/../neighbour'):
            with Session(srv) as s:
                s.sign()
                got = s.ask(s.claim(key, user=name))
                t.equal((got.kind, got.fields), (DENIED, [0]), repr(name))
                s.log('Invalid user|not allowed')
    t.true(all(' ' <= c <= '~' or c == '\n' for c in srv.log()),
           'raw bytes in the log')


@case('accounts that may not log in are not told from others')
def _(t):
    key = keys.Ed25519(f'{TOP}/id')
    authorize('neighbour', key.line())
    with attacked(t, 'DenyUsers neighbour') as srv:
        for name in ('neighbour', 'expired', 'nobody-at-all'):
            with Session(srv) as s:
                s.sign()
                for query in (encode(QUERY, name, ED25519, key.blob),
                              s.claim(key, user=name)):
                    got = s.ask(query)
                    if name == 'expired' and query[2] == QUERY:
                        continue
                    t.equal((got.kind, got.fields), (DENIED, [0]), name)
                srv.wait_log(rf'(User {name} .*not allowed|'
                             rf'Invalid user {name} )')


# The host key.

@case('one hash is signed before login, of the length of one')
def _(t):
    with attacked(t) as srv:
        for n in (0, 1, 20, 28, 31, *range(32, 66), 127, 255):
            with Session(srv) as s:
                got = s.ask(to_sign(s.exchange(), n))
                if n in (32, 48, 64):
                    t.equal((got.kind, got.nfds), (SIGNED, 0), f'{n} bytes')
                    continue
                t.equal(got.state, ENDED, f'{n} bytes: {got}')
                s.log('not an exchange hash')
        for length in (32, 48, 64):  # each is a session id
            with Session(srv) as s:
                s.sign(length=length)
                s.login()
        with Session(srv) as s:
            s.sign()
            s.send(to_sign(s.exchange()))
            ends(t, s, 'a second hash', 'second exchange hash before login')
        for key, algorithm, why in (
                (1, ED25519, 'no such host key'),
                (255, ED25519, 'no such host key'),
                (0, 'rsa-sha2-512', 'does not fit'),
                (0, 'ssh-rsa', 'is not accepted'), (0, '', 'not accepted'),
                (0, f'{ED25519}\0', 'no such host key or algorithm'),
                (0, 'x' * 64, 'no such host key or algorithm')):
            with Session(srv) as s:
                s.send(to_sign(s.exchange(), 32, key, algorithm))
                ends(t, s, f'{key} {algorithm}', why)
        with Session(srv) as s:
            s.flood(2, to_sign(s.exchange()))
            s.log('wants two signatures at once|second exchange hash|'
                  "without this connection's cookie")


NO_COOKIE = "key exchange without this connection's cookie"


@case('a login that was recorded is worth nothing on another connection')
def _(t):
    key = keys.Ed25519(f'{TOP}/id')
    with attacked(t) as srv:
        with Session(srv) as s:
            cookie, recorded = s.cookie(), s.exchange()
            s.sign(recorded)
            claim = s.claim(key)
            t.equal(s.ask(claim).kind, AUTHENTICATED, 'the first')
            session_id = s.session_id
        # The same session id cannot be had: not by the same exchange,
        with Session(srv) as s:
            s.send(to_sign(recorded))
            ends(t, s, 'the same exchange', NO_COOKIE)
        # not by its hash alone,
        for message, why in (
                (to_sign(session_id), 'malformed key exchange'),
                (bytes([1, 0, SIGN, 0]) + owned.string(ED25519) +
                 owned.string(session_id), 'a string past the end')):
            with Session(srv) as s:
                s.send(message)
                ends(t, s, 'a bare hash', why)
        # and another one is not that of the claim.
        with Session(srv) as s:
            s.sign(recorded.replace(cookie, s.cookie()))
            t.equal(s.ask(claim).kind, DENIED, 'replayed')
            s.log('signature is wrong')


@case('a hash is signed of an exchange under the cookie of its turn alone')
def _(t):
    version = "key exchange of another server's version"
    malformed = 'malformed key exchange'
    hostkey = 'key exchange with another host key'
    other = keys.Ed25519().blob

    def rows(cookie):
        good = exchange(cookie)
        yield exchange(os.urandom(16)), NO_COOKIE
        yield exchange(bytes(16)), NO_COOKIE
        yield exchange(cookie[:-1] + bytes([cookie[-1] ^ 1])), NO_COOKIE
        yield exchange(cookie, first=b'\x15'), NO_COOKIE
        yield exchange(cookie, first=b'\x14\0'), NO_COOKIE
        yield exchange(cookie, first=b''), NO_COOKIE
        for v in ('', 'SSH-2.0-', 'SSH-2.0-OpenSSH_9.2', f'{owned.VERSION}0'):
            yield exchange(cookie, v), version
        for h in (b'', other, owned.hostkey()[:-1], owned.hostkey() + b'\0'):
            yield exchange(cookie, host=h), hostkey
        yield good + b'\0', malformed
        yield good + owned.string(b''), malformed
        for n in (0, 3, 4, 20, len(good) // 2, len(good) - 1):
            yield good[:n], malformed
        yield os.urandom(32), malformed
        yield exchange(cookie, secret=bytes(15000)) + bytes(1000), \
            'too large|a string too long|malformed'
        yield exchange(cookie, secret=bytes(16000)), 'a string too long'
    with attacked(t) as srv:
        with Session(srv) as s:
            n = len(list(rows(s.cookie())))
        for logged_in in (False, True):
            for i in range(n):
                with Session(srv) as s:
                    if logged_in:
                        s.login()
                    data, why = list(rows(s.cookie()))[i]
                    s.send(to_sign(data))
                    ends(t, s, f'{i}: {why}', f'security: .*{why}')
        with Session(srv) as s:  # up to what there is room for
            s.sign(s.exchange(secret=bytes(15000)))
            s.login()


def certificate(t, name, of, *options):
    """A certificate of the key of; its path."""
    path = f'{t.folder}/{name}'
    shutil.copy(f'{TOP}/{of}.pub', f'{path}.pub')
    sh('ssh-keygen', '-q', '-s', f'{TOP}/hostca', '-I', name, '-n', USER,
       *options, f'{path}.pub')
    return f'{path}-cert.pub'


@case("a host certificate is the broker's own, or it is another host key")
def _(t):
    keygen('hostca')
    keygen('second')
    path = certificate(t, 'ours', 'hostkey', '-h')
    key, ours = keys.Ed25519(f'{TOP}/id'), blob(path)
    policy = (f'HostKey {TOP}/second\nHostCertificate {path}\n'
              f'TrustedUserCAKeys {TOP}/hostca.pub')
    second = blob(f'{TOP}/second.pub')
    wrong = [blob(certificate(t, *a)) for a in (
        ('again', 'hostkey', '-h'), ('user', 'hostkey'),
        ('stranger', 'id2', '-h'))]
    wrong += [ours[:-1], ours + b'\0', ours[4:], owned.string(ours),
              ours[:40] + bytes([ours[40] ^ 1]) + ours[41:], second]
    with attacked(t, policy) as srv:
        for host in wrong:
            for logged_in in (False, True):
                with Session(srv) as s:
                    if logged_in:
                        s.login()
                    s.send(to_sign(s.exchange(host=host)))
                    ends(t, s, f'{host}', 'key exchange with another host key')
        for number, host in ((1, ours), (1, owned.hostkey())):
            with Session(srv) as s:
                s.send(to_sign(s.exchange(host=host), key=number))
                ends(t, s, f'as that of key {number}', 'another host key')
        for algorithm in (f'{ED25519}-cert-v01@openssh.com',
                          'rsa-sha2-512-cert-v01@openssh.com', 'rsa-sha2-512'):
            with Session(srv) as s:
                s.send(to_sign(s.exchange(host=ours), algorithm=algorithm))
                ends(t, s, algorithm, 'not accepted|does not fit')
        # It counts in what the client signs, as it was in the exchange.
        for used, other in ((ours, owned.hostkey()), (owned.hostkey(), ours)):
            with Session(srv) as s:
                s.sign(s.exchange(host=used))

                def bound(host):
                    data = signed_data(s.session_id, USER, HOSTBOUND, ED25519,
                                       key.blob, host)
                    return encode(AUTH, USER, HOSTBOUND, ED25519, key.blob,
                                  key.sign(data))
                for host in (other, second, *wrong[:2]):
                    t.equal(s.ask(bound(host)).kind, DENIED, 'another')
                s.log('signature is wrong')
                # a host's is nobody's key, whatever its CA is trusted with
                got = s.ask(encode(QUERY, USER, f'{ED25519}-cert-v01@'
                                   'openssh.com', ours))
                t.equal(got.kind, DENIED, 'as a key')
                t.equal(s.ask(bound(used)).kind, AUTHENTICATED, 'the right')
                for host in (other, used):
                    s.sign(s.exchange(host=host))  # again, by either
    with attacked(t) as srv, Session(srv) as s:
        s.send(to_sign(s.exchange(host=ours)))
        ends(t, s, 'where policy has none', 'another host key')


@case('after login hashes are signed in turn, at a pace, and none twice')
def _(t):
    with attacked(t) as srv:
        with Session(srv) as s:
            s.login()
            seen = [s.cookie()]
            for _ in range(100):
                data = s.exchange()
                s.sign(data)
                seen.append(s.cookie())
            t.equal(len(set(seen)), 101, 'cookies')
            s.send(to_sign(data))
            ends(t, s, 'the last one again', NO_COOKIE)
        with Session(srv) as s:
            first = s.exchange()
            s.sign(first)
            s.login()
            s.send(to_sign(first))
            ends(t, s, 'the first one again', NO_COOKIE)
        with Session(srv) as s:
            s.login()
            before = s.cookie()
            s.sign()
            s.send(to_sign(exchange(before)))
            ends(t, s, 'the cookie of the one before', NO_COOKIE)
        with Session(srv) as s:
            s.login()
            s.flood(2, to_sign(s.exchange()))
            ends(t, s, 'two at once',
                 f'wants two signatures at once|{NO_COOKIE}')


main()
