/**
 * Actions on several runs that can be undone, runs that start over or were cut off, and archived experiments that keep no run behind:
 * a run that ends in one is archived with it, and none waits in it.
 */
export const bulkActions0012 = `
CREATE TABLE undos (id TEXT PRIMARY KEY, at INTEGER NOT NULL, change TEXT NOT NULL) WITHOUT ROWID;
ALTER TABLE runs ADD COLUMN waited INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN start_over INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN from_queue INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN cut_off INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;

UPDATE runs SET archived_at = (SELECT archived_at FROM experiments e WHERE e.id = runs.experiment)
  WHERE archived_at IS NULL AND status NOT IN ('running', 'queued')
  AND experiment IN (SELECT id FROM experiments WHERE archived_at IS NOT NULL);
UPDATE runs SET status = 'draft', queue_position = NULL, waited = 1 WHERE status = 'queued' AND archived_at IS NOT NULL;

CREATE TRIGGER runs_ended_in_archive AFTER UPDATE OF status ON runs
WHEN old.status = 'running' AND new.status NOT IN ('running', 'queued') AND new.archived_at IS NULL BEGIN
  UPDATE runs SET archived_at = (SELECT archived_at FROM experiments WHERE id = new.experiment) WHERE number = new.number;
END;
`
