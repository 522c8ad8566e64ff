#!/usr/bin/python3
"""Other people's clients: libraries, each in a small program of ours."""
from harness import main
from interop import LIBRARIES
from interop_cases import register

register(LIBRARIES)

if __name__ == '__main__':
    main()
