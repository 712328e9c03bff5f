package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/httpapi"
)

func TestUpdateTokenIsGoodForItsUpdateOnly(t *testing.T) {
	f := newFixture(t)
	token := f.start("wendy")
	const journal = "/journalentries"
	base := stackPath + "/update/" + updateID
	other := "6be776c9-0000-4000-8000-000000000002"

	f.want(200, request{method: "PATCH", path: base + journal, who: "update-token " + token, body: `{"entries":[]}`})
	sent := f.upstream.calls[len(f.upstream.calls)-1]
	if got := sent.Header.Get("Authorization"); got != "update-token raw-lease" {
		t.Errorf("the state service gets the lease as %q", got)
	}
	if caller, _, err := f.verifier.Verify(sent); err != nil || caller.Login != "wendy" {
		t.Errorf("the author is %+v, %v", caller, err)
	}
	f.want(200, request{method: "PATCH", path: stackPath + "/refresh/" + updateID + journal, who: "update-token " + token, body: `{"entries":[]}`})

	cursor := f.cursor()
	before := len(f.upstream.calls)
	for name, q := range map[string]request{
		"other update":  {method: "PATCH", path: stackPath + "/update/" + other + journal, who: "update-token " + token},
		"other stack":   {method: "PATCH", path: "/api/stacks/acme/web/dev/update/" + updateID + journal, who: "update-token " + token},
		"other project": {method: "PATCH", path: "/api/stacks/acme/api/prod/update/" + updateID + journal, who: "update-token " + token},
		"other org":     {method: "PATCH", path: "/api/stacks/other/web/prod/update/" + updateID + journal, who: "update-token " + token},
		"user route":    {method: "GET", path: "/api/user", who: "update-token " + token},
		"stack route":   {method: "GET", path: stackPath + "/export", who: "update-token " + token},
		"cancel":        {method: "POST", path: base + "/cancel", who: "update-token " + token},
		"as a token":    {method: "PATCH", path: base + journal, who: "token " + token},
		"raw lease":     {method: "PATCH", path: base + journal, who: "update-token raw-lease"},
		"cut":           {method: "PATCH", path: base + journal, who: "update-token " + token[:len(token)-2]},
		"flipped":       {method: "PATCH", path: base + journal, who: "update-token " + token[:40] + flip(token[40:41]) + token[41:]},
		"prefix gone":   {method: "PATCH", path: base + journal, who: "update-token " + strings.TrimPrefix(token, "ipu_")},
		"access token":  {method: "PATCH", path: base + journal, who: "wendy"},
		"cursor":        {method: "PATCH", path: base + journal, who: "update-token ipu_" + cursor},
	} {
		if q.body == "" {
			q.body = `{"entries":[]}`
		}
		if got := f.do(q); got.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d %s, want 403", name, got.StatusCode, got.body)
		}
	}
	if len(f.upstream.calls) != before {
		t.Error("a refused update token reached the state service")
	}
}

func flip(c string) string {
	if c == "A" {
		return "B"
	}
	return "A"
}

// cursor returns a sealed cursor of a list, to be tried as an update token.
func (f *fixture) cursor() string {
	f.t.Helper()
	answer := f.upstream.answer
	defer func() { f.upstream.answer = answer }()
	f.upstream.answer = listOf("web/prod", "web/dev")
	got := f.want(200, request{method: "GET", path: "/api/user/stacks?maxResults=1", who: "alice"})
	var page struct {
		Token string `json:"continuationToken"`
	}
	f.check(json.Unmarshal([]byte(got.body), &page))
	return page.Token
}

