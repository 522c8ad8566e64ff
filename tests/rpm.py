#!/usr/bin/python3
"""The RPM package, built from `make dist` by packaging/rpm/adit.spec: what is
in it, how, and what rpmlint says. Once: not with sanitizers."""
import glob
import os
import re
import shutil
import subprocess
import tempfile

from tap import case, run_cases

TOP = os.environ.get('SRCDIR') or \
    os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
BUILD = os.path.dirname(os.path.abspath(os.environ.get('ADITD') or 'aditd'))
RPM = f'{TOP}/packaging/rpm'

# Mode; c for configuration, d for documents.
FILES = {
    '/etc/adit': 'drwxr-xr-x',
    '/etc/adit/policy': '-rw-r--r-- c',
    '/usr/lib/systemd/system/aditd.service': '-rw-r--r--',
    '/usr/lib/systemd/system/aditd.socket': '-rw-r--r--',
    '/usr/lib/sysusers.d/adit.conf': '-rw-r--r--',
    '/usr/lib/tmpfiles.d/adit.conf': '-rw-r--r--',
    '/usr/bin/aditctl': '-rwxr-xr-x',
    '/usr/sbin/aditd': '-rwxr-xr-x',
    '/usr/share/bash-completion/completions/aditctl': '-rw-r--r--',
    '/usr/share/bash-completion/completions/aditd': '-rw-r--r--',
    '/usr/share/zsh/site-functions/_aditctl': '-rw-r--r--',
    '/usr/share/zsh/site-functions/_aditd': '-rw-r--r--',
    '/usr/share/man/man1/aditctl.1': '-rw-r--r-- d',
    '/usr/share/man/man5/adit_policy.5': '-rw-r--r-- d',
    '/usr/share/man/man8/aditd.8': '-rw-r--r-- d',
}
# Not looked at one by one: documents, and the units' helpers.
MORE = r'/usr/share/(doc|licenses)/adit\b|/usr/lib/\.build-id|' \
    r'/usr/libexec/adit\b|/usr/lib/systemd/system/adit-[\w-]+\.service$'
SCRIPTLETS = {
    'postinstall': ['systemd-sysusers /usr/lib/sysusers.d/adit.conf',
                    'systemd-tmpfiles --create', 'aditd.service'],
    'preuninstall': ['aditd.service aditd.socket'],
    'postuninstall': ['aditd.service'],
}


def run(*argv, **kw):
    env = {k: v for k, v in os.environ.items()
           if k not in ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'DESTDIR')}
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True,
                       text=True, errors='replace', timeout=300, env=env,
                       **kw)
    assert p.returncode == 0, f'{argv}: {p.stdout[-2000:]}{p.stderr[-3000:]}'
    return p.stdout


def version():
    with open(f'{TOP}/configure.ac') as f:
        return re.search(r'AC_INIT\(\[adit\], \[([^]]*)\]\)', f.read())[1]


@case('it builds from what make dist makes, of the same version')
def _(p):
    tarball = f'adit-{version()}.tar.xz'
    run('make', '-s', 'dist', cwd=BUILD)
    shutil.move(f'{BUILD}/{tarball}', p.folder)
    libdir = run('pkg-config', '--variable=libdir', 'libssh').strip()
    # another one than configure would find
    archive = shutil.copy(f'{libdir}/libssh.a', p.folder)
    # names of packages are rpm's: nothing of Debian's would do
    log = run('rpmbuild', '-ba', '--nodeps',
              '--define', f'_topdir {p.folder}/top',
              '--define', f'_sourcedir {p.folder}',
              '--define', 'debug_package %{nil}',
              '--define', f'libssh_archive {archive}',
              f'{RPM}/adit.spec')
    p.binary, = glob.glob(f'{p.folder}/top/RPMS/*/adit-*.rpm')
    p.source, = glob.glob(f'{p.folder}/top/SRPMS/adit-*.src.rpm')
    assert f'archive... {archive}\n' in log, 'another libssh.a'
    assert 'ok 1 - adit_policy(5)' in log, '%check did not run'
    assert f'adit-{version()}-' in p.binary, p.binary


