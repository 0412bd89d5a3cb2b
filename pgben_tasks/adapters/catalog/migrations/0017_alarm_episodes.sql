-- Alarms are episodes: open until they are over, reminded of, told on several channels.
-- Which kinds there are, the program's types say.
ALTER TABLE alarm DROP CONSTRAINT alarm_kind_check;

-- What is over may come back as a new episode of the same key.
ALTER TABLE alarm ADD COLUMN episode integer NOT NULL DEFAULT 1;
ALTER TABLE alarm DROP CONSTRAINT alarm_key_key;
ALTER TABLE alarm ADD CONSTRAINT alarm_episode_key UNIQUE (key, episode);
-- When a tick first did not find it any more, and when it was believed to be over.
ALTER TABLE alarm ADD COLUMN absent_since timestamptz;
ALTER TABLE alarm ADD COLUMN cleared_at timestamptz;
CREATE INDEX alarm_open ON alarm (id) WHERE cleared_at IS NULL;

-- What became of each alarm on each channel; channels are named without what is secret in them.
CREATE TABLE alarm_delivery (
    alarm bigint NOT NULL REFERENCES alarm ON DELETE CASCADE,
    channel text NOT NULL,
    -- When the channel took the alarm, and that or the latest reminder.
    told_at timestamptz,
    last_sent_at timestamptz,
    reminders integer NOT NULL DEFAULT 0,
    -- When it took that the alarm is over.
    over_at timestamptz,
    tries integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL,
    -- Why it was not taken, or for whom not.
    last_error text,
    PRIMARY KEY (alarm, channel)
);
CREATE INDEX alarm_delivery_waiting ON alarm_delivery (channel) WHERE told_at IS NULL;
CREATE INDEX alarm_delivery_told ON alarm_delivery (channel, told_at);

INSERT INTO alarm_delivery (alarm, channel, told_at, last_sent_at, over_at, tries, next_try_at, last_error)
SELECT id, 'mail', sent_at, sent_at, sent_at, tries, next_try_at, last_error FROM alarm
WHERE sent_at IS NOT NULL OR tries > 0;
-- What holds is found again by the next tick, as an episode of its own. What ends with a success of
-- later stays open until there is one.
UPDATE alarm SET cleared_at = clock_timestamp()
WHERE kind NOT IN ('damaged', 'failed', 'after_swap', 'suspect', 'faulty')
    OR (kind <> 'damaged' AND happened_at < clock_timestamp() - interval '7 days');
DROP INDEX alarm_unsent;
CREATE INDEX alarm_untold ON alarm (id) WHERE sent_at IS NULL;
ALTER TABLE alarm DROP COLUMN tries, DROP COLUMN next_try_at, DROP COLUMN last_error;

-- Whatever carries something out of the installation: channels of alarms, and the pings.
CREATE TABLE channel (
    name text PRIMARY KEY,
    -- When it last took something, and since when it takes nothing, with what it said last.
    worked_at timestamptz,
    failing_since timestamptz,
    last_error text
);

-- Up to which moment the attempts of each series were pinged.
CREATE TABLE ping (
    series text PRIMARY KEY,
    upto timestamptz NOT NULL
);
