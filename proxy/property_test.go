package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/proxy"
)

// What each level of stack permission allows, said again here and independently of
// the policy files.
var (
	readPermissions  = []string{"stack:read", "stack_access:read", "stack:list", "stack:export", "stack:encrypt", "stack:decrypt"}
	writePermissions = append(slices.Clone(readPermissions), "stack:write", "stack:import", "stack:cancel_update", "stack_tags:update")
	memberOnly       = []string{"team:list", "organization:member", "stack:create", "org_member:read", "policy_pack:read", "policy_groups:read"}
)

// allowed says what the fixture's people may do with acme and acme/web/prod.
func allowed(who, permission string, onStack bool) bool {
	switch who {
	case "alice":
		return true
	case "wendy":
		return onStack && slices.Contains(writePermissions, permission) || !onStack && slices.Contains(memberOnly, permission)
	case "rita":
		return onStack && slices.Contains(readPermissions, permission) || !onStack && slices.Contains(memberOnly, permission)
	case "mo":
		return !onStack && slices.Contains(memberOnly, permission)
	}
	return false
}

// TestNothingReachesTheStateServiceUnlessEveryStepAgreed tries callers, credentials,
// operations and bodies at random. Whenever the state service sees a call, there was
// a good credential, the permission, and a record made before; whenever a known
// operation is refused for who asks, exactly one refusal is on record.
func TestNothingReachesTheStateServiceUnlessEveryStepAgreed(t *testing.T) {
	f := newFixture(t)
	table := proxy.Routes()
	sealed := f.start("wendy")
	acme := f.orgs["acme"].ID
	rapid.Check(t, func(rt *rapid.T) {
		route := rapid.SampledFrom(table).Draw(rt, "route")
		who := rapid.SampledFrom([]string{"alice", "wendy", "rita", "mo", "eve", "", "token ipk_x", "Bearer", "update-token " + sealed, "update-token ipu_AAAA"}).Draw(rt, "who")
		stack := rapid.SampledFrom([]string{"prod", "dev"}).Draw(rt, "stack")
		update := rapid.SampledFrom([]string{updateID, "6be776c9-0000-4000-8000-000000000002"}).Draw(rt, "update")
		body := rapid.SampledFrom([]string{`{}`, `{"options":{"dryRun":true}}`, `{"stackName":"dev"}`, `{"newName":"x"}`, `{"token":"x"}`, `{`, ``}).Draw(rt, "body")
		path := strings.NewReplacer("{org}", "acme", "{project}", "web", "{stack}", stack, "{version}", "3", "{update}", update, "{token}", "t", "{user}", "nobody", "{team}", "t", "{invite}", "i", "{group}", "g", "{id}", "i").Replace(route.Pattern)
		if who == "alice" && (route.Name == "DeleteOrganization" || route.Name == "RenameOrganization") {
			rt.Skip("nothing would be as it was")
		}

		calls, inAcme, inSite := len(f.upstream.calls), f.newest(acme), f.newest(audit.Site)
		got := f.do(request{method: route.Method, path: path, who: who, body: body})
		called := len(f.upstream.calls) > calls
		recorded := f.since(acme, inAcme) + f.since(audit.Site, inSite)

		onStack := strings.Contains(route.Pattern, "{stack}")
		may := allowed(who, string(route.Permission), onStack)
		if onStack && stack != "prod" && who != "alice" {
			may = false
		}
		switch route.Permission {
		case "anyone":
			may = true
		case "self":
			may = f.tokens[who] != ""
		case "site":
			may = who == "alice"
		case "lease":
			may = who == "update-token "+sealed && stack == "prod" && update == updateID
		}
		if called && !may {
			rt.Fatalf("%s %s as %q reached the state service", route.Method, path, who)
		}
		if called && route.Event != "" && recorded != 1 {
			rt.Fatalf("%s %s as %q reached the state service with %d records", route.Method, path, who, recorded)
		}
		refusedForWho := got.StatusCode == 401 || got.StatusCode == 403 || got.StatusCode == 404 && !may
		if refusedForWho && (called || recorded != 1) {
			rt.Fatalf("%s %s as %q: %d, called %v, %d records", route.Method, path, who, got.StatusCode, called, recorded)
		}
		if !may && got.StatusCode < 400 {
			rt.Fatalf("%s %s as %q: %d", route.Method, path, who, got.StatusCode)
		}
		// Leave the fixture's access as it was.
		if called && got.StatusCode < 300 {
			switch route.Name {
			case "CreateStack", "DeleteStack", "RenameStack":
				f.restore()
			}
		}
	})
}

// FuzzTarget compares the names that the gate decides on with those that the state
// service gets to see: whatever the request line, they are the same.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"/api/stacks/acme/web/prod", "/api/stacks/acme/web/..%2fprod", "/api/stacks/acme/web/prod/export/3?x=1", "/api/user/stacks?organization=a&organization=b", "/api/stacks/ACME/web/prod/./updates", "/api/stacks/acme//web/prod", "/api/stacks/acme/web/prod#x"} {
		f.Add(seed)
	}
	g := newFixture(f)
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") {
			return
		}
		r := &http.Request{Method: http.MethodGet, URL: u, RequestURI: target, Header: http.Header{"Authorization": {"token " + g.tokens["alice"]}}, Body: http.NoBody, Host: "localhost"}
		before := len(g.upstream.calls)
		w := httptest.NewRecorder()
		g.gate.ServeHTTP(w, r.WithContext(t.Context()))
		if len(g.upstream.calls) == before {
			return
		}
		sent := g.upstream.calls[len(g.upstream.calls)-1]
		path, _, _ := strings.Cut(target, "?")
		if strings.HasPrefix(path, "/api/stacks/") && !strings.EqualFold(sent.URL.EscapedPath(), path) {
			t.Errorf("%q was decided on, %q was forwarded", path, sent.URL.EscapedPath())
		}
		for segment := range strings.SplitSeq(sent.URL.Path, "/") {
			if segment == "." || segment == ".." || strings.ContainsAny(segment, "%;\\") {
				t.Errorf("%q was forwarded", sent.URL.Path)
			}
		}
	})
}
