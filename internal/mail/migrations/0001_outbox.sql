-- Mails that have not been delivered. body is sealed; it is NULL once the mail is not
-- to be delivered any more, and failed is since when that is so. due is when to try
-- next, and while somebody tries, until when claim is theirs.
CREATE TABLE mail_outbox (
	id        TEXT PRIMARY KEY CHECK (id <> ''),
	kind      TEXT NOT NULL,
	recipient TEXT NOT NULL CHECK (recipient <> ''),
	subject   TEXT NOT NULL,
	body      {{bytes}},
	created   BIGINT NOT NULL,
	expires   BIGINT NOT NULL,
	attempts  BIGINT NOT NULL DEFAULT 0,
	due       BIGINT NOT NULL,
	claim     TEXT NOT NULL DEFAULT '',
	failed    BIGINT NOT NULL DEFAULT 0,
	error     TEXT NOT NULL DEFAULT ''
);
CREATE INDEX mail_outbox_due ON mail_outbox (due) WHERE failed = 0;
CREATE INDEX mail_outbox_created ON mail_outbox (created, id);
CREATE INDEX mail_outbox_expires ON mail_outbox (expires);
