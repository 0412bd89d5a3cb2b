"""Reports as mails, files and parts of pages."""
