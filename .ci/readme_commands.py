"""Print the two commands that README.md promises, one per line, so that CI runs what users copy."""

import pathlib
import re

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"
commands = re.findall(
    r"^```sh\n(pip install '\.\[\w+\]' && .+)\n```$", README.read_text("utf-8"), re.MULTILINE
)
if len(commands) != 2:
    raise SystemExit(
        f"README.md should hold two commands that start with pip install '.[…]' &&; found {commands}"
    )
print(*commands, sep="\n")
