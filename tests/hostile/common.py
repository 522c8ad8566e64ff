"""What all hostile cases share: their table, their client, their targets."""
import contextlib
import os
import socket
import threading
import time

from ssh_minimal import Channel, Client, Disconnected

CASES = {}
LONG = os.environ.get('ADIT_LONG') == '1'
SLOW = 4 if os.environ.get('ADIT_SANITIZERS') else 1
args = None  # addr, port, user, key: set by who runs the cases


class Wrong(Exception):
    pass


class Case:
    """policy: lines that its server needs. sshd_differs: OpenSSH 9.2 forgives
    or punishes otherwise here. bounds: other than usual, by name; see
    tests/system/bounds.py."""

    def __init__(self, run, policy='', sshd_differs=False, **bounds):
        self.run, self.policy = run, policy
        self.sshd_differs, self.bounds = sshd_differs, bounds


def case(*fn, **how):
    """@case, or @case(...) with what Case() takes."""
    def register(f):
        CASES[f.__name__.replace('_', '-')] = Case(f, **how)
        return f
    return register(*fn) if fn else register


def count(n, long):
    """How often: enough for every day, or with ADIT_LONG=1 the whole lot."""
    return long if LONG else max(n // SLOW, 1)


def check(true, why):
    if not true:
        raise Wrong(why)


def client(**how):
    return Client(args.addr, args.port, args.user, args.key, **how)


@contextlib.contextmanager
def connected(**how):
    """One whose service is accepted: it may authenticate."""
    with client(**how) as c:
        c.connect()
        yield c


@contextlib.contextmanager
def login(**how):
    with connected(**how) as c:
        check(c.auth(), 'not let in')
        yield c


@contextlib.contextmanager
def greeted(**how):
    """One that has both versions, and nothing else."""
    with client(**how) as c:
        c.open_socket()
        c.write(c.version + b'\r\n')
        c.read_version()
        yield c


@contextlib.contextmanager
def target(rcvbuf=None, backlog=8):
    """A listener on loopback that nobody accepts from."""
    with socket.socket() as s:
        if rcvbuf:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        s.bind(('127.0.0.1', 0))
        s.listen(backlog)
        yield s, s.getsockname()[1]


@contextlib.contextmanager
def serving(handler, rcvbuf=None):
    """The port of a listener; handler(sock) gets each connection, in a thread
    of its own that ends with it."""
    def each(conn):
        with conn, contextlib.suppress(OSError):
            handler(conn)

    def accept(s):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=each, args=s.accept()[:1],
                                 daemon=True).start()
    with target(rcvbuf, 1024) as (s, port):
        thread = threading.Thread(target=accept, args=(s,), daemon=True)
        thread.start()
        try:
            yield port
        finally:
            s.shutdown(socket.SHUT_RDWR)
            thread.join()


def echo(s):
    while got := s.recv(1 << 16):
        s.sendall(got)


def open_to(c, port, **how):
    ch = c.open_direct('127.0.0.1', port, **how)
    check(isinstance(ch, Channel), f'open of 127.0.0.1:{port} refused: {ch}')
    return ch


def refused(answer, reason=None, text=''):
    check(not isinstance(answer, Channel), 'the open was accepted')
    check(reason is None or answer[0] == reason,
          f'refused with reason {answer[0]}, not {reason}: {answer[1]}')
    check(answer[1] and text in answer[1],
          f'the text is "{answer[1]}", not "{text}"')
    return f'reason {answer[0]}, "{answer[1]}"'


def cut_off(c, timeout=10):
    """The server must end the connection, whatever else it sends first."""
    deadline = time.monotonic() + timeout * SLOW
    c.answer_rekey = False  # another KEXINIT might be what ends it
    try:
        while time.monotonic() < deadline:
            c.recv(max(0.01, deadline - time.monotonic()))
    except Disconnected as e:
        return str(e)
    except TimeoutError:
        pass
    raise Wrong('not disconnected')


def still_there(c):
    c.barrier(10 * SLOW)


def read_away(c, seen=None):
    """Read what is there by now; the payloads go to seen."""
    with contextlib.suppress(TimeoutError):
        while True:
            p = c.recv(0)
            if seen is not None:
                seen.append(p)


def flood(c, payload, n, seen=None):
    """n of payload, reading meanwhile what comes back."""
    for at in range(0, n, 100):
        c.send(*[payload] * min(100, n - at))
        read_away(c, seen)
