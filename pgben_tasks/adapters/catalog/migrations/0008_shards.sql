-- A shard of a copy is a step of its own, '<step>/<n>', which is offered before anybody begins it.
ALTER TABLE step DROP CONSTRAINT step_state_check;
ALTER TABLE step ADD CONSTRAINT step_state_check
    CHECK (state IN ('offered', 'running', 'retrying', 'done', 'failed', 'interrupted'));
