"""What people are told in the languages of PGBEN_LANGUAGE."""
