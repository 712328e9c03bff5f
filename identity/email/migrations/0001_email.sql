CREATE TABLE passwords (
	user_id TEXT PRIMARY KEY CHECK (user_id <> ''),
	hash TEXT NOT NULL CHECK (hash <> ''),
	changed BIGINT NOT NULL
);

-- The networks that a user has signed in from lately; see throttle.go.
CREATE TABLE password_origins (
	user_id TEXT NOT NULL,
	network TEXT NOT NULL,
	seen BIGINT NOT NULL,
	PRIMARY KEY (user_id, network)
);
