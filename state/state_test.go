package state_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/secrets"
	"gocloud.dev/secrets/localsecrets"

	"github.com/ipuka/ipuka/internal/assertion"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/state"
)

// granted is what the gate says of a caller who may write.
var granted = []string{"stack:write", "stack_tags:update"}

var alice = assertion.Caller{ID: "u1", Login: "alice", Name: "Alice", Granted: granted}
var bob = assertion.Caller{ID: "u2", Login: "bob", Name: "Bob", Granted: granted}

// service is a state service over HTTP, with what stands behind it.
type service struct {
	testing.TB
	db     *database.DB
	bucket *blob.Bucket
	keeper *secrets.Keeper
	signer *assertion.Signer
	config state.Config
	server *state.Server
	web    *httptest.Server
	url    string

	mu  sync.Mutex
	now time.Time
}

// each runs test on every engine, each time with a fresh service, beside other tests.
func each(t *testing.T, test func(s *service)) {
	t.Helper()
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) { test(newService(t, db)) }, state.Migrations)
}

func newService(t testing.TB, db *database.DB) *service {
	t.Helper()
	if db.Dialect() == database.SQLite { // no test here cuts the power
		if err := db.Conn(t.Context()).Exec("PRAGMA synchronous = OFF").Error; err != nil {
			t.Fatal(err)
		}
	}
	key, err := localsecrets.NewRandomKey()
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{
		TB: t, db: db, bucket: memblob.OpenBucket(nil), keeper: localsecrets.NewKeeper(key),
		signer: assertion.NewSigner(private, "state"), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
	s.config = state.Config{
		DB: db, Bucket: s.bucket, Keeper: s.keeper, Verifier: assertion.NewVerifier(public, "state"),
		Log: slog.New(slog.DiscardHandler), Now: s.time,
	}
	s.open()
	return s
}

// open starts the service, again if need be, as after a restart.
func (s *service) open() {
	s.Helper()
	server, err := state.Open(context.Background(), s.config)
	if err != nil {
		s.Fatal(err)
	}
	web := httptest.NewServer(&httpapi.Server{Log: s.config.Log, Handler: server})
	s.Cleanup(web.Close)
	s.server, s.web, s.url = server, web, web.URL
}

// Close stops listening, for tests that call the handler itself.
func (s *service) Close() { s.web.Close() }

func (s *service) time() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *service) wait(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// answer is a response, read to its end.
type answer struct {
	testing.TB
	call   string
	status int
	header http.Header
	body   []byte
}

type option func(*http.Request)

func as(caller assertion.Caller) option {
	return func(r *http.Request) { *r = *r.WithContext(context.WithValue(r.Context(), callerKey{}, caller)) }
}

type callerKey struct{}

func lease(token string) option {
	return func(r *http.Request) { r.Header.Set("Authorization", "update-token "+token) }
}

// do sends one request as alice, gzipped when it has a body, and returns the answer.
// The body is JSON text, or a value to make it from.
func (s *service) do(method, path string, body any, options ...option) answer {
	s.Helper()
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(zip(encode(s, body)))
	}
	r, err := http.NewRequest(method, s.url+path, content)
	if err != nil {
		s.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Encoding", "gzip")
	}
	for _, o := range options {
		o(r)
	}
	caller, ok := r.Context().Value(callerKey{}).(assertion.Caller)
	if !ok {
		caller = alice
	}
	if err := s.signer.Sign(r, caller, "request-1"); err != nil {
		s.Fatal(err)
	}
	return s.send(r)
}

func (s *service) send(r *http.Request) answer {
	s.Helper()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	return answer{s.TB, r.Method + " " + r.URL.Path, response.StatusCode, response.Header, content}
}

