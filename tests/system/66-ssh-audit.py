#!/usr/bin/python3
"""What ssh-audit (2.5, Debian's) says of what is offered by default."""
import re

from harness import case, main, need, run, sh

# What it names, and why that stays.
UNKNOWN = {  # to 2.5, which is older than these
    'kex-strict-s-v00@openssh.com', 'mlkem768x25519-sha256',
    'sntrup761x25519-sha512'}
KEPT = {
    # encrypt-and-MAC. libssh2 1.10 (curl, git) has no other MAC of SHA-2 and
    # no AEAD cipher; it is the last that is offered, and of HMAC with
    # AES-CTR in this order no attack is known.
    'hmac-sha2-256': 'using encrypt-and-MAC mode'}


def remarks(t, srv):
    """Of each algorithm what is a [fail] or a [warn] of it."""
    # with such a remark its exit status is not 0
    said = sh(need('ssh-audit'), '-n', '-b', '-p', str(srv.port), '127.0.0.1',
              check=False, timeout=40).stdout
    found = {}
    for name, level, why in re.findall(
            r'(?m)^\(\w+\) (\S+).*? -- \[(\w+)\] (.*?) *$', said):
        found.setdefault(name, [])
        if level in ('fail', 'warn'):
            found[name].append(why)
    t.true({'curve25519-sha256', 'aes128-gcm@openssh.com'} <= set(found),
           f'it saw what is offered: {said}')
    return {name: why for name, why in found.items() if why}


def left(found):
    """Without what is known."""
    return {name: why for name, why in found.items()
            if not (name in UNKNOWN and why == ['unknown algorithm']) and
            why != [KEPT.get(name)]}


@case('by default nothing that ssh-audit fails or warns of', 'aditd')
def _(t):
    t.equal(left(remarks(t, t.server())), {})


@case('host keys of ECDSA and RSA: it is the former that it fails', 'aditd')
def _(t):
    lines = []
    for kind in ('ecdsa', 'rsa'):
        path = f'{t.folder}/{kind}'
        run('ssh-keygen', '-q', '-t', kind, '-N', '', '-f', path)
        lines.append(f'HostKey {path}')
    found = left(remarks(t, t.server('\n'.join(lines))))
    t.equal(list(found), ['ecdsa-sha2-nistp256'])


@case('it notices what a policy adds', 'aditd')
def _(t):
    found = left(remarks(t, t.server('KexAlgorithms +ecdh-*\n'
                                     'MACs +hmac-sha2-512')))
    t.equal(sorted(found), ['ecdh-sha2-nistp256', 'ecdh-sha2-nistp384',
                            'ecdh-sha2-nistp521', 'hmac-sha2-512'])


main()
