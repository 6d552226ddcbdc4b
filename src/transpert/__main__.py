"""``python -m transpert`` does what the command ``transpert`` does."""

from transpert.cli import app

app(prog_name="transpert")
