"""The console: pages of pgben inside Flower, and the API by which services enqueue over HTTP.

It holds the broker's address and a read-only login of the catalog, no key and no password of what
is protected. What it cannot know by itself it asks workers for, and what it starts are the same
entry tasks as everybody's. Flower's own pages stay read-only for everybody.
"""
