"""Logging in, or not."""
import contextlib
import os

from common import (
    Wrong, case, check, client, connected, count, cut_off, greeted, login,
    still_there)
from ssh_minimal import (
    OPEN_CONFIRMATION, REQUEST_SUCCESS, USERAUTH_FAILURE, USERAUTH_SUCCESS,
    Disconnected, Key, Reader, byte, string, u32)


@case
def connection_protocol_before_auth():
    with client() as c:
        c.connect()
        c.send(c.direct_request('127.0.0.1', 22),
               c.global_request('tcpip-forward', string('') + u32(0)))
        try:
            while True:
                p = c.recv(2)
                check(p[0] not in (OPEN_CONFIRMATION, REQUEST_SUCCESS),
                      f'answered by message {p[0]}')
        except Disconnected as e:
            return str(e)
        except TimeoutError:
            return 'no answer'


def not_let_in(c, payload):
    """True: refused. False: the server ended the connection."""
    try:
        c.send(payload)
        p = c.expect(USERAUTH_SUCCESS, USERAUTH_FAILURE)
    except Disconnected:
        return False
    check(p[0] == USERAUTH_FAILURE, 'LET IN')
    return True


@case
def auth_20_tries():
    with client() as c:
        c.connect()
        for n in range(20):
            if not not_let_in(c, c.auth_publickey(key=Key())):
                check(n >= 1, 'disconnected at the first try')
                return f'disconnected at try {n + 1}'
    raise Wrong('20 tries')


@case
def auth_20_queries():
    """Asking which keys would do is a try as well."""
    with client() as c:
        c.connect()
        for n in range(20):
            query = c.auth_request('publickey', byte(0) +
                                   string('ssh-ed25519') + string(Key().blob))
            if not not_let_in(c, query):
                return f'disconnected at try {n + 1}'
    raise Wrong('20 queries')


@case
def auth_methods_refused():
    kerberos = b'\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02'
    for method, rest in (
            ('none', b''), ('password', byte(0) + string('secret')),
            ('keyboard-interactive', string('') + string('')),
            ('gssapi-with-mic', u32(1) + string(kerberos))):
        # A connection each: what counts as a try is the server's business.
        with client() as c:
            c.connect()
            c.send(c.auth_request(method, rest))
            offered = Reader(c.expect(USERAUTH_FAILURE)).string().decode()
            check(offered == 'publickey', f'after {method}: {offered}')
    return f'offers {offered} only'


@case
def auth_for_service_foo():
    with client() as c:
        c.connect()
        refused_ = not_let_in(c, c.auth_publickey(service='foo'))
        return 'refused' if refused_ else 'disconnected'


@case
def auth_signed_by_another_key():
    with client() as c:
        c.connect()
        check(not_let_in(c, c.auth_publickey(signer=Key())),
              'disconnected')
        check(c.auth(), 'the right key is not let in afterwards')
        return 'refused, and the right key is let in afterwards'


@case
def auth_signed_for_another_session():
    with client() as c, client() as other:
        c.connect()
        other.connect()
        check(not_let_in(c, c.auth_publickey(session_id=other.session_id)),
              'disconnected')
        check(not_let_in(c, c.auth_publickey(session_id=bytes(32))),
              'disconnected')
        return 'refused'


@case
def auth_replayed_for_another_user():
    with client() as c:
        c.connect()
        # root's key may be the same one: it is the signature that is wrong.
        payload = c.auth_publickey()
        other = 'nobody' if c.user == 'root' else 'root'
        not_let_in(c, payload.replace(string(c.user), string(other), 1))
        return 'refused'


@case
def auth_malformed():
    with client() as c:
        c.connect()
        whole = len(c.auth_publickey())
    for n in list(range(1, 60)) + list(range(60, whole, 20)) + [whole - 1]:
        with client() as c:
            c.connect()
            c.send(c.auth_publickey()[:n])
            with contextlib.suppress(Disconnected, TimeoutError):
                p = c.recv(0.3)
                check(p[0] != USERAUTH_SUCCESS, f'LET IN by {n} bytes')
    with login() as c:
        still_there(c)
    return 'never let in'


