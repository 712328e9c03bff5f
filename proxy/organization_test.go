package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// The state service knows an organization by the name that it was made with; clients
// see the present one, and former ones lead to it.
func TestRenamedOrganizationKeepsItsStacks(t *testing.T) {
	f := newFixture(t)
	sealed := f.start("wendy")
	f.upstream.answer = func(w http.ResponseWriter, r *http.Request) {
		stack := map[string]any{"orgName": "acme", "projectName": "web", "stackName": "prod", "kept": 1}
		if r.URL.Path == "/api/user/stacks" {
			httpapi.WriteJSON(w, http.StatusOK, map[string]any{"stacks": []any{stack}})
			return
		}
		httpapi.WriteJSON(w, http.StatusOK, stack)
	}
	f.want(200, request{method: "POST", path: "/api/orgs/acme/rename", who: "alice", body: `{"newName":"umbrella"}`})
	for _, name := range []string{"umbrella", "UMBRELLA", "acme"} {
		body := f.want(200, request{method: "GET", path: "/api/stacks/" + name + "/web/prod", who: "wendy"}).body
		if sent := f.upstream.calls[len(f.upstream.calls)-1].URL.Path; sent != "/api/stacks/acme/web/prod" || !strings.Contains(body, `"orgName":"umbrella"`) || !strings.Contains(body, `"kept":1`) {
			t.Errorf("%s: asked for %s, answered %s", name, sent, body)
		}
	}
	if body := f.want(200, request{method: "GET", path: "/api/user/stacks?organization=acme", who: "wendy"}).body; !strings.Contains(body, `"orgName":"umbrella"`) {
		t.Errorf("the list is %s", body)
	}
	// An update that was running goes on.
	f.want(200, request{method: "PATCH", path: "/api/stacks/acme/web/prod/update/" + updateID + "/journalentries", who: "update-token " + sealed, body: `{"entries":[]}`})
}

// A member of an organization with single sign-on who has not used it is told where.
func TestSingleSignOnIsRequired(t *testing.T) {
	f := newFixture(t)
	sealed := f.start("wendy")
	acme := f.orgs["acme"].ID
	f.check(f.db.Conn(t.Context()).Exec("UPDATE organizations SET kind = 'saml', connector = ?, sso = TRUE, break_glass = ? WHERE id = ?",
		identity.SAMLConnector(acme), f.users["alice"].ID, acme).Error)
	f.check(f.dir.AddIdentity(t.Context(), identity.Principal{}, f.users["rita"].ID, identity.Identity{Connector: "github", Subject: "1"})) // announces nothing
	f.want(200, request{method: "PATCH", path: "/api/orgs/acme", who: "alice", body: `{"setName":"Acme"}`})                                 // announces the change

	calls := len(f.upstream.calls)
	for _, path := range []string{stackPath, stackPath + "/export", "/api/orgs/acme/members", "/api/user/stacks?organization=acme"} {
		inAcme, inSite := f.newest(acme), f.newest("site")
		body := f.want(401, request{method: "GET", path: path, who: "wendy"}).body
		if !strings.Contains(body, `"errorType":"saml_login_required"`) || !strings.Contains(body, `"attribute":"acme"`) {
			t.Errorf("%s: %s", path, body)
		}
		if f.since(acme, inAcme)+f.since("site", inSite) != 1 && !strings.HasPrefix(path, "/api/user/") {
			t.Errorf("%s: the refusal is not on record", path)
		}
	}
	f.want(404, request{method: "GET", path: stackPath, who: "eve"})            // who knows nothing of acme learns nothing
	f.want(404, request{method: "GET", path: stackPath, who: "mo"})             // nor a member of a stack
	f.want(200, request{method: "GET", path: "/api/user", who: "wendy"})        // the login probe
	f.want(200, request{method: "GET", path: "/api/user/stacks", who: "wendy"}) // without that organization
	if len(f.upstream.calls) != calls {
		t.Error("the state service was called")
	}
	f.want(200, request{method: "GET", path: stackPath, who: "alice"}) // exempt
	f.want(200, request{method: "PATCH", path: stackPath + "/update/" + updateID + "/journalentries", who: "update-token " + sealed, body: `{"entries":[]}`})

	f.check(f.db.Conn(t.Context()).Exec("INSERT INTO sso_sessions (organization_id, user_id, expires) VALUES (?, ?, 1)", acme, f.users["wendy"].ID).Error)
	if body := f.want(401, request{method: "GET", path: stackPath, who: "wendy"}).body; !strings.Contains(body, "saml_reauth_required") {
		t.Errorf("after it has run out: %s", body)
	}
	f.check(f.db.Conn(t.Context()).Exec("UPDATE sso_sessions SET expires = 9000000000000000").Error)
	f.want(200, request{method: "GET", path: stackPath, who: "wendy"})
}

