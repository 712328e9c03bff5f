package main

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/identity"
)

// recordings is the traffic of the real CLI with another server. Files that follow
// each other in a group were recorded against one server, each going on with the
// stacks that the one before left.
var recordings = [][]string{
	{"01-main", "02-more", "03-lifecycle", "04-state", "05-faults", "06-journal-faults", "07-modes", "09-failure",
		"10-interrupt", "11-login", "12-org", "13-misc", "14-crash", "15-agent", "16-extra", "17-rbac"},
	{"08-lease"},
}

const (
	recordingsFolder = "../../../shared/contract/recordings"
	recordedToken    = "pul-test-0123456789abcdef"
)

// exchange is a line of a recording.
type exchange struct {
	Number   int                 `json:"seq"`
	Label    string              `json:"label"`
	Method   string              `json:"method"`
	Path     string              `json:"path"`
	Query    string              `json:"query"`
	Header   map[string][]string `json:"reqHeaders"`
	Body     jsontext.Value      `json:"reqBody"`
	Status   int                 `json:"status"`
	Answer   jsontext.Value      `json:"respBody"`
	Injected bool                `json:"injected"` // answered by the recorder in the server's stead

	file string
}

// TestRecordings gives the recorded calls of the real CLI to a fresh Ipuka and compares
// the answers with those that the CLI was recorded to get: the status, and every member
// of the answer, by value unless the tables in recordings_table_test.go say otherwise.
func TestRecordings(t *testing.T) {
	if _, err := os.Stat(recordingsFolder); errors.Is(err, fs.ErrNotExist) {
		t.Skip("the recordings of the CLI's traffic are not there: nothing to replay")
	}
	used := wanted{map[*exception]bool{}, map[*field]bool{}}
	ran := 0
	for _, group := range recordings {
		t.Run(group[0], func(t *testing.T) {
			ran++
			r := newReplay(t)
			for _, name := range group {
				all := readRecording(t, name)
				for _, x := range all {
					if key, text := x.checkpoint(); text != "" {
						r.verbatim[key] = text
					}
				}
				for _, x := range all {
					r.call(t, x, used)
				}
			}
		})
	}
	if ran < len(recordings) {
		return // only some were asked for, and the tables are for all
	}
	for i := range exceptions {
		if e := &exceptions[i]; !used.exceptions[e] {
			t.Errorf("the exception %s does not differ from the recording (any more): remove it", e)
		}
	}
	for _, o := range operations {
		for member, f := range o.fields {
			if !used.fields[f] {
				t.Errorf("%s in the answers to %s %s (%s) does not differ from the recordings (any more): remove it", member, o.method, o.path, f.why)
			}
		}
	}
}

// wanted is what the tables were needed for.
type wanted struct {
	exceptions map[*exception]bool
	fields     map[*field]bool
}

func readRecording(t *testing.T, name string) []exchange {
	t.Helper()
	f, err := os.Open(filepath.Join(recordingsFolder, name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []exchange
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		x := exchange{file: name}
		if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, x)
	}
	if err := lines.Err(); err != nil || len(all) == 0 {
		t.Fatalf("%s: %d lines, %v", name, len(all), err)
	}
	return all
}

// instance is an Ipuka in this process, set up with the organization acme and its
// administrator.
type instance struct {
	app     *app
	handler http.Handler
	token   string
}

func openInstance(t *testing.T, login string) *instance {
	t.Helper()
	c := defaults()
	c.dataDir = filepath.Join(t.TempDir(), "data")
	ctx := context.Background()
	a, err := openApp(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.close(); err != nil {
			t.Error(err)
		}
	})
	first := identity.First{Organization: "acme", Login: login, Name: login, Email: login + "@example.com"}
	token, err := a.firstToken(ctx, first, "correct horse battery staple")
	if err != nil {
		t.Fatal(err)
	}
	return &instance{app: a, handler: a.handler(c), token: token}
}

