package proxy_test

import (
	"strings"
	"testing"
)

func TestAccessIsAdministeredByTheAPI(t *testing.T) {
	f := newFixture(t)
	acme := f.orgs["acme"].ID
	newest := func(want string) {
		t.Helper()
		if e := f.domainEvents(acme)[0]; e.Event.Name != want || e.Event.Actor.Login != "alice" {
			t.Errorf("the newest event is %s by %s, want %s", e.Event.Name, e.Event.Actor.Login, want)
		}
	}
	// The organization's default.
	f.want(404, request{method: "GET", path: stackPath, who: "mo"})
	f.want(200, request{method: "PATCH", path: "/api/orgs/acme", who: "alice", body: `{"setDefaultStackPermission":101}`})
	newest("organization-settings-changed")
	f.want(200, request{method: "GET", path: stackPath, who: "mo"})
	f.want(403, request{method: "DELETE", path: stackPath, who: "mo"})
	f.want(200, request{method: "PATCH", path: "/api/orgs/acme", who: "alice", body: `{"setDefaultStackPermission":0}`})
	f.want(404, request{method: "GET", path: stackPath, who: "mo"})
	f.want(400, request{method: "PATCH", path: "/api/orgs/acme", who: "alice", body: `{"setDefaultStackPermission":7}`})

	// One stack.
	f.want(204, request{method: "PUT", path: stackPath + "/collaborators/mo", who: "alice", body: `{"permission":103}`})
	newest("stack-collaborator-added")
	f.want(200, request{method: "DELETE", path: stackPath, who: "mo"})
	f.restore()
	f.want(204, request{method: "PUT", path: stackPath + "/collaborators/mo", who: "alice", body: `{"permission":101}`})
	if got := f.want(200, request{method: "GET", path: stackPath + "/collaborators", who: "alice"}); strings.Count(got.body, `"permission"`) != 3 || !strings.Contains(got.body, `"githubLogin":"mo"`) {
		t.Errorf("collaborators are %s", got.body)
	}
	f.want(204, request{method: "DELETE", path: stackPath + "/collaborators/mo", who: "alice"})
	newest("stack-collaborator-removed")
	f.want(404, request{method: "GET", path: stackPath, who: "mo"})
	// Who else has an account here is not for an organization to find out.
	for _, method := range []string{"PUT", "DELETE"} {
		absent := f.want(404, request{method: method, path: stackPath + "/collaborators/nobody", who: "alice", body: `{"permission":101}`})
		stranger := f.want(404, request{method: method, path: stackPath + "/collaborators/eve", who: "alice", body: `{"permission":101}`})
		if absent.body != stranger.body {
			t.Errorf("%s: %s differs from %s", method, stranger.body, absent.body)
		}
	}
	f.want(400, request{method: "PUT", path: stackPath + "/collaborators/mo", who: "alice", body: `{"permission":5}`})

	// Members.
	f.want(200, request{method: "POST", path: "/api/orgs/acme/members/eve", who: "alice", body: `{"role":"member"}`})
	newest("member-added")
	f.want(409, request{method: "POST", path: "/api/orgs/acme/members/eve", who: "alice", body: `{"role":"member"}`})
	f.want(404, request{method: "POST", path: "/api/orgs/acme/members/nobody", who: "alice", body: `{"role":"member"}`})
	f.want(200, request{method: "GET", path: "/api/orgs/acme", who: "eve"})
	f.want(204, request{method: "PATCH", path: "/api/orgs/acme/members/eve", who: "alice", body: `{"fgaRoleId":"admin"}`})
	newest("member-role-changed")
	f.want(200, request{method: "GET", path: stackPath, who: "eve"})
	f.want(400, request{method: "PATCH", path: "/api/orgs/acme/members/eve", who: "alice", body: `{"role":"owner"}`})
	f.want(204, request{method: "DELETE", path: "/api/orgs/acme/members/eve", who: "alice"})
	newest("member-removed")
	f.want(404, request{method: "GET", path: "/api/orgs/acme", who: "eve"})
	f.want(409, request{method: "PATCH", path: "/api/orgs/acme/members/alice", who: "alice", body: `{"role":"member"}`})
	f.want(409, request{method: "DELETE", path: "/api/orgs/acme/members/alice", who: "alice"})

	if len(f.upstream.calls) != 3 { // what is administered here is nothing to the state service
		t.Errorf("the state service saw %d calls", len(f.upstream.calls))
	}
}
