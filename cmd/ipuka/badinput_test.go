package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

const (
	acme     = "/api/stacks/acme"
	webStack = acme + "/web/dev"
)

// badInput is an Ipuka with the stack acme/web/dev, and an update of it that is running.
type badInput struct {
	*instance
	t      *testing.T
	update string
	lease  string
}

func newBadInput(t *testing.T) *badInput {
	b := &badInput{instance: openInstance(t, "alice"), t: t}
	b.want(200, "POST", acme+"/web", `{"stackName":"dev"}`)
	b.update, b.lease = b.start(webStack)
	return b
}

// try makes a call as alice and checks what every answer has.
func (b *badInput) try(method, target, credential, body string, headers ...string) (int, string) {
	b.t.Helper()
	r := request(method, target, credential, body)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := b.answer(r)
	text := w.Body.String()
	if w.Header().Get("X-Pulumi-Request-ID") == "" {
		b.t.Errorf("%s %.100s: no request ID", method, target)
	}
	if w.Code < 400 {
		return w.Code, text
	}
	var e struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal([]byte(text), &e); err != nil || e.Code != w.Code || e.Message == "" {
		b.t.Errorf("%s %.100s: %d with the body %.200s (%v)", method, target, w.Code, text, err)
	}
	return w.Code, text
}

func (b *badInput) want(status int, method, target, body string) string {
	b.t.Helper()
	return b.wantAs(status, method, target, "token "+b.token, body)
}

func (b *badInput) wantAs(status int, method, target, credential, body string) string {
	b.t.Helper()
	got, text := b.try(method, target, credential, body)
	if success(got) != success(status) {
		b.t.Errorf("%s %s: %d, want %d: %.300s", method, target, got, status, text)
	}
	return text
}

// start creates and starts an update and returns its ID and token.
func (b *badInput) start(stack string) (id, lease string) {
	b.t.Helper()
	var answer struct {
		ID    string `json:"updateID"`
		Token string `json:"token"`
	}
	for _, step := range []struct{ path, body string }{{"", `{"options":{}}`}, {"/", `{"journalVersion":1}`}} {
		path := stack + "/update" + step.path
		if step.path != "" {
			path += answer.ID
		}
		if err := json.Unmarshal([]byte(b.want(200, "POST", path, step.body)), &answer); err != nil {
			b.t.Fatal(err)
		}
	}
	return answer.ID, "update-token " + answer.Token
}

