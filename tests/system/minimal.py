"""The client of our own (tests/hostile), for system tests."""
import contextlib
import os
import sys

from harness import TOP, USER, Failure, skip_all

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '../hostile'))
try:
    import ssh_minimal as ssh
except ImportError as e:
    skip_all(f'{e} (python3-cryptography)')


@contextlib.contextmanager
def raw(srv, login=True, user=USER, **kw):
    """One that is connected and, unless told not to, logged in."""
    with ssh.Client('127.0.0.1', srv.port, user, f'{TOP}/id', **kw) as c:
        c.connect()
        if login and not c.auth():
            raise Failure('not let in')
        yield c
