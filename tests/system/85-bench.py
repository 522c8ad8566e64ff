#!/usr/bin/python3
"""make bench-tunnel: it measures every server or fails, what is in docs/ and
in README is what it made, and nothing is left of it. No figure is judged."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

from harness import PEER, SLOW, case, main, need, sh, skip_all, wait_for

SRC = os.environ.get('SRCDIR') or os.path.dirname(os.path.abspath(
    __file__)) + '/../..'
BENCH = f'{SRC}/tests/bench/bench_tunnel.py'
sys.path.insert(0, f'{SRC}/tests/bench')
import report  # noqa: E402 (it is there now)

if PEER == 'sshd':
    skip_all('what only aditd does')
if not os.path.exists('/dev/net/tun'):
    skip_all('no /dev/net/tun')


def environment():
    for name in ('openvpn', 'iperf3', 'ethtool', 'tc', 'openssl'):
        need(name)
    build = os.path.dirname(os.environ['ADITD'])
    return dict(os.environ, RELAY=f'{build}/tests/bench/bench_relay')


def start(t):
    env = environment()
    with open(f'{t.folder}/log', 'w') as log:
        p = subprocess.Popen(['/usr/bin/python3', '-B', BENCH, '--smoke'],
                             cwd=t.folder, env=env, stdout=log, stderr=log,
                             stdin=subprocess.DEVNULL, start_new_session=True)

    def end():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(p.pid, signal.SIGKILL)
        p.wait()
    t.undo.callback(end)
    return p


def said(t):
    with open(f'{t.folder}/log') as f:
        return f.read()


@case('every server, every figure', timeout=180)
def _(t):
    p = start(t)
    if p.wait(170 * SLOW) != 0:
        print('# ' + said(t).replace('\n', '\n# '))
    t.equal(p.returncode, 0, 'status')
    with open(f'{t.folder}/bench-tunnel.json') as f:
        results = json.load(f)
    rows = report.figures(results)
    for row in rows:
        some = row.name.startswith('shaped')
        t.equal(list(row.values), report.SERVERS[:2 if some else 4], row.name)
    known = {row.name for row in rows}
    t.equal([x for x in report.TARGETS if x[0] not in known], [],
            'targets of no figure')
    for line in report.lines(results):
        t.true(line[0] in said(t), f'{line[0]} is not printed')


@case('a server that is not there is an error')
def _(t):
    env = environment()
    path = need('openvpn')
    sh('mount', '--bind', '/dev/null', path)
    t.undo.callback(sh, 'umount', path)
    env['PATH'] = '/usr/bin:/bin'
    done = subprocess.run(['/usr/bin/python3', '-B', BENCH, '--smoke'],
                          cwd=t.folder, env=env, capture_output=True,
                          stdin=subprocess.DEVNULL, text=True,
                          timeout=20 * SLOW)
    t.true(done.returncode > 0, 'status 0')
    t.match('there is no openvpn .*nothing is measured', done.stderr)
    t.equal(done.stdout, '', 'a table')


@case('nothing is left when it is interrupted')
def _(t):
    p = start(t)
    wait_for(lambda: 'pings' in said(t) or p.poll() is not None, 30,
             'it does not start')
    t.equal(p.poll(), None, f'it ended: {said(t)}')
    os.killpg(p.pid, signal.SIGINT)
    p.wait(10 * SLOW)
    t.true(p.returncode != 0, 'status 0')
    t.true(not os.path.exists(f'{t.folder}/bench-tunnel.json'), 'results')


@case("README's table and the plot are those of docs/bench-tunnel.json")
def _(t):
    with open(f'{SRC}/README.md') as f:
        before = f.read()
    shutil.copy(f'{SRC}/README.md', f'{t.folder}/README.md')
    sh('/usr/bin/python3', '-B', BENCH, '--render',
       f'{SRC}/docs/bench-tunnel.json', '--svg', f'{t.folder}/svg',
       '--readme', f'{t.folder}/README.md')
    with open(f'{t.folder}/README.md') as f:
        t.equal(f.read() == before, True, 'README (make bench-tunnel-docs)')
    with open(f'{t.folder}/svg') as f, \
            open(f'{SRC}/docs/bench-tunnel.svg') as g:
        t.equal(f.read() == g.read(), True, 'the plot')


main()
