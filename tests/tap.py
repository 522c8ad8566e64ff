"""Cases of a program that speaks TAP: a function under @case, which ends well,
or raises, or returns why it is skipped."""
import sys

CASES = []


def case(name):
    def register(fn):
        CASES.append((name, fn))
        return fn
    return register


def run_cases(*args):
    """Each with args, in their order; does not return."""
    failed = 0
    print(f'1..{len(CASES)}')
    for n, (name, fn) in enumerate(CASES, 1):
        why = skip = None
        try:
            skip = fn(*args)
        except Exception as e:  # whatever it is: the others run, too
            why = str(e) if isinstance(e, AssertionError) else repr(e)
            why = why or 'an assertion'
        print(f'{"not " * bool(why)}ok {n} - {name}'
              f'{f" # SKIP {skip}" if skip else ""}', flush=True)
        if why:
            print('\n'.join(f'#   {line}' for line in why.splitlines()))
            failed += 1
    sys.exit(failed > 0)
