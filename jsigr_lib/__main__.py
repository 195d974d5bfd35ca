from jsigr_lib.cli import main

main()
