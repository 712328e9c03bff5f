package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/internal/errs"
)

// visitAlice returns a browser of alice, in a house where nothing is missing.
func visitAlice(t *testing.T) (*house, *browser) {
	t.Helper()
	h := newHouse(t, plainHTTP)
	h.settle(t)
	return h, h.signIn(t)
}

func TestPages(t *testing.T) {
	_, b := visitAlice(t)
	preview := "/acme/website/prod/previews/0f80ae78-0631-4e71-b662-320d13bd631d"
	for path, want := range map[string][]string{
		"/acme":                      {"website", "billing-reports", ">eu-central-1</a>", "1\u202f204", "30 hours ago", "Running", "never", "5 stacks", "/acme/settings/audit", `aria-current="page">Stacks`, "Island Labs"},
		"/ACME":                      {">eu-central-1</a>", `href="/acme/website/prod"`},
		"/acme?q=PROD":               {"2 of 5 stacks", "!eu-central-1"},
		"/acme?q=zzz":                {"No stack has a name like <strong>zzz</strong>"},
		"/acme?q=%3Cscript%3E":       {"&lt;script&gt;", "!<script>"},
		"/acme/website":              {">prod</a>"},
		"/island-labs":               {"No stacks yet", "pulumi login https://api.example.test", "pulumi stack init island-labs/dev"},
		"/acme/settings/members":     {"Alice Kealoha", "<code>ben</code>", "admin", "you"},
		"/acme/website/prod/updates": {"Upgrade the database", "Destroy <span class=\"num\">38</span>", "took 1 h 10 min", "?page=2", "9f3c2ab17", "&#43;", "1\u202f034"},
		"/acme/website/prod": {"website-prod-3f2a81c", "The public website", "web team", "v3.259.0", "aws:s3:BucketV2", "protected", "read only", "E2QWRUHAPOMQZL",
			"9007199254740993", "Upgrade the database to PostgreSQL 17", "/acme/website/prod/updates/42", "[secret]", "pulumi stack select acme/website/prod"},
		"/acme/website/prod/resources":          {"10 resources", "urn:pulumi:prod::website::aws:rds/instance:Instance::db", "Depends on"},
		"/acme/website/prod/resources?q=bucket": {"2 of 10 resources", "public-read", "!E2QWRUHAPOMQZL"},
		"/acme/website/prod/resources?q=zzz":    {"No resource matches"},
		"/acme/website/prod/settings/options":   {"pulumi stack rename acme/NEW-PROJECT/NEW-NAME"},
		"/acme/website/prod/updates/42": {"Update 42", "Succeeded", "Upgrade the database", "1 min 12 s", "build server", "with local changes", "on main",
			`href="https://github.com/acme/website/commit/9f3c2ab17de04bb1a6c2d8f5e1a0b3c4d5e6f708"`, `href="https://ci.example.com/acme/website/118"`,
			"acl is deprecated", "uploaded 214 files", "tags.cost-center", "4711", "engineVersion", "16.4", "17.2", "replaces", "legacy-mail", "Show 3 unchanged resources too", "!http-equiv"},
		"/acme/website/prod/updates/42?unchanged=show": {"Hide unchanged resources", ">www</span>"},
		"/acme/website/prod/updates/41":                {"Failed", "2 errors", "PreconditionFailed", "failed to update", "create, not finished"},
		"/acme/website/prod/updates/43":                {`http-equiv="refresh" content="5"`, "follows the update", "?refresh=off"},
		"/acme/website/prod/updates/43?refresh=off":    {"!http-equiv", "stands still"},
		preview:                  {"<h1>Preview</h1>", "Succeeded", "engineVersion"},
		"/user/settings/tokens":  {"You have no active token", "Create token"},
		"/acme/settings/audit":   {"Refused to delete stack", "stack:delete is not granted", "5b0c2f62-7d8e-4f6a-9d0c-000000000003", "Refused", "Failed", "No outcome", "Done", "192.0.2.17", "build server"},
		"/static/console.css":    {"--paper"},
		"/static/console.js":     {"clipboard"},
		"/favicon.ico":           {"<svg"},
		"/acme/settings/audit?x": {"Audit log"},
	} {
		t.Run(path, func(t *testing.T) { wants(t, b.get(path), http.StatusOK, want...) })
	}
}

