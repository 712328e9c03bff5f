package proxy_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/identity/saml"
	"github.com/ipuka/ipuka/identity/scim"
	"github.com/ipuka/ipuka/internal/assertion"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/internal/mail"
	"github.com/ipuka/ipuka/internal/sealed"
	"github.com/ipuka/ipuka/proxy"
	"github.com/ipuka/ipuka/rbac"
)

const (
	stackPath = "/api/stacks/acme/web/prod"
	updateID  = "6be776c9-0000-4000-8000-000000000001"
)

// upstream stands for the state service: it notes every call and answers as told.
type upstream struct {
	calls  []*http.Request
	bodies []string
	answer func(w http.ResponseWriter, r *http.Request)
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		httpapi.WriteError(w, r, err)
		return
	}
	u.calls = append(u.calls, r)
	u.bodies = append(u.bodies, string(body))
	if u.answer != nil {
		u.answer(w, r)
		return
	}
	httpapi.WriteJSON(w, http.StatusOK, map[string]any{"ok": true})
}

// fixture is a gate with real rooms behind it and a state service that is not real.
type fixture struct {
	t           testing.TB
	gate        http.Handler
	upstream    *upstream
	db          *database.DB
	auditDB     *database.DB
	audit       *audit.Log
	domainAudit *audit.Log
	dir         *identity.Directory
	engine      *rbac.Engine
	verifier    *assertion.Verifier
	orgs        map[string]identity.Organization
	users       map[string]identity.User
	tokens      map[string]string
}

// newFixture sets up the organization acme with its administrator alice and the
// members wendy (may write acme/web/prod), rita (may read it) and mo (neither), the
// organization other with its administrator eve, and nobody's access by default.
func newFixture(t testing.TB) *fixture {
	t.Helper()
	ctx := t.Context()
	f := &fixture{t: t, upstream: &upstream{}, orgs: map[string]identity.Organization{}, users: map[string]identity.User{}, tokens: map[string]string{}}
	f.db = databasetest.SQLite(t, audit.Migrations, identity.Migrations, mail.Migrations, email.Migrations, saml.Migrations, scim.Migrations, rbac.Migrations)
	f.auditDB = databasetest.SQLite(t, audit.Migrations)
	var err error
	f.audit, err = audit.Open(audit.Config{DB: f.auditDB})
	f.check(err)
	t.Cleanup(f.audit.Close)
	// Domain changes join their own transaction, so they have the log beside them.
	domainAudit, err := audit.Open(audit.Config{DB: f.db})
	f.check(err)
	f.domainAudit = domainAudit
	t.Cleanup(domainAudit.Close)
	f.dir, err = identity.Open(identity.Config{DB: f.db, Audit: domainAudit})
	f.check(err)
	alice, acme, err := f.dir.Bootstrap(ctx, identity.First{Login: "alice", Name: "Alice", Email: "alice@example.com", Organization: "acme"})
	f.check(err)
	f.users["alice"], f.orgs["acme"] = alice, acme
	actor := identity.Principal{UserID: alice.ID, Login: "alice", SiteAdmin: true}
	for _, login := range []string{"wendy", "rita", "mo", "eve"} {
		user, err := f.dir.CreateUser(ctx, actor, identity.NewUser{Login: login, Name: login, Email: login + "@example.com"})
		f.check(err)
		f.users[login] = user
		if login != "eve" {
			_, err = f.dir.AddMember(ctx, actor, acme.ID, login, identity.RoleMember)
			f.check(err)
		}
	}
	eve := identity.Principal{UserID: f.users["eve"].ID, Login: "eve"}
	f.orgs["other"], err = f.dir.CreateOrganization(ctx, eve, "other", "Other")
	f.check(err)
	f.engine, err = rbac.Open(ctx, rbac.Config{DB: f.db, Directory: f.dir, Audit: domainAudit})
	f.check(err)
	f.check(f.engine.SetDefaultPermission(ctx, actor, "acme", rbac.None))
	f.restore()
	for login, user := range f.users {
		_, secret, err := f.dir.CreateToken(ctx, identity.Principal{UserID: user.ID, Login: login, Name: user.Name}, identity.TokenRequest{Description: login + "'s"})
		f.check(err)
		f.tokens[login] = secret
	}
	f.gate = f.gateOver(f.upstream)
	return f
}

