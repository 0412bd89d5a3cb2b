"""`pgben demo` and `pgben up`: a whole installation on embedded servers, and the story it tells."""