func TestNoPage(t *testing.T) {
	_, b := visitAlice(t)
	for _, path := range []string{"/other", "/other/website", "/acme/nothing", "/acme/website/none", "/other/website/prod", "/other/settings/audit", "/other/settings/members",
		"/acme/website/prod/updates/0", "/acme/website/prod/updates/-1", "/acme/website/prod/updates/latest", "/acme/website/prod/updates/99", "/acme/website/prod/updates/1e3",
		"/acme/website/prod/previews/nothing", "/acme/website/prod/deployments/1", "/acme/%2e%2e/prod", "/acme/a%2fb/prod", "/acme/a%00b", "/acme/a%20b/c", "/static/none.css", "/static/", "/acme/esc/a/b", "/claim/x", "/acme/" + strings.Repeat("a", 101) + "/b", "/user/settings/tokens/revoke/none"} {
		t.Run(path, func(t *testing.T) {
			// Nothing on the page tells what is hidden from what is not there.
			wants(t, b.get(path), http.StatusNotFound, "Nothing here", "There is nothing at this address, or you may not see it.", "!what the API says")
		})
	}
	wants(t, b.do(http.MethodDelete, "/acme", nil, nil), http.StatusMethodNotAllowed)
}

func TestHome(t *testing.T) {
	h, b := visitAlice(t)
	if res := b.get("/"); res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/acme" {
		t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	if res := b.get("/alice"); res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/" {
		t.Errorf("the visitor's own name: status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	for path, want := range map[string]string{"/account/tokens": "/user/settings/tokens", "/user/settings": "/user/settings/profile"} {
		if res := b.get(path); res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != want {
			t.Errorf("%s: status %d to %q", path, res.StatusCode, res.Header.Get("Location"))
		}
	}
	h.gate.set("/api/user", object{"githubLogin": "alice", "name": "", "organizations": []object{}})
	wants(t, b.get("/"), http.StatusOK, "No organization yet", "alice")
}

func TestRefusals(t *testing.T) {
	h, b := visitAlice(t)
	forbidden := errs.Errorf(errs.Forbidden, "audit_logs:read is needed: ask an administrator of acme")
	h.gate.set("/api/orgs/acme/auditlogs/v2", forbidden)
	wants(t, b.get("/acme/settings/audit"), http.StatusForbidden, "Not allowed", "Audit_logs:read is needed: ask an administrator of acme.")
	h.gate.set("/api/stacks/acme/website/prod/export", errs.Errorf(errs.Forbidden, "stack:export is needed"))
	wants(t, b.get("/acme/website/prod"), http.StatusOK, "Stack:export is needed.", "Outputs and resources are not shown", "Upgrade the database", "!website-prod-3f2a81c")
	wants(t, b.get("/acme/website/prod/resources"), http.StatusOK, "Stack:export is needed.")
}

func TestTokens(t *testing.T) {
	h, b := visitAlice(t)
	res := b.post("/user/settings/tokens", url.Values{"description": {" deploy <b>"}, "days": {"30"}})
	body := wants(t, res, http.StatusOK, "deploy &lt;b&gt;", "shown this once", "pulumi login https://api.example.test", "in 30 days", `data-copy="token"`)
	start := strings.Index(body, "ipk_")
	secret := body[start : start+53]
	who, err := h.directory.AuthenticateToken(t.Context(), secret)
	if err != nil || who.Login != "alice" {
		t.Fatalf("the token %q is of %q, %v", secret, who.Login, err)
	}
	wants(t, b.get("/user/settings/tokens"), http.StatusOK, "deploy &lt;b&gt;", "!"+secret, "!shown this once")
	wants(t, b.get("/user/settings/tokens?filter=expired"), http.StatusOK, "No token has expired", "!deploy &lt;b")

	for name, form := range map[string]url.Values{
		"no description":   {"description": {" "}, "days": {"7"}},
		"no lifetime":      {"description": {"x"}},
		"an odd lifetime":  {"description": {"x"}, "days": {"731"}},
		"no date":          {"description": {"x"}, "days": {"date"}},
		"an odd date":      {"description": {"x"}, "days": {"date"}, "date": {"22.11.2026"}},
		"a date gone by":   {"description": {"x"}, "days": {"date"}, "date": {"2026-11-21"}},
		"a date far ahead": {"description": {"keep me"}, "days": {"date"}, "date": {"2036-11-21"}},
	} {
		got := wants(t, b.post("/user/settings/tokens", form), http.StatusBadRequest, `role="alert"`)
		if form.Get("description") == "keep me" && !strings.Contains(got, `value="keep me"`) {
			t.Errorf("%s: the form forgets what was in it", name)
		}
	}
	wants(t, b.post("/user/settings/tokens", url.Values{"description": {"for ever"}, "days": {"never"}}), http.StatusOK)
	wants(t, b.post("/user/settings/tokens", url.Values{"description": {"till christmas"}, "days": {"date"}, "date": {"2026-12-24"}}), http.StatusOK, "in 33 days")
	wants(t, b.post("/user/settings/tokens", url.Values{"description": {"today"}, "days": {"date"}, "date": {"2026-11-22"}}), http.StatusOK, "in 12 hours")
	if tokens := tokensOf(t, h); len(tokens) != 4 {
		t.Errorf("tokens %q", tokens)
	}

	path := "/user/settings/tokens/revoke/" + who.TokenID
	wants(t, b.get(path), http.StatusOK, "Revoke this token?", "deploy &lt;b&gt;")
	if _, err := h.directory.AuthenticateToken(t.Context(), secret); err != nil {
		t.Fatalf("asking has revoked it: %v", err)
	}
	res = b.post(path, url.Values{})
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/user/settings/tokens?done=revoked" {
		t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	if _, err := h.directory.AuthenticateToken(t.Context(), secret); err == nil {
		t.Error("the revoked token still signs in")
	}
	wants(t, b.get("/user/settings/tokens?done=revoked"), http.StatusOK, "The token is revoked", "!deploy &lt;b")
	wants(t, b.post(path, url.Values{}), http.StatusNotFound)
	if strings.Contains(h.log.String(), secret) {
		t.Error("the token is in the log")
	}
}

