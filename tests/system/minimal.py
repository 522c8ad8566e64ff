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


class Witness(ssh.Client):
    """Notes the cookies and the public keys that the server makes up."""

    def __init__(self, *args):
        super().__init__(*args)
        self.told = []

    def kex_recv(self, wanted, deadline):
        p = super().kex_recv(wanted, deadline)
        if p[0] == ssh.KEXINIT:
            self.told.append(p[1:17])
        elif p[0] == ssh.KEX_ECDH_REPLY:
            r = ssh.Reader(p)
            r.string()
            self.told.append(r.string())
        return p


@contextlib.contextmanager
def raw(srv, login=True, user=USER, **kw):
    """One that is connected and, unless told not to, logged in."""
    with ssh.Client('127.0.0.1', srv.port, user, f'{TOP}/id', **kw) as c:
        c.connect()
        if login and not c.auth():
            raise Failure('not let in')
        yield c
