"""Throughput and error rates of SafetyKit batches over time, by policy and version.

Public names are in ``__init__.pyi`` and load on first use: importing this package takes milliseconds.
The flow: ids → fetch → frame → store → flow → rates → compare and plots → report, and ``cli`` on top. The
first lines of each stage say its place; none imports a later one.
"""

import lazy_loader as _lazy

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
