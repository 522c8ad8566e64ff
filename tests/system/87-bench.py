#!/usr/bin/python3
"""make bench: it measures every server or fails, every row is there, what is
in docs/ and in README is what it made. No figure is judged."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

from harness import PEER, SLOW, case, main, need, sh, skip_all

SRC = os.environ.get('SRCDIR') or os.path.dirname(os.path.abspath(
    __file__)) + '/../..'
BENCH = f'{SRC}/tests/bench/bench.py'
sys.path.insert(0, f'{SRC}/tests/bench')
import shown  # noqa: E402 (it is there now)

if PEER == 'sshd':
    skip_all('what only aditd does')


def environment():
    for name in ('dropbear', 'dropbearkey', 'ethtool', 'tc'):
        need(name)
    build = os.path.dirname(os.environ['ADITD'])
    return dict(os.environ, FLOWS=f'{build}/tests/bench/flows',
                LOGINS=f'{build}/tests/bench/logins')


@case('every server, every row', timeout=180)
def _(t):
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
    p.wait(170 * SLOW)
    with open(f'{t.folder}/log') as f:
        said = f.read()
    if p.returncode != 0:
        print('# ' + said.replace('\n', '\n# '))
    t.equal(p.returncode, 0, 'status')
    with open(f'{t.folder}/bench.json') as f:
        rows(t, json.load(f), said)


def rows(t, results, said):
    got = shown.figures(results)
    for row in got:
        kind = row.name.split('/')[0]
        want = {'beside': 2, 'idle': 2, 'after': 1, 'listeners': 1}.get(kind)
        if want is None:
            # Debian's dropbear has no AES-GCM
            want = 2 if 'aes128-gcm' in row.name else 3
        t.equal(sorted(row.values, key=shown.SERVERS.index),
                list(shown.SERVERS[:want]), row.name)
        t.true(row.title in said, f'{row.title} is not printed')
    t.equal([start for start, *_ in shown.TARGETS
             if not any(row.name.startswith(start) for row in got)], [],
            'targets of no row')
    same = {tuple(c[k] for k in ('server', 'cipher', 'way', 'channels'))
            for c in results['cells'] if c['what'] == 'same'}
    timed = {tuple(c[k] for k in ('server', 'cipher', 'way', 'channels'))
             for c in results['cells'] if c['what'] == 'bulk'}
    t.equal(timed - same, set(), 'measured, and not compared')
    for row in got:
        if row.name.startswith('after/') and row.name.endswith(
                ('processes', 'fds')):
            t.equal(row.values['adit'], [0], row.title)


@case('a server that is not there is an error')
def _(t):
    env = environment()
    path = need('dropbear')
    sh('mount', '--bind', '/dev/null', path)
    t.undo.callback(sh, 'umount', path)
    env['PATH'] = '/usr/bin:/bin'
    done = subprocess.run(['/usr/bin/python3', '-B', BENCH, '--smoke'],
                          cwd=t.folder, env=env, capture_output=True,
                          stdin=subprocess.DEVNULL, text=True,
                          timeout=20 * SLOW)
    t.true(done.returncode > 0, 'status 0')
    t.match('there is no dropbear .*nothing is measured', done.stderr)
    t.equal(done.stdout, '', 'a table')


@case('tables and plot are those of docs/bench.json')
def _(t):
    texts = ('README.md', 'docs/performance.md')
    for name in texts:
        shutil.copy(f'{SRC}/{name}', f'{t.folder}/{os.path.basename(name)}')
    sh('/usr/bin/python3', '-B', BENCH, '--render', f'{SRC}/docs/bench.json',
       '--svg', f'{t.folder}/bench.svg', '--readme', f'{t.folder}/README.md',
       '--full', f'{t.folder}/performance.md')
    for name in (*texts, 'docs/bench.svg'):
        with open(f'{SRC}/{name}') as f, \
                open(f'{t.folder}/{os.path.basename(name)}') as g:
            t.true(f.read() == g.read(), f'{name} (make bench-docs)')


main()