// gateOver returns a gate like the fixture's own over another state service.
func (f *fixture) gateOver(upstream http.Handler) http.Handler {
	f.t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	f.check(err)
	f.verifier = assertion.NewVerifier(public, "state")
	const console = "http://localhost:3000"
	box, err := sealed.New(bytes.Repeat([]byte{8}, sealed.KeySize), "test")
	f.check(err)
	outbox, err := mail.Open(mail.Config{DB: f.db, Box: box})
	f.check(err)
	mailer, err := email.New(email.Config{DB: f.db, Directory: f.dir, Audit: f.domainAudit, Mail: outbox, Box: box, ConsoleURL: console, PasswordLogin: true})
	f.check(err)
	sso, err := saml.Open(saml.Config{DB: f.db, Directory: f.dir, Audit: f.domainAudit, Box: box, ConsoleURL: console, Client: http.DefaultClient})
	f.check(err)
	provisioning, err := scim.New(scim.Config{DB: f.db, Directory: f.dir, Audit: f.domainAudit, BaseURL: console})
	f.check(err)
	gate, err := proxy.New(proxy.Config{Directory: f.dir, Engine: f.engine, Audit: f.audit, Upstream: upstream,
		Signer: assertion.NewSigner(private, "state"), Key: bytes.Repeat([]byte{7}, 32), Log: slog.New(slog.DiscardHandler),
		Email: mailer, Connectors: noConnectors{}, SAML: sso, SCIM: provisioning, Mail: outbox, ConsoleURL: console})
	f.check(err)
	return &httpapi.Server{Log: slog.New(slog.DiscardHandler), Handler: gate}
}

// noConnectors is an installation in which people sign in by password only.
type noConnectors struct{}

func (noConnectors) Site() []identity.Connector { return nil }

func (noConnectors) Find(context.Context, string) (identity.Connector, error) {
	return nil, errs.Errorf(errs.NotFound, "there is no such connector")
}

// restore gives wendy and rita what newFixture says.
func (f *fixture) restore() {
	f.t.Helper()
	actor := identity.Principal{UserID: f.users["alice"].ID, Login: "alice", SiteAdmin: true}
	prod := rbac.Object{Organization: "acme", Project: "web", Stack: "prod"}
	f.check(f.engine.StackDeleted(f.t.Context(), rbac.Object{Organization: "acme", Project: "web", Stack: "dev"}))
	f.check(f.engine.StackDeleted(f.t.Context(), prod))
	f.check(f.engine.Grant(f.t.Context(), actor, prod, f.users["wendy"].ID, rbac.Write))
	f.check(f.engine.Grant(f.t.Context(), actor, prod, f.users["rita"].ID, rbac.Read))
}

func (f *fixture) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// request is one call; who is a login, "" for nobody, or a whole Authorization value.
type request struct {
	method, path, who, body string
	header                  http.Header
}

type response struct {
	*http.Response
	body string
}

func (f *fixture) do(q request) response {
	f.t.Helper()
	r := httptest.NewRequest(q.method, q.path, strings.NewReader(q.body))
	switch token, known := f.tokens[q.who]; {
	case known:
		r.Header.Set("Authorization", "token "+token)
	case q.who != "":
		r.Header.Set("Authorization", q.who)
	}
	for name, values := range q.header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	f.gate.ServeHTTP(w, r)
	result := response{w.Result(), w.Body.String()}
	if result.Header.Get(httpapi.RequestIDHeader) == "" {
		f.t.Errorf("%s %s: no request ID", q.method, q.path)
	}
	if result.StatusCode >= 400 && q.method != http.MethodHead {
		var body httpapi.ErrorBody
		if err := json.Unmarshal([]byte(result.body), &body); err != nil || body.Code != result.StatusCode || body.Message == "" {
			f.t.Errorf("%s %s: %d with body %s", q.method, q.path, result.StatusCode, result.body)
		}
	}
	return result
}

// want asks and compares the status.
func (f *fixture) want(status int, q request) response {
	f.t.Helper()
	got := f.do(q)
	if got.StatusCode != status {
		f.t.Errorf("%s %s as %s: %d %s, want %d", q.method, q.path, q.who, got.StatusCode, got.body, status)
	}
	return got
}

