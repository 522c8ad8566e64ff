#!/usr/bin/python3
"""Hostile cases, each against a running server.

    hostile.py CASE... --port 2222 --user me --key id_ed25519
    hostile.py all ...         every case
    hostile.py list            their names
    ... --peer sshd            leave out what sshd does otherwise

One line a case: `ok CASE: what was seen` or `not ok CASE: why`. The exit
status is 0 if all were ok. The account must be allowed to log in by the key
and to open connections to 127.0.0.1; cases that need a target listen there.
Some want other limits at the door than the usual ones: see their @case().
"""
import argparse
import sys

import common
from common import CASES, Wrong
from ssh_minimal import Disconnected, ProtocolError

# By phase; the cases run in this order.
import start  # noqa: F401
import transport  # noqa: F401
import negotiation  # noqa: F401
import auth  # noqa: F401
import channels  # noqa: F401
import floods  # noqa: F401
import global_requests  # noqa: F401
import names  # noqa: F401


def run(name):
    """Its verdict, and what was seen or went wrong."""
    try:
        return True, CASES[name].run()
    except Wrong as e:
        return False, str(e)
    except (Disconnected, ProtocolError, TimeoutError, OSError) as e:
        return False, f'{type(e).__name__}: {e}'


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument('case', nargs='+')
    p.add_argument('--addr', default='127.0.0.1')
    p.add_argument('--port', type=int)
    p.add_argument('--user', default='root')
    p.add_argument('--key')
    p.add_argument('--peer', default='aditd')
    args = common.args = p.parse_args()
    if args.case == ['list']:
        print('\n'.join(CASES))
        return 0
    if not args.port or not args.key:
        p.error('--port and --key are needed')
    chosen = list(CASES) if args.case == ['all'] else args.case
    for name in chosen:
        if name not in CASES:
            p.error(f'no case {name}')
    failed = 0
    for name in chosen:
        if args.peer == 'sshd' and CASES[name].sshd_differs:
            continue
        good, said = run(name)
        failed += not good
        print(f'{"ok" if good else "not ok"} {name}: {said}', flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
