-- How it is known who the caller is: a token of the token file and a JWT may have the same name, and either may be called
-- "settings". Null: the entry is of a program that did not say.
CREATE TYPE audit_source AS ENUM ('none', 'token', 'jwt', 'certificate', 'settings');
ALTER TABLE audit_entry ADD COLUMN source audit_source;
CREATE OR REPLACE VIEW audit AS
SELECT e.at, e.caller, e.action::text AS action, j.job, e.queue, e.user_id, e.address, e.user_limit,
    e.source::text AS source
FROM audit_entry e LEFT JOIN LATERAL unnest(e.jobs) AS j (job) ON true;
