-- Operators read these names and messages in the server's log, so they say plainly what was refused. No code depends on
-- the names: nodes of the version before may still run.

-- Renaming needs ACCESS EXCLUSIVE locks on six tables that running nodes lock in orders of their own. They are taken all or
-- none: when one is not free within 100 ms, the block's subtransaction releases the others. So the six waits are over before
-- the server looks for a deadlock (deadlock_timeout, 1 s by default), and no node waits longer than they take.
DO $$
BEGIN
    FOR attempt IN 1..60 LOOP
        BEGIN
            SET LOCAL lock_timeout = '100ms';
            LOCK TABLE job, live, finished, history, audit_entry, secret IN ACCESS EXCLUSIVE MODE;
            SET LOCAL lock_timeout = DEFAULT;
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.2);
        END;
    END LOOP;
    RAISE EXCEPTION 'the tables of the job service stayed locked for a minute: try the migration again when fewer jobs run'
        USING ERRCODE = 'lock_not_available';
END $$;

ALTER TABLE live RENAME CONSTRAINT run_is_whole TO running_has_token_node_start;
ALTER TABLE live RENAME CONSTRAINT only_a_run_is_asked_to_stop TO cancel_request_needs_run;
ALTER TABLE live RENAME CONSTRAINT attempts_are_counted TO attempt_within_max_attempts;
ALTER TABLE finished RENAME CONSTRAINT an_end_without_success_says_why TO finished_reason_required;
ALTER TABLE finished RENAME CONSTRAINT a_run_had_a_node TO finished_run_has_node;
ALTER TABLE finished RENAME CONSTRAINT success_ran TO success_needs_run;
ALTER TABLE audit_entry RENAME CONSTRAINT an_entry_is_of_jobs_or_of_a_queue TO audit_entry_target;
ALTER TABLE audit_entry RENAME CONSTRAINT a_user_is_one_in_a_queue TO audit_user_needs_queue;
ALTER TABLE audit_entry RENAME CONSTRAINT only_a_limit_is_set_to_something TO audit_limit_needs_limit_action;

ALTER TRIGGER final_is_final ON finished RENAME TO finished_immutable;
ALTER TRIGGER a_job_is_as_asked ON job RENAME TO job_immutable;
ALTER TRIGGER history_is_kept ON history RENAME TO history_immutable;
ALTER TRIGGER the_audit_is_kept ON audit_entry RENAME TO audit_entry_immutable;
ALTER TRIGGER a_secret_stays ON secret RENAME TO secret_immutable;
ALTER FUNCTION refuse_second_place() RENAME TO refuse_live;

CREATE OR REPLACE FUNCTION refuse_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of table % cannot be updated: they are written once', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE OR REPLACE FUNCTION refuse_finished() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM finished WHERE number = NEW.number) THEN
        RAISE EXCEPTION 'job number % cannot be added to table live: it is in table finished', NEW.number
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION refuse_live() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    found bigint;
BEGIN
    SELECT number INTO found FROM added JOIN live USING (number) LIMIT 1;
    IF found IS NOT NULL THEN
        RAISE EXCEPTION 'job number % cannot be added to table finished: it is in table live', found
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
