-- A swap that is done, and whose command afterwards failed.
ALTER TABLE alarm DROP CONSTRAINT alarm_kind_check;
ALTER TABLE alarm ADD CONSTRAINT alarm_kind_check CHECK (kind IN
    ('failed', 'after_swap', 'damaged', 'suspect', 'faulty', 'overdue', 'stale', 'silent',
     'expiring', 'refused'));
