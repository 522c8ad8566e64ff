"""What is negotiated: algorithms, guesses, strict-kex, extensions."""
import contextlib

from ciphers import MODES
from common import (
    SLOW, Wrong, case, check, client, cut_off, greeted, login, still_there)
from ssh_minimal import (
    DEBUG, EXT_INFO, IGNORE, KEX_ECDH_INIT, NEWKEYS, SERVICE_ACCEPT,
    SERVICE_REQUEST, UNIMPLEMENTED, Disconnected, ProtocolError, Reader, byte,
    string, u32)

# By their place in KEXINIT.
NEVER = {
    0: ['diffie-hellman-group-exchange-sha256',
        'diffie-hellman-group-exchange-sha1', 'diffie-hellman-group1-sha1',
        'diffie-hellman-group14-sha1', 'diffie-hellman-group14-sha256',
        'gss-group1-sha1-toWM5Slw5Ew8Mqkay+al2g==',
        'gss-gex-sha1-toWM5Slw5Ew8Mqkay+al2g==', 'null'],
    1: ['ssh-rsa', 'ssh-dss', 'ssh-rsa-cert-v01@openssh.com', 'null'],
    2: ['aes128-cbc', 'aes256-cbc', '3des-cbc', 'blowfish-cbc', 'arcfour',
        'none'],
    4: ['hmac-sha1', 'hmac-sha1-etm@openssh.com', 'hmac-md5', 'hmac-sha1-96',
        'none'],
    6: ['zlib', 'zlib@openssh.com'],
}


def server_lists():
    with greeted() as c:
        c.send_kexinit()
        r = Reader(c.recv_raw(), 17)
        return [r.names() for _ in range(8)]


@case(sshd_differs=True)
def weak_algorithms():
    """Compression, CBC, SHA-1, finite fields, GSSAPI: not offered, and asked
    for alone refused."""
    lists, tried = server_lists(), 0
    for at, names in NEVER.items():
        for name in names:
            ways = (at,) if at < 2 else (at, at + 1)
            for way in ways:
                check(name not in lists[way], f'{name} is offered')
                with greeted(lists={way: name}) as c:
                    c.send(c.make_kexinit(), c.make_ecdh_init())
                    with contextlib.suppress(ProtocolError):
                        cut_off(c)
                    check(not c.seen.get(31) and not c.seen.get(21),
                          f'{name} is negotiated')
                tried += 1
    check(lists[6] == lists[7] == ['none'], f'compression {lists[6:]}')
    return f'{tried} refused'


@case(sshd_differs=True)
def weak_algorithms_in_rekey():
    """The same when keys are exchanged again."""
    for at, name in ((0, NEVER[0][2]), (1, 'ssh-rsa'), (2, 'none'),
                     (4, 'none'), (6, 'zlib@openssh.com'), (6, 'zlib')):
        with login() as c:
            c.lists, before = {at: name}, c.seen[NEWKEYS]
            c.send(c.make_kexinit(), c.make_ecdh_init())
            cut_off(c)
            check(c.seen[NEWKEYS] == before, f'{name} is negotiated')
    return 'refused'


# Guesses (RFC 4253, 7).

@case(sshd_differs=True)
def guess_right():
    """first_kex_packet_follows, and it is what the server would have."""
    lists = server_lists()
    kex, hostkey = lists[0][0], lists[1][0]
    strict = 'kex-strict-c-v00@openssh.com'
    ours = {0: f'{kex},ext-info-c,{strict}', 1: hostkey}
    with greeted(lists=ours) as c:
        c.guess = True
        c.send(c.make_kexinit(), c.make_ecdh_init())
        c.finish_kex(init_sent=True)
        c.request_service()
        check(c.auth(), 'not let in')
        still_there(c)
        return f'{kex}, {hostkey}'


@case
def guess_wrong():
    """The packet that was guessed is ignored, whatever it is."""
    strict = 'kex-strict-c-v00@openssh.com'
    for size in (0, 50, 133, 5000):
        with greeted(lists={0: f'x@hostile,curve25519-sha256,{strict}'}) as c:
            c.guess = True
            c.send(c.make_kexinit(), byte(KEX_ECDH_INIT) + string(bytes(size)))
            c.finish_kex()
            c.request_service()
            check(c.auth(), 'not let in')
            still_there(c)
    return 'ignored'


@case(policy='LoginGraceTime 2', seconds=20)
def guess_wrong_and_none_follows():
    """The one real packet is taken for the guess: LoginGraceTime ends it."""
    with greeted(lists={0: 'x@hostile,curve25519-sha256'}) as c:
        c.guess = True
        c.send(c.make_kexinit(), c.make_ecdh_init())
        with contextlib.suppress(ProtocolError):
            return cut_off(c, 8)


