"""The commands of `fpdm`, a module each: a frozen dataclass whose fields are its options."""
