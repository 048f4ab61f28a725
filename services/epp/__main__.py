"""`python -m services.epp`."""

from __future__ import annotations

from services.epp.app import main

if __name__ == "__main__":
    main()
