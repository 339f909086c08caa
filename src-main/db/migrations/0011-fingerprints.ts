/**
 * The content of the model that a run used, and steps found by their names, which say all that they depend on. Steps that runs of an
 * experiment shared under names of places go: no run finds them any more.
 */
export const fingerprints0011 = `
ALTER TABLE runs ADD COLUMN fingerprint TEXT;
CREATE INDEX steps_name ON steps(name);
DELETE FROM steps WHERE scope LIKE '%/%';
ALTER TABLE steps RENAME COLUMN scope TO run;
`
