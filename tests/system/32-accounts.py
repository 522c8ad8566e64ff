#!/usr/bin/python3
"""Which accounts may log in."""
import os
import re

from harness import USER, case, main


@case('AllowUsers, DenyUsers, AllowGroups, DenyGroups')
def _(t):
    for text, want in (
            (f'AllowUsers {USER}', True), ('AllowUsers neighbour', False),
            ('AllowUsers tunnel*', True),
            (f'AllowUsers {USER}@127.0.0.1', True),
            (f'AllowUsers {USER}@10.0.0.0/8', False),
            (f'DenyUsers {USER}', False), ('DenyUsers neighbour', True),
            (f'DenyUsers {USER}\nAllowUsers {USER}', False),
            ('AllowGroups tunnellers', True), ('AllowGroups neighbour', False),
            (f'AllowGroups {USER}', True), ('DenyGroups tunnellers', False),
            ('DenyGroups nobody', True)):
        srv = t.server(text)
        t.equal(t.logs_in(srv), want, text)
        srv.stop()


@case('PermitRootLogin')
def _(t):
    for text, want in (('', True), ('PermitRootLogin yes', True),
                       ('PermitRootLogin no', False),
                       ('PermitRootLogin prohibit-password', True),
                       ('PermitRootLogin forced-commands-only', False)):
        srv = t.server(text)
        t.equal(t.logs_in(srv, user='root'), want, text)
        t.true(t.logs_in(srv), 'an ordinary user')
        srv.stop()


@case('a locked password lets a key in', 'aditd')
def _(t):
    t.true(t.logs_in(t.server(), user='locked'), 'refused')


@case('an expired account is refused')
def _(t):
    srv = t.server()
    t.true(not t.logs_in(srv, user='expired'), 'let in')
    srv.wait_log('(?i)expired')


@case('day 0 is an expiry (chage -E 0), no day is none')
def _(t):
    with open('/etc/shadow') as f:
        shadow = f.read()

    def write(text):
        with open('/etc/shadow', 'w') as f:
            f.write(text)
    t.undo.callback(write, shadow)
    srv = t.server()
    for day, want in (('0', False), ('', True), ('-1', True)):
        write(re.sub(f'(?m)^{USER}:.*', f'{USER}:*:1:::::{day}:', shadow))
        t.equal(t.logs_in(srv), want, f'expiry "{day}"')


@case('an unknown user is refused as a known one without a key is')
def _(t):
    srv = t.server()
    answers = [t.ssh(srv, '-N', user=user, key='id2').stderr.decode()
               .replace(user, 'USER') for user in ('nonesuch', USER)]
    t.equal(answers[0], answers[1], 'what the client is told')
    t.match('Permission denied', answers[0])
    srv.wait_log('(?i)invalid user nonesuch|nonesuch.*(unknown|no such)')


@case('PubkeyAuthentication no lets nobody in')
def _(t):
    t.true(not t.logs_in(t.server('PubkeyAuthentication no')), 'let in')


@case('publickey is the only method offered', 'aditd')
def _(t):
    done = t.ssh(t.server(), '-N', key='id2')
    t.match(r'Permission denied \(publickey\)', done.stderr.decode())


# sshd asks only before it runs a command.
@case('/etc/nologin keeps all but root out', 'aditd')
def _(t):
    srv = t.server()
    with open('/etc/nologin', 'w') as f:
        f.write('Going down for maintenance.\n')
    try:
        t.true(not t.logs_in(srv), 'an ordinary user')
        t.true(t.logs_in(srv, user='root'), 'root')
    finally:
        os.unlink('/etc/nologin')
    t.true(t.logs_in(srv), 'an ordinary user afterwards')


if __name__ == '__main__':
    main()
