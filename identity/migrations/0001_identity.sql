CREATE TABLE users (
	id TEXT PRIMARY KEY CHECK (id <> ''),
	login TEXT NOT NULL CHECK (login <> ''),
	name TEXT NOT NULL,
	email TEXT NOT NULL,
	avatar_url TEXT NOT NULL,
	site_admin BOOLEAN NOT NULL,
	disabled BIGINT NOT NULL,
	generation BIGINT NOT NULL,
	created BIGINT NOT NULL
);

CREATE TABLE organizations (
	id TEXT PRIMARY KEY CHECK (id <> ''),
	login TEXT NOT NULL CHECK (login <> ''),
	name TEXT NOT NULL,
	version BIGINT NOT NULL,
	created BIGINT NOT NULL
);

-- The one namespace of users and organizations: folded is the login in lower case.
CREATE TABLE names (
	folded TEXT PRIMARY KEY CHECK (folded <> ''),
	kind TEXT NOT NULL CHECK (kind IN ('user', 'organization')),
	owner TEXT NOT NULL CHECK (owner <> '')
);

CREATE TABLE identities (
	connector TEXT NOT NULL CHECK (connector <> ''),
	subject TEXT NOT NULL CHECK (subject <> ''),
	user_id TEXT NOT NULL REFERENCES users (id),
	created BIGINT NOT NULL,
	PRIMARY KEY (connector, subject)
);
CREATE INDEX identities_user ON identities (user_id);

CREATE TABLE members (
	organization_id TEXT NOT NULL REFERENCES organizations (id),
	user_id TEXT NOT NULL REFERENCES users (id),
	role TEXT NOT NULL CHECK (role IN ('admin', 'member')),
	created BIGINT NOT NULL,
	PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX members_user ON members (user_id);

CREATE TABLE sessions (
	id TEXT PRIMARY KEY,
	hash {{bytes}} NOT NULL UNIQUE,
	user_id TEXT NOT NULL REFERENCES users (id),
	connector TEXT NOT NULL,
	generation BIGINT NOT NULL,
	created BIGINT NOT NULL,
	last_seen BIGINT NOT NULL,
	expires BIGINT NOT NULL,
	ended BIGINT NOT NULL,
	address TEXT NOT NULL,
	user_agent TEXT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expires ON sessions (expires);
CREATE INDEX sessions_last_seen ON sessions (last_seen);

CREATE TABLE tokens (
	id TEXT PRIMARY KEY,
	hash {{bytes}} NOT NULL UNIQUE,
	user_id TEXT NOT NULL REFERENCES users (id),
	description TEXT NOT NULL,
	tail TEXT NOT NULL,
	nonce TEXT UNIQUE,
	created BIGINT NOT NULL,
	expires BIGINT NOT NULL,
	last_used BIGINT NOT NULL,
	revoked BIGINT NOT NULL
);
CREATE INDEX tokens_user ON tokens (user_id, created, id);

-- One row, there from the start, so that two set-ups at once meet at it.
CREATE TABLE setup (
	id BIGINT PRIMARY KEY CHECK (id = 1),
	code {{bytes}},
	done BIGINT NOT NULL
);
INSERT INTO setup (id, code, done) VALUES (1, NULL, 0);
