-- The records of every log. A record is an event or the outcome of one; leaf is the
-- record itself, the other columns are copied out of it for queries.
CREATE TABLE audit_records (
	log         TEXT NOT NULL,
	idx         BIGINT NOT NULL CHECK (idx >= 0),
	time        BIGINT NOT NULL,
	event       TEXT,
	login       TEXT,
	object      TEXT,
	result      TEXT,
	event_index BIGINT,
	leaf        {{bytes}} NOT NULL,
	PRIMARY KEY (log, idx),
	FOREIGN KEY (log, event_index) REFERENCES audit_records (log, idx),
	CHECK ((event IS NULL) <> (event_index IS NULL)),
	CHECK (event_index < idx)
-- only sqlite
) WITHOUT ROWID;
-- only postgres
);
-- only all
CREATE UNIQUE INDEX audit_records_outcome ON audit_records (log, event_index) WHERE event_index IS NOT NULL;
CREATE INDEX audit_records_time ON audit_records (log, time, idx);
CREATE INDEX audit_records_event ON audit_records (log, event, idx) WHERE event IS NOT NULL;
CREATE INDEX audit_records_login ON audit_records (log, login, idx) WHERE event IS NOT NULL;
CREATE INDEX audit_records_object ON audit_records (log, object, idx) WHERE event IS NOT NULL;

-- How many records each log has, and the time of its newest. Appending locks the row.
CREATE TABLE audit_heads (
	log  TEXT NOT NULL PRIMARY KEY,
	size BIGINT NOT NULL CHECK (size >= 0),
	time BIGINT NOT NULL
-- only sqlite
) WITHOUT ROWID;
-- only postgres
);
-- only sqlite
CREATE TRIGGER audit_records_no_update BEFORE UPDATE ON audit_records
BEGIN SELECT RAISE(ABORT, 'audit records are append-only'); END;
CREATE TRIGGER audit_records_no_delete BEFORE DELETE ON audit_records
BEGIN SELECT RAISE(ABORT, 'audit records are append-only'); END;
-- INSERT OR REPLACE deletes without firing the trigger above.
CREATE TRIGGER audit_records_no_replace BEFORE INSERT ON audit_records
WHEN EXISTS (SELECT 1 FROM audit_records WHERE log = NEW.log AND idx = NEW.idx)
	OR EXISTS (SELECT 1 FROM audit_records WHERE log = NEW.log AND event_index = NEW.event_index)
BEGIN SELECT RAISE(ABORT, 'audit records are append-only'); END;
CREATE TRIGGER audit_heads_only_grow BEFORE UPDATE ON audit_heads
WHEN NEW.log <> OLD.log OR NEW.size <= OLD.size OR NEW.time < OLD.time
BEGIN SELECT RAISE(ABORT, 'audit logs only grow'); END;
CREATE TRIGGER audit_heads_no_delete BEFORE DELETE ON audit_heads
BEGIN SELECT RAISE(ABORT, 'audit logs only grow'); END;
CREATE TRIGGER audit_heads_no_replace BEFORE INSERT ON audit_heads
WHEN EXISTS (SELECT 1 FROM audit_heads WHERE log = NEW.log)
BEGIN SELECT RAISE(ABORT, 'audit logs only grow'); END;
-- only postgres
CREATE FUNCTION audit_refuse() RETURNS trigger AS $$
BEGIN RAISE EXCEPTION 'audit logs are append-only'; END $$ LANGUAGE plpgsql;
CREATE TRIGGER audit_records_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_records
FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_heads_only_grow BEFORE UPDATE ON audit_heads
FOR EACH ROW WHEN (NEW.log <> OLD.log OR NEW.size <= OLD.size OR NEW.time < OLD.time) EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_heads_no_delete BEFORE DELETE OR TRUNCATE ON audit_heads
FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
-- only all