func encode(t testing.TB, body any) []byte {
	t.Helper()
	switch v := body.(type) {
	case string:
		return []byte(v)
	case []byte:
		return v
	}
	out, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var zippers = sync.Pool{New: func() any { return gzip.NewWriter(nil) }} // each is near a megabyte

func zip(data []byte) []byte {
	var out bytes.Buffer
	w := zippers.Get().(*gzip.Writer)
	defer zippers.Put(w)
	w.Reset(&out)
	_, _ = w.Write(data)
	_ = w.Close()
	return out.Bytes()
}

// want checks the status, and for an error that its body carries it.
func (a answer) want(status int) answer {
	a.Helper()
	if a.status != status {
		a.Fatalf("%s: status %d, want %d: %s", a.call, a.status, status, a.body)
	}
	if status >= 400 && !strings.HasPrefix(a.call, "HEAD") {
		var body struct {
			Code    int
			Message string
		}
		if err := json.Unmarshal(a.body, &body); err != nil || body.Code != status || body.Message == "" {
			a.Fatalf("%s: %d is answered with %s", a.call, status, a.body)
		}
	}
	return a
}

// says checks that a text is in the body.
func (a answer) says(text string) answer {
	a.Helper()
	if !strings.Contains(string(a.body), text) {
		a.Fatalf("%s: %q is not in %s", a.call, text, a.body)
	}
	return a
}

// get returns what is at a path ("updates.0.version") in the JSON body, as JSON text,
// and "" when there is nothing.
func (a answer) get(path string) string {
	a.Helper()
	return at(a, a.body, path)
}

func at(t testing.TB, raw []byte, path string) string {
	t.Helper()
	var value any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	for _, step := range strings.Split(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			next, ok := v[step]
			if !ok {
				return ""
			}
			value = next
		case []any:
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil || i >= len(v) {
				return ""
			}
			value = v[i]
		default:
			return ""
		}
	}
	if text, ok := value.(string); ok {
		return text
	}
	out, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func (a answer) is(path, want string) answer {
	a.Helper()
	if got := a.get(path); got != want {
		a.Fatalf("%s: %s = %q, want %q in %s", a.call, path, got, want, a.body)
	}
	return a
}

const dev = "/api/stacks/acme/web/dev"

// stack creates a stack and returns its path.
func (s *service) stack(project, name string) string {
	s.Helper()
	s.do("POST", "/api/stacks/acme/"+project, `{"stackName":"`+name+`","tags":{"pulumi:project":"`+project+`"}}`).want(200)
	return "/api/stacks/acme/" + project + "/" + name
}

// run is an update that has been started.
type run struct {
	*service
	stack, id, path, token string
	version                string
}

const updateRequest = `{"name":"web","runtime":"yaml","main":"","description":"",
 "options":{"dryRun":%t,"parallel":8},"config":{"web:plain":{"string":"v1","secret":false,"object":false}},
 "metadata":{"message":"first update","environment":{"exec.kind":"cli","pulumi.version":"v3.259.0"}}}`

func (s *service) create(stack, kind string, dryRun bool, options ...option) string {
	s.Helper()
	return s.do("POST", stack+"/"+kind, fmt.Sprintf(updateRequest, dryRun), options...).want(200).is("requiredPolicies", "[]").get("updateID")
}

func (s *service) start(stack, kind string, options ...option) run {
	s.Helper()
	return s.startWith(stack, kind, `{"tags":null,"journalVersion":1}`, options...)
}

func (s *service) startWith(stack, kind, body string, options ...option) run {
	s.Helper()
	u := run{service: s, stack: stack, id: s.create(stack, kind, false, options...)}
	u.path = stack + "/update/" + u.id
	a := s.do("POST", u.path, body, options...).want(200)
	u.token, u.version = a.get("token"), a.get("version")
	if u.token == "" {
		s.Fatal("no lease token")
	}
	return u
}

func (u run) send(method, call string, body any) answer {
	u.Helper()
	return u.do(method, u.path+"/"+call, body, lease(u.token))
}

func (u run) journal(entries ...string) answer {
	u.Helper()
	return u.send("PATCH", "journalentries", `{"entries":[`+strings.Join(entries, ",")+`]}`)
}

func (u run) complete(status string) answer {
	u.Helper()
	return u.send("POST", "complete", `{"status":"`+status+`"}`)
}

// Journal entries of a stack in project web.

func urn(stack, name string) string {
	return "urn:pulumi:" + stack + "::web::test:index:Thing::" + name
}

func resource(stack, name, id string) string {
	return fmt.Sprintf(`{"urn":"%s","custom":true,"id":"%s","type":"test:index:Thing","inputs":{"n":1.0,"big":12345678901234567890,"html":"<&>"}}`, urn(stack, name), id)
}

func begin(sequence, operation int, stack, name string) string {
	return fmt.Sprintf(`{"version":1,"kind":0,"sequenceID":%d,"operationID":%d,"removeOld":null,"removeNew":null,"operation":{"resource":%s,"type":"creating"}}`,
		sequence, operation, resource(stack, name, ""))
}

func success(sequence, operation int, stack, name string) string {
	return fmt.Sprintf(`{"version":1,"kind":1,"sequenceID":%d,"operationID":%d,"removeOld":null,"removeNew":null,"state":%s}`,
		sequence, operation, resource(stack, name, "id-"+name))
}

func provider(sequence int, project, stack string) string {
	return fmt.Sprintf(`{"version":1,"kind":6,"sequenceID":%d,"operationID":0,"removeOld":null,"removeNew":null,"secretsProvider":{"type":"service","state":{"url":"https://x","owner":"acme","project":"%s","stack":"%s"}}}`,
		sequence, project, stack)
}

// up runs an update that creates resources of the given names.
func (s *service) up(stack string, names ...string) run {
	s.Helper()
	name := stack[strings.LastIndex(stack, "/")+1:]
	u := s.start(stack, "update")
	entries := []string{provider(1, "web", name)}
	for i, resource := range names {
		entries = append(entries, begin(2+2*i, 1+i, name, resource), success(3+2*i, 1+i, name, resource))
	}
	u.journal(entries...).want(204)
	u.complete("succeeded").want(204)
	return u
}

// resources checks which resources the stack has, in any order.
func (s *service) resources(stack string, names ...string) answer {
	s.Helper()
	a := s.do("GET", stack+"/export", nil).want(200)
	var body struct {
		Deployment struct {
			Resources []struct{ URN string }
		}
	}
	if err := json.Unmarshal(a.body, &body); err != nil {
		s.Fatal(err)
	}
	got := map[string]bool{}
	for _, r := range body.Deployment.Resources {
		got[r.URN[strings.LastIndex(r.URN, ":")+1:]] = true
	}
	if len(got) != len(names) {
		s.Fatalf("resources %v, want %v", got, names)
	}
	for _, name := range names {
		if !got[name] {
			s.Fatalf("resources %v, want %v", got, names)
		}
	}
	return a
}
