"""Measurements; none of them is a test, and none of their numbers is a promise.

``places`` starts what is measured on embedded servers of this machine, ``meter`` counts processor
time and memory, each subject has a module (``chain``, ``plain_dump``, ``script``, ``sync``),
``rounds`` runs them in turn, ``report`` says what came out. ``postgres``, ``bucket``, ``churn``,
``memory``, ``client`` and ``digests`` are the parts that can be chosen.
"""