func TestAudit(t *testing.T) {
	h, b := visitAlice(t)
	body := wants(t, b.get("/acme/settings/audit?user=alice&event=stack-deleted&from=2026-11-01&to=2026-11-22"), http.StatusOK,
		`value="alice"`, `value="stack-deleted"`, `value="2026-11-01"`, "Clear",
		"after=next%2Bpage%3D&amp;event=stack-deleted&amp;from=2026-11-01&amp;to=2026-11-22&amp;user=alice")
	if strings.Contains(body, ">Newest<") {
		t.Error("the newest page leads to itself")
	}
	calls := h.gate.seen()
	asked, err := url.Parse(strings.TrimPrefix(lastWith(calls, "/auditlogs/v2"), "GET "))
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{"userFilter": {"alice"}, "eventFilter": {"stack-deleted"}, "startTime": {"1793491200"}, "endTime": {"1795392000"}}
	if asked.Query().Encode() != want.Encode() {
		t.Errorf("asked for %v, want %v", asked.Query(), want)
	}
	wants(t, b.get("/acme/settings/audit?after=next%2Bpage%3D"), http.StatusOK, ">Newest<")
	if last := lastWith(h.gate.seen(), "/auditlogs/v2"); !strings.Contains(last, "continuationToken=next%2Bpage%3D") {
		t.Errorf("asked %s", last)
	}
	wants(t, b.get("/acme/settings/audit?from=yesterday"), http.StatusBadRequest, "Write days as year-month-day.")
	h.gate.set("/api/orgs/acme/auditlogs/v2", object{"auditLogEvents": []object{}})
	wants(t, b.get("/acme/settings/audit"), http.StatusOK, "Nothing has been recorded yet", "!Older")
	wants(t, b.get("/acme/settings/audit?user=ben"), http.StatusOK, "No event matches")
}

func lastWith(calls []string, part string) string {
	last := ""
	for _, call := range calls {
		if strings.Contains(call, part) {
			last = call
		}
	}
	return last
}

func TestLists(t *testing.T) {
	h, b := visitAlice(t)
	h.gate.set("/api/user/stacks?organization=acme", object{"stacks": []object{{"orgName": "acme", "projectName": "a", "stackName": "first"}}, "continuationToken": "t 1"})
	h.gate.set("/api/user/stacks?continuationToken=t+1&organization=acme", object{"stacks": []object{{"orgName": "acme", "projectName": "a", "stackName": "second"}}, "continuationToken": nil})
	wants(t, b.get("/acme"), http.StatusOK, ">first</a>", ">second</a>", "2 stacks")

	// A list that never ends is cut, not followed for ever.
	var many []object
	for range 500 {
		many = append(many, object{"orgName": "acme", "projectName": "a", "stackName": "s"})
	}
	h.gate.set("/api/user/stacks", object{"stacks": many, "continuationToken": "again"})
	h.gate.set("/api/user/stacks?organization=acme", object{"stacks": many, "continuationToken": "again"})
	before := len(h.gate.seen())
	wants(t, b.get("/acme"), http.StatusOK, "these are the first 2\u202f000")
	if n := len(h.gate.seen()) - before; n > 8 {
		t.Errorf("%d calls", n)
	}
}

func TestAssets(t *testing.T) {
	_, b := visitAlice(t)
	page := text(t, b.get("/acme"))
	start := strings.Index(page, "/static/console.css?v=")
	path := page[start : start+strings.IndexByte(page[start:], '"')]
	res := b.get(path)
	if res.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" || res.Header.Get("Content-Type") != "text/css; charset=utf-8" {
		t.Errorf("headers %v", res.Header)
	}
	tag := res.Header.Get("ETag")
	if res := b.do(http.MethodGet, path, nil, http.Header{"If-None-Match": {tag}}); tag == "" || res.StatusCode != http.StatusNotModified {
		t.Errorf("ETag %q: status %d", tag, res.StatusCode)
	}
	for _, other := range []string{"/static/console.css", "/static/console.css?v=old"} {
		if res := b.get(other); res.Header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: Cache-Control %q", other, res.Header.Get("Cache-Control"))
		}
	}
}
