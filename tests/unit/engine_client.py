"""The client of test_engine.c: engine_client.py PORT. Says one of everything,
echoes nothing, and goes through exchanges of keys from both sides."""
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'hostile'))
import ssh_minimal as ssh  # noqa: E402
from cryptography.hazmat.primitives import serialization as ser  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: E402

LEN = 30000
EVERY = [80, 81, 82, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100]


def main():
    with tempfile.NamedTemporaryFile() as f:
        f.write(ed25519.Ed25519PrivateKey.generate().private_bytes(
            ser.Encoding.PEM, ser.PrivateFormat.OpenSSH, ser.NoEncryption()))
        f.flush()
        c = ssh.Client('127.0.0.1', int(sys.argv[1]), 'user', f.name)
    c.connect()
    c.answer_global = False
    if not c.auth():
        sys.exit('no success')
    for kind in EVERY:
        c.send(ssh.byte(kind) + b'x' * kind)
    for c.kex in reversed(ssh.KEX):
        c.rekey()
    # the server echoes 94, and starts exchanges of its own as it grows
    for i in range(40):
        c.send(ssh.byte(94) + ssh.byte(i) * LEN)
        p = c.recv()
        while p[0] != 94 or len(p) != LEN + 1:
            p = c.recv()
        if p[1:] != ssh.byte(i) * LEN:
            sys.exit('echo is wrong')
    if c.kexes < 6:
        sys.exit(f'only {c.kexes} key exchanges')
    c.close()


main()