// start starts an update as login and returns its sealed token.
func (f *fixture) start(login string) string {
	f.t.Helper()
	f.upstream.answer = func(w http.ResponseWriter, _ *http.Request) {
		httpapi.WriteJSON(w, http.StatusOK, map[string]any{"version": 3, "token": "raw-lease", "tokenExpiration": 4102444800, "journalVersion": 1})
	}
	defer func() { f.upstream.answer = nil }()
	got := f.want(200, request{method: "POST", path: stackPath + "/update/" + updateID, who: login, body: `{"tags":{},"journalVersion":1}`})
	var body struct {
		Token          string `json:"token"`
		JournalVersion int    `json:"journalVersion"`
		Version        int    `json:"version"`
	}
	f.check(json.Unmarshal([]byte(got.body), &body))
	if body.Token == "" || strings.Contains(got.body, "raw-lease") || body.JournalVersion != 1 || body.Version != 3 {
		f.t.Fatalf("the start answers %s", got.body)
	}
	return body.Token
}

// events returns what is on record in a log, newest first.
func (f *fixture) events(log string) []audit.Entry {
	f.t.Helper()
	page, err := f.audit.List(context.Background(), log, audit.Query{Limit: 1000})
	f.check(err)
	return page.Entries
}

// domainEvents returns what the domains have recorded of their own changes.
func (f *fixture) domainEvents(log string) []audit.Entry {
	f.t.Helper()
	page, err := f.domainAudit.List(context.Background(), log, audit.Query{})
	f.check(err)
	return page.Entries
}

// newest returns the index of a log's newest event, -1 when there is none.
func (f *fixture) newest(log string) int64 {
	f.t.Helper()
	page, err := f.audit.List(context.Background(), log, audit.Query{Limit: 1})
	f.check(err)
	if len(page.Entries) == 0 {
		return -1
	}
	return page.Entries[0].Index
}

// since returns how many events a log has beyond an index; 5 stands for more, too.
func (f *fixture) since(log string, index int64) (n int) {
	f.t.Helper()
	page, err := f.audit.List(context.Background(), log, audit.Query{Limit: 5})
	f.check(err)
	for _, e := range page.Entries {
		if e.Index > index {
			n++
		}
	}
	return n
}

func gzipped(text string) string {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return out.String()
}

