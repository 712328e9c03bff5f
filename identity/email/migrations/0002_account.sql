-- The links out of mails. slot is what one link replaces another in: an account and a
-- purpose, or the link alone. Kind "none" leads nowhere; it is there so that an unknown
-- address takes the work that a known one does.
CREATE TABLE email_codes (
	hash {{bytes}} PRIMARY KEY,
	slot TEXT NOT NULL UNIQUE,
	kind TEXT NOT NULL CHECK (kind IN ('sign-up', 'reset', 'address', 'none')),
	user_id TEXT NOT NULL,
	address TEXT NOT NULL,
	payload {{bytes}}, -- sealed
	created BIGINT NOT NULL,
	expires BIGINT NOT NULL
);
CREATE INDEX email_codes_user ON email_codes (user_id);
CREATE INDEX email_codes_address ON email_codes (address);
CREATE INDEX email_codes_expires ON email_codes (expires);

-- How often something was done since it was last left alone for a window; see limit.go.
-- name is a purpose with a user's ID, a network, or the hash of an address.
CREATE TABLE email_limits (
	name TEXT PRIMARY KEY CHECK (name <> ''),
	used BIGINT NOT NULL,
	latest BIGINT NOT NULL,
	noted BIGINT NOT NULL
);
CREATE INDEX email_limits_latest ON email_limits (latest);

-- counter is that of the last code that was accepted (RFC 6238 §5.2).
CREATE TABLE totp (
	user_id TEXT PRIMARY KEY CHECK (user_id <> ''),
	secret {{bytes}} NOT NULL, -- sealed
	counter BIGINT NOT NULL,
	confirmed BIGINT NOT NULL
);

CREATE TABLE recovery_codes (
	user_id TEXT NOT NULL,
	hash {{bytes}} NOT NULL,
	used BIGINT NOT NULL,
	PRIMARY KEY (user_id, hash)
);

-- id is made of the credential's ID. sign_count is the authenticator's counter, apart
-- from the sealed credential so that it can be guarded.
CREATE TABLE passkeys (
	id TEXT PRIMARY KEY CHECK (id <> ''),
	user_id TEXT NOT NULL,
	credential {{bytes}} NOT NULL,
	sign_count BIGINT NOT NULL,
	name TEXT NOT NULL,
	created BIGINT NOT NULL,
	used BIGINT NOT NULL
);
CREATE INDEX passkeys_user ON passkeys (user_id);

-- What authenticators know users by (WebAuthn §14.6.1): random, and nothing else.
CREATE TABLE passkey_users (
	user_id TEXT PRIMARY KEY CHECK (user_id <> ''),
	handle {{bytes}} NOT NULL UNIQUE
);
