"""README's tables of what the 67-*.py have shown, each between two marks.

ADIT_CLIENTS=write in the environment puts it there (`make clients-docs`);
otherwise a difference is a failure. What was skipped stays as it is. Versions
are no difference; where they differ, what has a note may, too.
"""
import contextlib
import os
import re
import sys

from harness import Failure, Skip, case

README = os.path.join(os.environ.get('SRCDIR', '.'), 'README.md')
WRITE = os.environ.get('ADIT_CLIENTS') == 'write'
NO = '–'
MARKS = '¹²³⁴⁵⁶⁷⁸⁹'


class Table:
    def __init__(self, name, columns, rows, notes=()):
        """columns: what a row is of, its version, then what was shown.
        notes: (row, column, words) of what needs an explanation."""
        self.mark = f'<!-- {name}: made by `make clients-docs` -->\n'
        self.columns, self.rows = columns, rows
        self.shown, self.tried, self.versions = {}, set(), {}
        place = {(r, c): (i, j) for i, r in enumerate(rows)
                 for j, c in enumerate(columns)}
        self.notes = sorted(notes, key=lambda note: place[note[:2]])
        self.words = list(dict.fromkeys(words for *_, words in self.notes))

    def asked(self, row, column):
        self.tried.add((row, column))

    def show(self, row, column, what='yes'):
        self.shown[row, column] = what

    def _cell(self, row, column, old):
        """old: README's, by column."""
        was, new = old.get(column, NO), self.versions.get(row, NO)
        if column == 'version':
            return new if WRITE and row in self.versions else was
        marks = [MARKS[self.words.index(words)] for r, c, words in self.notes
                 if (r, c) == (row, column)]
        if (row, column) not in self.shown or \
                marks and not WRITE and new != old.get('version'):
            return was
        return ' '.join([self.shown[row, column], *marks])

    def _read(self, text):
        cells = {}
        for line in text.splitlines():
            row = [word.strip() for word in line.strip('|').split('|')]
            if len(row) == len(self.columns):
                cells[row[0]] = dict(zip(self.columns, row, strict=True))
        return cells

    def _written(self, text):
        old = self._read(text)
        lines = [self.columns, ['---'] * len(self.columns)]
        lines += [[row, *(self._cell(row, column, old.get(row, {}))
                          for column in self.columns[1:])]
                  for row in self.rows]
        table = ''.join(f'| {" | ".join(cells)} |\n' for cells in lines)
        notes = ''.join(f'- {mark} {words}\n' for mark, words in
                        zip(MARKS, self.words, strict=False))
        return table + ('\n' + notes if notes else '')

    def difference(self):
        """What README says otherwise, if anything; or it is mended."""
        with open(README) as f:
            before, text, after = f.read().split(self.mark)
        new = self._written(text)
        if WRITE:
            with open(README, 'w') as f:
                f.write(self.mark.join([before, new, after]))
            return ''
        was, now = text.splitlines(), new.splitlines()
        return '\n'.join([f'-{line}' for line in was if line not in now] +
                         [f'+{line}' for line in now if line not in was])


def version(text):
    """The number in what a program says of itself."""
    found = re.search(r'\d+(\.\d+)+(p\d+|[a-z]\b)?', text)
    return found[0] if found else NO


def readme_case(table, clients):
    """The last case of a file; clients: rows that are its own, each with
    need() and version()."""
    @case("README's table says the same", 'aditd')
    def _(t):
        for name, client in clients.items():
            with contextlib.suppress(Skip):
                client.need()
                table.versions[name] = version(client.version())
        missing = sorted(table.tried - set(table.shown))
        if WRITE and (missing or len(sys.argv) > 1):
            raise Failure(f'not shown: {missing or "all else"}')
        difference = table.difference()
        if difference:
            raise Failure(f'README is not so (`make clients-docs`):\n'
                          f'{difference}')
