"""The collector: takes messages from many programs, and hands them to whatever stores them."""

from eliot_etw._require import require

for _package in ("msgspec", "yaml"):
    require(_package, feature="The collector", extra="collector")