func zipped(t *testing.T, chunk string, times int) string {
	t.Helper()
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	for range times {
		if _, err := zw.Write([]byte(chunk)); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestBadInput(t *testing.T) {
	b := newBadInput(t)
	empty := `{"version":3,"deployment":{"manifest":{"time":"0001-01-01T00:00:00Z","magic":"","version":""},"resources":[]}}`
	long := strings.Repeat("a", 101)
	plain := []string{}
	gz := []string{"Content-Encoding", "gzip"}
	bomb := zipped(t, strings.Repeat("\x00", 1<<20), 80)
	for _, c := range []struct {
		name, method, target, body string
		header                     []string
		status                     int
		says                       string
	}{
		{"unknown route", "GET", "/api/nothing", "", plain, 404, ""},
		{"unknown route of a stack", "GET", webStack + "/nothing", "", plain, 404, ""},
		{"unknown kind of update", "POST", webStack + "/watch", "{}", plain, 404, ""},
		{"the API's root", "GET", "/api", "", plain, 404, ""},
		{"malformed JSON", "POST", acme + "/web", `{"stackName":`, plain, 400, "JSON"},
		{"another type", "POST", acme + "/web", `{"stackName":7}`, plain, 400, ""},
		{"an array", "POST", acme + "/web", `[]`, plain, 400, ""},
		{"two values", "POST", acme + "/web", `{"stackName":"x"}{}`, plain, 400, ""},
		{"no body", "POST", acme + "/web", ``, plain, 400, ""},
		{"invalid UTF-8", "POST", acme + "/web", "{\"stackName\":\"\xff\"}", plain, 400, ""},
		{"a duplicate key", "POST", acme + "/web", `{"stackName":"x","stackName":"y"}`, plain, 400, "twice"},
		{"a key in another case", "POST", acme + "/web", `{"stackname":"x"}`, plain, 400, ""},
		{"a key in two cases", "POST", acme + "/web", `{"stackName":"x","StackName":"y"}`, plain, 400, ""},
		{"dry run in two cases", "POST", webStack + "/update", `{"options":{"dryRun":true,"dryrun":false}}`, plain, 400, ""},
		{"dry run twice", "POST", webStack + "/update", `{"options":{"dryRun":true,"dryRun":false}}`, plain, 400, ""},
		{"deep nesting", "POST", webStack + "/import", strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000), plain, 400, ""},
		{"deep arrays", "POST", acme + "/web", strings.Repeat("[", 1_000_000), plain, 400, ""},
		{"gzip bomb", "POST", webStack + "/import", bomb, gz, 413, ""},
		{"gzip bomb of secrets", "POST", webStack + "/batch-decrypt", bomb, gz, 413, ""},
		{"truncated gzip", "POST", webStack + "/import", zipped(t, empty, 1)[:60], gz, 400, "end"},
		{"not gzip", "POST", webStack + "/import", empty, gz, 400, "gzip"},
		{"more after the gzip", "POST", webStack + "/import", zipped(t, empty, 1) + "x", gz, 400, ""},
		{"another encoding", "POST", webStack + "/import", empty, []string{"Content-Encoding", "br"}, 415, ""},
		{"too large", "POST", acme + "/web/dev/rename", `{"newName":"` + strings.Repeat("x", 5<<20) + `"}`, plain, 413, ""},
		{"a stack name outside the grammar", "POST", acme + "/web", `{"stackName":"a b"}`, plain, 400, "A-Z a-z 0-9"},
		{"a long stack name", "POST", acme + "/web", `{"stackName":"` + long + `"}`, plain, 400, "100"},
		{"an empty stack name", "POST", acme + "/web", `{"stackName":""}`, plain, 400, ""},
		{"a stack name of dots", "POST", acme + "/web", `{"stackName":".."}`, plain, 400, ""},
		{"a long project name", "POST", acme + "/" + long, `{"stackName":"dev"}`, plain, 400, "100"},
		{"an encoded slash", "GET", acme + "/web%2fdev/x", "", plain, 400, ""},
		{"a parent", "GET", acme + "/web/../web/dev", "", plain, 400, ""},
		{"an encoded parent", "GET", acme + "/web/%2e%2e/dev", "", plain, 400, ""},
		{"an empty segment", "GET", "/api/stacks//web/dev", "", plain, 400, ""},
		{"a trailing slash", "GET", webStack + "/", "", plain, 400, ""},
		{"a new name outside the grammar", "POST", webStack + "/rename", `{"newName":"a/b"}`, plain, 400, "A-Z a-z 0-9"},
		{"a bad version", "GET", webStack + "/export/zero", "", plain, 400, ""},
		{"an unknown version", "GET", webStack + "/export/99", "", plain, 404, ""},
		{"a state that is none", "POST", webStack + "/import", `{"version":3}`, plain, 400, "deployment"},
		{"a state during an update", "POST", webStack + "/import", empty, plain, 409, "alice"},
		{"not base64", "POST", webStack + "/encrypt", `{"plaintext":"%"}`, plain, 400, ""},
		{"not a ciphertext", "POST", webStack + "/decrypt", `{"ciphertext":"aGVsbG8="}`, plain, 400, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.t = t
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			status, text := b.try(c.method, c.target, "token "+b.token, c.body, c.header...)
			runtime.ReadMemStats(&after)
			if status != c.status || !strings.Contains(text, c.says) {
				t.Errorf("%d, want %d that says %q: %.300s", status, c.status, c.says, text)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 128<<20 {
				t.Errorf("%d MiB were allocated for a body of %d KiB", used>>20, len(c.body)>>10)
			}
		})
	}
}

func TestUpdateTokenElsewhere(t *testing.T) {
	b := newBadInput(t)
	b.want(200, "POST", acme+"/web", `{"stackName":"prod"}`)
	other, otherLease := b.start(acme + "/web/prod")
	journal := `{"entries":[]}`
	for _, c := range []struct{ name, method, target, credential, body string }{
		{"another stack", "PATCH", acme + "/web/prod/update/" + b.update + "/journalentries", b.lease, journal},
		{"another stack's update", "PATCH", acme + "/web/prod/update/" + other + "/journalentries", b.lease, journal},
		{"another update", "PATCH", webStack + "/update/" + other + "/journalentries", b.lease, journal},
		{"an update that is not there", "POST", webStack + "/update/00000000-0000-0000-0000-000000000000/complete", b.lease, journal},
		{"reading the stack", "GET", webStack, b.lease, ""},
		{"exporting", "GET", webStack + "/export", b.lease, ""},
		{"decrypting", "POST", webStack + "/batch-decrypt", b.lease, `{"ciphertexts":[]}`},
		{"cancelling", "POST", webStack + "/update/" + b.update + "/cancel", b.lease, ""},
		{"who am I", "GET", "/api/user", b.lease, ""},
		{"a damaged token", "PATCH", webStack + "/update/" + b.update + "/journalentries", b.lease + "x", journal},
		{"an invented token", "PATCH", webStack + "/update/" + b.update + "/journalentries", "update-token x", journal},
		{"no token", "POST", webStack + "/update/" + b.update + "/renew_lease", "update-token ", `{"token":"","duration":300}`},
		{"a user's token", "PATCH", webStack + "/update/" + b.update + "/journalentries", "token " + b.token, journal},
		{"a user's token to complete", "POST", webStack + "/update/" + b.update + "/complete", "token " + b.token, `{"status":"succeeded"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.t = t
			b.wantAs(403, c.method, c.target, c.credential, c.body)
		})
	}
	b.t = t
	b.wantAs(204, "PATCH", webStack+"/update/"+b.update+"/journalentries", b.lease, journal)
	b.wantAs(204, "PATCH", acme+"/web/prod/update/"+other+"/journalentries", otherLease, journal)
}

func made(sequence, operation int, name string) string {
	return fmt.Sprintf(`{"version":1,"kind":1,"sequenceID":%d,"operationID":%d,"removeOld":null,"removeNew":null,"state":{"urn":"urn:pulumi:dev::web::t:m:T::%s","custom":true,"id":"i","type":"t:m:T"}}`,
		sequence, operation, name)
}

func TestGapInAJournal(t *testing.T) {
	b := newBadInput(t)
	calls := webStack + "/update/" + b.update
	entries := func(e ...string) string { return `{"entries":[` + strings.Join(e, ",") + `]}` }
	b.wantAs(204, "PATCH", calls+"/journalentries", b.lease, entries(made(1, 1, "base")))
	b.wantAs(204, "POST", calls+"/complete", b.lease, `{"status":"succeeded"}`)

	id, lease := b.start(webStack)
	calls = webStack + "/update/" + id
	b.wantAs(204, "PATCH", calls+"/journalentries", lease, entries(made(1, 1, "first"), made(3, 3, "third")))
	if text := b.wantAs(409, "POST", calls+"/complete", lease, `{"status":"succeeded"}`); !strings.Contains(text, "gap") {
		t.Errorf("complete answers %s, which does not speak of a gap", text)
	}
	if text := b.want(200, "GET", webStack+"/updates?pageSize=10&page=1", ""); !strings.Contains(text, `"result":"failed"`) {
		t.Errorf("the update is not shown as failed: %s", text)
	}
	if text := b.want(200, "GET", calls+"/events", ""); !strings.Contains(text, "the journal has a gap") {
		t.Errorf("the update's log does not say why it failed: %s", text)
	}
	for _, name := range []string{"base", "first"} {
		if text := b.want(200, "GET", webStack+"/export", ""); !strings.Contains(text, "t:m:T::"+name) {
			t.Errorf("%s is lost: %s", name, text)
		}
	}
	if text := b.want(200, "GET", webStack, ""); strings.Contains(text, "currentOperation") {
		t.Errorf("the stack is still held: %s", text)
	}
}

func TestSecondStart(t *testing.T) {
	b := newBadInput(t)
	var answer struct {
		ID string `json:"updateID"`
	}
	if err := json.Unmarshal([]byte(b.want(200, "POST", webStack+"/destroy", `{"options":{}}`)), &answer); err != nil {
		t.Fatal(err)
	}
	text := b.want(409, "POST", webStack+"/update/"+answer.ID, `{"journalVersion":1}`)
	for _, part := range []string{"alice", "update 1", "pulumi cancel", "T"} {
		if !strings.Contains(text, part) {
			t.Errorf("the conflict does not say %q: %s", part, text)
		}
	}
	b.wantAs(204, "POST", webStack+"/update/"+b.update+"/complete", b.lease, `{"status":"succeeded"}`)
	b.want(200, "POST", webStack+"/update/"+answer.ID, `{"journalVersion":1}`)
}

// TestFullDisk fills the database's disk under a running update, and gives it room
// again: what was refused has not happened, and everything goes on.
func TestFullDisk(t *testing.T) {
	b := newBadInput(t)
	limit := func(statement string) {
		t.Helper()
		if err := b.app.db.Conn(context.Background()).Exec(statement).Error; err != nil {
			t.Fatal(err)
		}
	}
	limit("PRAGMA max_page_count = 1") // SQLite makes that the present size
	calls := webStack + "/update/" + b.update
	padding := strings.Repeat("x", 2000)
	var refused []string
	created := map[string]bool{}
	for i := range 60 {
		entry := made(i+1, i+1, fmt.Sprint(padding, i))
		switch status, text := b.try("PATCH", calls+"/journalentries", b.lease, `{"entries":[`+entry+`]}`); status {
		case http.StatusServiceUnavailable:
			refused = append(refused, entry)
		case http.StatusOK, http.StatusNoContent:
		default:
			t.Errorf("a journal entry on a full disk: %d %s", status, text)
		}
		name := fmt.Sprint("s", i)
		status, text := b.try("POST", acme+"/web", "token "+b.token, `{"stackName":"`+name+`","tags":{"t":"`+padding[:200]+`"}}`)
		if created[name] = status == http.StatusOK; !created[name] && status != http.StatusServiceUnavailable {
			t.Errorf("a stack on a full disk: %d %s", status, text)
		}
	}
	if len(refused) == 0 || !slices.Contains(slices.Collect(maps.Values(created)), false) {
		t.Fatal("the disk never was full")
	}
	b.want(200, "GET", webStack, "")
	b.want(200, "GET", "/api/user", "")
	limit("PRAGMA max_page_count = 1000000")
	for name, was := range created {
		status := map[bool]int{true: 200, false: 404}[was]
		b.want(status, "GET", acme+"/web/"+name, "")
		if !was {
			b.want(200, "POST", acme+"/web", `{"stackName":"`+name+`"}`)
		}
	}
	b.wantAs(204, "PATCH", calls+"/journalentries", b.lease, `{"entries":[`+strings.Join(refused, ",")+`]}`)
	b.wantAs(204, "POST", calls+"/complete", b.lease, `{"status":"succeeded"}`)
	if text := b.want(200, "GET", webStack+"/updates/latest", ""); !strings.Contains(text, `"resourceCount":60`) {
		t.Errorf("after the disk had room again: %s", text)
	}
}