// A team's administrators change who is in it, and nothing that decides who joins by
// itself; members see it.
func TestTeamAdministrators(t *testing.T) {
	f := newFixture(t)
	f.want(403, request{method: "POST", path: "/api/orgs/acme/teams/pulumi", who: "wendy", body: `{"name":"ops","displayName":"Ops","description":""}`})
	f.want(201, request{method: "POST", path: "/api/orgs/acme/teams/pulumi", who: "alice", body: `{"name":"ops","displayName":"Ops","description":"","organization":"acme","teamType":"pulumi"}`})
	const ops = "/api/orgs/acme/teams/ops"
	f.want(403, request{method: "PATCH", path: ops, who: "wendy", body: `{"member":"rita","memberAction":"add"}`})
	f.want(204, request{method: "PATCH", path: ops, who: "alice", body: `{"member":"wendy","memberAction":"promote"}`})
	f.want(204, request{method: "PATCH", path: ops, who: "wendy", body: `{"member":"rita","memberAction":"add"}`})
	f.want(400, request{method: "PATCH", path: ops, who: "wendy", body: `{"member":"rita","memberAction":"appoint"}`})
	f.want(403, request{method: "PATCH", path: ops, who: "wendy", body: `{"addGroup":{"connector":"github","id":"1"}}`})
	f.want(403, request{method: "DELETE", path: ops, who: "wendy"})
	if body := f.want(200, request{method: "GET", path: ops, who: "mo"}).body; !strings.Contains(body, `"githubLogin":"rita"`) || !strings.Contains(body, `"userRole":"none"`) {
		t.Errorf("the team is %s", body)
	}
	f.want(404, request{method: "GET", path: ops, who: "eve"})
	f.want(204, request{method: "DELETE", path: ops, who: "alice"})
	f.want(404, request{method: "GET", path: ops, who: "alice"})
}

// Invites are made by those who may, and used once by whom they are for.
func TestInvites(t *testing.T) {
	f := newFixture(t)
	f.want(403, request{method: "POST", path: "/api/orgs/acme/invites/link", who: "wendy", body: `{"role":"member"}`})
	body := f.want(200, request{method: "POST", path: "/api/orgs/acme/invites/batch", who: "alice", body: `{"invites":[{"email":"new@example.com","role":"member"},{"email":"nobody","role":"member"}]}`}).body
	if !strings.Contains(body, `"acceptInviteUrl":"http://localhost:3000/invite?code=`) || !strings.Contains(body, `"failedInvites":[{"email":"nobody"`) {
		t.Errorf("the answer is %s", body)
	}
	if mails := f.want(200, request{method: "GET", path: "/api/site/mail", who: "alice"}).body; !strings.Contains(mails, `"to":"new@example.com"`) || !strings.Contains(mails, "/invite?code=") {
		t.Errorf("the mails are %s", mails)
	}
	f.want(403, request{method: "GET", path: "/api/site/mail", who: "wendy"})

	body = f.want(200, request{method: "POST", path: "/api/orgs/acme/invites/link", who: "alice", body: `{"role":"member"}`}).body
	_, code, _ := strings.Cut(body, "code=")
	code, _, _ = strings.Cut(code, `"`)
	accept := request{method: "PATCH", path: "/api/orgs/acme/invites/x", who: "eve", body: `{"code":"` + code + `"}`}
	f.want(204, accept)
	f.want(404, accept)
	f.want(200, request{method: "GET", path: "/api/orgs/acme/metadata", who: "eve"})
	list := f.want(200, request{method: "GET", path: "/api/orgs/acme/invites", who: "alice"}).body
	if strings.Contains(list, code) || !strings.Contains(list, `"acceptedBy":"eve"`) {
		t.Errorf("the list is %s", list)
	}
}
