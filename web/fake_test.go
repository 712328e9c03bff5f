package web_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/internal/sealed"
	"github.com/ipuka/ipuka/web"
)

// silent is an audit log that keeps nothing: the console writes no record itself.
type silent struct{}

func (silent) AppendDone(context.Context, string, audit.Event, audit.Outcome) (audit.Ref, error) {
	return audit.Ref{}, nil
}

var _ web.Email = (*email.Connector)(nil)

// gate answers the API as the real one does, with recorded and made-up data.
type gate struct {
	t         testing.TB
	directory *identity.Directory

	mu      sync.Mutex
	answers map[string]any // by "path", "path?query" or "METHOD path": a file's name, or a value
	calls   []string
	bodies  []string // of calls that are no GET, as "METHOD path body"
}

func (g *gate) set(path string, answer any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answers[path] = answer
}

func (g *gate) seen() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.calls...)
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.calls = append(g.calls, r.Method+" "+r.URL.RequestURI())
	answer, ok := g.answers[r.URL.RequestURI()]
	if r.Method != http.MethodGet {
		answer, ok = g.answers[r.Method+" "+r.URL.Path]
		if !strings.HasPrefix(r.URL.Path, "/api/user/tokens") {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				g.t.Error(err)
			}
			g.bodies = append(g.bodies, strings.TrimSpace(r.Method+" "+r.URL.EscapedPath()+" "+string(body)))
		}
	} else if !ok {
		answer, ok = g.answers[r.URL.Path]
	}
	g.mu.Unlock()
	who, in := identity.FromContext(r.Context())
	switch {
	case !in || r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "":
		g.t.Errorf("the console called %s with the wrong credentials", r.URL.Path)
		httpapi.WriteError(w, r, errs.Errorf(errs.Unauthenticated, "no"))
	case strings.HasPrefix(r.URL.Path, "/api/user/tokens"):
		if err := g.tokens(w, r, who); err != nil {
			httpapi.WriteError(w, r, err)
		}
	case !ok:
		httpapi.WriteError(w, r, errs.Errorf(errs.NotFound, "what the API says of a hidden stack"))
	default:
		g.write(w, r, answer)
	}
}

