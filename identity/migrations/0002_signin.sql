-- Accounts. managed_by is the organization whose identity provider owns the account;
-- disabled_by says who has disabled it, and may enable it again: 'admin',
-- 'scim:ORGANIZATION', 'connector:NAME' or, for a deleted one, 'organization:ID'.
ALTER TABLE users ADD COLUMN email_verified BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE users ADD COLUMN managed_by TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN disabled_by TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN deleted BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN default_organization TEXT NOT NULL DEFAULT '';
UPDATE users SET disabled_by = 'admin' WHERE disabled <> 0;
CREATE INDEX users_managed ON users (managed_by);

-- Identities. login and email are what the provider shows; groups is the JSON of what
-- it said when it answered last, at answered; checked is when somebody set out to ask
-- it last, which is how replicas share the work; credential is sealed. withdrawn is
-- since when the provider does not let the person in any more.
ALTER TABLE identities ADD COLUMN login TEXT NOT NULL DEFAULT '';
ALTER TABLE identities ADD COLUMN email TEXT NOT NULL DEFAULT '';
ALTER TABLE identities ADD COLUMN used BIGINT NOT NULL DEFAULT 0;
ALTER TABLE identities ADD COLUMN groups TEXT NOT NULL DEFAULT '';
ALTER TABLE identities ADD COLUMN credential {{bytes}};
ALTER TABLE identities ADD COLUMN checked BIGINT NOT NULL DEFAULT 0;
ALTER TABLE identities ADD COLUMN answered BIGINT NOT NULL DEFAULT 0;
ALTER TABLE identities ADD COLUMN withdrawn BIGINT NOT NULL DEFAULT 0;
CREATE INDEX identities_due ON identities (checked) WHERE credential IS NOT NULL AND withdrawn = 0;

-- Keys that may be used once, until they expire: sign-in flows, assertions, links. key
-- is the SHA-256 in hex, so that no length or byte of somebody else's makes trouble.
CREATE TABLE consumed (
	key TEXT PRIMARY KEY CHECK (key <> ''),
	expires BIGINT NOT NULL
);
CREATE INDEX consumed_expires ON consumed (expires);

-- Until when a member has signed in through the single sign-on of an organization.
CREATE TABLE sso_sessions (
	organization_id TEXT NOT NULL REFERENCES organizations (id),
	user_id TEXT NOT NULL REFERENCES users (id),
	expires BIGINT NOT NULL,
	PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX sso_sessions_user ON sso_sessions (user_id);
