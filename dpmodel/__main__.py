"""``python -m dpmodel`` is the command ``dpmodel``."""

from dpmodel.interfaces.cli import main

if __name__ == "__main__":
    main()