@case('its files, their modes and owners')
def _(p):
    found = {}
    query = '[%{FILENAMES}\t%{FILEMODES:perms}\t%{FILEFLAGS:fflags}\t' \
        '%{FILEUSERNAME}:%{FILEGROUPNAME}\n]'
    for line in run('rpm', '-qp', '--qf', query, p.binary).splitlines():
        name, mode, flags, owner = line.split('\t')
        assert owner == 'root:root', line
        # compressed or not is the machine's business
        name = re.sub(r'(/man/.*)\.(gz|bz2|xz|zst)$', r'\1', name)
        if not re.match(MORE, name):
            found[name] = f'{mode} {flags.replace("n", "")}'.strip()
        assert mode[0] == 'l' or not mode.endswith('w-') and \
            's' not in mode, line
    assert found == FILES, {k: (found.get(k), FILES.get(k))
                            for k in found.keys() | FILES.keys()
                            if found.get(k) != FILES.get(k)}
    flags = run('rpm', '-qp', '--qf', '[%{FILEFLAGS:fflags} %{FILENAMES}\n]',
                p.binary)
    assert 'cn /etc/adit/policy' in flags, 'not %config(noreplace)'
    docs = run('rpm', '-qp', '--docfiles', p.binary)
    for name in ('README.md', 'SECURITY.md', 'audit.schema.json'):
        assert name in docs, docs


@case('its scriptlets')
def _(p):
    text = run('rpm', '-qp', '--scripts', p.binary)
    parts = dict(re.findall(r'^(\w+) scriptlet .*:\n((?:.*\n)*?)(?=\w+ '
                            r'scriptlet|\Z)', text, re.M))
    assert set(parts) == set(SCRIPTLETS), text
    for name, words in SCRIPTLETS.items():
        assert not re.search(r'(?m)^%|%\w', parts[name]), parts[name]
        for word in words:
            assert word in parts[name], f'{name}: {parts[name]}'
        run('sh', '-n', '-c', parts[name])


@case('what is in it runs')
def _(p):
    root = f'{p.folder}/root'
    os.mkdir(root)
    run('sh', '-c', f'rpm2cpio {p.binary} | cpio -idm --quiet', cwd=root)
    assert f'adit_{version()},' in run(f'{root}/usr/sbin/aditd', '-V')
    run(f'{root}/usr/bin/aditctl', '--help')
    run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', f'{root}/key')
    run(f'{root}/usr/sbin/aditd', '-t', '-f', f'{root}/etc/adit/policy',
        '-h', f'{root}/key')
    with open(f'{root}/usr/lib/systemd/system/aditd.service') as f:
        assert 'ExecStart=/usr/sbin/aditd -D' in f.read()


@case('rpmlint has nothing to say but what is justified')
def _(p):
    if not shutil.which('rpmlint'):
        return 'no rpmlint'
    said = run('rpmlint', '-r', f'{RPM}/adit.rpmlintrc',
               '--ignore-unused-rpmlintrc', p.binary, p.source,
               f'{RPM}/adit.spec')
    assert re.search(r'\b0 errors, 0 warnings', said), said
    return None


class Package:
    folder = binary = source = None


def skip_all():
    if os.environ.get('ADIT_SANITIZERS'):
        return 'once is enough: not with sanitizers'
    for name in ('rpmbuild', 'cpio'):
        if not shutil.which(name):
            return f'no {name}'
    if not os.path.exists(f'{BUILD}/Makefile'):
        return f'no Makefile in {BUILD}'
    return None


def main():
    why = skip_all()
    if why:
        print(f'1..0 # SKIP {why}')
        return
    with tempfile.TemporaryDirectory() as folder:
        p = Package()
        p.folder = folder
        run_cases(p)


main()
