"""Messages in numbers: after the login, and before it where they may come."""
import contextlib

from common import (
    case, check, connected, count, cut_off, echo, flood, login, open_to,
    serving, still_there, target)
from ssh_minimal import (
    CLOSE, DATA, DEBUG, EOF, FAILURE, IGNORE, OPEN_CONFIRMATION,
    OPEN_FAILURE, REQUEST, SERVICE_ACCEPT, SERVICE_REQUEST, UNIMPLEMENTED,
    USERAUTH_FAILURE, WINDOW_ADJUST, Disconnected, ProtocolError, byte, data,
    on_channel, string, u32)


def survives(c, payload, n):
    """Everything is served in turn behind n of payload, or it is the end."""
    with contextlib.suppress(Disconnected, ProtocolError):
        flood(c, payload, n)
        still_there(c)


@case
def unknown_messages():
    """Numbers nobody uses: an answer or the end, never silence."""
    numbers = [n for n in range(256) if n > 49 or 1 < n < 20]
    ended = 0
    while numbers:
        with login() as c, contextlib.suppress(Disconnected, ProtocolError):
            while numbers:
                c.send(byte(numbers.pop()) + string('x'))
                c.barrier()
        ended += bool(numbers)
    return f'{ended} of them end the connection'


@case
def unknown_message_flood():
    n = count(5000, 50000)
    for number in (3, 19, 83, 127, 192, 255):
        with login() as c:
            survives(c, byte(number) + u32(1) * 3, n)
    return f'{n} of each'


@case
def transport_message_floods():
    """IGNORE, DEBUG, UNIMPLEMENTED: small and many."""
    n = count(10000, 100000)
    for payload in (byte(IGNORE) + string('x'), byte(UNIMPLEMENTED) + u32(7),
                    byte(DEBUG) + byte(1) + string('x\n\x1b[2J') + string(''),
                    byte(IGNORE), byte(DEBUG)):
        with login() as c:
            survives(c, payload, n)
    return f'{n} of each'


@case
def large_message_floods():
    """IGNORE and DEBUG of a quarter of a megabyte, before and after login."""
    n = count(200, 2000)
    for payload in (byte(IGNORE) + string(bytes(250000)),
                    byte(DEBUG) + byte(1) + string(b'\x1b' * 250000) +
                    string('')):
        with connected() as c:
            for _ in range(n):
                c.send(payload)
            check(c.auth(), 'not let in')
            for _ in range(n):
                c.send(payload)
            still_there(c)
    return f'{n * 4} of them'


@case
def service_request_flood():
    """The same service again and again, before and after the login."""
    n = count(3000, 30000)
    request = byte(SERVICE_REQUEST) + string('ssh-userauth')
    with connected() as c:
        seen = []
        flood(c, request, n, seen)
        while len(seen) < n:
            seen.append(c.recv())
        check({p[0] for p in seen} == {SERVICE_ACCEPT}, 'other answers')
        check(c.auth(), 'not let in')
        survives(c, request, n)
    return f'{n} accepted'


@case
def other_services():
    """Any other service: the end, before the login and after it."""
    said = set()
    # libssh takes a name up to a NUL: one behind ssh-userauth is not seen.
    for name in ('ssh-connection', 'foo', '', b'\0' * 10, 'x' * 100000,
                 'SSH-USERAUTH', 'ssh-userauth '):
        request = byte(SERVICE_REQUEST) + string(name)
        with connected() as c:
            c.send(request)
            said.add(cut_off(c))
        with login() as c, contextlib.suppress(Disconnected, ProtocolError):
            c.send(request)
            c.barrier()
    with connected() as c, contextlib.suppress(Disconnected, TimeoutError):
        c.send(byte(SERVICE_REQUEST), byte(SERVICE_REQUEST) + u32(1 << 31))
        c.recv(1)
    return ', '.join(sorted(said))


@case(sshd_differs=True)
def login_messages_after_login():
    """Requests are ignored (RFC 4252, 5.1) or the end, as with libssh; the
    server's own are never obeyed."""
    n = count(2000, 20000)
    for payload in (None, byte(USERAUTH_FAILURE) + string('x') + byte(0),
                    byte(52), byte(53) + string('x') + string(''),
                    byte(60) + string('x') * 2, byte(61) + u32(1) + string(''),
                    byte(66) + string('mic')):
        with login() as c:
            survives(c, payload or c.auth_publickey(), n)
    with login() as c:
        seen = []
        with contextlib.suppress(Disconnected):
            flood(c, c.auth_request('none'), n, seen)
            c.barrier()
        check(not seen, f'answers {seen[:3]}')
        return f'{n} of each'


@case(sshd_differs=True)
def login_messages_before_login():
    """The server's own messages, and those of methods that it has not."""
    for number in (51, 52, 53, 60, 61, 62, 63, 64, 65, 66, 79):
        with connected() as c:
            with contextlib.suppress(Disconnected):
                c.send(*[byte(number) + string('x')] * 3)
                c.send(c.direct_request('127.0.0.1', 22))
                while True:
                    p = c.recv()
                    check(p[0] in (UNIMPLEMENTED, USERAUTH_FAILURE),
                          f'message {number}, an open, and then {p[0]}')
    return 'nothing is believed'


