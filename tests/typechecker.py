"""What checks the annotated shapes while the tests run: beartype, with an int good enough where a float is asked."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