# Terrapin (CVE-2023-48795).

INSERTED = {'IGNORE': byte(IGNORE) + string('x'),
            'DEBUG': byte(DEBUG) + byte(0) + string('x') + string(''),
            'UNIMPLEMENTED': byte(UNIMPLEMENTED) + u32(0),
            'unknown': byte(192), 'EXT_INFO': byte(EXT_INFO) + u32(0)}


def inserted(where, payload):
    """A client with a strict exchange into which payload is inserted."""
    with greeted() as c:
        try:
            if where == 'first':
                c.send(payload)
            c.send_kexinit()
            if where == 'after KEXINIT':
                c.send(payload)
            c.send(c.make_ecdh_init())
            if where == 'before NEWKEYS':
                c.send(payload)
            c.finish_kex(init_sent=True)
            c.request_service()
        except (Disconnected, ProtocolError):
            return
    raise Wrong(f'{where}: let pass in strict kex')


@case
def strict_kex_insertions():
    """Any other message in the first exchange ends it, if strict."""
    for name, payload in INSERTED.items():
        for where in ('first', 'after KEXINIT', 'before NEWKEYS'):
            inserted(where, payload)
    return f'{3 * len(INSERTED)} ended'


@case
def strict_kex_sequence_numbers():
    """They start again at each NEWKEYS, in a later exchange, too."""
    for mode in ('ctr', 'ctr-etm', 'chacha'):  # GCM has none
        with login(mode=mode) as c:
            check(c.strict_on, 'no strict kex')
            for _ in range(3):
                c.rekey()
                check(c.out.seq < 2, 'our own number')
                still_there(c)
    with login(mode='chacha', strict=False) as c:
        c.rekey()
        check(c.out.seq > 5, 'our own number')
        still_there(c)
    return 'and go on without'


def prefix_cut(mode, strict):
    """The attack: a message inserted in clear, the first one under the keys
    taken away. Returns whether the server is none the wiser."""
    with greeted(mode=mode, strict=strict) as c:
        c.send_kexinit()
        c.write(c.pack(byte(IGNORE) + string('')))
        c.out.seq -= 1  # the victim knows nothing of it
        try:
            c.finish_kex()
            c.pack(byte(EXT_INFO) + u32(0))  # and this one gets lost
            c.send(byte(SERVICE_REQUEST) + string('ssh-userauth'))
            return c.recv(1 * SLOW)[0] == SERVICE_ACCEPT
        except (Disconnected, ProtocolError, TimeoutError):
            return False


@case
def terrapin():
    """Strict, nothing can be cut off. Without strict kex, as in every server,
    one mode can: its nonce is the sequence number and nothing else."""
    for mode in MODES:
        check(not prefix_cut(mode, True), f'{mode}: cut in strict kex')
    cut = {mode for mode in MODES if prefix_cut(mode, False)}
    check(cut <= {'chacha'}, f'cut without strict kex: {cut}')
    return f'without strict kex: {cut or "none"}'


@case
def no_strict_kex():
    for mode in MODES:
        with login(strict=False, mode=mode) as c:
            c.rekey()
            still_there(c)
    return 'served without'


@case
def strict_kex_late():
    """Offered in a later exchange only, it changes nothing or ends it."""
    with login(strict=False) as c:
        c.strict = True
        with contextlib.suppress(Disconnected, ProtocolError, TimeoutError):
            c.rekey(5)
            c.barrier(2 * SLOW)
            return 'ignored'
    return 'ended'


# Extensions (RFC 8308).

@case
def ext_info_anywhere():
    """Where it has no place, and with what it has no place for."""
    good = byte(EXT_INFO) + u32(1) + string('x@hostile') + string('y')
    bad = [byte(EXT_INFO), byte(EXT_INFO) + u32(0xffffffff),
           byte(EXT_INFO) + u32(2) + string('x'),
           byte(EXT_INFO) + u32(1) + u32(0xfffffff0) + b'x',
           byte(EXT_INFO) + u32(128) + (string('server-sig-algs') +
                                        string('x' * 1000)) * 128,
           byte(EXT_INFO) + u32(1) + string('a\0b') + string(b'\0' * 9000)]
    survived = 0
    for payload in [good] + bad:
        with client() as c, contextlib.suppress(Disconnected, ProtocolError):
            c.connect()
            c.send(payload)
            check(c.auth(), 'not let in')
            c.send(*[payload] * 20)
            c.send_kexinit()
            c.send(payload)  # in an exchange: not allowed
            c.finish_kex()
            still_there(c)
            survived += 1
    return f'{survived} of {len(bad) + 1} survived'