func TestRunningUpdateOutlivesItsUsersRights(t *testing.T) {
	f := newFixture(t)
	token := f.start("wendy")
	base := stackPath + "/update/" + updateID
	admin := identity.Principal{UserID: f.users["alice"].ID, Login: "alice", SiteAdmin: true}
	f.check(f.dir.Disable(t.Context(), admin, f.users["wendy"].ID))

	f.want(200, request{method: "PATCH", path: base + "/journalentries", who: "update-token " + token, body: `{"entries":[]}`})
	f.want(403, request{method: "POST", path: base + "/renew_lease", who: "update-token " + token, body: `{"token":"","duration":300}`})
	f.want(200, request{method: "POST", path: base + "/complete", who: "update-token " + token, body: `{"status":"failed"}`})
	f.want(401, request{method: "GET", path: stackPath, who: "wendy"})
}

func TestRenewalSealsAgain(t *testing.T) {
	f := newFixture(t)
	token := f.start("wendy")
	f.upstream.answer = func(w http.ResponseWriter, _ *http.Request) {
		httpapi.WriteJSON(w, http.StatusOK, map[string]any{"token": "second-lease", "tokenExpiration": 4102444800})
	}
	base := stackPath + "/update/" + updateID
	got := f.want(200, request{method: "POST", path: base + "/renew_lease", who: "update-token " + token, body: `{"token":"","duration":300}`})
	var renewed struct {
		Token string `json:"token"`
	}
	f.check(json.Unmarshal([]byte(got.body), &renewed))
	f.upstream.answer = nil
	// Both are good: a request that was under way while the lease was renewed goes through.
	for i, each := range []struct{ token, lease string }{{token, "raw-lease"}, {renewed.Token, "second-lease"}} {
		f.want(200, request{method: "PATCH", path: base + "/journalentries", who: "update-token " + each.token, body: `{"entries":[]}`})
		if sent := f.upstream.calls[len(f.upstream.calls)-1].Header.Get("Authorization"); sent != "update-token "+each.lease {
			t.Errorf("token %d opens to %q", i, sent)
		}
	}
	// Older clients renew with their access token and the update token in the body.
	f.upstream.answer = func(w http.ResponseWriter, _ *http.Request) {
		httpapi.WriteJSON(w, http.StatusOK, map[string]any{"token": "third-lease", "tokenExpiration": 4102444800})
	}
	f.want(200, request{method: "POST", path: base + "/renew_lease", who: "wendy", body: fmt.Sprintf(`{"token":%q,"duration":300}`, token)})
	last := len(f.upstream.calls) - 1
	if f.upstream.calls[last].Header.Get("Authorization") != "update-token raw-lease" || strings.Contains(f.upstream.bodies[last], "ipu_") {
		t.Errorf("an old client's renewal is forwarded as %q", f.upstream.bodies[last])
	}
	f.want(403, request{method: "POST", path: base + "/renew_lease", who: "alice", body: fmt.Sprintf(`{"token":%q,"duration":300}`, token)})
	for _, scheme := range []string{"Basic", "TOKEN", "xyz"} { // an access token counts under its own schemes only
		f.want(403, request{method: "POST", path: base + "/renew_lease", who: scheme + " " + f.tokens["wendy"], body: fmt.Sprintf(`{"token":%q,"duration":300}`, token)})
	}
}

func TestStartTellsWhatTheCallerMayDo(t *testing.T) {
	f := newFixture(t)
	for who, want := range map[string]string{"alice": "stack:write stack_tags:update", "wendy": "stack:write stack_tags:update", "rita": ""} {
		f.start(who)
		caller, _, err := f.verifier.Verify(f.upstream.calls[len(f.upstream.calls)-1])
		if err != nil || strings.Join(caller.Granted, " ") != want {
			t.Errorf("%s: granted %q, %v; want %q", who, caller.Granted, err, want)
		}
	}
}

func TestStartWithoutALeaseIsAFailure(t *testing.T) {
	f := newFixture(t)
	for _, body := range []string{`{"version":1}`, `null`, `{"token":""}`, `<html>`} {
		f.upstream.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
		f.want(503, request{method: "POST", path: stackPath + "/update/" + updateID, who: "wendy", body: `{}`})
	}
}