func (g *gate) write(w http.ResponseWriter, r *http.Request, answer any) {
	switch answer := answer.(type) {
	case error:
		httpapi.WriteError(w, r, answer)
	case string:
		data, err := os.ReadFile("testdata/" + answer)
		if err != nil {
			g.t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(data)
	default:
		httpapi.WriteJSON(w, http.StatusOK, answer)
	}
}

func (g *gate) tokens(w http.ResponseWriter, r *http.Request, who identity.Principal) error {
	ctx := r.Context()
	switch r.Method {
	case http.MethodGet:
		tokens, next, err := g.directory.Tokens(ctx, who.UserID, identity.TokenQuery{Filter: identity.TokenFilter(r.URL.Query().Get("filter"))})
		if err != nil {
			return err
		}
		var list []object
		for _, t := range tokens {
			list = append(list, object{"id": t.ID, "name": t.Description, "description": t.Description, "created": t.Created.Format(time.RFC3339),
				"lastUsed": unix(t.LastUsed), "expires": unix(t.Expires)})
		}
		answer := object{"tokens": list}
		if next != "" {
			answer["continuationToken"] = next
		}
		httpapi.WriteJSON(w, http.StatusOK, answer)
	case http.MethodPost:
		var in struct {
			Description string `json:"description"`
			Expires     int64  `json:"expires"`
		}
		if err := httpapi.ReadJSON(r, httpapi.Small, &in); err != nil {
			return err
		}
		request := identity.TokenRequest{Description: in.Description, Via: "console"}
		if in.Expires != 0 {
			request.Expires = time.Unix(in.Expires, 0)
		}
		token, secret, err := g.directory.CreateToken(ctx, who, request)
		if err != nil {
			return err
		}
		httpapi.WriteJSON(w, http.StatusOK, object{"id": token.ID, "tokenValue": secret})
	case http.MethodDelete:
		if err := g.directory.RevokeToken(ctx, who, strings.TrimPrefix(r.URL.Path, "/api/user/tokens/")); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

type object = map[string]any

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// now is when all of these tests happen: shortly after what testdata records.
var now = time.Date(2026, 11, 22, 11, 30, 0, 0, time.UTC)

func minutesAgo(n int) int64 { return now.Add(-time.Duration(n) * time.Minute).Unix() }

var testKey = bytes.Repeat([]byte{7}, sealed.KeySize)

// house is a console with its directory, the API behind it, and what it logged.
type house struct {
	*web.Console
	directory  *identity.Directory
	email      *passwords
	connectors *oracles
	audit      *record
	gate       *gate
	origin     string
	log        *strings.Builder
	clock      *time.Time
}

// later lets time go by.
func (h *house) later(d time.Duration) { *h.clock = h.clock.Add(d) }

func newHouse(t testing.TB, consoleURL string) *house {
	t.Helper()
	db := databasetest.SQLite(t, identity.Migrations)
	clock, audit := now, new(record)
	tell := func() time.Time { return clock }
	directory, err := identity.Open(identity.Config{DB: db, Audit: audit, Now: tell})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{
		directory: directory, email: newPasswords(directory), audit: audit, clock: &clock, origin: consoleURL, log: new(strings.Builder),
		gate: &gate{t: t, directory: directory, answers: make(map[string]any)},
		connectors: &oracles{sso: make(map[string]*oracle), site: []*oracle{
			{info: identity.ConnectorInfo{Name: "github", Kind: identity.KindGitHub, Title: "GitHub", SignUp: true}},
			{info: identity.ConnectorInfo{Name: "okta", Kind: identity.KindOIDC, Title: "Okta"}},
		}},
	}
	h.Console, err = web.New(web.Config{
		Directory: directory, Email: h.email, Connectors: h.connectors, Metadata: metadata{}, Key: testKey,
		API: h.gate, APIURL: "https://api.example.test", ConsoleURL: consoleURL,
		Version: "1.2.3", Log: slog.New(slog.NewTextHandler(h.log, nil)), Now: tell,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// settle creates the organization acme with alice in it, and what the API says of
// both.
func (h *house) settle(t testing.TB) identity.User {
	t.Helper()
	user, _, err := h.directory.Bootstrap(t.Context(), identity.First{
		Login: "alice", Name: "Alice Kealoha", Email: "alice@example.com", Organization: "acme",
		Identity: identity.Identity{Connector: "email", Subject: "alice@example.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.furnish()
	return user
}

func (h *house) furnish() {
	h.gate.set("/api/user", object{"githubLogin": "alice", "name": "Alice Kealoha", "email": "alice@example.com", "organizations": []object{
		{"githubLogin": "acme", "name": "Acme", "role": "admin"}, {"githubLogin": "island-labs", "name": "Island Labs", "role": "member"}}})
	h.gate.set("/api/user/stacks", object{"stacks": []object{
		{"orgName": "acme", "projectName": "website", "stackName": "prod", "lastUpdate": minutesAgo(3), "resourceCount": 10},
		{"orgName": "acme", "projectName": "website", "stackName": "staging", "lastUpdate": 0, "resourceCount": 9},
		{"orgName": "acme", "projectName": "network", "stackName": "eu-central-1", "lastUpdate": minutesAgo(60 * 30), "resourceCount": 1204},
		{"orgName": "acme", "projectName": "website", "stackName": "pr-1182"},
		{"orgName": "acme", "projectName": "billing-reports", "stackName": "prod", "lastUpdate": minutesAgo(60 * 24 * 40), "resourceCount": 37},
	}})
	h.gate.set("/api/user/stacks?organization=island-labs", object{"stacks": []object{}})
	h.gate.set("/api/user/stacks?organization=acme&project=nothing", object{"stacks": []object{}})
	base := "/api/stacks/acme/website/prod"
	h.gate.set(base, object{"orgName": "acme", "projectName": "website", "stackName": "prod", "version": 42, "activeUpdate": "", "tags": object{
		"pulumi:project": "website", "pulumi:runtime": "nodejs", "pulumi:description": "The public website", "vcs:repo": "website", "owner": "web team"}})
	h.gate.set(base+"/export", "export.json")
	updates := h.updates()
	h.gate.set(base+"/updates", object{"updates": updates, "itemsPerPage": 8, "total": 42})
	for _, u := range updates {
		version := u["version"].(int)
		h.gate.set(base+"/updates/"+strconv.Itoa(version), u)
		h.gate.set(base+"/update/u-"+strconv.Itoa(version)+"/events", "events.json")
	}
	h.gate.set(base+"/update/u-41/events", "events-failed.json")
	h.gate.set(base+"/update/u-43/events", "events-failed.json")
	preview := h.update(42, "update", "succeeded", 30, 12, "", nil)
	preview["updateID"] = "0f80ae78-0631-4e71-b662-320d13bd631d"
	h.gate.set(base+"/previews/0f80ae78-0631-4e71-b662-320d13bd631d", preview)
	h.gate.set(base+"/update/0f80ae78-0631-4e71-b662-320d13bd631d/events", "events.json")
	h.furnishAdministration()
	h.gate.set("/api/orgs/acme/members", object{"members": []object{
		{"role": "admin", "user": object{"githubLogin": "alice", "name": "Alice Kealoha"}, "created": "2026-01-01T00:00:00Z"},
		{"role": "member", "source": "saml:o-1", "user": object{"githubLogin": "ben", "name": ""}, "created": "2026-10-30T09:00:00Z"}}})
	h.gate.set("/api/orgs/acme/auditlogs/v2", object{"auditLogEvents": auditEvents(), "continuationToken": "next+page="})
}

func (h *house) update(version int, kind, result string, started, seconds int, message string, changes object) object {
	start := minutesAgo(started)
	return object{
		"updateID": "u-" + strconv.Itoa(version), "version": version, "latestVersion": 42, "requestedByToken": "build server",
		"requestedBy": object{"name": "Alice Kealoha", "githubLogin": "alice"},
		"info": object{"kind": kind, "version": version, "result": result, "message": message, "startTime": start, "endTime": start + int64(seconds),
			"resourceChanges": changes, "resourceCount": 10,
			"config": object{"aws:region": object{"string": "eu-central-1"}, "website:apiKey": object{"string": "AAABAGNpcGhlcnRleHQ=", "secret": true},
				"website:limits": object{"string": `{"cpu":2,"token":{"secure":"AAABAGhpZGRlbg=="}}`, "object": true}},
			"environment": object{"git.head": "9f3c2ab17de04bb1a6c2d8f5e1a0b3c4d5e6f708", "git.headName": "refs/heads/main", "git.author": "Alice Kealoha", "git.dirty": "true",
				"vcs.kind": "github.com", "vcs.owner": "acme", "vcs.repo": "website", "ci.build.url": "https://ci.example.com/acme/website/118",
				"pulumi.version": "v3.259.0", "exec.kind": "cli", "pulumi.os": "linux", "pulumi.arch": "amd64", "runtime.name": "nodejs"}},
	}
}

func (h *house) updates() []object {
	list := []object{
		h.update(43, "update", "in-progress", 1, 0, "Serve the new landing page", nil),
		h.update(42, "update", "succeeded", 30, 72, "Upgrade the database to PostgreSQL 17", object{"create": 1, "update": 1, "replace": 1, "delete": 1, "same": 3}),
		h.update(41, "update", "failed", 64, 9, "Serve from all edge locations", object{"update": 1, "same": 8}),
		h.update(40, "refresh", "succeeded", 60*20, 31, "", object{"same": 10}),
		h.update(39, "import", "succeeded", 60*48, 1, "", nil),
		h.update(38, "destroy", "succeeded", 60*24*12, 4210, "", object{"delete": 1034}),
	}
	return list
}

func auditEvents() []object {
	user := object{"name": "Alice Kealoha", "githubLogin": "alice"}
	event := func(minutes int, name, description, decision, rule, result string, status int) object {
		return object{"timestamp": minutesAgo(minutes), "event": name, "description": description, "user": user, "sourceIP": "192.0.2.17", "tokenName": "build server",
			"object": "acme/website/prod", "decision": decision, "rule": rule, "result": result, "status": status,
			"requestID": "5b0c2f62-7d8e-4f6a-9d0c-" + fmt.Sprintf("%012d", minutes), "userAgent": "pulumi-cli/1 (v3.259.0; linux; cmd=up)"}
	}
	return []object{
		event(1, "stack-update-started", `Started update of stack "acme/website/prod"`, "allow", "stack:acme/website/prod admin", "unknown", 0),
		event(3, "stack-deleted", `Refused to delete stack "acme/website/prod"`, "deny", "stack:delete is not granted", "failed", 403),
		event(30, "secrets-batch-decrypted", `Decrypted 4 secrets of stack "acme/website/prod"`, "allow", "organization role admin", "succeeded", 200),
		event(65, "stack-imported", `Imported a state into stack "acme/website/prod"`, "allow", "organization role admin", "failed", 409),
	}
}

// browser is a client that keeps cookies and behaves as browsers do.
type browser struct {
	t         testing.TB
	h         *house
	cookies   map[string]string
	crossSite map[string]bool // the cookies that are sent with forms of other sites
}

func (h *house) browser(t testing.TB) *browser {
	return &browser{t: t, h: h, cookies: make(map[string]string), crossSite: make(map[string]bool)}
}

func (b *browser) do(method, path string, form url.Values, header http.Header) *http.Response {
	b.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r := httptest.NewRequest(method, b.h.origin+path, body)
	r = r.WithContext(httpapi.WithRequest(b.t.Context(), httpapi.Request{ID: "request-1", Address: "192.0.2.1", UserAgent: "Mozilla/5.0 (X11; Linux x86_64) Chrome/150.0 Safari/537.36"}))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", b.h.origin)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	for name, values := range header {
		r.Header.Del(name)
		for _, value := range values {
			if value != "" {
				r.Header.Add(name, value)
			}
		}
	}
	w := httptest.NewRecorder()
	b.h.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
			b.crossSite[c.Name] = c.SameSite == http.SameSiteNoneMode && c.Secure
		}
	}
	return w.Result()
}

func (b *browser) get(path string) *http.Response {
	b.t.Helper()
	return b.do(http.MethodGet, path, nil, nil)
}

func (b *browser) post(path string, form url.Values) *http.Response {
	b.t.Helper()
	return b.do(http.MethodPost, path, form, nil)
}

// signIn returns a browser in which alice is signed in.
func (h *house) signIn(t testing.TB) *browser {
	t.Helper()
	b := h.browser(t)
	res := b.post("/signin", url.Values{"login": {"alice"}, "password": {password}})
	if res.StatusCode != http.StatusSeeOther || len(b.cookies) != 1 {
		t.Fatalf("signing in: status %d, cookies %v", res.StatusCode, b.cookies)
	}
	return b
}

func text(t testing.TB, res *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

var spaces = regexp.MustCompile(`\s+`)

// wants holds an answer against a status, texts that the page must have, and, with a
// leading "!", must not have. White space counts as one space.
func wants(t testing.TB, res *http.Response, status int, texts ...string) string {
	t.Helper()
	body := text(t, res)
	flat := spaces.ReplaceAllString(body, " ")
	if res.StatusCode != status {
		t.Errorf("status %d, want %d: %s", res.StatusCode, status, flat)
	}
	for _, want := range texts {
		if not, ok := strings.CutPrefix(want, "!"); ok && strings.Contains(flat, not) {
			t.Errorf("the page has %q", not)
		} else if !ok && !strings.Contains(flat, want) {
			t.Errorf("the page lacks %q: %s", want, flat)
		}
	}
	return body
}