@case(sshd_differs=True)
def auth_parts_too_large():
    """A key and a signature of any length: an answer, and a word at the end."""
    said = []
    for key, signature in ((8192, 4096), (8192, 4097), (8192, 8192),
                           (8193, 64)):
        with connected() as c:
            c.send(c.auth_request('publickey', byte(1) + string('ssh-rsa') +
                                  string(bytes(key)) +
                                  string(bytes(signature))))
            try:
                said.append(c.recv(10)[0])
                check(said[-1] == USERAUTH_FAILURE, f'message {said[-1]}')
            except Disconnected as e:
                check('reason' in str(e), f'{key} and {signature}: {e}')
                said.append(str(e))
    return ', '.join(map(str, said))


# In numbers.

def tries(c):
    """One of everything that is no login, for one user."""
    key = os.urandom(32)
    blob = string('ssh-ed25519') + string(key)
    algorithm = byte(0) + string('ssh-ed25519') + string(blob)
    signed = byte(1) + algorithm[1:] + string(string('ssh-ed25519') +
                                              string(bytes(64)))
    return [c.auth_request('none'), c.auth_request('publickey', algorithm),
            c.auth_request('publickey', signed),
            c.auth_request('password', byte(0) + string('x' * 1000)),
            c.auth_request('password', byte(1) + string('a') + string('b')),
            c.auth_request('keyboard-interactive', string('') * 2),
            c.auth_request('hostbased', string('ssh-rsa') + string(blob) * 4),
            c.auth_request('gssapi-keyex', string('mic')),
            c.auth_request('x\n\x1b[31m' * 20), c.auth_request('')]


@case(seconds=200, lines=20000, cpu_s=60)
def auth_thousands_of_tries():
    """Of all methods, over many connections, sent without waiting."""
    n, refusals, users = count(100, 700), 0, ('root', 'nobody-here', 'x' * 255)
    for i in range(n):
        with connected() as c:
            if i % 4:
                c.user = users[i % 4 - 1]
            seen = []
            with contextlib.suppress(Disconnected):
                c.send(*tries(c) * 2)
                while True:
                    seen.append(c.recv()[0])
            check(set(seen) <= {USERAUTH_FAILURE}, f'answers {set(seen)}')
            check(len(seen) <= 8, f'{len(seen)} tries are answered')
            refusals += len(seen)
    with login() as c:
        still_there(c)
    return f'{n * 20} tries sent, {refusals} answered, none let in'


@case(lines=300)
def auth_changing_users():
    """Another name is the end, whoever it is."""
    for first, second in (('a', 'b'), ('nobody-here', None), (None, 'root'),
                          (None, ''), (None, 'x\0'), ('x\ny', None)):
        with connected() as c:
            c.send(c.auth_request('none', user=first or c.user),
                   c.auth_publickey(user=second))
            with contextlib.suppress(Disconnected):
                while True:
                    check(c.recv()[0] == USERAUTH_FAILURE, 'LET IN')
    return 'ended'


@case(sshd_differs=True)
def auth_as_large_as_can_be():
    """Keys up to 8192 bytes and signatures up to 4096 are looked at."""
    def request(key, signature=None):
        return c.auth_request(
            'publickey', byte(signature is not None) + string('ssh-ed25519') +
            string(bytes(key)) +
            (b'' if signature is None else string(bytes(signature))))
    for sizes in ((8192,), (8192, 64), (51, 4096)):
        with connected() as c:
            check(not_let_in(c, request(*sizes)), f'{sizes}: cut off')
            check(c.auth(), f'{sizes}: the right key is not let in')
    for sizes in ((8193,), (8193, 64), (51, 4097)):
        with connected() as c:
            c.send(request(*sizes))
            check('malformed' in cut_off(c), f'{sizes}: another end')
    return 'refused, or cut off'


@case(sshd_differs=True)
def auth_before_service():
    """USERAUTH_REQUEST that no service request went before."""
    with greeted() as c:
        c.send_kexinit()
        c.finish_kex()
        c.send(c.auth_publickey())
        return cut_off(c)


@case
def auth_lengths_that_lie():
    """Strings longer than the message, at each place."""
    for at in (1, 15, 33, 46, 61, 76):
        with connected() as c:
            payload = bytearray(c.auth_publickey())
            payload[at:at + 4] = u32(0xfffffff0)
            c.send(bytes(payload))
            with contextlib.suppress(Disconnected):
                check(c.recv(1)[0] != USERAUTH_SUCCESS, 'LET IN')
    return 'refused'