// TestWhoMayDoWhat is the oracle of the gate's decisions: for each operation, what
// each kind of caller gets. Letters: A answered or forwarded, F forbidden (403),
// N not found (404), U unauthenticated (401).
func TestWhoMayDoWhat(t *testing.T) {
	const (
		preview = `{"options":{"dryRun":true}}`
		change  = `{"options":{"dryRun":false}}`
	)
	//                                                                       alice wendy rita mo eve nobody
	tests := []struct{ method, path, body, want string }{
		{"GET", "/api/user", "", "AAAAAU"},
		{"GET", "/api/user/organizations/default", "", "AAAAAU"},
		{"GET", "/api/user/tokens", "", "AAAAAU"},
		{"GET", "/api/orgs/acme", "", "AAAANU"},
		{"GET", "/api/orgs/acme/members", "", "AAAANU"},
		{"PATCH", "/api/orgs/acme", `{}`, "AFFFNU"},
		{"GET", stackPath + "/collaborators", "", "AAANNU"},
		{"GET", "/api/orgs/acme/auditlogs", "", "AFFFNU"},
		{"GET", "/api/orgs/acme/auditlogs/v2", "", "AFFFNU"},
		{"GET", "/api/orgs/nowhere", "", "NNNNNU"},
		{"POST", "/api/stacks/acme/web", `{"stackName":"new"}`, "AAAANU"},
		{"GET", stackPath, "", "AAANNU"},
		{"DELETE", stackPath, "", "AFFNNU"},
		{"POST", stackPath + "/rename", `{"newName":"x"}`, "AFFNNU"},
		{"PATCH", stackPath + "/tags", `{}`, "AAFNNU"},
		{"GET", stackPath + "/export", "", "AAANNU"},
		{"GET", stackPath + "/export/3", "", "AAANNU"},
		{"POST", stackPath + "/import", `{}`, "AAFNNU"},
		{"POST", stackPath + "/encrypt", `{}`, "AAANNU"},
		{"POST", stackPath + "/batch-encrypt", `{}`, "AAANNU"},
		{"POST", stackPath + "/decrypt", `{}`, "AAANNU"},
		{"POST", stackPath + "/batch-decrypt", `{}`, "AAANNU"},
		{"POST", stackPath + "/decrypt/log-decryption", `{}`, "AAANNU"},
		{"GET", stackPath + "/updates", "", "AAANNU"},
		{"GET", stackPath + "/updates/latest", "", "AAANNU"},
		{"GET", stackPath + "/updates/7", "", "AAANNU"},
		{"GET", stackPath + "/previews/" + updateID, "", "AAANNU"},
		{"POST", stackPath + "/preview", change, "AAANNU"},
		{"POST", stackPath + "/update", preview, "AAANNU"},
		{"POST", stackPath + "/update", change, "AAFNNU"},
		{"POST", stackPath + "/update", `{}`, "AAFNNU"},
		{"POST", stackPath + "/refresh", preview, "AAANNU"},
		{"POST", stackPath + "/refresh", change, "AAFNNU"},
		{"POST", stackPath + "/destroy", preview, "AAANNU"},
		{"POST", stackPath + "/destroy", change, "AAFNNU"},
		{"GET", stackPath + "/update/" + updateID, "", "AAANNU"},
		{"GET", stackPath + "/update/" + updateID + "/events", "", "AAANNU"},
		{"POST", stackPath + "/update/" + updateID + "/cancel", "", "AAFNNU"},
		{"PATCH", stackPath + "/update/" + updateID + "/journalentries", `{"entries":[]}`, "FFFFFU"},
		{"POST", stackPath + "/update/" + updateID + "/complete", `{}`, "FFFFFU"},
	}
	status := map[rune]int{'A': 200, 'F': 403, 'N': 404, 'U': 401}
	f := newFixture(t)
	for _, test := range tests {
		for i, want := range test.want {
			who := []string{"alice", "wendy", "rita", "mo", "eve", ""}[i]
			before := len(f.upstream.calls)
			got := f.want(status[want], request{method: test.method, path: test.path, who: who, body: test.body})
			if want == 'A' && (test.method == "DELETE" || strings.HasSuffix(test.path, "/rename")) {
				f.restore()
			}
			if want != 'A' && len(f.upstream.calls) != before {
				t.Errorf("%s %s as %s: refused, and yet the state service was called", test.method, test.path, who)
			}
			if want == 'F' && !strings.Contains(test.path, "journal") && !strings.Contains(test.path, "complete") && !strings.Contains(got.body, "permission") {
				t.Errorf("%s %s as %s: the refusal does not name the permission: %s", test.method, test.path, who, got.body)
			}
		}
	}
}

// TestInvisibleIsLikeAbsent compares what a caller learns of a stack that exists but
// is not theirs with what they learn of one that does not.
func TestInvisibleIsLikeAbsent(t *testing.T) {
	f := newFixture(t)
	for _, who := range []string{"mo", "eve"} {
		there := f.want(404, request{method: "GET", path: stackPath, who: who})
		absent := f.want(404, request{method: "GET", path: "/api/stacks/acme/web/nope", who: who})
		if strings.ReplaceAll(there.body, "prod", "nope") != absent.body {
			t.Errorf("%s: %s differs from %s", who, there.body, absent.body)
		}
		// As the state service says it to those who may see all there is.
		if !strings.Contains(absent.body, `"stack acme/web/nope not found"`) {
			t.Errorf("%s: %s is not what the state service says", who, absent.body)
		}
	}
	there := f.want(404, request{method: "GET", path: "/api/orgs/acme", who: "eve"})
	absent := f.want(404, request{method: "GET", path: "/api/orgs/nope", who: "eve"})
	if strings.ReplaceAll(there.body, "acme", "nope") != absent.body {
		t.Errorf("%s differs from %s", there.body, absent.body)
	}
}

