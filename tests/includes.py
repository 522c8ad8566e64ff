#!/usr/bin/python3
"""README says which part of the sources includes which: is that so?"""
import collections
import fnmatch
import glob
import os
import re
import sys

TOP = os.environ.get('SRCDIR') or \
    os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
INCLUDE = re.compile(r'^#include "([^"]+)"', re.M)  # with its folder


def told():
    """Part: those behind its arrow; part: the patterns of its files."""
    with open(f'{TOP}/README.md') as f:
        text = f.read().partition('### Who includes whom')[2]
    arrows = {part: set(others.split()) for part, others in
              re.findall(r'^    (\w+) +->(.*)$', text, re.M)}
    files = {part: re.findall(r'`([\w*]+)`', names) for part, names in
             re.findall(r'^\| (\w+) \| (`.*) \|$', text, re.M)}
    return arrows, files


def part_of(path, files):
    folder, name = os.path.split(path)
    if folder != 'server':
        return folder
    name = os.path.splitext(name)[0]
    found = [part for part, patterns in files.items()
             if any(fnmatch.fnmatchcase(name, p) for p in patterns)]
    if len(found) != 1:
        raise ValueError(f'{path} is of {found or "no part"}')
    return found[0]


def seen(files):
    """Part: part: the includes that make it need that one."""
    needs = collections.defaultdict(lambda: collections.defaultdict(list))
    for folder in ('server', 'policy', 'sandbox'):
        for path in sorted(glob.glob(f'{folder}/*.[ch]', root_dir=TOP)):
            of = part_of(path, files)
            needs[of]  # although it needs none
            with open(f'{TOP}/{path}') as f:
                for header in INCLUDE.findall(f.read()):
                    if part_of(header, files) != of:
                        needs[of][part_of(header, files)].append(
                            f'{path} includes {header}')
    return needs


def main():
    arrows, files = told()
    needs = seen(files)
    parts = sorted(set(arrows) | set(needs))
    print(f'1..{len(parts)}')
    failed = 0
    for n, part in enumerate(parts, 1):
        right = part in arrows and set(needs[part]) == arrows[part]
        failed += not right
        print(f'{"" if right else "not "}ok {n} - {part}')
        for other in sorted(set(needs[part]) - arrows.get(part, set())):
            print(f'#   not told: {needs[part][other][0]}')
        for other in sorted(arrows.get(part, set()) - set(needs[part])):
            print(f'#   told, but nothing includes {other}')
    sys.exit(failed > 0 or not arrows)


main()
