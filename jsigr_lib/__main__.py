"""The command jsigr, which is also python -m jsigr_lib: one line, and exit code 2, where its packages are missing."""

import sys

from jsigr_lib.method.errors import InputError, needs_extra


def main() -> None:
    try:
        with needs_extra("the command jsigr", "companion"):
            from jsigr_lib import cli
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    cli.main()


if __name__ == "__main__":
    main()
