"""The Adit protocol, version 1, from its text: slow, small, and with faults that can be switched on."""