# On channels.

@case(cpu_s=30, seconds=60, lines=1000, sshd_differs=True)
def opens_without_reading():
    """Opens of a real target, pipelined, their answers not taken."""
    n = count(4000, 20000)
    with serving(echo) as port, login() as c:
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < n:
                c.write(b''.join(c.pack(c.direct_request('127.0.0.1', port))
                                 for _ in range(100)), timeout=5)
                sent += 100
        check(sent == n, f'it took {sent} of {n}: the rest cannot be read')
        answers = [c.recv(20)[0] for _ in range(sent)]
        opened = answers.count(OPEN_CONFIRMATION)
        check(opened + answers.count(OPEN_FAILURE) == n, 'other answers')
        check(200 < opened <= 2048, f'{opened} are open')
        still_there(c)
        return f'{opened} of {n} opened, {n - opened} refused'


@case(cpu_s=30, seconds=60, lines=1000)
def opens_and_closes():
    """Opens and closes of a real target, as fast as they come."""
    n, done = count(4000, 20000), 0
    with serving(echo) as port, login() as c:
        opened = closed = failed = 0
        while closed + failed < n:
            if done < n and done - closed - failed < 200:
                c.send(*[c.direct_request('127.0.0.1', port)
                         for _ in range(50)])
                done += 50
            p = c.recv(20)
            if p[0] == OPEN_CONFIRMATION:
                opened += 1
                c.send(on_channel(CLOSE, int.from_bytes(p[5:9], 'big')))
            elif p[0] == OPEN_FAILURE:
                failed += 1
            elif p[0] == CLOSE:
                closed += 1
        still_there(c)
        open_to(c, port)
        check(opened > n // 2, f'only {opened} of {n} are opened')
        return f'{opened} opened and closed, {failed} refused'


@case(cpu_s=30, seconds=60, lines=1000)
def opens_of_a_closed_port():
    """Refused connections without end: answers, but not as many log lines."""
    n = count(4000, 20000)
    with target() as (s, port), login() as c:
        s.close()
        seen = []
        flood(c, c.direct_request('127.0.0.1', port), n, seen)
        while len(seen) < n:
            seen.append(c.recv(20))
        check({p[0] for p in seen} == {OPEN_FAILURE}, 'other answers')
        return f'{n} refused'


@case(lines=1000, sshd_differs=True)
def bad_opens():
    """What is refused before anybody is asked, in numbers."""
    n = count(3000, 20000)
    with login() as c:
        for payload in (c.direct_request('x\0y', 22),
                        c.direct_request('127.0.0.1', 70000),
                        c.direct_request('127.0.0.1', 22, packet=1),
                        c.open_request('x' * 100 + '\x1b[31m\n'),
                        c.open_request('session')):
            seen = []
            flood(c, payload, n, seen)
            while len(seen) < n:
                seen.append(c.recv(20))
            check({p[0] for p in seen} == {OPEN_FAILURE}, 'other answers')
    return f'{n} of each'


@case
def channel_request_flood():
    """Requests on a forward without end, their answers read late."""
    n = count(10000, 50000)
    with serving(echo) as port, login() as c:
        ch = open_to(c, port)
        request = on_channel(REQUEST, ch.remote, string('exec') + byte(1) +
                             string('x' * 50))
        for _ in range(0, n, 100):
            c.send(*[request] * 100)
        got = [c.recv()[0] for _ in range(n)]
        check(set(got) == {FAILURE}, 'other answers')
        c.send(data(ch.remote, b'x'))
        check(c.expect(DATA)[9:] == b'x', 'no echo')
        return f'{n} failures'


@case
def empty_data():
    """Data of no length, extended data of none, windows grown by nothing."""
    n = count(20000, 100000)
    with serving(echo) as port, login() as c:
        ch = open_to(c, port)
        for payload in (data(ch.remote, b''),
                        on_channel(95, ch.remote, u32(1) + string('')),
                        on_channel(WINDOW_ADJUST, ch.remote, u32(0)),
                        on_channel(WINDOW_ADJUST, ch.remote, u32(1))):
            flood(c, payload, n)
        c.send(data(ch.remote, b'x'))
        check(c.expect(DATA)[9:] == b'x', 'no echo')
        return f'{n} of each'


@case
def one_byte_packets():
    """Data a byte at a time, there and back."""
    n = count(5000, 50000)
    with serving(echo) as port, login() as c:
        ch, seen = open_to(c, port), []
        flood(c, data(ch.remote, b'x'), n, seen)
        c.send(on_channel(EOF, ch.remote))
        got = sum(len(p) - 9 for p in seen if p[0] == DATA)
        while got < n:
            p = c.recv()
            got += len(p) - 9 if p[0] == DATA else 0
        return f'{got} bytes'


@case
def stray_floods():
    """What is dropped without a word, for channels that are not there."""
    n = count(20000, 100000)
    with login() as c:
        for payload in (on_channel(WINDOW_ADJUST, 9, u32(1)),
                        on_channel(99, 0xffffffff), on_channel(FAILURE, 1),
                        byte(81), byte(82)):
            flood(c, payload, n)
        still_there(c)
        return f'{n} of each'
