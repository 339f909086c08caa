/** The tables of a new history. Times are milliseconds since 1970, lists and documents are JSON. */
export const schema = `
CREATE TABLE owners (
  id TEXT PRIMARY KEY,
  pid INTEGER NOT NULL,
  host TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  heartbeat_at INTEGER NOT NULL,
  works_queue INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE models (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  path TEXT NOT NULL,
  origin TEXT NOT NULL,
  source TEXT,
  description TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  parent TEXT REFERENCES models(id) ON DELETE SET NULL,
  run TEXT,
  tags TEXT NOT NULL DEFAULT '[]',
  starred INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  removed_at INTEGER,
  remove_files INTEGER NOT NULL DEFAULT 0,
  notes TEXT NOT NULL DEFAULT '',
  begin_figures TEXT
);
CREATE UNIQUE INDEX models_path ON models(path) WHERE removed_at IS NULL;

CREATE TABLE experiments (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  tags TEXT NOT NULL DEFAULT '[]',
  starred INTEGER NOT NULL DEFAULT 0,
  archived_at INTEGER,
  created_at INTEGER NOT NULL,
  grid TEXT,
  notes TEXT NOT NULL DEFAULT ''
);

CREATE TABLE runs (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  status TEXT NOT NULL,
  experiment TEXT REFERENCES experiments(id) ON DELETE SET NULL,
  model TEXT NOT NULL REFERENCES models(id),
  method TEXT NOT NULL,
  baseline INTEGER NOT NULL,
  seed INTEGER NOT NULL,
  nominal REAL,
  reached REAL,
  queue_position REAL,
  owner TEXT,
  wish TEXT,
  device TEXT,
  attempts INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  started_at INTEGER,
  attempt_at INTEGER,
  ended_at INTEGER,
  seconds REAL,
  parent TEXT,
  starred INTEGER NOT NULL DEFAULT 0,
  archived_at INTEGER,
  has_plan INTEGER NOT NULL DEFAULT 0,
  progress TEXT,
  problem TEXT,
  tags TEXT NOT NULL DEFAULT '[]',
  notes TEXT NOT NULL DEFAULT '',
  executor TEXT,
  job TEXT,
  fingerprint TEXT,
  waited INTEGER NOT NULL DEFAULT 0,
  start_over INTEGER NOT NULL DEFAULT 0,
  from_queue INTEGER NOT NULL DEFAULT 0,
  cut_off INTEGER NOT NULL DEFAULT 0,
  crashes INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX runs_status ON runs(status, queue_position);
CREATE INDEX runs_experiment ON runs(experiment);
CREATE INDEX runs_model ON runs(model);
CREATE INDEX runs_created ON runs(created_at);
CREATE INDEX runs_executor ON runs(executor) WHERE executor IS NOT NULL;

CREATE TABLE run_documents (
  run INTEGER PRIMARY KEY REFERENCES runs(number) ON DELETE CASCADE,
  request TEXT NOT NULL,
  resolved TEXT,
  environment TEXT,
  plan TEXT,
  plan_file TEXT,
  width TEXT,
  scores TEXT,
  scores_file TEXT,
  answers TEXT,
  remarks TEXT,
  phase_seconds TEXT,
  tensors TEXT,
  calibration TEXT,
  evaluation TEXT,
  repair TEXT,
  fit TEXT,
  study TEXT,
  passes TEXT,
  inspected TEXT,
  outcomes TEXT,
  questions TEXT,
  questions_file TEXT,
  precision TEXT,
  certified TEXT,
  recovery TEXT,
  budget TEXT,
  experts TEXT,
  begin_token TEXT
);

CREATE TABLE run_tags (
  run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
  tag TEXT NOT NULL,
  PRIMARY KEY (tag, run)
) WITHOUT ROWID;
CREATE INDEX run_tags_run ON run_tags(run);

CREATE TABLE parameter_names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE parameters (
  run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
  name INTEGER NOT NULL REFERENCES parameter_names(id),
  kind TEXT NOT NULL CHECK (kind IN ('number', 'text', 'boolean')),
  value NOT NULL,
  PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE INDEX parameters_value ON parameters(name, value);

CREATE TABLE measure_names (id INTEGER PRIMARY KEY, name TEXT NOT NULL, dataset TEXT NOT NULL, unit TEXT NOT NULL, UNIQUE (name, dataset));
CREATE TABLE measures (
  run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
  name INTEGER NOT NULL REFERENCES measure_names(id),
  sequence INTEGER NOT NULL,
  value REAL NOT NULL,
  error REAL,
  at INTEGER NOT NULL,
  PRIMARY KEY (run, name, sequence)
) WITHOUT ROWID;
CREATE TABLE measure_summaries (
  run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
  name INTEGER NOT NULL REFERENCES measure_names(id),
  last REAL NOT NULL,
  best REAL NOT NULL,
  error REAL,
  taken_on TEXT,
  PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE INDEX measure_summaries_value ON measure_summaries(name, last);
-- Losses by window are long. Lists of runs skip them.
CREATE TABLE measure_details (
  run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
  name INTEGER NOT NULL REFERENCES measure_names(id),
  details TEXT NOT NULL,
  PRIMARY KEY (run, name)
) WITHOUT ROWID;

CREATE TABLE run_events (
  run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
  sequence INTEGER NOT NULL,
  at INTEGER NOT NULL,
  type TEXT NOT NULL,
  event TEXT NOT NULL,
  PRIMARY KEY (run, sequence)
) WITHOUT ROWID;

CREATE TABLE decisions (
  run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
  round INTEGER NOT NULL,
  kind TEXT NOT NULL,
  block INTEGER NOT NULL,
  decision TEXT NOT NULL,
  PRIMARY KEY (run, round)
) WITHOUT ROWID;

CREATE TABLE selections (
  run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
  generation INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  selection TEXT NOT NULL,
  PRIMARY KEY (run, generation, tokens)
) WITHOUT ROWID;

CREATE TABLE steps (
  run TEXT NOT NULL,
  name TEXT NOT NULL,
  value TEXT,
  file TEXT,
  bytes INTEGER NOT NULL,
  at INTEGER NOT NULL,
  tensors TEXT,
  PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE INDEX steps_file ON steps(file) WHERE file IS NOT NULL;
CREATE INDEX steps_name ON steps(name);

CREATE TABLE transcripts (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  title TEXT NOT NULL,
  status TEXT NOT NULL,
  owner TEXT,
  prompts TEXT NOT NULL,
  columns TEXT NOT NULL,
  settings TEXT NOT NULL,
  blind INTEGER NOT NULL,
  votes TEXT NOT NULL DEFAULT '[]',
  starred INTEGER NOT NULL DEFAULT 0,
  tags TEXT NOT NULL DEFAULT '[]',
  problem TEXT,
  created_at INTEGER NOT NULL,
  notes TEXT NOT NULL DEFAULT '',
  prompt_tags TEXT NOT NULL DEFAULT '[]'
);
CREATE TABLE transcript_runs (
  transcript INTEGER NOT NULL REFERENCES transcripts(number) ON DELETE CASCADE,
  run TEXT NOT NULL,
  PRIMARY KEY (run, transcript)
) WITHOUT ROWID;
CREATE TABLE transcript_answers (
  transcript INTEGER NOT NULL REFERENCES transcripts(number) ON DELETE CASCADE,
  prompt INTEGER NOT NULL,
  position INTEGER NOT NULL,
  text TEXT NOT NULL,
  answer TEXT NOT NULL,
  PRIMARY KEY (transcript, prompt, position)
) WITHOUT ROWID;

CREATE TABLE judgings (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  title TEXT NOT NULL,
  transcript INTEGER NOT NULL REFERENCES transcripts(number) ON DELETE CASCADE,
  pairs TEXT NOT NULL,
  created_at INTEGER NOT NULL
);
CREATE TABLE judging_votes (
  judging INTEGER NOT NULL REFERENCES judgings(number) ON DELETE CASCADE,
  pair INTEGER NOT NULL,
  vote TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (judging, pair)
) WITHOUT ROWID;

CREATE TABLE views (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, state TEXT NOT NULL, created_at INTEGER NOT NULL);
CREATE TABLE prompt_sets (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, prompts TEXT NOT NULL, created_at INTEGER NOT NULL);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE transfers (id TEXT PRIMARY KEY, transfer TEXT NOT NULL, request TEXT NOT NULL, owner TEXT, changed_at INTEGER NOT NULL);
CREATE TABLE undos (id TEXT PRIMARY KEY, at INTEGER NOT NULL, change TEXT NOT NULL) WITHOUT ROWID;

-- The id that this history and its folder of values share, and the value files that its rows no longer name: only these may be deleted.
CREATE TABLE identity (id TEXT NOT NULL);
INSERT INTO identity(id) VALUES ('history-' || lower(hex(randomblob(8))));
CREATE TABLE released_files (file TEXT PRIMARY KEY) WITHOUT ROWID;

CREATE VIRTUAL TABLE run_search USING fts5(name, notes, tags, method, model, experiment, tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3');
CREATE VIRTUAL TABLE transcript_search USING fts5(title, notes, tags, prompts, answers, tokenize = 'unicode61 remove_diacritics 2');

CREATE TRIGGER runs_inserted AFTER INSERT ON runs BEGIN
  INSERT INTO run_search(rowid, name, notes, tags, method, model, experiment) VALUES (
    new.number, new.name, new.notes, new.tags, new.method,
    (SELECT name FROM models WHERE id = new.model), (SELECT name FROM experiments WHERE id = new.experiment));
  INSERT OR IGNORE INTO run_tags(run, tag) SELECT new.number, value FROM json_each(new.tags);
END;
CREATE TRIGGER runs_described AFTER UPDATE OF name, notes, tags, experiment ON runs BEGIN
  UPDATE run_search SET name = new.name, notes = new.notes, tags = new.tags,
    experiment = (SELECT name FROM experiments WHERE id = new.experiment) WHERE rowid = new.number;
  DELETE FROM run_tags WHERE run = new.number;
  INSERT OR IGNORE INTO run_tags(run, tag) SELECT new.number, value FROM json_each(new.tags);
END;
CREATE TRIGGER runs_deleted AFTER DELETE ON runs BEGIN
  DELETE FROM run_search WHERE rowid = old.number;
END;
-- A run that ends in an archived experiment is archived with it.
CREATE TRIGGER runs_ended_in_archive AFTER UPDATE OF status ON runs
WHEN old.status = 'running' AND new.status NOT IN ('running', 'queued') AND new.archived_at IS NULL BEGIN
  UPDATE runs SET archived_at = (SELECT archived_at FROM experiments WHERE id = new.experiment) WHERE number = new.number;
END;
CREATE TRIGGER models_renamed AFTER UPDATE OF name ON models WHEN new.name <> old.name BEGIN
  UPDATE run_search SET model = new.name WHERE rowid IN (SELECT number FROM runs WHERE model = new.id);
END;
CREATE TRIGGER experiments_renamed AFTER UPDATE OF name ON experiments WHEN new.name <> old.name BEGIN
  UPDATE run_search SET experiment = new.name WHERE rowid IN (SELECT number FROM runs WHERE experiment = new.id);
END;

CREATE TRIGGER transcripts_inserted AFTER INSERT ON transcripts BEGIN
  INSERT INTO transcript_search(rowid, title, notes, tags, prompts, answers) VALUES (new.number, new.title, new.notes, new.tags, new.prompts, '');
END;
CREATE TRIGGER transcripts_described AFTER UPDATE OF title, notes, tags ON transcripts BEGIN
  UPDATE transcript_search SET title = new.title, notes = new.notes, tags = new.tags WHERE rowid = new.number;
END;
CREATE TRIGGER transcript_answered AFTER INSERT ON transcript_answers BEGIN
  UPDATE transcript_search SET answers = answers || ' ' || new.text WHERE rowid = new.transcript;
END;
CREATE TRIGGER transcripts_deleted AFTER DELETE ON transcripts BEGIN
  DELETE FROM transcript_search WHERE rowid = old.number;
END;

CREATE TRIGGER steps_deleted AFTER DELETE ON steps WHEN old.file IS NOT NULL OR old.tensors IS NOT NULL BEGIN
  INSERT OR IGNORE INTO released_files SELECT value FROM json_each(json_array(old.file, old.tensors ->> '$.file')) WHERE value IS NOT NULL;
END;
CREATE TRIGGER steps_changed AFTER UPDATE OF file, tensors ON steps WHEN old.file IS NOT NULL OR old.tensors IS NOT NULL BEGIN
  INSERT OR IGNORE INTO released_files SELECT value FROM json_each(json_array(old.file, old.tensors ->> '$.file')) WHERE value IS NOT NULL;
END;
CREATE TRIGGER documents_deleted AFTER DELETE ON run_documents BEGIN
  INSERT OR IGNORE INTO released_files
    SELECT value FROM json_each(json_array(old.plan_file, old.scores_file, old.questions_file)) WHERE value IS NOT NULL
    UNION SELECT value ->> '$.file' FROM json_each(coalesce(old.tensors, '[]'));
END;
CREATE TRIGGER documents_changed AFTER UPDATE OF plan_file, scores_file, questions_file, tensors ON run_documents BEGIN
  INSERT OR IGNORE INTO released_files
    SELECT value FROM json_each(json_array(old.plan_file, old.scores_file, old.questions_file)) WHERE value IS NOT NULL
    UNION SELECT value ->> '$.file' FROM json_each(coalesce(old.tensors, '[]'));
END;
`

