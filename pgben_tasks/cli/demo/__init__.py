"""`pgben demo` and `pgben up`: a whole installation on embedded servers, and what it proves."""