// TestRefusalsAreRecorded counts one event for each refusal, with the request's ID.
func TestRefusalsAreRecorded(t *testing.T) {
	f := newFixture(t)
	acme := f.orgs["acme"].ID
	tests := []struct {
		q      request
		status int
		log    string
		event  string
		reason string
	}{
		{request{method: "GET", path: "/api/user", who: ""}, 401, audit.Site, "authentication-failed", "no_credential"},
		{request{method: "GET", path: "/api/user", who: "token ipk_nonsense"}, 401, audit.Site, "personal-token-refused", "token_malformed"},
		{request{method: "GET", path: "/api/user", who: "Basic YTpi"}, 401, audit.Site, "authentication-failed", "unknown_scheme"},
		{request{method: "GET", path: stackPath, who: "mo"}, 404, acme, "auth-failure-stack-permission", "not_visible"},
		{request{method: "DELETE", path: stackPath, who: "rita"}, 403, acme, "auth-failure-stack-permission", "permission_missing"},
		{request{method: "GET", path: "/api/orgs/acme/auditlogs", who: "rita"}, 403, acme, "auth-failure-organization-role", "permission_missing"},
		{request{method: "POST", path: stackPath + "/update/" + updateID + "/complete", who: "update-token ipu_x", body: `{}`}, 403, acme, "update-token-refused", "update_token_refused"},
		{request{method: "GET", path: stackPath, who: "update-token ipu_x"}, 403, acme, "auth-failure-stack-permission", "update_token_elsewhere"},
	}
	for _, test := range tests {
		before := len(f.events(test.log))
		got := f.want(test.status, test.q)
		events := f.events(test.log)
		if len(events) != before+1 {
			t.Errorf("%s %s: %d new events, want 1", test.q.method, test.q.path, len(events)-before)
			continue
		}
		e := events[0]
		if e.Event.Name != test.event || e.Event.Rule != test.reason || e.Event.Decision != audit.Deny || e.Outcome.Status != test.status {
			t.Errorf("%s %s: recorded %s %s %s %d", test.q.method, test.q.path, e.Event.Name, e.Event.Rule, e.Event.Decision, e.Outcome.Status)
		}
		if e.RequestID != got.Header.Get(httpapi.RequestIDHeader) {
			t.Errorf("%s %s: the record has request %q, the answer %q", test.q.method, test.q.path, e.RequestID, got.Header.Get(httpapi.RequestIDHeader))
		}
	}
	if len(f.upstream.calls) != 0 {
		t.Error("a refused call reached the state service")
	}
}

// TestRecordComesFirst lets every audited operation look at the log from within the
// state service: its event must be there already, and its outcome afterwards.
func TestRecordComesFirst(t *testing.T) {
	f := newFixture(t)
	acme := f.orgs["acme"].ID
	for _, route := range proxy.Routes() {
		if route.Event == "" || route.Answer != nil || strings.Contains(route.Name, "CompleteUpdate") {
			continue
		}
		path := strings.NewReplacer("{org}", "acme", "{project}", "web", "{stack}", "prod", "{version}", "3", "{update}", updateID).Replace(route.Pattern)
		before := len(f.events(acme))
		f.upstream.answer = func(w http.ResponseWriter, _ *http.Request) {
			events := f.events(acme)
			if len(events) != before+1 || events[0].Event.Name != route.Event || events[0].Outcome.Result != audit.Unknown {
				t.Errorf("%s: the state service is called before its event is on record", route.Name)
			}
			httpapi.WriteJSON(w, http.StatusOK, map[string]any{"token": "lease", "tokenExpiration": 4102444800})
		}
		f.want(200, request{method: route.Method, path: path, who: "alice", body: `{"stackName":"prod","newName":"prod"}`})
		events := f.events(acme)
		if len(events) != before+1 || events[0].Outcome.Result != audit.Succeeded || events[0].Event.Actor.Login != "alice" || events[0].Event.Rule == "" {
			t.Errorf("%s: the record is %+v", route.Name, events[0])
		}
	}
}

func TestNothingHappensWithoutTheLog(t *testing.T) {
	f := newFixture(t)
	f.check(f.auditDB.Close())
	for _, q := range []request{
		{method: "GET", path: stackPath + "/export", who: "alice"},
		{method: "POST", path: stackPath + "/decrypt", who: "alice", body: `{}`},
		{method: "POST", path: "/api/stacks/acme/web", who: "alice", body: `{"stackName":"x"}`},
		{method: "DELETE", path: stackPath, who: "rita"},     // a refusal that cannot be recorded
		{method: "GET", path: stackPath, who: "token ipk_x"}, // so that probing is never unseen
	} {
		f.want(503, q)
	}
	if len(f.upstream.calls) != 0 {
		t.Error("the state service was called although the call could not be recorded")
	}
	f.want(200, request{method: "GET", path: stackPath, who: "alice"}) // a plain read makes no record
}

