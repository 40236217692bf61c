-- The tables of the job service. What is live is small and narrow (`live`); what is finished is out of
-- its way (`finished`, `history`). A job is in `live` until it is final and in `finished` from then on,
-- never in both. All names are resolved through search_path, so that a schema can hold a whole service.

CREATE TYPE live_state AS ENUM ('scheduled', 'ready', 'running');
CREATE TYPE final_state AS ENUM ('succeeded', 'failed', 'cancelled');
CREATE TYPE event_type AS ENUM (
    'enqueued', 'started', 'retry_scheduled', 'released', 'succeeded', 'failed', 'cancelled', 'retried');

CREATE TABLE queue (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    paused boolean NOT NULL DEFAULT false,
    -- How many jobs of one user may run at once, over all nodes; null: the service's default.
    user_limit int CHECK (user_limit BETWEEN 0 AND 100000)
);

CREATE TABLE kind (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    -- What becomes of a run whose node died, as the last node that handles it said.
    on_interruption text NOT NULL DEFAULT 'retry' CHECK (on_interruption IN ('retry', 'fail'))
);

-- A user in a queue: what limits and turns are about.
CREATE TABLE lane (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue int NOT NULL REFERENCES queue,
    user_id text NOT NULL,
    -- Set for this user; null: the queue's.
    user_limit int CHECK (user_limit BETWEEN 0 AND 100000),
    UNIQUE (user_id, queue)
);

-- A server process. Its lease is the lease of every run on it: one statement renews them all.
CREATE TABLE node (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uid uuid NOT NULL UNIQUE,
    name text NOT NULL,
    version text NOT NULL,
    concurrency int NOT NULL,
    kinds int[] NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz NOT NULL,
    -- It has said goodbye, or has been given up: it never gets a run again.
    ended_at timestamptz
) WITH (fillfactor = 50);

