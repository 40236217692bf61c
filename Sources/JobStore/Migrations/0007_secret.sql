-- What all nodes know and nobody else: random bytes, by what they are for, made by the node that needs them first.
CREATE TABLE secret (
    name text PRIMARY KEY,
    value bytea NOT NULL CONSTRAINT a_secret_has_256_bits CHECK (octet_length(value) = 32)
);
CREATE TRIGGER a_secret_stays BEFORE UPDATE ON secret FOR EACH STATEMENT EXECUTE FUNCTION refuse_update();
