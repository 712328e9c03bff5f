package web_test

import (
	"strings"
	"testing"
	"time"
)

// furnishAdministration is what the API says of acme and of the installation to their
// administrators.
func (h *house) furnishAdministration() {
	person := func(login, name string) object {
		return object{"githubLogin": login, "name": name, "email": login + "@example.com"}
	}
	org := "/api/orgs/acme"
	h.gate.set(org+"/metadata", object{"id": "o-1", "githubLogin": "acme", "name": "Acme", "kind": "saml", "userRole": "admin", "memberCount": 2, "defaultStackPermission": 101})
	h.gate.set("/api/orgs/island-labs/metadata", object{"id": "o-2", "githubLogin": "island-labs", "name": "Island Labs", "kind": "pulumi", "userRole": "member", "memberCount": 9})
	h.gate.set("/api/orgs/island-labs/members", object{"members": []object{{"role": "admin", "user": person("cleo", "Cleo"), "created": "2026-01-01T00:00:00Z"}}})
	h.gate.set("/api/orgs/island-labs/teams", object{"teams": []object{}})
	h.gate.set(org+"/invites", object{"invites": []object{
		{"id": "i-1", "email": "dora@example.com", "role": "member", "sentAt": minutesAgo(90), "expiresAt": minutesAgo(-60 * 24 * 6), "status": "pending", "sentBy": person("alice", "Alice Kealoha")},
		{"id": "i-2", "email": "eve@example.com", "role": "admin", "sentAt": minutesAgo(600), "expiresAt": minutesAgo(-60 * 24 * 5), "status": "approval", "acceptedBy": "evelyn", "sentBy": person("alice", "Alice Kealoha")},
		{"id": "i-3", "email": "", "role": "member", "sentAt": minutesAgo(60 * 24 * 9), "expiresAt": minutesAgo(60 * 24 * 2), "status": "expired", "sentBy": person("alice", "")},
		{"id": "i-4", "email": "gone@example.com", "role": "member", "status": "canceled", "sentBy": person("alice", "")},
	}})
	team := func(name, source string, readOnly bool) object {
		return object{"name": name, "displayName": strings.ToUpper(name[:1]) + name[1:], "description": "Keeps the lights on", "kind": "pulumi", "source": source, "readOnly": readOnly, "memberCount": 2,
			"groups": []object{}, "userRole": "admin", "members": []object{
				{"githubLogin": "alice", "name": "Alice Kealoha", "role": "admin"}, {"githubLogin": "ben", "name": "Ben", "role": "member"}}}
	}
	crew, mirrored := team("crew", "pulumi", false), team("platform", "github", true)
	mirrored["groups"] = []object{{"connector": "github", "id": "4711", "path": "acme/platform"}}
	h.gate.set(org+"/teams", object{"teams": []object{crew, mirrored}})
	h.gate.set(org+"/teams/crew", crew)
	h.gate.set(org+"/teams/platform", mirrored)
	h.gate.set("/api/user/vcs/organizations", object{"organizations": []object{
		{"githubLogin": "acme-inc", "name": "Acme Inc", "connector": "github", "admin": true}, {"githubLogin": "other", "name": "Other", "connector": "github", "admin": false}}})
	h.gate.set("/api/user/github/acme-inc/teams", object{"teams": []object{{"id": "77", "githubLogin": "acme-inc/sre", "connector": "github"}}})
	h.gate.set(org+"/saml", samlAnswer())
	h.gate.set(org+"/saml/admins", object{"samlAdmins": []object{person("alice", "Alice Kealoha")}})
	h.gate.set(org+"/saml/health", object{"name": "saml:o-1", "kind": "saml", "title": "acme", "healthy": false, "problem": "the certificate CN=old has ended"})
	h.gate.set(org+"/sign-ins", object{"signIns": []object{signInEvent("saml_audience", "saml:o-1", "the audience is https://other.example, want https://app.example.test/login/acme/sso/saml/metadata")}})
	h.gate.set(org+"/scim", object{"exists": true, "created": minutesAgo(60 * 24 * 40), "lastUsed": minutesAgo(12), "by": "alice"})
	h.furnishSite(person)
}