// request makes a request with a credential, "token X", "update-token X" or none.
func request(method, target, credential, body string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:8080"
	r.Header.Set("Accept", "application/vnd.pulumi+9")
	r.Header.Set("Content-Type", "application/json")
	if credential != "" {
		r.Header.Set("Authorization", credential)
	}
	return r
}

func (i *instance) answer(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	i.handler.ServeHTTP(w, r)
	return w
}

// call gives one recorded call to the instance and judges the answer.
func (r *replay) call(t *testing.T, x exchange, used wanted) {
	t.Helper()
	exceptional := exceptionFor(x)
	if x.Injected && exceptional == nil {
		if x.Status < 300 {
			t.Errorf("%s: a success of the recorder's making needs an exception", x)
		}
		return // the server never saw the call, and the client went on as after a failure
	}
	if exceptional != nil && exceptional.skip {
		used.exceptions[exceptional] = true
		return
	}
	w := r.send(t, x)
	r.learn(t, x, w.Code, w.Body.Bytes())
	body := r.recordedNames(w.Body.String())
	differences, excused := differ(x, w.Code, r.readable(x, string(x.Answer)), r.readable(x, body))
	for _, f := range excused {
		used.fields[f] = true
	}
	if exceptional == nil {
		if len(differences) > 0 {
			t.Errorf("%s: the answer differs from the recorded one:\n\t%s\n\t%.600s", x, strings.Join(differences, "\n\t"), body)
		}
	} else {
		if len(differences) > 0 || x.Injected {
			used.exceptions[exceptional] = true
		}
		for _, problem := range exceptional.judge(w.Code, body) {
			t.Errorf("%s: not the better answer (%s): %s\n\t%.600s", x, exceptional.why, problem, body)
		}
	}
	if w.Code >= 400 {
		var e struct {
			Code int `json:"code"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Code != w.Code {
			t.Errorf("%s: the error body of a %d has code %d (%v)", x, w.Code, e.Code, err)
		}
	}
	if w.Header().Get("X-Pulumi-Request-ID") == "" {
		t.Errorf("%s: the answer has no request ID", x)
	}
	if e := w.Header().Get("Content-Encoding"); e != "" && e != "gzip" {
		t.Errorf("%s: Content-Encoding %q aborts the CLI", x, e)
	}
}

// stillHasResources is what the CLI turns into a hint when a stack is not removed.
const stillHasResources = `"Bad Request: Stack still contains resources."`

// differ returns how an answer, in the names of the recording, differs from the
// recorded one, and what is listed of that.
func differ(x exchange, status int, recordedBody, body string) (differences []string, excused []*field) {
	want := jsontext.Value(recordedBody)
	recorded := x.Status
	if recorded == http.StatusNoContent || len(want) == 0 || want.Kind() == 'n' {
		recorded = success(recorded) // the CLI reads no body: 200 and 204 are the same to it
		status = success(status)
		want = nil
	}
	if status != recorded {
		return []string{"status " + http.StatusText(status) + ", recorded " + http.StatusText(recorded)}, nil
	}
	if x.Method == http.MethodDelete && status == http.StatusBadRequest && !strings.Contains(body, stillHasResources) {
		return []string{"the message is not the one that the CLI knows: " + stillHasResources}, nil
	}
	if want == nil || status >= 400 {
		return nil, nil // otherwise the CLI acts on an error's code alone
	}
	var wanted, got any
	if err := json.Unmarshal(want, &wanted); err != nil {
		return []string{"the recorded answer: " + err.Error()}, nil
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		if m, ok := wanted.(map[string]any); ok && len(m) == 0 && body == "" && !needsBody(x) {
			return nil, nil
		}
		return []string{"the answer is not JSON: " + err.Error()}, nil
	}
	c := comparison{fields: fieldsOf(x)}
	c.compare("", wanted, got)
	slices.Sort(c.differences)
	return c.differences, c.excused
}

func success(status int) int {
	if status == http.StatusNoContent {
		return http.StatusOK
	}
	return status
}

func (x exchange) String() string {
	return x.file + " " + x.Label + ": " + x.Method + " " + x.Path + " (" + strconv.Itoa(x.Number) + ")"
}