// TestTheBodyThatWasDecidedOnIsForwarded tries to make the gate see a preview and
// the state service something else.
func TestTheBodyThatWasDecidedOnIsForwarded(t *testing.T) {
	f := newFixture(t)
	create := stackPath + "/update"
	for _, body := range []string{
		`{"options":{"dryRun":true,"dryRun":false}}`,
		`{"options":{"dryRun":true},"options":{"dryRun":false}}`,
		`{"options":{"dryRun":true,"DryRun":false}}`,
		`{"options":{"dryRun":true},"Options":{"dryRun":false}}`,
		"{\"options\":{\"dryRun\":true,\"dry\u017fun\":1,\"dryrun\":false}}",
		`{"options":{"dryRun":"true"}}`,
		`{"options":{"dryRun":true}} {"options":{"dryRun":false}}`,
		`{"options":{"dryRun":true}`,
		`[]`, ``,
	} {
		f.want(400, request{method: "POST", path: create, who: "rita", body: body})
	}
	f.want(400, request{method: "POST", path: create, who: "rita", body: gzipped(`{"options":{"dryRun":true}}`) + gzipped(`{}`), header: http.Header{"Content-Encoding": {"gzip"}}})
	f.want(415, request{method: "POST", path: create, who: "rita", body: `{}`, header: http.Header{"Content-Encoding": {"br"}}})
	if len(f.upstream.calls) != 0 {
		t.Fatal("a doubtful body reached the state service")
	}
	const plain = `{"options": {"dryRun":true}, "config":{"a:n":{"string":"1.0"}}}`
	for _, header := range []http.Header{nil, {"Content-Encoding": {"gzip"}}} {
		body := plain
		if header != nil {
			body = gzipped(plain)
		}
		f.want(200, request{method: "POST", path: create, who: "rita", body: body, header: header})
		last := len(f.upstream.calls) - 1
		if f.upstream.bodies[last] != plain || f.upstream.calls[last].Header.Get("Content-Encoding") != "" {
			t.Errorf("forwarded as %q", f.upstream.bodies[last])
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	f := newFixture(t)
	bomb := gzipped(strings.Repeat("\x00", 32<<20))
	for name, q := range map[string]request{
		"gzip bomb on import":  {method: "POST", path: stackPath + "/import", who: "alice", body: bomb, header: http.Header{"Content-Encoding": {"gzip"}}},
		"gzip bomb on decrypt": {method: "POST", path: stackPath + "/decrypt", who: "alice", body: bomb, header: http.Header{"Content-Encoding": {"gzip"}}},
		"gzip bomb on create":  {method: "POST", path: "/api/stacks/acme/web", who: "alice", body: bomb, header: http.Header{"Content-Encoding": {"gzip"}}},
		"too long tags":        {method: "PATCH", path: stackPath + "/tags", who: "alice", body: strings.Repeat("x", 5<<20)},
		"too long token":       {method: "POST", path: "/api/user/tokens", who: "alice", body: `{"description":"` + strings.Repeat("x", 5<<20) + `"}`},
	} {
		if got := f.do(q); got.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %d %s, want 413", name, got.StatusCode, got.body)
		}
	}
	whole := gzipped(strings.Repeat(`{"a":1}`, 1000))
	truncated := whole[:len(whole)-9]
	f.want(400, request{method: "POST", path: stackPath + "/import", who: "alice", body: truncated, header: http.Header{"Content-Encoding": {"gzip"}}})
	// A body where none belongs is not forwarded.
	f.want(200, request{method: "GET", path: stackPath, who: "alice", body: `{"x":1}`})
	if last := len(f.upstream.bodies) - 1; f.upstream.bodies[last] != "" {
		t.Errorf("a GET was forwarded with the body %q", f.upstream.bodies[last])
	}
}

func TestStateServiceFailuresAreNotTheClients(t *testing.T) {
	f := newFixture(t)
	for status, want := range map[int]int{400: 400, 401: 503, 403: 403, 404: 404, 409: 409, 413: 413, 422: 422, 429: 429, 302: 503, 500: 503, 502: 503, 503: 503, 504: 503} {
		f.upstream.answer = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Location", "http://internal/")
			w.WriteHeader(status)
			_, _ = w.Write([]byte("<html>pq: password authentication failed</html>"))
		}
		got := f.want(want, request{method: "GET", path: stackPath, who: "alice"})
		if strings.Contains(got.body, "pq:") || got.Header.Get("Location") != "" {
			t.Errorf("%d: the client sees %s", status, got.body)
		}
	}
	f.upstream.answer = func(w http.ResponseWriter, _ *http.Request) {
		httpapi.WriteJSON(w, http.StatusConflict, httpapi.ErrorBody{Code: 409, Message: "update 3 is running"})
	}
	if got := f.want(409, request{method: "GET", path: stackPath, who: "alice"}); !strings.Contains(got.body, "update 3 is running") {
		t.Errorf("the state service's message is lost: %s", got.body)
	}
}

