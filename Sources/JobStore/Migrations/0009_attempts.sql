-- Why an attempt ended, apart from the word that its handler chose, and progress that is counted in 64 bits.

-- Adding columns needs ACCESS EXCLUSIVE locks on tables that running nodes lock in orders of their own. They are taken all
-- or none, as in 0008: when one is not free within 100 ms, the block's subtransaction releases the others.
DO $$
BEGIN
    FOR attempt IN 1..60 LOOP
        BEGIN
            SET LOCAL lock_timeout = '100ms';
            LOCK TABLE finished, history, progress IN ACCESS EXCLUSIVE MODE;
            SET LOCAL lock_timeout = DEFAULT;
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.2);
        END;
    END LOOP;
    RAISE EXCEPTION 'the tables of the job service stayed locked for a minute: try the migration again when fewer jobs run'
        USING ERRCODE = 'lock_not_available';
END $$;

-- One of the causes that the program knows. It is text without a check, so that later versions can add causes, which this
-- one then names in an error. Null: the row has no error, or a node of the release before has written it; the cause is in
-- the column `reason` then. For those nodes, `reason` is never empty where there is an error.
ALTER TABLE finished ADD COLUMN cause text;
ALTER TABLE history ADD COLUMN cause text;

-- The columns `step` and `steps` have the same numbers, cut to 32 bits, for nodes of the release before. Such a node writes
-- only these: `done` and `total` count where they agree with them.
ALTER TABLE progress ADD COLUMN done bigint, ADD COLUMN total bigint;

-- The handler of a running job was asked to stop. The value cannot be used in the transaction that adds it.
ALTER TYPE event_type ADD VALUE 'cancel_requested';

-- `live.max_attempts` and `finished.max_attempts` are the number of the last attempt that the budget allows, which a
-- released attempt raises by 1: `attempt` counts every start.
