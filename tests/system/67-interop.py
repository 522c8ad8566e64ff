#!/usr/bin/python3
"""Other people's clients: programs."""
from harness import main
from interop import PROGRAMS
from interop_cases import register

register(PROGRAMS)

if __name__ == '__main__':
    main()
