-- The one token that an organization's identity provider has.
CREATE TABLE scim_tokens (
	organization_id TEXT PRIMARY KEY REFERENCES organizations (id) ON DELETE CASCADE,
	id TEXT NOT NULL CHECK (id <> ''),
	hash {{bytes}} NOT NULL UNIQUE,
	tail TEXT NOT NULL,
	created BIGINT NOT NULL,
	created_by TEXT NOT NULL,
	last_used BIGINT NOT NULL
);

-- Accounts as the identity provider describes them. folded and display_folded are
-- user_name and display_name in lower case; addresses are the e-mail addresses in lower
-- case, each between line feeds; details is the JSON of what is only kept. A row with
-- deleted set is no resource any more: it remembers the account of a user name.
CREATE TABLE scim_users (
	user_id TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
	organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
	user_name TEXT NOT NULL CHECK (user_name <> ''),
	folded TEXT NOT NULL CHECK (folded <> ''),
	external_id TEXT NOT NULL,
	display_name TEXT NOT NULL,
	display_folded TEXT NOT NULL,
	addresses TEXT NOT NULL,
	details TEXT NOT NULL,
	active BOOLEAN NOT NULL,
	version BIGINT NOT NULL,
	created BIGINT NOT NULL,
	modified BIGINT NOT NULL,
	deleted BIGINT NOT NULL,
	UNIQUE (organization_id, folded)
);
CREATE INDEX scim_users_created ON scim_users (organization_id, created, user_id);
CREATE INDEX scim_users_external ON scim_users (organization_id, external_id);
CREATE INDEX scim_users_display ON scim_users (organization_id, display_folded);

-- Groups: what the identity provider says of a team, next to what the team says itself.
CREATE TABLE scim_groups (
	team_id TEXT PRIMARY KEY REFERENCES teams (id) ON DELETE CASCADE,
	organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
	external_id TEXT NOT NULL,
	display_name TEXT NOT NULL CHECK (display_name <> ''),
	display_folded TEXT NOT NULL CHECK (display_folded <> ''),
	version BIGINT NOT NULL,
	created BIGINT NOT NULL,
	modified BIGINT NOT NULL,
	UNIQUE (organization_id, display_folded)
);
CREATE INDEX scim_groups_created ON scim_groups (organization_id, created, team_id);
CREATE INDEX scim_groups_external ON scim_groups (organization_id, external_id);
