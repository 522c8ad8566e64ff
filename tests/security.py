#!/usr/bin/python3
"""Every test that SECURITY.md names is there."""
import ast
import glob
import os
import re
import sys

TOP = os.environ.get('SRCDIR') or \
    os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')


def cases(path):
    """The names of a system test's cases; what is computed becomes *."""
    with open(path) as f:
        tree = ast.parse(f.read())
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or \
                getattr(node.func, 'id', '') != 'case':
            continue
        name = node.args[0]
        parts = name.values if isinstance(name, ast.JoinedStr) else [name]
        yield ''.join(getattr(p, 'value', '*') if isinstance(p, ast.Constant)
                      else '*' for p in parts)


def missing(where, words):
    """What is wrong with a claim's evidence, or None."""
    if re.fullmatch(r'\d\d', where):
        found = glob.glob(f'{TOP}/tests/system/{where}-*.py')
        names = [name for path in found for name in cases(path)]
        if not found:
            return 'no such file'
        return None if any(words in name for name in names) else 'no such case'
    path = f'{TOP}/tests/{where}'
    if not os.path.exists(path):
        return 'no such file'
    with open(path) as f:
        return None if words in f.read() else 'no such words'


def main():
    with open(f'{TOP}/SECURITY.md') as f:
        text = re.sub(r'\s+', ' ', f.read())
    named = re.findall(r'`(\d\d|[\w-]+/[\w.-]+)(?: "([^`]*)")?`', text)
    named = sorted({(where, words) for where, words in named
                    if re.match(r'\d\d$|(unit|fuzz|sandbox|hostile)/', where)})
    print(f'1..{len(named)}')
    failed = 0
    for n, (where, words) in enumerate(named, 1):
        why = missing(where, words)
        failed += why is not None
        print(f'{"not " * (why is not None)}ok {n} - {where} "{words}"')
        if why:
            print(f'#   {why}')
    sys.exit(failed > 0 or not named)


main()
