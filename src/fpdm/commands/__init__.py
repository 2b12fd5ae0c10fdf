"""The commands of `fpdm`, one module each: a function whose parameters are the options."""
