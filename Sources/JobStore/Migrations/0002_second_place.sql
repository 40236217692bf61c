-- A job's first two events come with the statement that made its number, which nothing can have finished: only a
-- job that comes back (its event 3 or later) is looked up. Looking up all of them cost each enqueue a tenth.
DROP TRIGGER live_is_not_finished ON live;
CREATE FUNCTION refuse_finished() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM finished WHERE number = NEW.number) THEN
        RAISE EXCEPTION 'a job is live and finished at once' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER live_is_not_finished AFTER INSERT ON live
    FOR EACH ROW WHEN (NEW.sequence > 2) EXECUTE FUNCTION refuse_finished();

CREATE OR REPLACE FUNCTION refuse_second_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM added JOIN live USING (number) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'a job is live and finished at once' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
