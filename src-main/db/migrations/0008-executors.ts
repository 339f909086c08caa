/** Where a run is computed (null for this machine, else a cluster's name), and its job there as JSON. */
export const executors0008 = `
ALTER TABLE runs ADD COLUMN executor TEXT;
ALTER TABLE runs ADD COLUMN job TEXT;
CREATE INDEX runs_executor ON runs(executor) WHERE executor IS NOT NULL;
`
