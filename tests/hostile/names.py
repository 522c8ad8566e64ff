"""Names, numbers and texts that are none, wherever a client can put one. None
may reach the log as it is (tests/system/70-hostile.py looks)."""
import contextlib

from common import (
    case, check, connected, cut_off, login, refused, still_there)
from ssh_minimal import (
    DEBUG, REQUEST, REQUEST_FAILURE, USERAUTH_SUCCESS, Channel, Disconnected,
    ProtocolError, byte, on_channel, string, u32)

NAMES = [b'', b'\0', b'127.0.0.1\0.example', b'a\nb', b'\r\n', b'x\x1b[31mred',
         b'\x1b]0;title\x07', b'\x9b2J', b'\xff\xfe', b'%s%n%x', b'../../etc',
         'r\u202etl'.encode(), b'"\\\'`$(id)', b'a' * 255, b'a' * 256,
         b'a' * 65536, b'\x1b' * 65536]


def each_refused(answers):
    check(all(not isinstance(a, Channel) for a in answers), 'one is opened')
    return f'{len(answers)} refused'


@case(policy='LogLevel DEBUG3', sshd_differs=True, lines=500)
def names_of_hosts():
    with login() as c:
        # A name that is none is asked of nobody's resolver: no dots.
        answers = [c.open_direct(name, 22, timeout=20) for name in NAMES]
        c.send(c.direct_request('127.0.0.1', 0))
        answers.append(c.opened())
        still_there(c)
        return each_refused(answers)


@case(policy='LogLevel DEBUG3', sshd_differs=True, lines=500)
def names_of_originators():
    with login() as c:
        for name in NAMES:
            c.open_direct('127.0.0.1', 9, origin=name)
        still_there(c)
        return f'{len(NAMES)} kinds'


@case(policy='LogLevel DEBUG3', lines=500, sshd_differs=True)
def names_of_types():
    """Of channels, of requests global and on channels."""
    with login() as c:
        for name in NAMES:
            c.send(c.open_request(name, string(name)))
            refused(c.opened())
            c.send(c.global_request(name, string(name)))
            c.expect(REQUEST_FAILURE)
            for kind in ('tcpip-forward', 'cancel-tcpip-forward'):
                c.send(c.global_request(kind, string(name) + u32(70000)))
                c.expect(REQUEST_FAILURE)
        for name in NAMES:  # no such channel: the end, in words
            with contextlib.suppress(Disconnected):
                with login() as other:
                    other.send(on_channel(REQUEST, 3, string(name) + byte(1)))
                    cut_off(other)
        still_there(c)
        return f'{len(NAMES)} kinds'


@case(policy='LogLevel DEBUG3', lines=1500, sshd_differs=True)
def names_in_logins():
    """Of users, services, methods, algorithms and keys."""
    for name in NAMES:
        with connected() as c:
            blob = string(name) + string(name)
            ask = byte(0) + string(name) + string(blob)
            for payload in (
                    c.auth_request('none', user=name),
                    c.auth_request(name, user='root'),
                    c.auth_request('publickey', ask),
                    c.auth_request('none', service=name)):
                with contextlib.suppress(Disconnected, ProtocolError):
                    with connected() as other:
                        other.send(payload)
                        check(other.recv()[0] != USERAUTH_SUCCESS, 'LET IN')
    return f'{len(NAMES)} kinds'


@case(policy='LogLevel DEBUG3', sshd_differs=True)
def names_in_debug():
    """Texts that the client wants shown."""
    with login() as c:
        for name in NAMES:
            c.send(byte(DEBUG) + byte(1) + string(name) + string(name))
        still_there(c)
        return f'{len(NAMES)} kinds'


@case
def ports_that_are_none():
    with login() as c:
        for port in (0, 65536, 70000, 1 << 31, 0xffffffff):
            said = refused(c.open_direct('127.0.0.1', port))
        for port in (65536, 0xffffffff):
            refused(c.open_direct('127.0.0.1', 9, origin_port=port))
        still_there(c)
        return said
