/**
 * The content of the model that a run used. Steps are now found by a name that includes everything they depend on, so the shared steps of
 * experiments under their old, path-based names are deleted: no run would find them.
 */
export const fingerprints0011 = `
ALTER TABLE runs ADD COLUMN fingerprint TEXT;
CREATE INDEX steps_name ON steps(name);
DELETE FROM steps WHERE scope LIKE '%/%';
ALTER TABLE steps RENAME COLUMN scope TO run;
`
