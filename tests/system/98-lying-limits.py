#!/usr/bin/python3
"""A broker in its account's hands (tests/sandbox/lying_broker.c) that wants
more than it may have: help, and time."""
import os
import signal
import subprocess

# Before the harness: it starts what this names.
if not os.environ.get('ADITD', '').endswith('/lying_broker'):
    os.environ['ADITD'] = os.path.join(
        os.path.dirname(os.environ.get('ADITD', './aditd')),
        'tests/sandbox/lying_broker')

from harness import (SLOW, USER, authorize, case, main, processes, public,
                     wait_for)

CTL = f'{os.path.dirname(os.environ["ADITD"])}/../../aditctl'
CONTROL = 'ControlSocket /run/adit/control\n'
COMMANDS, STAY = 9, 10
HELPERS = 4  # at once, of a connection


def order(srv, attack):
    """To the only connection there is."""
    subprocess.run([CTL, 'close', f'1.{attack}'], check=True,
                   capture_output=True, timeout=15 * SLOW)
    srv.wait_log('it is lying now')


def commands():
    return {p.pid for p in processes('sleep')}


def end(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@case('of helpers that take their time a connection has four', 'aditd')
def _(t):
    path = f'{t.folder}/command'
    with open(path, 'w') as f:
        f.write('#!/bin/sh\nexec sleep 1000\n')
    os.chmod(path, 0o755)
    srv = t.server(f'{CONTROL}AuthorizedKeysCommand {path}\n'
                   'AuthorizedKeysCommandUser neighbour\n')
    client = t.client(srv)  # by its file
    order(srv, COMMANDS)
    wait_for(lambda: len(commands()) >= HELPERS, 5, 'not so many')
    for _ in range(3):  # by the same process that forks helpers
        t.true(t.logs_in(srv), 'no login meanwhile')
        t.true(len(commands()) <= HELPERS, f'{len(commands())} helpers')
    before = commands()
    end(before)  # then the next ones have their turn
    wait_for(lambda: len(commands() - before) == HELPERS, 5, 'no others')
    client.stop()
    wait_for(lambda: not processes('adit-broker'), 5, 'its broker is left')
    end(commands())
    wait_for(lambda: len(processes('adit-brokerzyg')) == 1 and
             not commands(), 5, 'a helper is left')


@case('one that says it has gone is killed', 'aditd')
def _(t):
    srv = t.server(CONTROL)
    client = t.client(srv)
    order(srv, STAY)
    authorize(USER, public('id2'))
    os.kill(srv.pid, signal.SIGHUP)
    srv.wait_log('does not end a connection that may not go on: killed')
    t.true(client.wait() != 0, 'exit status')
    wait_for(lambda: not processes('adit-broker'), 5, 'its broker is left')


if __name__ == '__main__':
    main()
