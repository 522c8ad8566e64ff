#!/usr/bin/python3
"""There is one version, configure.ac's: what shows one, shows that. The
tarball has what a reader is sent to."""
import os
import re
import subprocess
import sys

TOP = os.environ.get('SRCDIR') or \
    os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
ADITD = os.environ.get('ADITD') or './aditd'
ADITCTL = os.path.join(os.path.dirname(ADITD), 'aditctl')


def read(path):
    with open(f'{TOP}/{path}', errors='replace') as f:
        return f.read()


def pages():
    return sorted([name for name in os.listdir(TOP) if name.endswith('.md')] +
                  [f'docs/{name}' for name in os.listdir(f'{TOP}/docs')
                   if name.endswith('.md')])


def first(pattern, path):
    found = re.search(pattern, read(path), re.M)
    return found[1] if found else None


VERSION = first(r'^AC_INIT\(\[adit\], \[([\d.]+)\]\)', 'configure.ac')


def programs():
    for program, option in ((ADITD, '-V'), (ADITCTL, '--version')):
        said = subprocess.run([program, option], capture_output=True,
                              text=True, timeout=20).stdout
        if not re.match(rf'adit_{re.escape(VERSION)}(,|$)', said):
            yield f'{program} {option}: {said!r}'


def sources():
    """The greeting and all else is made of PACKAGE_VERSION."""
    for folder in ('server', 'policy', 'sandbox'):
        for name in sorted(os.listdir(f'{TOP}/{folder}')):
            if name.endswith('.c'):
                for found in re.findall(r'"[^"\n]*adit_\d[^"\n]*"',
                                        read(f'{folder}/{name}')):
                    yield f'{folder}/{name}: {found}'


def shown():
    """In pages. What was measured (a line with libssh's version, too) is what
    it was measured with."""
    for name in pages():
        for line in read(name).splitlines():
            for found in re.findall(r'adit_(\d+(?:\.\d+)*)', line):
                if found != VERSION and ', libssh' not in line:
                    yield f'{name}: adit_{found}'


def changelog():
    found = first(r'^## (\d\S*)', 'CHANGELOG.md')
    if found != VERSION:
        yield f'CHANGELOG.md: {found}'


def packages():
    for path, pattern in (
            ('packaging/debian/changelog', r'^adit \(([\d.]+)-'),
            ('packaging/rpm/adit.spec', r'^Version:\s*([\d.]+)$')):
        if os.path.exists(f'{TOP}/{path}'):
            found = first(pattern, path)
            if found != VERSION:
                yield f'{path}: {found}'


def links():
    """Of pages to files here: they are there."""
    for name in pages():
        for link in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', read(name)):
            path = os.path.normpath(os.path.join(os.path.dirname(name), link))
            if not os.path.exists(f'{TOP}/{path}'):
                yield f'{name}: {link}'


def anchors():
    """Links to headings: there is such a heading."""
    for name in pages():
        for link, anchor in re.findall(r'\]\(([^):#]*)#([^)]+)\)', read(name)):
            path = os.path.normpath(os.path.join(
                os.path.dirname(name), link)) if link else name
            heads = {re.sub(r'[^\w\- ]', '', head.lower()).replace(' ', '-')
                     for head in re.findall(r'^#+ (.*)', read(path), re.M)}
            if anchor not in heads:
                yield f'{name}: {link}#{anchor}'


def shipped():
    """What the tarball is made of has each page."""
    lists = read('Makefile.am')
    for name in pages() + ['LICENSE']:
        if name not in re.split(r'\s+', lists):
            yield f'{name} is not in Makefile.am'


def main():
    checks = (('programs say it', programs), ('no source names one', sources),
              ('pages show it', shown),
              ('CHANGELOG begins with it', changelog),
              ('packages have it', packages), ('links lead somewhere', links),
              ('links to headings do', anchors),
              ('pages are in the tarball', shipped))
    failed = False
    print(f'1..{len(checks)}')
    for n, (name, check) in enumerate(checks, 1):
        wrong = list(check())
        for line in wrong:
            print(f'#   {line}')
        print(f'{"not ok" if wrong else "ok"} {n} - {name} ({VERSION})')
        failed |= bool(wrong)
    sys.exit(failed)


main()
