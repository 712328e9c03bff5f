package scim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/scim"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
)

var migrations = []database.Migrations{identity.Migrations, audit.Migrations, scim.Migrations}

// clock is a clock that only a test moves.
type clock struct{ micros atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMicro(c.micros.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.micros.Add(d.Microseconds()) }

// recorder is the real log, with an error to inject and a look at what is recorded.
type recorder struct {
	log *audit.Log
	db  *database.DB

	mu      sync.Mutex
	fail    error
	entries []recorded
}

type recorded struct {
	log   string
	event audit.Event
}

func (r *recorder) AppendDone(ctx context.Context, log string, e audit.Event, o audit.Outcome) (audit.Ref, error) {
	r.mu.Lock()
	fail := r.fail
	r.mu.Unlock()
	if fail != nil {
		return audit.Ref{}, fail
	}
	ref, err := r.log.AppendDone(ctx, log, e, o)
	if err == nil {
		r.db.AfterCommit(ctx, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.entries = append(r.entries, recorded{log, e})
		})
	}
	return ref, err
}

func (r *recorder) take() []recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.entries
	r.entries = nil
	return out
}

type world struct {
	*scim.Handler
	directory *identity.Directory
	db        *database.DB
	clock     *clock
	audit     *recorder
	admin     identity.Principal
}

func each(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, db *database.DB) { test(t, newWorld(t, db)) }, migrations...)
}

func newWorld(t testing.TB, db *database.DB) *world {
	t.Helper()
	if _, bench := t.(*testing.B); !bench && db.Dialect() == database.SQLite { // no test here cuts the power
		ok(t, db.Conn(t.Context()).Exec("PRAGMA synchronous = OFF").Error)
	}
	log, err := audit.Open(audit.Config{DB: db})
	ok(t, err)
	t.Cleanup(log.Close)
	w := &world{db: db, clock: &clock{}, audit: &recorder{log: log, db: db}}
	w.clock.micros.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMicro())
	w.directory, err = identity.Open(identity.Config{DB: db, Audit: w.audit, Now: w.clock.now})
	ok(t, err)
	w.Handler, err = scim.New(scim.Config{
		Directory: w.directory, DB: db, Audit: w.audit, BaseURL: "https://ipuka.example.com", Now: w.clock.now,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	ok(t, err)
	boss, err := w.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "boss", Email: "boss@example.com"})
	ok(t, err)
	w.admin = boss.Principal("email")
	return w
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// client is the identity provider of an organization.
type client struct {
	t     testing.TB
	w     http.Handler
	org   identity.Organization
	token string
}

// organization makes an organization with a token.
func (w *world) organization(t testing.TB, login string) *client {
	t.Helper()
	o, err := w.directory.CreateOrganization(t.Context(), w.admin, login, "")
	ok(t, err)
	token, err := w.NewToken(t.Context(), w.admin, o.ID)
	ok(t, err)
	w.audit.take()
	return &client{t, w, o, token}
}

type answer struct {
	t      testing.TB
	Status int
	Header http.Header
	Text   string
	Body   map[string]any
}

// do sends a request; headers are pairs of name and value.
func (c *client) do(method, path, body string, headers ...string) *answer {
	c.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, "/scim/v2/"+c.org.Login+path, reader)
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/scim+json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	c.w.ServeHTTP(rec, r)
	a := &answer{t: c.t, Status: rec.Code, Header: rec.Header(), Text: rec.Body.String()}
	if a.Text != "" {
		if err := json.Unmarshal(rec.Body.Bytes(), &a.Body); err != nil {
			c.t.Fatalf("%s %s: %v in %s", method, path, err, a.Text)
		}
		if got := a.Header.Get("Content-Type"); got != "application/scim+json" {
			c.t.Errorf("%s %s: Content-Type is %q", method, path, got)
		}
	}
	return a
}

// is fails the test unless the answer has a status.
func (a *answer) is(status int) *answer {
	a.t.Helper()
	if a.Status != status {
		a.t.Fatalf("status is %d, want %d: %s", a.Status, status, a.Text)
	}
	return a
}

// refused fails the test unless the answer is an error of a status and a scimType.
func (a *answer) refused(status int, scimType string) *answer {
	a.t.Helper()
	a.is(status)
	got, _ := a.Body["scimType"].(string)
	if got != scimType || a.Body["status"] != fmt.Sprint(status) || a.Body["detail"] == "" ||
		!reflect.DeepEqual(a.Body["schemas"], []any{"urn:ietf:params:scim:api:messages:2.0:Error"}) {
		a.t.Fatalf("the error is %s, want scimType %q", a.Text, scimType)
	}
	return a
}

// has fails the test unless the answer contains the JSON want.
func (a *answer) has(want string) *answer {
	a.t.Helper()
	var v any
	if err := json.Unmarshal([]byte(want), &v); err != nil {
		a.t.Fatalf("%v in %s", err, want)
	}
	if !contains(a.Body, v) {
		a.t.Fatalf("the answer is\n%s\nwhich does not contain\n%s", a.Text, want)
	}
	return a
}

// contains reports whether got has all that want has: the members of objects, and
// lists with as many values. The string "absent" stands for a member that must not be.
func contains(got, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return false
		}
		for name, value := range want {
			v, there := object[name]
			if value == "absent" {
				if there {
					return false
				}
			} else if !contains(v, value) {
				return false
			}
		}
		return true
	case []any:
		values, ok := got.([]any)
		if !ok || len(values) != len(want) {
			return false
		}
		for i := range want {
			if !contains(values[i], want[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(got, want)
}

func (a *answer) id() string {
	id, _ := a.Body["id"].(string)
	return id
}

func (a *answer) resources() []map[string]any {
	var out []map[string]any
	list, _ := a.Body["Resources"].([]any)
	for _, v := range list {
		out = append(out, v.(map[string]any))
	}
	return out
}

// user makes a user and returns the ID.
func (c *client) user(userName string) string {
	c.t.Helper()
	return c.do("POST", "/Users", fmt.Sprintf(`{"schemas":[%q],"userName":%q}`, scim.UserSchema, userName)).is(201).id()
}

// group makes a group and returns the ID.
func (c *client) group(name string, members ...string) string {
	c.t.Helper()
	return c.do("POST", "/Groups", groupBody(name, members)).is(201).id()
}

func groupBody(name string, members []string) string {
	values := make([]string, len(members))
	for i, id := range members {
		values[i] = fmt.Sprintf(`{"value":%q}`, id)
	}
	return fmt.Sprintf(`{"schemas":[%q],"displayName":%q,"members":[%s]}`, scim.GroupSchema, name, strings.Join(values, ","))
}

// members returns the IDs of a group's members.
func (c *client) members(id string) map[string]bool {
	c.t.Helper()
	out := make(map[string]bool)
	list, _ := c.do("GET", "/Groups/"+id, "").is(200).Body["members"].([]any)
	for _, v := range list {
		out[v.(map[string]any)["value"].(string)] = true
	}
	return out
}

func patch(ops string) string {
	return `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":` + ops + `}`
}