/** Counts changes to what lists show, so that another process can tell them from heartbeats and progress. */
export const listChanges = `
CREATE TABLE list_changes (count INTEGER NOT NULL);
INSERT INTO list_changes(count) VALUES (0);
CREATE TRIGGER list_run_added AFTER INSERT ON runs BEGIN UPDATE list_changes SET count = count + 1; END;
CREATE TRIGGER list_run_changed AFTER UPDATE OF status, name, notes, tags, starred, archived_at, experiment, problem ON runs BEGIN
  UPDATE list_changes SET count = count + 1;
END;
CREATE TRIGGER list_run_removed AFTER DELETE ON runs BEGIN UPDATE list_changes SET count = count + 1; END;
CREATE TRIGGER list_experiment_added AFTER INSERT ON experiments BEGIN UPDATE list_changes SET count = count + 1; END;
CREATE TRIGGER list_experiment_changed AFTER UPDATE ON experiments BEGIN UPDATE list_changes SET count = count + 1; END;
CREATE TRIGGER list_experiment_removed AFTER DELETE ON experiments BEGIN UPDATE list_changes SET count = count + 1; END;
CREATE TRIGGER list_model_added AFTER INSERT ON models BEGIN UPDATE list_changes SET count = count + 1; END;
CREATE TRIGGER list_model_changed AFTER UPDATE ON models BEGIN UPDATE list_changes SET count = count + 1; END;
CREATE TRIGGER list_model_removed AFTER DELETE ON models BEGIN UPDATE list_changes SET count = count + 1; END;
`
