"""``python -m dpmodel`` is the command ``dpmodel``."""

from dpmodel.cli.app import main

if __name__ == "__main__":
    main()
