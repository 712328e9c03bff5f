-- One row for each organization that has a service provider here. descriptor is the
-- identity provider's metadata; '' while only our own keys have been made, so that the
-- identity provider can be told about them first.
CREATE TABLE saml_providers (
	organization_id TEXT PRIMARY KEY CHECK (organization_id <> ''),
	generation BIGINT NOT NULL, -- counts the changes
	descriptor TEXT NOT NULL,
	descriptor_url TEXT NOT NULL, -- '' for a descriptor that was pasted
	next_fetch BIGINT NOT NULL, -- 0 without a descriptor_url
	fetch_error TEXT NOT NULL, -- why the last one failed, for administrators
	name_id_format TEXT NOT NULL, -- that is asked for; '' for whichever comes
	idp_initiated BOOLEAN NOT NULL,
	encrypted BOOLEAN NOT NULL,
	sign_up BOOLEAN NOT NULL,
	attribute_names TEXT NOT NULL, -- JSON
	email_domains TEXT NOT NULL, -- JSON
	signing_key {{bytes}} NOT NULL, -- sealed
	signing_certificate {{bytes}} NOT NULL,
	encryption_key {{bytes}} NOT NULL, -- sealed
	encryption_certificate {{bytes}} NOT NULL,
	updated BIGINT NOT NULL
);
CREATE INDEX saml_providers_next_fetch ON saml_providers (next_fetch);
