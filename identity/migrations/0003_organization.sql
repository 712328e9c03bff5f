-- key is the name that the organization was made with: the state service knows it by
-- that for ever, whatever it is renamed to. backing is the group at a connector whose
-- members are the organization's.
ALTER TABLE organizations ADD COLUMN key TEXT NOT NULL DEFAULT '';
UPDATE organizations SET key = login;
ALTER TABLE organizations ADD COLUMN kind TEXT NOT NULL DEFAULT 'pulumi';
ALTER TABLE organizations ADD COLUMN connector TEXT NOT NULL DEFAULT '';
ALTER TABLE organizations ADD COLUMN backing_id TEXT NOT NULL DEFAULT '';
ALTER TABLE organizations ADD COLUMN backing_path TEXT NOT NULL DEFAULT '';
ALTER TABLE organizations ADD COLUMN sso BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE organizations ADD COLUMN break_glass TEXT NOT NULL DEFAULT '';
ALTER TABLE organizations ADD COLUMN deleted BIGINT NOT NULL DEFAULT 0;
-- purged is since when nothing but the name is left of a deleted organization.
ALTER TABLE organizations ADD COLUMN purged BIGINT NOT NULL DEFAULT 0;
CREATE INDEX organizations_connector ON organizations (connector);
-- A group backs one organization.
CREATE UNIQUE INDEX organizations_backing ON organizations (connector, backing_id) WHERE backing_id <> '' AND deleted = 0;
CREATE INDEX organizations_by_login ON organizations (lower(login));

-- Former names are found by their owner, lists of users go by their logins.
CREATE INDEX names_owner ON names (owner);
CREATE INDEX users_by_login ON users (lower(login));

-- source is the connector that made somebody a member and takes the membership away
-- again; '' for people who were added or invited here.
ALTER TABLE members ADD COLUMN source TEXT NOT NULL DEFAULT '';

CREATE TABLE invites (
	id TEXT PRIMARY KEY CHECK (id <> ''),
	organization_id TEXT NOT NULL REFERENCES organizations (id),
	email TEXT NOT NULL, -- '' for a link that whoever holds it may use
	role TEXT NOT NULL CHECK (role IN ('admin', 'member')),
	hash {{bytes}} NOT NULL UNIQUE,
	sent_by TEXT NOT NULL,
	created BIGINT NOT NULL,
	expires BIGINT NOT NULL,
	status TEXT NOT NULL CHECK (status IN ('pending', 'approval', 'accepted', 'canceled')),
	user_id TEXT NOT NULL, -- who accepted it, or waits for approval
	decided BIGINT NOT NULL
);
CREATE INDEX invites_organization ON invites (organization_id, created, id);
CREATE INDEX invites_email ON invites (email);

-- folded is the name in lower case, by which it is unique.
CREATE TABLE teams (
	id TEXT PRIMARY KEY CHECK (id <> ''),
	organization_id TEXT NOT NULL REFERENCES organizations (id),
	folded TEXT NOT NULL CHECK (folded <> ''),
	name TEXT NOT NULL CHECK (name <> ''),
	display_name TEXT NOT NULL,
	description TEXT NOT NULL,
	kind TEXT NOT NULL CHECK (kind IN ('pulumi', 'github', 'gitlab', 'saml', 'oidc', 'scim')),
	created BIGINT NOT NULL,
	UNIQUE (organization_id, folded)
);

CREATE TABLE team_members (
	team_id TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
	user_id TEXT NOT NULL REFERENCES users (id),
	role TEXT NOT NULL CHECK (role IN ('admin', 'member')),
	created BIGINT NOT NULL,
	PRIMARY KEY (team_id, user_id)
);
CREATE INDEX team_members_user ON team_members (user_id);

-- The groups of a connector whose members are those of a team. A team that has any is
-- not changed by hand.
CREATE TABLE team_groups (
	organization_id TEXT NOT NULL REFERENCES organizations (id),
	connector TEXT NOT NULL CHECK (connector <> ''),
	group_id TEXT NOT NULL CHECK (group_id <> ''),
	group_path TEXT NOT NULL,
	team_id TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
	PRIMARY KEY (organization_id, connector, group_id, team_id)
);
CREATE INDEX team_groups_team ON team_groups (team_id);
