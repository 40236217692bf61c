-- Who has changed what, and from where. One row for each commit, caller, address and action: a commit of many calls has
-- few callers, and a row for each of its jobs would cost more than the job's own.
CREATE TYPE audit_action AS ENUM (
    'enqueue', 'cancel', 'retry', 'pause_queue', 'resume_queue', 'set_queue_limit', 'set_user_limit');
CREATE TABLE audit_entry (
    at timestamptz NOT NULL DEFAULT now(),
    id bigint GENERATED ALWAYS AS IDENTITY,
    -- As the credential names it; empty: nobody was asked who calls. What the settings do is by "settings".
    caller text NOT NULL,
    -- As host:port; empty: from within the server.
    address text NOT NULL,
    action audit_action NOT NULL,
    -- Of the jobs that were changed so; null: it is about a queue, or a user in it.
    jobs uuid[],
    queue text,
    user_id text,
    -- What a limit was set to; null: to none of its own.
    user_limit int,
    -- For both who asks about a time and who removes what is old.
    PRIMARY KEY (at, id),
    CONSTRAINT an_entry_is_of_jobs_or_of_a_queue CHECK ((coalesce(cardinality(jobs), 0) > 0) = (queue IS NULL)),
    CONSTRAINT a_user_is_one_in_a_queue CHECK (user_id IS NULL OR queue IS NOT NULL),
    CONSTRAINT only_a_limit_is_set_to_something CHECK (
        user_limit IS NULL OR action IN ('set_queue_limit', 'set_user_limit'))
);
-- Ids of version 7 do not get smaller.
ALTER TABLE audit_entry ALTER jobs SET STORAGE EXTERNAL;
CREATE TRIGGER the_audit_is_kept BEFORE UPDATE ON audit_entry FOR EACH STATEMENT EXECUTE FUNCTION refuse_update();

-- One row for each change.
CREATE VIEW audit AS
SELECT e.at, e.caller, e.action::text AS action, j.job, e.queue, e.user_id, e.address, e.user_limit
FROM audit_entry e LEFT JOIN LATERAL unnest(e.jobs) AS j (job) ON true;
