-- Who has which stack permission (101 read, 102 write, 103 admin) on a stack. login
-- is the user's when it was granted, for messages only.
CREATE TABLE grants (
	org_id  TEXT NOT NULL CHECK (org_id <> ''),
	project TEXT NOT NULL CHECK (project <> ''),
	stack   TEXT NOT NULL CHECK (stack <> ''),
	user_id TEXT NOT NULL CHECK (user_id <> ''),
	login   TEXT NOT NULL,
	level   BIGINT NOT NULL CHECK (level IN (101, 102, 103)),
	created BIGINT NOT NULL,
	PRIMARY KEY (org_id, project, stack, user_id)
);
CREATE INDEX grants_user ON grants (org_id, user_id);

-- What every member may do with every stack; read where there is no row.
CREATE TABLE organization_access (
	org_id             TEXT NOT NULL PRIMARY KEY CHECK (org_id <> ''),
	default_permission BIGINT NOT NULL CHECK (default_permission IN (0, 101, 102, 103))
);

-- Each change counts the version up and says what it touched, so that a process
-- brings its index up to date by reading those things again. An empty project is the
-- organization with its members, an empty org_id is everything.
CREATE TABLE access_version (
	id      BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
	version BIGINT NOT NULL
);
INSERT INTO access_version (id, version) VALUES (1, 1);
CREATE TABLE access_changes (
	version BIGINT NOT NULL PRIMARY KEY,
	org_id  TEXT NOT NULL,
	project TEXT NOT NULL,
	stack   TEXT NOT NULL,
	user_id TEXT NOT NULL
);