func TestNothingHappensWithoutTheDatabase(t *testing.T) {
	f := newFixture(t)
	f.check(f.db.Close())
	for _, route := range proxy.Routes() {
		path := strings.NewReplacer("{org}", "acme", "{project}", "web", "{stack}", "prod", "{version}", "3", "{update}", updateID, "{token}", "t", "{user}", "mo", "{team}", "t", "{invite}", "i", "{group}", "g", "{id}", "i").Replace(route.Pattern)
		got := f.do(request{method: route.Method, path: path, who: "alice", body: `{}`})
		leaseRoute := strings.Contains(route.Pattern, "{update}/") && got.StatusCode == 403
		if got.StatusCode != 503 && !leaseRoute && route.Name != "Capabilities" && route.Name != "Version" {
			t.Errorf("%s without a database: %d, want 503", route.Name, got.StatusCode)
		}
	}
}

func TestOnlyListedHeadersCross(t *testing.T) {
	f := newFixture(t)
	f.upstream.answer = func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Set-Cookie", "a=b")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Server", "internal")
		h.Set("X-Pulumi-Warning", "mind the gap")
		h.Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{}`))
	}
	got := f.want(200, request{method: "GET", path: stackPath, who: "alice", header: http.Header{
		"Cookie": {"session=x"}, "X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-User": {"root"}, "Forwarded": {"for=127.0.0.1"},
		assertion.Header: {"forged"}, "Ipuka-Assertion2": {"x"}, "Connection": {assertion.Header}, "X-Http-Method-Override": {"DELETE"},
		"Accept": {"application/vnd.pulumi+9"}, "X-Original-Url": {"/api/user"},
	}})
	sent := f.upstream.calls[0]
	for name := range sent.Header {
		if !slices.Contains([]string{"Accept", assertion.Header}, name) {
			t.Errorf("header %s crossed the gate", name)
		}
	}
	caller, id, err := f.verifier.Verify(sent)
	if err != nil || caller.ID != f.users["alice"].ID || caller.Login != "alice" || id != got.Header.Get(httpapi.RequestIDHeader) {
		t.Errorf("the assertion says %+v, %q, %v", caller, id, err)
	}
	for _, name := range []string{"Set-Cookie", "Access-Control-Allow-Origin", "Server"} {
		if got.Header.Get(name) != "" {
			t.Errorf("header %s crossed the gate on its way back", name)
		}
	}
	if got.Header.Get("X-Pulumi-Warning") != "mind the gap" {
		t.Error("the state service's warning is lost")
	}
}

func TestOddTargetsAreRefused(t *testing.T) {
	f := newFixture(t)
	for _, path := range []string{
		"/api/stacks/acme/web/%70rod", "/api/stacks/acme/web%2fprod", "/api/stacks/acme/web/prod%00", "/api/stacks/acme/web/prod%0a",
		"/api/stacks/acme/web/..%2fprod", "/api/stacks/acme/web/%2e%2e", "/api/stacks/acme//prod", "/api/stacks/acme/web/prod/",
		"/api/stacks/acme/web/prod;x=1", "/api/stacks/acme/web/pr%5cod", "/api/stacks/acme/web/%252e", "/api/stacks/acme/web/pr%C3%B6d",
		"/api/stacks/acme/./prod", "/api/stacks/acme/../prod", "/api/stacks/acme/web/" + strings.Repeat("x", 101),
		"/api/stacks/acme/web/pr*d", "/api/stacks/acme/web/pr:d", "//api/user",
	} {
		f.want(400, request{method: "GET", path: path, who: "alice"})
	}
	for _, q := range []request{
		{method: "GET", path: "/API/user", who: "alice"},
		{method: "GET", path: "/api/nothing", who: "alice"},
		{method: "GET", path: "/api/stacks/acme/web/prod/deployments", who: "alice"},
		{method: "GET", path: "/api/stacks/acme/web/prod/drift/status", who: "alice"},
		{method: "POST", path: stackPath, who: "alice"},
		{method: "PROPFIND", path: stackPath, who: "alice"},
		{method: "TRACE", path: stackPath, who: "alice"},
		{method: "get", path: stackPath, who: "alice"},
	} {
		f.want(404, q)
	}
	f.want(400, request{method: "GET", path: "/api/user/stacks?organization=acme&organization=other", who: "alice"})
	f.want(400, request{method: "GET", path: "/api/user/stacks?a=1;b=2", who: "alice"})
	f.want(400, request{method: "GET", path: stackPath + "/export/latest", who: "alice"})
	if len(f.upstream.calls) != 0 {
		t.Error("an odd target reached the state service")
	}
	f.want(200, request{method: "DELETE", path: stackPath + "?force=true&org=other", who: "alice"})
	if got := f.upstream.calls[0].URL.RequestURI(); got != stackPath+"?force=true" {
		t.Errorf("forwarded as %s", got)
	}
}

func TestOrganizationIsCanonical(t *testing.T) {
	f := newFixture(t)
	f.want(200, request{method: "GET", path: "/api/stacks/ACME/web/prod", who: "rita"})
	if got := f.upstream.calls[0].URL.Path; got != stackPath {
		t.Errorf("forwarded as %s", got)
	}
}

func TestOneCredentialCounts(t *testing.T) {
	f := newFixture(t)
	good := "token " + f.tokens["alice"]
	for name, values := range map[string][]string{
		"two": {good, good}, "list": {good + ", " + good}, "none": {}, "tab": {"token\t" + f.tokens["alice"]},
		"lower": {strings.ToLower(good)}, "cut": {good[:len(good)-1]}, "space": {good + " "}, "bare": {f.tokens["alice"]},
	} {
		f.want(401, request{method: "GET", path: "/api/user", header: http.Header{"Authorization": values}})
		_ = name
	}
	f.want(401, request{method: "GET", path: "/api/user?access_token=" + f.tokens["alice"]})
	f.want(401, request{method: "GET", path: "/api/user", header: http.Header{"Cookie": {"ipuka=" + f.tokens["alice"]}}})
	f.want(200, request{method: "GET", path: "/api/user", who: "Bearer " + f.tokens["alice"]})
}

func TestRevokedTokenIsRefusedAtOnce(t *testing.T) {
	f := newFixture(t)
	var created struct{ ID, TokenValue string }
	got := f.want(200, request{method: "POST", path: "/api/user/tokens", who: "rita", body: `{"description":"ci","expires":0}`})
	f.check(json.Unmarshal([]byte(got.body), &created, json.MatchCaseInsensitiveNames(true)))
	f.want(200, request{method: "GET", path: "/api/user", who: "token " + created.TokenValue})
	if list := f.want(200, request{method: "GET", path: "/api/user/tokens", who: "rita"}); strings.Contains(list.body, created.TokenValue) || !strings.Contains(list.body, created.ID) {
		t.Errorf("the list is %s", list.body)
	}
	const once = `{"description":"ci","nonce":"form-1"}`
	f.want(200, request{method: "POST", path: "/api/user/tokens", who: "rita", body: once})
	f.want(409, request{method: "POST", path: "/api/user/tokens", who: "rita", body: once})
	f.want(404, request{method: "DELETE", path: "/api/user/tokens/" + created.ID, who: "eve"})
	f.want(200, request{method: "GET", path: "/api/user", who: "token " + created.TokenValue})
	f.want(204, request{method: "DELETE", path: "/api/user/tokens/" + created.ID, who: "rita"})
	f.want(401, request{method: "GET", path: "/api/user", who: "token " + created.TokenValue})
}

func TestConsoleCallerIsPassedInProcess(t *testing.T) {
	f := newFixture(t)
	r := httptest.NewRequest(http.MethodGet, "/api/user", nil)
	r = r.WithContext(identity.NewContext(r.Context(), identity.Principal{UserID: f.users["rita"].ID, Login: "rita"}))
	w := httptest.NewRecorder()
	f.gate.ServeHTTP(w, r)
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"githubLogin":"rita"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// What a page shows of a stack is not the same as taking its state away.
	export := httptest.NewRequest(http.MethodGet, stackPath+"/export", nil)
	f.gate.ServeHTTP(httptest.NewRecorder(), export.WithContext(r.Context()))
	if e := f.events(f.orgs["acme"].ID)[0]; e.Event.Name != "stack-outputs-read" || e.Event.Actor.Login != "rita" {
		t.Errorf("recorded as %s by %s", e.Event.Name, e.Event.Actor.Login)
	}
}
