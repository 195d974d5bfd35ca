"""Speed of jsigr_lib and strength of its attacks against named peers, from one run: `jsigr bench`. See README.md."""