func TestFormerNameOpensNothingMore(t *testing.T) {
	f := newFixture(t)
	answerFor := func(name string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Ipuka-Stack", name)
			httpapi.WriteJSON(w, http.StatusOK, map[string]string{"plaintext": "aHVudGVyMg=="})
		}
	}
	f.upstream.answer = answerFor("acme/web/vault") // what prod was called once is not rita's to open
	for _, path := range []string{"/decrypt", "/batch-decrypt", "/encrypt"} {
		if got := f.want(404, request{method: "POST", path: stackPath + path, who: "rita", body: `{}`}); strings.Contains(got.body, "aHVudGVyMg") || strings.Contains(got.body, "vault") {
			t.Errorf("rita learns %s", got.body)
		}
		if e := f.events(f.orgs["acme"].ID)[0]; e.Event.Rule != "renamed_not_visible" {
			t.Errorf("recorded as %s", e.Event.Rule)
		}
	}
	f.want(200, request{method: "POST", path: stackPath + "/decrypt", who: "alice", body: `{}`})
	f.upstream.answer = answerFor("nonsense")
	f.want(503, request{method: "POST", path: stackPath + "/decrypt", who: "alice", body: `{}`})
}

func TestAccessFollowsTheStack(t *testing.T) {
	f := newFixture(t)
	f.want(200, request{method: "POST", path: "/api/stacks/acme/web", who: "mo", body: `{"stackName":"mine"}`})
	f.want(200, request{method: "DELETE", path: "/api/stacks/acme/web/mine", who: "mo"}) // the creator administers it
	f.want(404, request{method: "GET", path: "/api/stacks/acme/web/mine", who: "mo"})

	f.want(200, request{method: "POST", path: "/api/stacks/acme/web", who: "mo", body: `{"stackName":"mine"}`})
	f.want(200, request{method: "POST", path: "/api/stacks/acme/web/mine/rename", who: "mo", body: `{"newName":"ours","newProject":"api"}`})
	f.want(404, request{method: "GET", path: "/api/stacks/acme/web/mine", who: "mo"})
	f.want(200, request{method: "GET", path: "/api/stacks/acme/api/ours", who: "mo"})

	// A stack that the state service did not create gives nobody anything.
	f.upstream.answer = func(w http.ResponseWriter, r *http.Request) {
		httpapi.WriteJSON(w, http.StatusConflict, httpapi.ErrorBody{Code: 409, Message: "stack already exists"})
	}
	f.want(409, request{method: "POST", path: "/api/stacks/acme/web", who: "mo", body: `{"stackName":"prod"}`})
	f.upstream.answer = nil
	f.want(404, request{method: "GET", path: stackPath, who: "mo"})

	for _, name := range []string{"", ".", "..", "a/b", "a b", "é", strings.Repeat("x", 101)} {
		body, _ := json.Marshal(map[string]string{"stackName": name})
		f.want(400, request{method: "POST", path: "/api/stacks/acme/web", who: "alice", body: string(body)})
	}
}
