"""What all tests of this stage need."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background of a script
