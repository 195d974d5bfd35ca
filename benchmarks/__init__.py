"""Speed of jsigr_lib against named peers, as ratios measured in one run: `jsigr bench`. See README.md."""