-- What was asked for. Written once.
CREATE TABLE job (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    lane bigint NOT NULL,
    user_id text NOT NULL,
    kind int NOT NULL,
    priority smallint NOT NULL CHECK (priority BETWEEN -100 AND 100),
    max_attempts smallint NOT NULL CHECK (max_attempts BETWEEN 1 AND 100),
    created_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz NOT NULL,
    timeout_ms bigint CHECK (timeout_ms > 0),
    soft_timeout_ms bigint CHECK (soft_timeout_ms > 0),
    retry_initial_ms bigint NOT NULL,
    retry_factor double precision NOT NULL,
    retry_max_ms bigint NOT NULL,
    retry_jitter double precision NOT NULL,
    content_type text NOT NULL,
    idempotency_key text,
    -- SHA-256 of the request, where the same id or key may come again; else null.
    digest bytea,
    labels jsonb,
    payload bytea NOT NULL
);
-- A compressed payload costs more than it saves on the way in and out.
ALTER TABLE job ALTER payload SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX job_idempotency_key ON job (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX job_user ON job (user_id, number);

CREATE SEQUENCE run_token;

-- What is not final.
CREATE TABLE live (
    number bigint PRIMARY KEY,
    lane bigint NOT NULL,
    kind int NOT NULL,
    -- Negated, so that the first in index order goes first.
    rank smallint NOT NULL,
    state live_state NOT NULL,
    due_at timestamptz NOT NULL,
    -- Of the last lifecycle event.
    sequence bigint NOT NULL,
    -- Attempts begun, those given back not counted.
    attempt int NOT NULL,
    max_attempts int NOT NULL,
    -- Of the run. The token only grows; every write of a run names it.
    token bigint,
    node int,
    started_at timestamptz,
    cancel_requested_at timestamptz,
    cancel_reason text,
    CONSTRAINT run_is_whole CHECK (
        (state = 'running') = (token IS NOT NULL)
        AND (state = 'running') = (node IS NOT NULL)
        AND (state = 'running') = (started_at IS NOT NULL)),
    CONSTRAINT only_a_run_is_asked_to_stop CHECK (
        state = 'running' OR (cancel_requested_at IS NULL AND cancel_reason IS NULL)),
    CONSTRAINT sequence_begins_at_one CHECK (sequence >= 1),
    CONSTRAINT attempts_are_counted CHECK (attempt BETWEEN 0 AND max_attempts)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX live_ready ON live (lane, kind, rank, due_at, number) WHERE state = 'ready';
CREATE INDEX live_scheduled ON live (due_at) WHERE state = 'scheduled';
CREATE INDEX live_running ON live (lane) WHERE state = 'running';

-- How each job ended. Written once: final is final.
CREATE TABLE finished (
    number bigint PRIMARY KEY,
    state final_state NOT NULL,
    sequence bigint NOT NULL CHECK (sequence >= 2),
    attempt int NOT NULL,
    max_attempts int NOT NULL,
    node int,
    -- Of the run that ended so; null: it did not run.
    started_at timestamptz,
    finished_at timestamptz NOT NULL,
    reason text,
    message text,
    result bytea,
    result_type text,
    CONSTRAINT an_end_without_success_says_why CHECK ((state = 'succeeded') = (reason IS NULL)),
    CONSTRAINT only_success_has_a_result CHECK (result IS NULL OR state = 'succeeded'),
    CONSTRAINT a_run_had_a_node CHECK ((started_at IS NULL) = (node IS NULL)),
    CONSTRAINT success_ran CHECK (state <> 'succeeded' OR started_at IS NOT NULL)
);
ALTER TABLE finished ALTER result SET STORAGE EXTERNAL;
CREATE INDEX finished_at ON finished (finished_at);

-- What happened before the present: ends of attempts that were followed by another one, ends that a call
-- of Retry undid, and those calls. `started_at` set: event `sequence` − 1 was the start of that attempt.
CREATE TABLE history (
    number bigint NOT NULL,
    sequence bigint NOT NULL,
    type event_type NOT NULL,
    attempt int NOT NULL,
    node int,
    started_at timestamptz,
    at timestamptz NOT NULL,
    due_at timestamptz,
    reason text,
    message text,
    PRIMARY KEY (number, sequence)
);

CREATE TABLE progress (
    number bigint PRIMARY KEY,
    attempt int NOT NULL,
    stage text NOT NULL,
    fraction double precision NOT NULL,
    message text NOT NULL,
    step int NOT NULL,
    steps int NOT NULL,
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE checkpoint (
    number bigint PRIMARY KEY,
    data bytea NOT NULL,
    saved_at timestamptz NOT NULL
);

CREATE TABLE log_line (
    number bigint NOT NULL,
    line bigint NOT NULL,
    at timestamptz NOT NULL,
    attempt int NOT NULL,
    level text NOT NULL,
    message text NOT NULL,
    PRIMARY KEY (number, line)
);

-- What changed, for the other nodes: one row per commit. Readers go by `xid`, since rows become visible
-- in the order of their commits and not of their ids. Kept for minutes.
CREATE TABLE change (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    node int NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    jobs bigint[] NOT NULL,
    lanes bigint[] NOT NULL,
    -- Of each job's last event; 0: progress, log or a request to stop.
    sequences bigint[] NOT NULL,
    -- Somebody asked a running job to stop: its node looks at once.
    cancels boolean NOT NULL DEFAULT false
);
CREATE INDEX change_xid ON change (xid);

-- Final is final.
CREATE FUNCTION refuse_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a row of % is written once', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER final_is_final BEFORE UPDATE ON finished FOR EACH STATEMENT EXECUTE FUNCTION refuse_update();
CREATE TRIGGER a_job_is_as_asked BEFORE UPDATE ON job FOR EACH STATEMENT EXECUTE FUNCTION refuse_update();
CREATE TRIGGER history_is_kept BEFORE UPDATE ON history FOR EACH STATEMENT EXECUTE FUNCTION refuse_update();

-- A job is in one place.
CREATE FUNCTION refuse_second_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'live' THEN
        PERFORM FROM added JOIN finished USING (number) LIMIT 1;
    ELSE
        PERFORM FROM added JOIN live USING (number) LIMIT 1;
    END IF;
    IF FOUND THEN
        RAISE EXCEPTION 'a job is live and finished at once' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER live_is_not_finished AFTER INSERT ON live REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_second_place();
CREATE TRIGGER finished_is_not_live AFTER INSERT ON finished REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_second_place();