func samlAnswer() object {
	day := 24 * time.Hour
	cert := func(name string, to time.Time) object {
		return object{"subject": name, "notBefore": "2024-01-01T00:00:00Z", "notAfter": to.Format(time.RFC3339), "fingerprint": strings.Repeat("AB:", 31) + "AB"}
	}
	return object{
		"idpSsoDescriptor": "<md:EntityDescriptor/>", "entityId": "https://idp.example.com/saml", "ssoUrl": "https://idp.example.com/saml/sso", "descriptorUrl": "https://idp.example.com/metadata",
		"nameIdFormat": "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent", "certificates": []object{cert("CN=old", now.Add(-day)), cert("CN=next", now.Add(20*day)), cert("CN=new", now.Add(700*day))},
		"warnings":        []string{"a certificate of the identity provider ends in 20 days"},
		"serviceProvider": object{"entityId": "https://app.example.test/login/acme/sso/saml/metadata", "acs": "https://app.example.test/login/acme/sso/saml/acs", "metadataUrl": "https://app.example.test/login/acme/sso/saml/metadata", "prepared": true},
		"attributes":      object{"login": "uid", "groups": "memberOf"}, "signUp": true, "domains": []string{"example.com"}, "required": false, "connector": "saml:o-1",
	}
}

func signInEvent(reason, connector, detail string) object {
	return object{"timestamp": minutesAgo(4), "event": "user-login-failed", "rule": reason, "connector": connector, "object": "user:ben", "sourceIP": "192.0.2.44",
		"requestID": "5b0c2f62-7d8e-4f6a-9d0c-000000000099", "userAgent": "Mozilla/5.0 (Windows NT 10.0) Firefox/140.0",
		"details": object{"detail": detail}}
}

func (h *house) furnishSite(person func(login, name string) object) {
	user := func(login, name string, more object) object {
		u := person(login, name)
		u["id"], u["created"], u["emailVerified"] = "u-"+login, "2026-01-01T00:00:00Z", true
		for k, v := range more {
			u[k] = v
		}
		return u
	}
	h.gate.set("/api/site/users", object{"users": []object{
		user("alice", "Alice Kealoha", object{"siteAdmin": true}), user("ben", "", object{"disabled": true, "disabledBy": "scim:o-1", "managedBy": "acme"}),
		user("cleo", "Cleo <i>", object{"emailVerified": false})}, "continuationToken": "next user"})
	h.gate.set("/api/site/organizations", object{"organizations": []object{
		{"id": "o-1", "githubLogin": "acme", "name": "Acme", "kind": "saml", "members": 2, "created": "2026-01-01T00:00:00Z"},
		{"id": "o-2", "githubLogin": "island-labs", "name": "Island Labs", "kind": "github", "backing": "island", "members": 9, "created": "2026-02-01T00:00:00Z"}}})
	h.gate.set("/api/site/organizations?deleted=true", object{"organizations": []object{{"id": "o-9", "githubLogin": "old-co", "name": "Old Co", "kind": "pulumi", "members": 4, "created": "2025-01-01T00:00:00Z", "deleted": "2026-11-20T00:00:00Z"}}})
	h.gate.set("/api/site/organizations?deleted=true&maxResults=1000", object{"organizations": []object{{"id": "o-9", "githubLogin": "old-co", "name": "Old Co", "kind": "pulumi", "members": 4}}})
	h.gate.set("/api/site/connectors", object{"connectors": []object{
		{"name": "github", "kind": "github", "title": "GitHub", "issuer": "https://github.com", "signUp": true, "healthy": true},
		{"name": "okta", "kind": "oidc", "title": "Okta", "issuer": "https://example.okta.com", "healthy": false, "problem": "the discovery document cannot be read: status 503"}}})
	h.gate.set("/api/site/sign-ins", object{"signIns": []object{
		signInEvent("oidc_audience", "okta", "aud is other-client, want ipuka"), signInEvent("something_new", "github", ""), signInEvent("wrong_password", "email", "")}, "continuationToken": "older+one"})
	h.gate.set("/api/site/mail", object{"configured": false, "mails": []object{
		{"id": "m-1", "kind": "invite", "to": "dora@example.com", "subject": "You are invited to acme", "link": "https://app.example.test/invite?code=secret", "created": minutesAgo(30), "expires": minutesAgo(-600)},
		{"id": "m-2", "kind": "reset", "to": "ben@example.com", "subject": "Your password", "error": "the server says 550", "created": minutesAgo(300), "failed": minutesAgo(10)}}})
}

// visitSite returns a browser of alice, who administers the installation.
func visitSite(t *testing.T) (*house, *browser) {
	t.Helper()
	h := newHouse(t, plainHTTP)
	if user := h.settle(t); !user.SiteAdmin {
		t.Fatal("the first user does not administer the installation")
	}
	return h, h.signIn(t)
}
