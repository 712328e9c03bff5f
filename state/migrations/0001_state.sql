-- A stack's id never changes and is never used again: names come and go, secrets,
-- checkpoints and history hang on the id.
CREATE TABLE stacks (
	id            TEXT PRIMARY KEY,
	organization  TEXT NOT NULL,
	project       TEXT NOT NULL,
	name          TEXT NOT NULL,
	version       BIGINT NOT NULL, -- the highest ever given out
	active_update TEXT NOT NULL,   -- the latest update, finished or running
	deployment    TEXT NOT NULL,   -- hash of the current state, '' when there has never been one
	resources     BIGINT NOT NULL,
	last_update   BIGINT NOT NULL, -- start of the latest update
	data_key      {{bytes}} NOT NULL, -- wrapped by the master key
	created       BIGINT NOT NULL,
	UNIQUE (organization, project, name)
);

CREATE TABLE stack_tags (
	stack_id TEXT NOT NULL REFERENCES stacks (id) ON DELETE CASCADE,
	name     TEXT NOT NULL,
	value    TEXT NOT NULL,
	PRIMARY KEY (stack_id, name)
);
CREATE INDEX stack_tags_value ON stack_tags (name, value, stack_id);

-- Names that stacks had before they were renamed.
CREATE TABLE stack_aliases (
	organization TEXT NOT NULL,
	project      TEXT NOT NULL,
	name         TEXT NOT NULL,
	stack_id     TEXT NOT NULL REFERENCES stacks (id) ON DELETE CASCADE,
	PRIMARY KEY (organization, project, name)
);
CREATE INDEX stack_aliases_stack ON stack_aliases (stack_id);

CREATE TABLE updates (
	id                  TEXT PRIMARY KEY,
	stack_id            TEXT NOT NULL REFERENCES stacks (id) ON DELETE CASCADE,
	kind                TEXT NOT NULL,
	preview             BOOLEAN NOT NULL,
	status              TEXT NOT NULL,
	version             BIGINT NOT NULL, -- 0 before the start, and for previews
	created             BIGINT NOT NULL,
	started             BIGINT NOT NULL,
	ended               BIGINT NOT NULL,
	expires             BIGINT NOT NULL, -- of the lease; before the start, of the update itself
	author_id           TEXT NOT NULL,
	author_login        TEXT NOT NULL,
	author_name         TEXT NOT NULL,
	author_token        TEXT NOT NULL,
	message             TEXT NOT NULL,
	environment         {{bytes}} NOT NULL, -- JSON
	config              {{bytes}} NOT NULL, -- JSON
	journaled           BOOLEAN NOT NULL,
	lease               {{bytes}} NOT NULL, -- SHA-256 of the lease token
	base                TEXT NOT NULL,   -- hash of the state that the update started from
	deployment          TEXT NOT NULL,   -- hash of the state that it left
	resources           BIGINT NOT NULL,
	changes             {{bytes}} NOT NULL, -- JSON
	outcome             TEXT NOT NULL,   -- what status becomes once the state is written
	requested           TEXT NOT NULL,   -- what the client said in complete
	note                TEXT NOT NULL,   -- what went wrong, for the reader of the history
	checkpoint          TEXT NOT NULL,   -- key of the newest checkpoint of a running update
	checkpoint_sequence BIGINT NOT NULL
);
CREATE INDEX updates_stack ON updates (stack_id); -- for deleting a stack
CREATE UNIQUE INDEX updates_version ON updates (stack_id, version) WHERE version > 0;
-- Exactly one writer per stack.
CREATE UNIQUE INDEX updates_writer ON updates (stack_id)
	WHERE status IN ('running', 'cancelling', 'closing') AND NOT preview;
CREATE INDEX updates_preview ON updates (stack_id, started, id) WHERE preview;
CREATE INDEX updates_open ON updates (expires)
	WHERE status IN ('not started', 'running', 'cancelling', 'closing');

CREATE TABLE journal_entries (
	update_id TEXT NOT NULL REFERENCES updates (id) ON DELETE CASCADE,
	sequence  BIGINT NOT NULL,
	content   {{bytes}} NOT NULL,
	PRIMARY KEY (update_id, sequence)
);

CREATE TABLE engine_events (
	update_id TEXT NOT NULL REFERENCES updates (id) ON DELETE CASCADE,
	sequence  BIGINT NOT NULL,
	type      TEXT NOT NULL,
	urn       TEXT NOT NULL,
	content   {{bytes}} NOT NULL,
	PRIMARY KEY (update_id, sequence)
);

-- Keys and prefixes in the bucket that nothing points to any more.
CREATE TABLE garbage (prefix TEXT PRIMARY KEY);

-- A known value wrapped by the master key, by which a wrong key is noticed.
CREATE TABLE canaries (id BIGINT PRIMARY KEY, value {{bytes}} NOT NULL);
