"""`python -m rollcam` is the command `rollcam`."""

from rollcam.cli.main import main

if __name__ == "__main__":
    main()
